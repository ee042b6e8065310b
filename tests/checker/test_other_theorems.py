"""Certificates of other papers' theorems: what is forged by hand, however it is spelled, is not valid."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gramian
from gramian.checker import check
from gramian.checker.certificate_file import Content, read, write
from gramian.checker.program import NetworkProgram, ProgramStep
from gramian.errors import BadArgument, BadData

THEOREMS = ("polyak-lojasiewicz", "song2021", "relu-descent")


def certificate(statement, seed=0, away=1e-7):
    torch.manual_seed(seed)
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    activation, width = (nn.ReLU(), 60) if statement == "relu-descent" else (nn.GELU(), 16)
    net = nn.Sequential(nn.Linear(3, width), activation, nn.Linear(width, 2)).double()
    targets = net(x).detach() + away * y
    if statement == "relu-descent":
        net[2].requires_grad_(False)
        return gramian.bounds.relu_descent(net, x, targets)
    return gramian.bounds.song2021(net, x, targets, constants={"song2021": "paper"}.get(statement, "measured"))


@pytest.mark.parametrize("statement", THEOREMS)
def test_a_saved_certificate_is_valid_and_says_what_it_proves(statement, tmp_path):
    proof = certificate(statement)
    assert (proof.status, proof.statement) == ("proved", statement)
    proof.save(tmp_path / "c")
    result = check(tmp_path / "c")
    assert result.valid, str(result)
    assert result.lines == proof.checked.lines
    assert "converges to weights with training loss exactly 0" in result.says
    assert "after k steps the residual's norm is at most" in result.says
    assert "float64" in str(result)


@pytest.mark.parametrize("statement", THEOREMS)
def test_what_is_not_proved_is_not_saved_and_not_valid(statement, tmp_path):
    proof = certificate(statement, away=100.0)
    assert proof.status == "not proved"
    with pytest.raises(BadArgument, match="not proved"):
        proof.save(tmp_path / "c")
    write(tmp_path / "c", proof.content)  # sealed all the same
    assert not check(tmp_path / "c").valid


@pytest.mark.parametrize("statement", THEOREMS)
def test_every_claim_matters(statement, tmp_path):
    """Each of them made bolder by a tenth; the residual and the ball have room, so that they are not among these."""
    proof = certificate(statement, away=1e-12)
    bolder = {
        "sigma": 1.1, "largest": 0.9, "norm": 0.9, "nu": 0.9, "mu": 1.1, "lipschitz": 0.9, "inputs": 0.9, "flips": 0.9,
        "step": 20.0,
    }  # fmt: skip
    had = proof.content.numbers
    for name in bolder.keys() & had.keys():
        if name == "flips" and had[name] < 1e-100:
            continue
        claims = {**had, name: had[name] * bolder[name]}
        write(tmp_path / "c", dataclasses.replace(proof.content, numbers=claims))
        assert not check(tmp_path / "c").valid, name


def one_neuron(**changes):
    """f = relu(w) with w = 1/10 and the target -1, which no weight reaches; `changes` of its steps' fields."""
    hidden = {"weight": "w", **changes.get("hidden", {})}
    readout = {"weight": "b", **changes.get("readout", {})}
    steps = (
        ProgramStep("input"), ProgramStep("affine", (0,), **hidden),
        ProgramStep("function", (1,), function=changes.get("function", "relu")), ProgramStep("affine", (2,), **readout),
    )  # fmt: skip
    arrays = {"w": np.array([[0.1]]), "b": np.array([[1.0]]), "c": np.array([0.0])} | changes.get("arrays", {})
    trained = frozenset(changes.get("trained", {"w"}))
    x = changes.get("x", np.ones((1, 1)))
    return NetworkProgram(steps, arrays, trained), x, np.full((len(x), 1), -1.0)


numbers = st.floats(1e-6, 1e6) | st.sampled_from([0.0, -1.0, float("inf"), float("nan"), 1e-150, 1e300])
CLAIMS = ("residual", "sigma", "flips", "inputs", "norm", "reach", "step")


