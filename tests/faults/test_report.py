"""The report: small, readable without JavaScript, and with labels that do not touch (practice.md 17)."""

import html
import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.certify.run_facts import SHOWN_PROBES
from gramian.report import figures, write
from gramian.report.blocks import complete
from gramian.report.figures import first_four
from gramian.report.page import render
from gramian.report.static_svg import static_svg
from gramian.report.ticks import log_ticks

FIXTURE = Path(__file__).parent.parent / "report" / "fixture_facts.json"


@pytest.fixture
def facts() -> dict:
    """Invented facts of three networks."""
    return json.loads(FIXTURE.read_text(encoding="utf-8"))


def test_a_report_is_small_and_the_library_lies_beside_it_once(facts, tmp_path):
    page, _ = write(facts, tmp_path)
    assert page.stat().st_size < 1e6
    library = tmp_path / "plotly.min.js"
    first = library.stat()
    write(facts, tmp_path)
    assert library.stat().st_mtime_ns == first.st_mtime_ns
    library.write_text("half")
    write(facts, tmp_path)
    assert library.stat().st_size == first.st_size


def test_pictures_are_in_the_page_without_javascript(facts):
    page = render(facts)
    plots = re.findall(r'<div class="plot"[^>]*>(.*?)</div>', page, re.DOTALL)
    assert len(plots) == 3 * 10
    for plot in plots:
        assert plot.startswith("<svg")
        assert '<path class="curve"' in plot or "<circle" in plot


def test_a_static_picture_keeps_gaps_and_stays_in_its_frame(facts):
    run = complete(facts)["runs"][0]
    run["loss"]["measured"][3] = None
    measured = first_four(run)[0].figure
    [path, *_] = re.findall(r'<path class="curve" d="([^"]+)"', static_svg(measured))
    assert path.count("L") == 2  # three points, then the gap
    for x, y in re.findall(r"([\d.]+) ([\d.]+)", " ".join(re.findall(r' d="([^"]+)"', static_svg(measured)))):
        assert 0 <= float(x) <= 400
        assert 0 <= float(y) <= 190


def test_names_in_a_static_picture_are_inert(facts):
    figure = first_four(complete(facts)["runs"][0])[0].figure
    figure["layout"]["xaxis"]["title"]["text"] = figure["layout"]["annotations"][0]["text"] = "</svg><script>"
    assert "<script" not in static_svg(figure)


@given(st.floats(1e-12, 1e12), st.floats(1.01, 1e15))
def test_labels_of_a_log_axis_are_apart(low, ratio):
    """At most six of them, each at least a tenth of the axis from the next where more than two fit."""
    ticks = log_ticks(low, low * ratio)
    assert len(ticks) <= 6
    gaps = [b / a for a, b in pairwise(ticks)]
    assert all(gap > ratio**0.1 for gap in gaps)


def test_no_formula_of_a_theorem_is_half_typeset(facts):
    notes = ["n^(9/2) L^4.5 log^3 m", "omega^(1/3)", "sqrt(log m)", "lambda_0 / n^2, constant 1"]
    conditions = facts["runs"][0]["certificates"][0]["premises"]
    for condition, note in zip(conditions, notes, strict=False):
        condition["note"] = note
    page = render(facts)
    assert len(conditions) >= 2
    assert "<msup><mi>L</mi><mrow><mn>4.5</mn></mrow></msup>" in page
    text = re.sub(r"<(script|style|math)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\^|[A-Za-z)][⁰¹²³⁴⁵⁶⁷⁸⁹]", re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL))


def test_a_bound_that_is_no_number_is_said_in_words(facts):
    conditions = facts["runs"][0]["certificates"][0]["premises"]
    conditions[0] |= {"says": "width", "needs": "≥ inf", "has": "64", "holds": False}
    conditions[1] |= {"needs": "≤ inf", "has": "nan", "holds": True}
    page = re.sub(r"<(script|style)\b.*?</\1>", "", render(facts), flags=re.DOTALL)
    assert "no finite number is enough" in page
    assert "any number (no bound)" in page
    assert not re.search(r"\b(inf|nan|NaN|Infinity)\b|[≤≥] ∞", page)


def test_the_answer_is_the_headline_and_nothing_ticks_a_vacuous_bound(facts):
    run = facts["runs"][0]
    run |= {"did": "not reached", "why": "observed", "status": "not reached, observed"}
    run["certificates"][0]["conclusion"] = [
        {"says": "steps", "needs": "≤ 5e+15", "has": "9", "holds": True, "vacuous": True}
    ]
    facts["runs"] = [run]
    page = render(facts)
    headline = page.index('<p class="did">')
    assert "<strong>Not reached</strong>, observed" in page
    assert headline < page.index('<p class="lead">') < page.index('class="plot"')
    [row] = re.findall(r'<td class="says">steps.*?</tr>', page, re.DOTALL)
    assert "says nothing" in row
    assert "yes" not in row


def test_each_quantity_says_what_it_is_and_what_is_good(facts):
    """One sentence below each picture, also for the probes that certify shows and the fixture lacks."""
    facts["runs"][0]["probes"] = [
        {"name": name, "title": name, "unit": "", "steps": [0, 1], "values": [1.0, 2.0]} for name in SHOWN_PROBES
    ]
    run = complete(facts)["runs"][0]
    for one in [*first_four(run), figures.width(run["width"]), *figures.further(run)]:
        assert len(one.about.split()) > 8, one.name
        assert one.about in html.unescape(render(facts)).replace("\u00a0", " ")
    page = html.unescape(render(facts))
    assert "another unit" in page  # the spectral distance of a probe, beside that of a certificate


def test_a_regression_has_its_error_in_the_targets_unit(facts):
    block = facts["runs"][0]["test"]
    block |= {"unit": "RMSE", "quantity": "RMSE, in the target's unit", "kernel_error": 170.0}
    block["network_error"] = [153.2] * len(block["steps"])
    facts["runs"] = facts["runs"][:1]
    one = first_four(complete(facts)["runs"][0])[3]
    assert one.sentence == "The trained network's test RMSE is 153, the kernel predictor's 170."
    assert one.axis == "RMSE, in the target's unit"
    assert one.figure["data"][0]["y"][0] == 153.2
    assert one.figure["layout"]["yaxis"]["ticksuffix"] == ""


def test_numbers_beyond_all_bounds_are_no_part_of_the_page(facts):
    run = facts["runs"][0]
    run["width"] |= {"useful_width": math.inf, "slope": math.nan, "run_error": math.inf}
    run["loss"] |= {"steps": [0, 1, 2], "measured": [1.0, math.inf, math.nan], "lr_max": math.inf}
    run["test"] |= {"steps": [0], "network_error": [math.inf]}
    run["answer"][0] = "Not reached: the training loss is nan of inf."
    page = re.sub(r"<(script|style)\b.*?</\1>", "", render(facts), flags=re.DOTALL)
    assert "the training loss is not a number of infinity" in page
    assert not re.search(r"\b(inf|nan|NaN|Infinity|None)\b", page)
