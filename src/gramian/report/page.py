"""The page: facts in, one HTML text out. Pictures are inside it as SVG, and nothing comes from the network.

`plotly.min.js` beside the page, if it is there, makes the pictures ones to zoom into.
"""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gramian.report import figures, numbers
from gramian.report.blocks import complete
from gramian.report.formula import typeset
from gramian.report.margins import margin_chart, tightest
from gramian.report.overview import WATCHED, row
from gramian.report.static_svg import static_svg

LIBRARY = "plotly.min.js"  # beside the page: 4.7 MB, the same for all reports of a folder
_HERE = Path(__file__).parent
_ARXIV = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5}(?:v\d+)?)")
_CODE = re.compile(r"`([^`]+)`")
_UNIT = re.compile(r"(?<=\d) (?=%|ms\b|s\b|×)|(?<=×) (?=10)")

# status -> (symbol in the page, what it means in one line); any other status is shown as it is, with no symbol's claim
STATUS = {
    "reached, proved": (
        "certified",
        "The global minimum was reached in this run. What is proved, with bounds of all rounding errors, of the "
        "weights that it left, or of the exact run from its start, stands after the word “Proved” in the answer.",
    ),
    "proved": ("certified", "Every inequality of the proof was checked with bounds of all rounding errors."),
    "not proved": ("open", "An inequality of the proof does not hold, or could not be shown."),
    "reached, implied": ("certified", "The global minimum was reached, and a theorem about training implies it."),
    "reached, implied up to constants": (
        "certified",
        "The global minimum was reached; a theorem about training implies it, its open constants taken to be 1.",
    ),
    "reached, observed": ("observed", "The global minimum was reached in this run; no theorem implies it."),
    "not reached, observed": ("open", "The last training loss is not that of the global minimum."),
    "impossible, implied": ("contradicted", "No network can: equal inputs have different labels."),
    "implied": ("certified", "Every premise of a theorem holds on these numbers, so its conclusion follows."),
    "implied up to constants": (
        "certified",
        "Every premise of a theorem holds, with each constant that the paper leaves open taken to be 1.",
    ),
    "observed": ("observed", "It happened in this run; no theorem's premises hold, so none implies it."),
    "not shown": ("open", "No theorem's premises hold, and the conclusion was not observed."),
    "CONTRADICTED": ("contradicted", "A theorem's premises hold and its conclusion does not: a constant or a bug."),
}


def render(facts: dict) -> str:
    """The whole report as one HTML text; pictures, style and script are inside it."""
    whole = complete(facts)
    runs = whole["runs"]
    views = []
    for run in runs:
        views.append(
            {
                "run": run,
                "row": row(run, whole["data"]),
                "first": [one for one in figures.first_four(run) if one.figure or run["status"] != WATCHED],
                "width": figures.width(run["width"]),
                "further": figures.further(run),
            }
        )
    pictures = {
        f"{view['run']['anchor']}-{one.name}": one.figure
        for view in views
        for one in [*view["first"], view["width"], *view["further"]]
        if one.figure is not None
    }
    return (
        page_environment()
        .get_template("page.html")
        .render(
            title=whole["title"],
            data=whole["data"],
            views=views,
            pictures=pictures,
            statuses=STATUS,
            style=page_text("page.css"),
            script=page_text("page.js"),
            library=LIBRARY,
        )
    )


def nobreak(text: object) -> str:
    """Keeps a number and its unit on one line: the space between them becomes a no-break space."""
    return _UNIT.sub("\u00a0", str(text))


def coded(text: object) -> Markup:
    """A sentence with what stands between backticks as code; everything else is escaped, powers are typeset."""
    pieces = _CODE.split(str(text))  # outside and inside of backticks, in turn
    for k, piece in enumerate(pieces):
        if k % 2:
            pieces[k] = f"<code>{escape(piece)}</code>"
        else:
            pieces[k] = str(formulas(piece, powers_only=True))
    return Markup("".join(pieces))


def formulas(text: object, powers_only: bool = False) -> Markup:
    """A sentence with its formulas typeset, its numbers as people write them; "not measured" where there is none."""
    if numbers.missing(text):
        return Markup(numbers.NOT_MEASURED)
    return Markup(nobreak(typeset(text, powers_only=powers_only)))


def linked(text: object) -> Markup:
    """A reference with its arXiv ids as links; everything else is escaped."""
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1" rel="noreferrer">arXiv:\1</a>', str(escape(text))))


def quantity(value: object) -> str:
    """What a condition needs or has: a number, or a text that may be a formula."""
    if "^" in str(value):
        return formulas(value)
    return nobreak(numbers.quantity(value))


def page_text(name: str) -> Markup:
    """A style or script of this folder, to stand inside a page as it is."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def page_environment() -> Environment:
    """The templates of this folder, with the filters that they use."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: numbers.NOT_MEASURED if numbers.missing(value) else value,
    )
    environment.filters |= {
        "number": numbers.number,
        "percent": numbers.percent,
        "duration": numbers.duration,
        "date": numbers.date,
        "count": numbers.count,
        "quantity": quantity,
        "nobreak": nobreak,
        "formulas": formulas,
        "linked": linked,
        "coded": coded,
        "static_svg": static_svg,
        "margin_chart": margin_chart,
        "tightest": tightest,
    }
    return environment
