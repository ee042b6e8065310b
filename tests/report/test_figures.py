"""The pictures: figures that plotly accepts, with the numbers of the facts in them."""

import math
import re

import plotly.graph_objects as go
import pytest

from gramian.report import figures
from gramian.report.blocks import complete
from gramian.report.picture import curve, log_axis, spread, spread_log


def pictures(facts):
    for run in complete(facts)["runs"]:
        yield from [*figures.first_four(run), figures.width(run["width"]), *figures.further(run)]


def test_plotly_knows_every_attribute(facts):
    shown = list(pictures(facts))
    assert len(shown) == 3 * 10
    for one in shown:
        go.Figure(one.figure)  # raises on an unknown attribute


def test_every_color_is_a_variable_of_the_page(facts):
    from gramian.report import page

    style = (page._HERE / "page.css").read_text(encoding="utf-8")
    used = set(re.findall(r"var\((--[\w-]+)\)", str([one.figure for one in pictures(facts)])))
    assert {"--series-network", "--series-limit", "--ink"} <= used
    assert all(f"{name}:" in style for name in used)
    # plain colors would not follow the color scheme
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(", str([one.figure for one in pictures(facts)]))


def test_every_line_is_told_apart_without_color(facts):
    for one in pictures(facts):
        styles = [(line.dash, line.width, line.symbol) for line in one.legend]
        assert len(set(styles)) == len(styles), one.title


def test_the_loss_picture_has_the_measured_numbers(facts, run):
    [measured] = [
        t for t in figures.first_four(complete(facts)["runs"][0])[0].figure["data"] if t["name"] == "measured"
    ]
    assert measured["x"] == run["loss"]["steps"]
    assert measured["y"] == run["loss"]["measured"]


def test_every_picture_has_its_numbers_in_a_table(facts):
    for one in pictures(facts):
        assert one.tables, one.title
        for table in one.tables:
            assert all(len(row) == len(table.header) for row in table.rows)
            assert len(table.rows) <= 24 or table.header[0] == "layer"


def test_what_json_cannot_write_is_a_gap():
    facts = {"runs": [{"loss": {"steps": [0, 1, 2], "measured": [1.0, math.inf, math.nan]}}]}
    picture = figures.first_four(complete(facts)["runs"][0])[0]
    assert picture.figure["data"][0]["y"] == [1.0, None, None]


def test_nothing_measured_gives_no_figure():
    [run] = complete({"runs": [{}]})["runs"]
    assert [one.figure for one in [*figures.first_four(run), figures.width(run["width"])]] == [None] * 5
    assert figures.further(run) == []


def test_long_curves_are_thinned_with_both_ends():
    [trace] = curve(list(range(100_000)), [1.0] * 100_000, "", ("", ""))
    assert len(trace["x"]) == 500
    assert (trace["x"][0], trace["x"][-1]) == (0, 99_999)


@pytest.mark.parametrize("choose", [spread, spread_log])
@pytest.mark.parametrize("n", [0, 1, 7, 24, 25, 10_000])
def test_thinning_keeps_order_and_both_ends(choose, n):
    kept = choose(n, 24)
    assert kept == sorted(set(kept))
    assert len(kept) <= 24
    assert n == 0 or (kept[0], kept[-1]) == (0, n - 1)


def test_log_axes_have_few_labels():
    assert log_axis([1e-12, 1.0])["dtick"] == 2
    assert "dtick" not in log_axis([0.5, 1.0, None, 0.0])
