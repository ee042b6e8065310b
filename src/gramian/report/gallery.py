"""The gallery of claims: an index of cards and one page a paper, from plain facts. Nothing comes from the network."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from gramian.report import numbers
from gramian.report.page import LIBRARY, page_environment, page_text
from gramian.report.write import write_texts

VERDICTS = {  # status -> (symbol in the page, what it means)
    "holds": ("certified", "Every part of the statement was seen, and numbers of the paper that are compared are met."),
    "differs": ("observed", "The statement was seen, but a printed or derived number is another one: both are shown."),
    "not shown": ("open", "A part of the statement was not seen."),
}


def render_index(papers: list[dict[str, Any]]) -> str:
    """The index: a card a claim, which verdict and topic filter.

    Args:
        papers: as `gramian.claims.gallery` makes them.
    """
    claims = [{"paper": paper, "claim": claim} for paper in papers for claim in paper["claims"]]
    shown = {entry["claim"]["outcomes"][0]["verdict"]["status"] for entry in claims}
    return _render(
        "gallery.html",
        title="Papers as checked claims",
        claims=claims,
        topics=sorted({paper["topic"] for paper in papers}),
        verdicts=[status for status in VERDICTS if status in shown],
        script=page_text("gallery.js"),
    )


def render_paper(paper: dict[str, Any]) -> str:
    """The page of one paper: every claim, with its pictures, numbers, control and code."""
    pictures = {
        f"{claim['anchor']}-{outcome['scale']}{kind}-{picture['name']}": picture["figure"]
        for claim in paper["claims"]
        for outcome in claim["outcomes"]
        for kind, list_of in (("", outcome["pictures"]), ("-broken", outcome["control_pictures"]))
        for picture in list_of
        if picture["figure"] is not None
    }
    return _render("claims.html", title=paper["title"], paper=paper, pictures=pictures, script=page_text("page.js"))


def write_gallery_pages(papers: list[dict[str, Any]], folder: str | os.PathLike[str]) -> Path:
    """Writes the index, a page a paper, and the library that makes pictures interactive; all of them or none.

    Returns:
        The path of `index.html`.

    Raises:
        BadArgument: the folder cannot be made or written to.
    """
    folder = Path(folder)
    texts = {LIBRARY: get_plotlyjs(), "index.html": render_index(papers)}
    texts |= {f"{paper['key']}.html": render_paper(paper) for paper in papers}
    write_texts(folder, texts, what="the gallery", fix="a folder that you may write to: gramian claims gallery FOLDER")
    return folder / "index.html"


def picture_facts(picture: Any) -> dict[str, Any]:
    """A `Picture` as plain data."""
    return asdict(picture)


def sized(effect: dict[str, Any]) -> str:
    """A measured size with its interval."""
    text = numbers.number(effect["value"])
    if effect["low"] is not None:
        text += f" [{numbers.number(effect['low'])}, {numbers.number(effect['high'])}]"
    return text


def _render(template: str, **values: Any) -> str:
    environment = page_environment()
    environment.filters["sized"] = sized
    style = page_text("page.css") + page_text("gallery.css")
    return environment.get_template(template).render(statuses=VERDICTS, style=style, library=LIBRARY, **values)
