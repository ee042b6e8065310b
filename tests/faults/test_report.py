"""The report: small, readable without JavaScript, and with labels that do not touch (practice.md 17)."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.report import write
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
    html, _ = write(facts, tmp_path)
    assert html.stat().st_size < 1e6
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
