"""The page: facts in, one HTML text out, with everything it needs inside and nothing from the network."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from gramian.report import figures, numbers
from gramian.report.blocks import complete
from gramian.report.overview import WATCHED, row

_HERE = Path(__file__).parent
_ARXIV = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5}(?:v\d+)?)")
_CODE = re.compile(r"`([^`]+)`")
_UNIT = re.compile(r"(?<=\d) (?=%|ms\b|s\b|×)|(?<=×) (?=10)")

# status -> (symbol in the page, what it means in one line); any other status is shown as it is, with no symbol's claim
STATUS = {
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
    """The whole report as one HTML text; plotly.js, style and script are inside it."""
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
        _environment()
        .get_template("page.html")
        .render(
            title=whole["title"],
            data=whole["data"],
            views=views,
            pictures=pictures,
            statuses=STATUS,
            style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
            plotly=Markup(get_plotlyjs()),
        )
    )


def nobreak(text: object) -> str:
    """Keeps a number and its unit on one line: the space between them becomes a no-break space."""
    return _UNIT.sub("\u00a0", str(text))


def coded(text: object) -> Markup:
    """A sentence with what stands between backticks as code; everything else is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(nobreak(text)))))


def linked(text: object) -> Markup:
    """A reference with its arXiv ids as links; everything else is escaped."""
    return Markup(_ARXIV.sub(r'<a href="https://arxiv.org/abs/\1" rel="noreferrer">arXiv:\1</a>', str(escape(text))))


def _environment() -> Environment:
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
        "quantity": lambda value: nobreak(numbers.quantity(value)),
        "nobreak": nobreak,
        "prose": lambda value: nobreak(numbers.prose(value)),
        "linked": linked,
        "coded": coded,
    }
    return environment