@settings(deadline=None, max_examples=300)
@given(claims=st.tuples(*[numbers] * len(CLAIMS)))
def test_no_claims_make_a_run_valid_that_ends_elsewhere(claims):
    program, x, y = one_neuron()
    content = Content("relu-descent", "", (), dict(zip(CLAIMS, claims, strict=True)), program, x, y)
    assert not valid(content)


def valid(content):
    from gramian.checker import checked

    try:
        return checked(content).valid
    except (ValueError, ArithmeticError, BadData):
        return False


SOUND = {"residual": 1e-3, "sigma": 0.9, "flips": 1e-9, "inputs": 1.1, "norm": 1.1, "reach": 0.05, "step": 0.1}


def relu_content(numbers=SOUND, **changes):
    program, x, _ = one_neuron(**changes)
    return Content("relu-descent", "", (), numbers, program, x, np.full((len(x), 1), 0.1 + 1e-4))


@pytest.mark.parametrize(
    "changes",
    [
        {"trained": {"w", "b"}},
        {"trained": {"b"}},
        {"readout": {"weight": "w"}},
        {"readout": {"bias": "c"}, "trained": {"w", "c"}},
        {"hidden": {"bias": "c"}},  # a bias that does not train
        {"hidden": {"positions": 2}, "x": np.ones((1, 2)), "readout": {"weight": "b", "positions": 2}},
        {"function": "tanh"},
        {"x": np.full((1, 1), np.nan)},
    ],
    ids="-".join,  # of the names alone: a set has no order, and the processes of one test run must agree on names
)
def test_other_networks_than_the_theorem_s_are_refused(changes):
    assert valid(relu_content())
    assert not valid(relu_content(**changes))


def test_a_sign_that_may_change_is_counted():
    """The reach holds the neuron's kink: it counts with its whole input."""
    assert not valid(relu_content({**SOUND, "reach": 0.2}))
    assert valid(relu_content({**SOUND, "reach": 0.0999}))
    assert not valid(relu_content({**SOUND, "reach": 0.1}))


@pytest.mark.parametrize("statement", THEOREMS)
def test_a_certificate_of_one_theorem_is_none_of_another(statement, tmp_path):
    proof = certificate(statement)
    for other in {*THEOREMS, "minimum", "descent", "run", "separation", "theorem"} - {statement}:
        write(tmp_path / "c", dataclasses.replace(proof.content, statement=other))
        try:
            result = check(tmp_path / "c")
        except BadData:
            continue
        # the numbers of the condition on a ball are also claims of a descent, which asks for less
        assert not result.valid or {statement, other} <= {"polyak-lojasiewicz", "minimum", "descent"}, other


def of_a_width(factor=1.01, **changes):
    """A certificate of Du et al.'s width for orthogonal rows; `changes` of its claims, as factors."""
    x, y = np.eye(3), np.ones(3)
    needed = gramian.bounds.du2019(x, y, width=10**9, antisymmetric=True).numbers["width"]
    proof = gramian.bounds.du2019(x, y, width=2 * int(needed * factor / 2), antisymmetric=True)
    had = proof.content.numbers
    return proof, dataclasses.replace(proof.content, numbers={**had, **{k: had[k] * f for k, f in changes.items()}})


