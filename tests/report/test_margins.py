"""The bars of a proof's inequalities: left over right against 1, with both numbers."""

import pytest

from gramian.report.margins import margin_chart, ratio_of, tightest
from gramian.report.page import render


def margin(name="path", left=1e-12, sense="<", right=1e-3, holds=True):
    return {"name": name, "says": f"about {name}", "left": left, "sense": sense, "right": right, "holds": holds}


def test_a_bar_is_the_ratio_on_a_log_scale_and_the_line_is_one():
    chart = margin_chart([margin(left=1e-8, right=1.0), margin(left=1e-4, right=1.0), margin(left=1.0, right=1.0)])
    shortest, middle, whole = chart.bars
    assert 0 < shortest.length < middle.length < whole.length == chart.one < 100
    assert whole.length - middle.length == pytest.approx(middle.length - shortest.length, abs=0.02)
    assert (shortest.ratio, middle.ratio) == ("10⁻⁸", "10⁻⁴")


def test_what_fails_crosses_the_line():
    chart = margin_chart([margin(left=3.0, right=1.0, holds=False), margin(left=0.5, right=1.0)])
    assert chart.bars[0].length > chart.one > chart.bars[1].length
    assert chart.bars[0].length < 100
    assert chart.bars[0].holds is False


def test_a_bar_beyond_the_scale_ends_at_its_edge_and_leaves_the_others_readable():
    """A singular value that could not be shown gives ratios of 10^300."""
    chart = margin_chart([margin(left=1e150, right=1e-150, holds=False), margin(left=0.25, right=1.0)])
    assert chart.bars[0].length <= 100
    assert chart.bars[1].length > 20
    assert margin_chart([margin(left=1e200, right=1e-200, holds=False)]).bars[0].length is None  # above any float


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"left": 0.0, "right": 0.3}, "0 < 0.3"),
        ({"name": "sigma", "left": 0.3, "right": 0.3}, "0.3, shown by a factorization"),
        ({"name": "sigma", "left": 0.3, "right": None, "holds": False}, "0.3, could not be shown"),
        ({"left": None, "right": 1.0}, "not measured < 1"),
        ({"left": 1e-9, "right": -0.01, "holds": False}, "10⁻⁹ < −0.01"),
    ],
)
def test_a_number_without_a_ratio_has_no_bar(changes, words):
    (bar,) = margin_chart([margin(**changes)]).bars
    assert ratio_of(margin(**changes)) is None
    assert bar.length is None
    assert bar.numbers == words


def test_no_inequalities_no_chart():
    assert margin_chart([]) is None


def with_proof(run, **changes):
    proof = {
        "theorem": "An exact global minimum exists here", "reference": "docs/proofs.md", "status": "proved",
        "about": "training", "summary": "It lies within 1e-13.", "premises": [], "conclusion": [], "constants": "",
        "statement": "minimum", "margins": [margin(), margin("residual", 1.0, "<=", 4.0)],
    }  # fmt: skip
    run["certificates"] = [proof | changes, *run["certificates"]]
    run |= {"did": "reached", "why": "proved", "status": "reached, proved"}


def test_the_page_has_bars_for_proofs_and_tables_for_theorems(facts, run):
    before = render(facts)
    assert 'class="track"' not in before
    with_proof(run)
    page = render(facts)
    assert page.count('class="fill"') == 2
    assert 'aria-label="left over right: 0.25"' in page
    assert "<strong>Reached</strong>, proved" in page
    assert page.count('<table class="conditions">') == before.count('<table class="conditions">')


def test_a_proof_that_failed_before_any_inequality_has_the_table(facts, run):
    with_proof(run, status="not proved", margins=[])
    assert 'class="track"' not in render(facts)


def test_the_room_of_the_whole_is_told_where_there_is_such_a_bar(facts, run):
    words = "The first bar is the room of the whole proof"
    with_proof(run, statement="separation", margins=[margin("margin")])
    assert words not in render(facts)
    with_proof(run, margins=[margin("h"), margin()])
    assert words in render(facts)


def test_the_inequality_that_decides():
    claims = [margin("residual", 1.0, "<=", 1.0), margin("sigma", 0.3, "<=", 0.3)]
    assert tightest([*claims, margin("path", 2.0, "<", 3.0)]) == "about path: 2 < 3"
    assert tightest([margin("h", 0.5, "<", 1.0), *claims, margin("path", 2.0, "<", 3.0)]) == "about h: 0.5 < 1"
    assert tightest([*claims, margin("path", 4.0, "<", 3.0, holds=False)]) == "about path: 4 < 3"
    lost = [margin("sigma", 0.3, "<=", None, holds=False), margin("path", 2.0, "<", 3.0)]
    assert tightest(lost) == "about sigma: 0.3, could not be shown"
    no_step = [margin("h", 1e-6, "<", -3.9, holds=False), margin("share", 0.0, "<", -3.9, holds=False)]
    assert tightest(no_step) == "about share: 0 < −3.9"
    assert tightest([]) == ""


def bound(**changes):
    return {
        "name": "PAC-Bayes", "of": "the network with noise", "value": 0.27, "vacuous": False, "probability": 0.95,
        "samples": 2000, "test_error": 0.036, "assumes": ["the samples are independent"], "reference": "arXiv:1",
    } | changes  # fmt: skip


def test_bounds_of_the_error_have_a_table_and_vacuous_ones_the_word(facts, run):
    words = "How large can the error on new samples be?"
    assert words not in render(facts)
    run["bounds"] = [bound(), bound(name="Rademacher", value=1.2, vacuous=True, test_error=None)]
    page = render(facts)
    assert words in page
    assert "<td>0.27</td><td>0.036</td>" in page
    assert "1.2, vacuous</td><td>not measured</td>" in page
    assert "Assumed, and not checked here: the samples are independent." in page


def test_the_terminal_says_the_bounds_and_the_inequality_that_decides(facts, run, capsys):
    from rich.console import Console

    from gramian.cli.printed_answer import print_answer

    with_proof(run, status="not proved", margins=[margin("path", 4.0, "<", 3.0, holds=False)])
    run["bounds"] = [bound(), bound(name="Rademacher", value=1.2, vacuous=True, test_error=None)]
    facts["runs"] = [run]
    print_answer(facts, Console(width=400))
    said = capsys.readouterr().out
    assert "about path: 4 < 3" in said
    assert "PAC-Bayes: the error of the network with noise on new samples is at most 0.27, with probability" in said
    assert "on the test rows it is 0.036" in said
    assert "Rademacher: the error of the network with noise on new samples is vacuous (1.2: guessing" in said
