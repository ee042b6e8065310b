"""The page as text: complete, inert, and silent about what was not measured."""

import html
import json
import re

import pytest

from gramian.report import summary_rows
from gramian.report.blocks import anchors
from gramian.report.page import render


def visible(page: str) -> str:
    """The text of a page, without scripts, style and tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


def test_the_page_answers(facts, run):
    text = " ".join(visible(render(facts)).replace("\u00a0", " ").split())
    for sentence in run["answer"]:
        assert sentence in text
    assert "3.1 × 10⁷⁴" in text
    assert "Du, Lee, Li, Wang, Zhai 2019" in text
    for row in summary_rows(facts):
        for cell in row.values():
            assert cell in text


@pytest.mark.parametrize(
    "facts", [{}, {"runs": []}, {"runs": [{}]}, {"runs": [{"certificates": [{"premises": [{}]}]}]}]
)
def test_missing_facts_read_not_measured(facts):
    text = visible(render(facts))
    assert not re.search(r"\b(None|nan|NaN|undefined|Undefined)\b", text)
    assert "not measured" in text


def test_no_value_of_the_fixture_may_be_missing_without_a_word(facts):
    """Each number taken away, one block at a time, leaves a page that still says so in words."""
    for name in ("loss", "accuracy", "spectrum", "moved", "test", "width", "origin"):
        facts["runs"][0][name] = None
        text = visible(render(facts))
        assert not re.search(r"\b(None|nan|NaN)\b", text), name


def test_nan_in_a_curve_and_in_a_scalar(facts, run):
    run["loss"]["measured"][3] = float("nan")
    run["test"]["kernel_error"] = float("nan")
    run["width"]["slope"] = float("nan")
    assert not re.search(r"\b(None|nan|NaN)\b", visible(render(facts)))


def test_names_with_markup_are_inert(facts, run):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    facts["title"] = run["title"] = run["key"] = run["network"] = evil
    facts["data"]["name"] = facts["data"]["classes"][0] = run["answer"][0] = evil
    run["warnings"] = [evil]
    run["moved"]["layers"][0] = run["probes"][0]["title"] = run["probes"][0]["name"] = evil
    run["certificates"][0] |= {"theorem": evil, "reference": evil, "summary": evil, "status": evil}
    run["certificates"][0]["premises"][0] |= {"says": evil, "needs": evil, "has": evil, "note": evil}
    run["origin"] |= {"command": evil, "python": evil, "versions": {evil: evil}}
    page = render(facts)
    assert page.count("<script") == len(re.findall(r"<script[ >]", render({"runs": [{}]})))
    assert "<img" not in page
    assert evil in visible(page)


def test_nothing_is_fetched(facts):
    """What the page loads: the library beside it, and a policy by which the browser refuses everything else."""
    page = render(facts)
    assert re.findall(r"\s(src=\S*)", page) == ['src="plotly.min.js"></script>']
    head, rest = page.split("<body", 1)
    markup = re.sub(r"<script\b.*?</script>", "", head + rest, flags=re.DOTALL)
    assert "default-src 'none'" in head
    assert not re.search(r"\ssrc=|<link(?! rel=\"icon\" href=\"data:)|@import|url\(", markup)
    assert (
        re.findall(r'href="(https?://[^"]*)"', markup)
        == ["https://arxiv.org/abs/1811.03962", "https://arxiv.org/abs/1811.03804"] * 3
    )


def test_one_network_has_no_overview_and_no_tabs(facts):
    assert 'id="overview"' in render(facts)
    facts["runs"] = facts["runs"][:1]
    page = render(facts)
    assert 'id="overview"' not in page
    assert 'class="tabs"' not in page


def test_each_status_has_its_own_symbol_and_color(facts):
    statuses = ["implied", "observed", "not shown", "CONTRADICTED"]
    facts["runs"] = [facts["runs"][0] | {"status": status} for status in statuses]
    cells = re.findall(r'<td class="verdict-cell">\s*<span class="badge (\w+)">.*?#icon-(\w+)"', render(facts))
    assert len(set(cells)) == 4
    assert all(color == symbol for color, symbol in cells)


def test_an_unknown_status_is_shown_as_it_is(facts, run):
    run["status"] = "conjectured"
    assert '<span class="badge other">conjectured</span>' in render(facts)


def test_the_figures_are_json(facts):
    [text] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', render(facts), re.DOTALL)
    figures = json.loads(text)
    assert {"mlp-loss", "cnn-spectrum", "resnet-moved", "mlp-test", "mlp-width", "mlp-probe-gram_min"} <= set(figures)


def test_anchors_are_unique_and_do_not_collide_with_the_page(facts):
    for run in facts["runs"]:
        run["key"] = "overview"
    ids = re.findall(r'\sid="([^"]+)"', render(facts))
    assert len(set(ids)) == len(ids)
    assert anchors(["a b", "a-b", ""]) == ["a-b", "a-b-2", "run"]


def test_equal_rows_with_different_labels_are_named(facts):
    facts["data"]["geometry"] |= {"duplicates": [[1, 2, 9]], "conflicts": [[1, 9]]}
    text = " ".join(visible(render(facts)).split())
    assert "1 = 2 = 9" in text
    assert "1 and 9: no network can fit these" in text


def test_summary_rows_have_the_same_columns(facts):
    facts["runs"][1]["loss"] = None
    rows = summary_rows(facts)
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["Learning rate / largest"] == "0.4 / 0.476"
    assert rows[1]["Learning rate / largest"] == rows[1]["Steps"] == "not measured"
    assert all(isinstance(cell, str) for row in rows for cell in row.values())
