"""The sentences below the pictures say the right numbers, on curves whose numbers are known."""

import math

import pytest

from gramian.report import sentences
from gramian.report.blocks import complete


def block(name: str, **values) -> dict:
    """A run's block with these values, everything else not measured."""
    [run] = complete({"runs": [{name: values}]})["runs"]
    return run[name]


def test_a_loss_that_fell_100_fold():
    steps = list(range(0, 31, 10))
    measured = [100.0, 10.0, 1.0, 0.1]
    text = sentences.loss(block("loss", steps=steps, measured=measured, predicted=[100.0, 9.5, 1.03, 0.2]))
    assert text == (
        "The loss fell 100-fold in 20 steps and 1,000-fold in all 30; up to step 20, "
        "the limit's prediction was off by at most 5 %."
    )


def test_a_loss_that_fell_less_says_so_and_names_both_predictions():
    curves = {"measured": [8.0, 2.0], "predicted": [8.0, 1.0], "predicted_initial": [8.0, 6.0]}
    text = sentences.loss(block("loss", steps=[0, 1], **curves))
    assert text == (
        "The loss fell 4-fold in 1 step; the limit's prediction was off by at most 50 % "
        "and the initial kernel's was off by at most a factor of 3."
    )


def test_a_loss_that_grew_and_one_that_diverged():
    assert "grew 3-fold in 5 steps" in sentences.loss(block("loss", steps=[0, 5], measured=[1.0, 3.0]))
    text = sentences.loss(block("loss", steps=[0, 5, 10, 15], measured=[1.0, 1e30, math.inf, math.nan]))
    assert text == "The loss left the range of floating-point numbers at step 10: training diverged."


def test_a_loss_that_reached_zero():
    text = sentences.loss(block("loss", steps=[0, 1, 2], measured=[1.0, 0.001, 0.0]))
    assert text == "The loss fell 100-fold in 1 step and to 0 in all 2."


def test_the_spectrum_counts_what_a_log_axis_cannot_show():
    text = sentences.spectrum(block("spectrum", limit=[4.0, 2.0], initial=[4.0, 0.0, -1e-17]))
    assert text == (
        "The smallest eigenvalue is 2 in the limit, −10⁻¹⁷ at initialization; "
        "the condition number is 2 in the limit; not drawn, because zero or negative: 2 eigenvalues at initialization."
    )


def test_what_moved_names_the_layer():
    moved = {"steps": [0, 9], "layers": ["a", "b"], "distance": [[0, 0], [0.02, 0.05]], "drift": [0.0, 0.1]}
    text = sentences.moved(block("moved", **moved))
    assert text == "Layer b moved most, 5 % of its initial norm; the kernel drifted by 10 %."
    moved |= {"steps": [0, 5, 9], "distance": [[0, 0], [0.02, 0.05], [0.02, 0.05]], "drift": [0.0, 0.16, 0.08]}
    text = sentences.moved(block("moved", **moved))
    assert text.endswith("the kernel drifted by at most 16 %, and by 8 % in the end.")


@pytest.mark.parametrize(
    ("network", "kernel", "text"),
    [
        ([0.5, 0.06], 0.05, "The trained network's test error is 6 %, the kernel predictor's 5 %."),
        ([0.5, 0.06], None, "The trained network's test error is 6 %."),
        (None, 0.05, "The kernel predictor's test error is 5 %; the network's was not measured."),
        (None, None, "The test error was not measured."),
    ],
)
def test_test_errors(network, kernel, text):
    assert sentences.test_error(block("test", network_error=network, kernel_error=kernel)) == text


def test_the_width_sentence_says_where_this_run_stands():
    values = {"slope": -0.5, "useful_width": 1500, "tolerance": 0.1, "run_width": 512, "run_error": 0.17}
    text = sentences.width(block("width", **values, in_regime=False))
    assert text == (
        "The kernel's error shrinks like width to the power −0.5 (theory: −0.5). "
        "It is expected to be below 10 % from width 1,500 on. This run's width 512 (error 17 %) is not yet there."
    )
    assert sentences.width(block("width", **values, in_regime=True)).endswith("is in this regime.")


def test_a_probe_that_crossed_its_bound():
    probe = {"values": [1.0, 5.0, 2.0], "lower": [0.0, 0.0, 0.0], "upper": [3.0, 3.0, None], "unit": ""}
    assert sentences.probe(probe) == "From 1 to 2, largest 5; outside its bounds 1 times."


@pytest.mark.parametrize("name", ["loss", "spectrum", "moved", "width"])
def test_nothing_measured_is_said(name):
    assert "not measured" in getattr(sentences, name)(block(name))