def test_the_width_of_du2019_is_judged_by_the_checker(tmp_path):
    proof, _ = of_a_width()
    assert proof.status == "proved"
    proof.save(tmp_path / "c")
    result = check(tmp_path / "c", np.eye(3), np.ones((3, 1)))
    assert result.valid, str(result)
    assert "with probability at least 1 - 0.05" in result.says
    assert "independent draws" in " ".join(result.assumes)
    assert of_a_width(0.99)[0].status == "not proved"
    assert not valid(of_a_width(0.99)[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0.5}, {"kappa": 0.9}, {"step": 3.0}, {"failure": 0.5e-3}, {"failure": 30.0}, {"sigma": 1.01},
        {"inputs": 0.9}, {"frobenius": 0.9}, {"labels": 0.9}, {"lost": 300.0}, {"flips": 0.9}, {"flips": 10.0},
        {"excess": 0.5}, {"reach": 1.01}, {"reach": 0.9}, {"width": 1.0000001}, {"antisymmetric": 0.5},
        {"antisymmetric": 0.0}, {"width": float("nan")}, {"sigma": float("inf")}, {"lost": -1.0}, {"flips": -1.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_claim_about_draws_matters(changes):
    assert valid(of_a_width()[1])
    assert not valid(of_a_width(**changes)[1])


def test_equal_rows_have_no_width():
    _, content = of_a_width()
    assert not valid(dataclasses.replace(content, x=np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])))
    assert not valid(dataclasses.replace(content, x=np.zeros((3, 3))))
    assert not valid(dataclasses.replace(content, y=np.ones((4, 1))))
    assert not valid(dataclasses.replace(content, y=np.full((3, 1), 2.0)))


def of_new_samples(**changes):
    """A certificate of the error on new samples: two clusters, far apart; `changes` of its claims, as factors."""
    draws = np.random.default_rng(0)
    y = np.sign(draws.standard_normal(600))
    x = np.concatenate([y[:, None], 0.1 * draws.standard_normal((600, 30)) / np.sqrt(30)], 1)
    proof = gramian.bounds.arora2019(x, y, 2e60, kappa=1e6, antisymmetric=True)
    had = proof.content.numbers
    return proof, dataclasses.replace(proof.content, numbers={**had, **{k: had[k] * f for k, f in changes.items()}})


def test_the_error_after_arora2019_is_judged_by_the_checker(tmp_path):
    proof, _ = of_new_samples()
    assert proof.status == "proved"
    assert 0.4 < proof.numbers["value"] < 0.5
    proof.save(tmp_path / "c")
    result = check(tmp_path / "c")
    assert result.valid, str(result)
    assert "of these 600 samples, it misclassifies at most a share of 0.49" in result.says
    assert "independently" in " ".join(result.assumes)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 0.999}, {"value": 1.1}, {"length": 0.99}, {"sigma": 1.01}, {"labels": 0.9}, {"shortest": 1.01},
        {"flips": 0.5}, {"lost": 1e-24}, {"grid": 0.5}, {"grid": 0.0}, {"power": 2.0}, {"power": 0.5},
        {"failure": 1e-3}, {"width": 1e-9}, {"kappa": 0.1}, {"antisymmetric": 0.0}, {"frobenius": 0.9},
    ],
    ids=str,
)  # fmt: skip
def test_every_claim_about_new_samples_matters(changes):
    assert not valid(of_new_samples(**changes)[1])


def test_other_labels_than_signs_are_refused():
    content = of_new_samples()[1]
    assert valid(content)
    other = content.y.copy()
    other[0] = 0.5
    assert not valid(dataclasses.replace(content, y=other))
    assert not valid(dataclasses.replace(content, y=-content.y * np.where(np.arange(600) < 9, -1.0, 1.0)[:, None]))


def test_what_the_checker_has_not_seen_is_implied_at_most():
    y = np.sign(np.random.default_rng(0).standard_normal(600))
    x = np.concatenate([y[:, None], 0.1 * np.random.default_rng(1).standard_normal((600, 30)) / np.sqrt(30)], 1)
    limit = gramian.bounds.arora2019(x, y, float("inf"), antisymmetric=True)
    assert limit.numbers["value"] < 0.5
    assert limit.status == "implied"
    with pytest.raises(BadArgument):
        limit.save("unused")


def test_a_changed_byte_is_found(tmp_path):
    certificate("relu-descent").save(tmp_path / "c")
    data = bytearray((tmp_path / "c").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "c").write_bytes(bytes(data))
    with pytest.raises(BadData):
        read(tmp_path / "c")
