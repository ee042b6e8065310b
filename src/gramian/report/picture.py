"""What one picture is: a plotly figure as plain data, and the same numbers as a sentence and as tables.

Colors are written `var(--...)`, the names of the page's CSS variables; the page's script puts their values in, again
whenever the color scheme changes. A color has one meaning in all pictures, and each color its own dash pattern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gramian.report.blocks import without_nan
from gramian.report.numbers import missing, number
from gramian.report.quantities import about
from gramian.report.ticks import log_ticks

NETWORK = ("var(--series-network)", "solid")  # the trained network, as measured
LIMIT = ("var(--series-limit)", "dash")  # the infinite-width kernel
INITIAL = ("var(--series-initial)", "dot")  # the network's own kernel at initialization
FLIPS = ("var(--series-flips)", "dashdot")
BOUND = ("var(--muted)", "dot")

MOST_POINTS = 500  # of a drawn curve; the JSON file has all of them
MOST_ROWS = 24  # of a table in the page


@dataclass(frozen=True)
class PictureTable:
    """A table of strings; `caption` says what was left out."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """An entry of the legend: what is drawn, in which color and dash, or with which marker."""

    name: str
    color: str
    dash: str
    width: float
    opacity: float
    symbol: str  # "" for a line


@dataclass(frozen=True)
class Picture:
    """One picture of the report. `figure` is None where nothing was measured: then only the sentence is shown."""

    name: str
    title: str
    axis: str
    sentence: str
    figure: dict | None
    legend: list[LegendEntry]
    tables: list[PictureTable]
    about: str = ""  # what the quantity is, and which values are good


def picture(
    name: str,
    title: str,
    axis: str,
    sentence: str,
    *,
    traces: list[dict],
    x: dict,
    y: dict,
    tables: list[PictureTable],
    marks: list[dict] | None = None,
) -> Picture:
    """A picture from its traces: the legend is read off them, one line for each name and style."""
    legend = {t["name"]: _legend_line(t) for t in traces if t["showlegend"]}
    if traces:
        figure = {"data": traces, "layout": _layout(x, y, marks or [])}
    else:
        figure = None
    told = [t for t in tables if t.rows]
    return Picture(name, title, axis, sentence, without_nan(figure), list(legend.values()), told, about(name))


def curve(
    x: list | None, y: list | None, name: str, style: tuple[str, str], *, width: float = 2, legend: bool = True
) -> list[dict]:
    """A line as a list of one trace, or an empty list if nothing was measured; few points are marked."""
    pairs = [(a, b) for a, b in zip(x or [], y or [], strict=False)]
    if not any(_drawable(b) for _, b in pairs):
        return []
    pairs = [pairs[i] for i in spread(len(pairs), MOST_POINTS)]
    color, dash = style
    return [
        {
            "type": "scatter",
            "mode": "lines+markers" if 2 < len(pairs) <= 12 else "lines",
            "x": [a for a, _ in pairs],
            "y": [b if _drawable(b) else None for _, b in pairs],
            "name": name,
            "line": {"color": color, "dash": dash, "width": width},
            "marker": {"color": color, "size": 5},
            "showlegend": legend,
            "opacity": 1,
            "hovertemplate": "%{y:,.4~g}",
        }
    ]


def ribbon(x: list | None, y: list | None, name: str, style: tuple[str, str]) -> list[dict]:
    """A broad pale line, drawn first: what is measured, on which a prediction that agrees can still be seen."""
    return [trace | {"opacity": 0.45} for trace in curve(x, y, name, style, width=5)]


def points(x: list | None, y: list | None, name: str, style: tuple[str, str], symbol: str) -> list[dict]:
    """Markers with no line between them."""
    size = 13
    if symbol == "circle":
        size = 9
    marker = {"color": style[0], "size": size, "symbol": symbol}
    return [trace | {"mode": "markers", "marker": marker} for trace in curve(x, y, name, style)]


def linear_axis(title: str = "", suffix: str = "", nticks: int = 6) -> dict:
    """A linear axis; shares are drawn in percent with `suffix=" %"`."""
    return _AXIS | {"title": _title(title), "ticksuffix": suffix, "nticks": nticks}


def log_axis(values: list, title: str = "", suffix: str = "") -> dict:
    """A logarithmic axis with at most seven labeled powers of ten; of less than two decades, with round numbers.

    Plotly would label every digit of a short axis, one over the other, so a short one has its labels given.
    """
    sizes = [math.log10(v) for v in values if _drawable(v) and v > 0]
    if sizes:
        decades = max(sizes) - min(sizes)
    else:
        decades = 0
    if decades > 0:
        places = log_ticks(10 ** min(sizes), 10 ** max(sizes))
    else:
        places = sorted({10**size for size in sizes})
    ticks: dict = {"tickmode": "array", "tickvals": places, "ticktext": [number(v) + suffix for v in places]}
    # plotly writes powers of ten a quarter larger than other labels
    if decades >= 2:
        ticks = {"dtick": math.ceil(decades / 6), "exponentformat": "power", "tickfont": {"size": 9.6}}
    return _AXIS | ticks | {"type": "log", "title": _title(title), "ticksuffix": suffix}


def mark_x(at: float, text: str, *, log: bool = False, left: bool = False) -> list[dict]:
    """A vertical hairline with its label at the top: [shape, annotation]."""
    # annotations on a log axis are placed by exponent, shapes by value
    if log:
        place = math.log10(at)
    else:
        place = at
    if left:
        anchor, shift = "right", -3
    else:
        anchor, shift = "left", 3
    hairline = {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    label = {
        "x": place,
        "y": 1,
        "yref": "paper",
        "yanchor": "top",
        "xanchor": anchor,
        "xshift": shift,
    }
    return [hairline | _HAIRLINE, label | _LABEL | {"text": text}]


def mark_y(at: float, text: str, *, log: bool = False) -> list[dict]:
    """A horizontal hairline with its label at the left: [shape, annotation]."""
    if log:
        place = math.log10(at)
    else:
        place = at
    hairline = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at}
    label = {"x": 0, "xref": "paper", "xanchor": "left", "y": place, "yanchor": "bottom"}
    return [hairline | _HAIRLINE, label | _LABEL | {"text": text}]


def percents(shares: list | None) -> list:
    """Shares of 1 as percent, None staying None."""
    return [None if missing(v) else 100 * v for v in shares or []]


def spread(n: int, most: int) -> list[int]:
    """At most `most` of n positions, evenly spread, with the first and the last.

    >>> spread(3, 5), spread(100, 4)
    ([0, 1, 2], [0, 33, 66, 99])
    """
    if n <= most:
        return list(range(n))
    return sorted({round(k * (n - 1) / (most - 1)) for k in range(most)})


def spread_log(n: int, most: int) -> list[int]:
    """At most `most` of n positions, denser at the start, with the first and the last.

    >>> spread_log(1000, 4)
    [0, 9, 99, 999]
    """
    # the k-th is n to a power that grows evenly with k
    if n <= most:
        return list(range(n))
    return sorted({round(n ** (k / (most - 1))) - 1 for k in range(most)})


def series_table(x_name: str, x: list | None, columns: Mapping[str, list | None], write=number) -> PictureTable:
    """Curves over a common x as a table; columns that were not measured are left out, long ones are thinned."""
    have = {name: values for name, values in columns.items() if values}
    if not x or not have:
        return PictureTable([], [])
    keep = spread(len(x), MOST_ROWS)
    rows = [[number(x[i]), *(write(v[i]) if i < len(v) else write(None) for v in have.values())] for i in keep]
    return PictureTable([x_name, *have], rows, thinned(len(keep), len(x)))


def thinned(shown: int, of: int) -> str:
    """What a table says about the rows that it leaves out."""
    if shown == of:
        return ""
    return f"{shown} of {number(of)} rows; report.json has them all."


_AXIS: dict = {
    "gridcolor": "var(--grid)",
    "linecolor": "var(--line)",
    "tickcolor": "var(--line)",
    "zeroline": False,
    "automargin": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickangle": 0,  # plotly turns labels that it finds too many; fewer are better read
    "separatethousands": True,
}
_HAIRLINE = {"line": {"color": "var(--muted)", "width": 1, "dash": "dot"}, "layer": "below"}
_LABEL = {"showarrow": False, "font": {"size": 11, "color": "var(--muted)"}}


def _title(text: str) -> dict:
    return {"text": text, "standoff": 6, "font": {"size": 12}}


def _legend_line(trace: dict) -> LegendEntry:
    line, symbol = trace["line"], trace["marker"].get("symbol", "")
    return LegendEntry(trace["name"], line["color"], line["dash"], line["width"], trace["opacity"], symbol)


def _layout(x: dict, y: dict, marks: list[dict]) -> dict:
    return {
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "var(--font)", "size": 12, "color": "var(--muted)"},
        "showlegend": False,  # the page has its own, readable by a screen reader
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line)",
            "font": {"family": "var(--font)", "color": "var(--ink)"},
        },
        "uirevision": "keep",
        "xaxis": x,
        "yaxis": y,
        "shapes": [mark for mark in marks if "type" in mark],
        "annotations": [mark for mark in marks if "type" not in mark],
    }


def _drawable(value) -> bool:
    return value is not None and math.isfinite(value)
