"""The gallery's pages from plain facts: what they say, and that nothing in them comes from the network."""

import re

import pytest

from gramian.errors import BadArgument
from gramian.report.gallery import picture_facts, render_index, render_paper, write_gallery_pages
from gramian.report.page import LIBRARY
from gramian.report.picture import NETWORK, curve, linear_axis, picture, series_table


@pytest.fixture
def paper():
    drawn = picture(
        "errors",
        "Errors",
        "error",
        "They fall.",
        traces=curve([1, 2, 3], [3, 2, 1], "ours", NETWORK),
        x=linear_axis("width"),
        y=linear_axis(),
        tables=[series_table("width", [1, 2, 3], {"ours": [3, 2, 1]})],
    )
    condition = {"says": "wide & deep", "needs": "≤ 1", "has": "0.5", "holds": True, "note": "", "vacuous": False}
    effect = {
        "says": "size",
        "value": 0.365,
        "low": 0.36,
        "high": 0.37,
        "other": 0.38,
        "source": "printed in the paper",
    }
    verdict = {
        "status": "holds",
        "agreed": 5,
        "seeds": 5,
        "says": "another law",
        "conditions": [condition],
        "effects": [effect],
    }
    control = verdict | {"status": "not shown", "agreed": 0}
    outcome = {
        "scale": "paper", "seeds": [1, 2], "setting": "n 3", "verdict": verdict, "headline": effect, "control": control,
        "pictures": [picture_facts(drawn)], "control_pictures": [picture_facts(drawn)],
    }  # fmt: skip
    claim = {
        "key": "one2020word.rate", "anchor": "rate",
        "says": "It <falls> like `m^-1`.", "done": "Runs.",
        "paper_scale": "As is.", "broken": "Small.", "gives": "A number.", "python": "print(1 < 2)",
        "outcomes": [outcome],
    }  # fmt: skip
    return {"key": "one2020word", "authors": "One, Two", "year": 2020, "title": "A Title", "arxiv": "2001.00001",
            "topic": "rates", "claims": [claim]}  # fmt: skip


def test_the_index_has_a_card_a_claim_with_both_numbers(paper):
    page = render_index([paper])
    assert page.count("<li data-verdict=") == 1
    assert 'data-verdict="holds" data-topic="rates"' in page
    assert "0.365 [0.36, 0.37]" in page
    assert "<strong>0.38</strong>" in page
    assert 'href="one2020word.html#rate"' in page
    assert "One et al. 2020" in page


def test_the_page_has_control_code_conditions_and_sizes(paper):
    page = render_paper(paper)
    for text in ("Control, one premise broken", "print(1 &lt; 2)", "wide &amp; deep", "another law", "A number."):
        assert text in page, text
    assert 'id="rate-paper-errors"' in page
    assert 'id="rate-paper-broken-errors"' in page
    assert '"rate-paper-broken-errors"' in page.split('id="figures">')[1]


def test_words_are_escaped_and_nothing_comes_from_the_network(paper):
    for page in (render_index([paper]), render_paper(paper)):
        assert "It &lt;falls&gt; like <code>m^-1</code>." in page
        loaded = re.findall(r'(?:src|href)="(http[^"]+)"', page)
        assert {re.sub(r"abs/.*", "", link) for link in loaded} <= {"https://arxiv.org/"}


def test_all_pages_are_written_or_none(paper, tmp_path):
    index = write_gallery_pages([paper], tmp_path / "gallery")
    assert {path.name for path in index.parent.iterdir()} == {"index.html", "one2020word.html", LIBRARY}
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgument, match="the gallery cannot be written"):
        write_gallery_pages([paper], tmp_path / "file")
