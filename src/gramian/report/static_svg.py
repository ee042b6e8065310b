"""A picture as plain SVG inside the page: seen without JavaScript, in print, and until plotly has loaded.

It reads the same plotly figure (`picture.py`): curves, markers, hairlines with labels, linear and logarithmic axes.
Colors stay the page's CSS variables, so that the picture follows the color scheme by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from gramian.report.numbers import number
from gramian.report.ticks import linear_ticks, log_ticks, power_of_ten

DASHES = {"solid": "", "dash": "7 4", "dot": "2.4 3", "dashdot": "7 3 2 3"}
LETTER = 6.2  # width of a digit at the labels' size, in the picture's units
PAD = 0.05  # of the range, beyond the outermost points


@dataclass(frozen=True)
class PlotAxis:
    """One axis: the range (of logarithms where `log`), and where it lies in the picture."""

    log: bool
    low: float
    high: float
    start: float
    end: float
    ticks: list[float]
    texts: list[str]

    def at(self, value: float | None) -> float | None:
        """The place of a value; None where there is none."""
        if value is None or (self.log and value <= 0):
            return None
        if self.log:
            position = math.log10(value)
        else:
            position = value
        return self.start + (position - self.low) / (self.high - self.low) * (self.end - self.start)


def static_svg(figure: dict[str, Any], width: float = 400, height: float = 190) -> Markup:
    """The picture as one `<svg>`.

    Args:
        figure: what plotly would draw.
        width, height: of the picture's own units; the page scales it.

    Returns:
        SVG text, in which names are escaped.
    """
    layout, traces = figure["layout"], figure["data"]
    x_values = [v for t in traces for v in t["x"]]
    y_values = [v for t in traces for v in t["y"]]
    x_title = layout["xaxis"]["title"]["text"]
    marked = [shape["y0"] for shape in layout["shapes"] if shape.get("xref") == "paper"]
    bottom, top = height - (34 if x_title else 20), 8.0
    y = _axis(layout["yaxis"], y_values + marked, bottom, top, most=5)
    left = 12 + LETTER * max((len(text) for text in y.texts), default=1)
    right = width - 14
    marked = [shape["x0"] for shape in layout["shapes"] if shape.get("yref") == "paper"]
    x = _axis(layout["xaxis"], x_values + marked, left, right, most=6)
    parts = [*_grid(x, y), *_x_title(x_title, (left + right) / 2, height)]
    for trace in traces:
        parts += _trace(trace, x, y)
    parts += _marks(layout, x, y)
    inside = "".join(parts)
    return Markup(
        f'<svg class="static" viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="xMidYMid meet" '
        f'aria-hidden="true" focusable="false">{inside}</svg>'
    )


def _axis(axis: dict[str, Any], values: list[Any], start: float, end: float, most: int) -> PlotAxis:
    """Range and labels of an axis from what is drawn on it."""
    log = axis.get("type") == "log"
    finite = [float(v) for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    if finite:
        low, high = min(finite), max(finite)
    elif log:
        low, high = 1.0, 10.0
    else:
        low, high = 0.0, 1.0
    if axis.get("rangemode") == "tozero":
        low, high = min(low, 0.0), max(high, 0.0)
    if not high > low:
        if log:
            low, high = (low / 1.5, high * 1.5)
        else:
            low, high = (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
    ticks = axis.get("tickvals")
    if not ticks:
        spaced = log_ticks if log else linear_ticks
        ticks = spaced(low, high, most)
    texts = axis.get("ticktext") or [number(v, 4) + axis.get("ticksuffix", "") for v in ticks]
    if log:
        low, high = math.log10(low), math.log10(high)
    beyond = PAD * (high - low)
    if axis.get("rangemode") != "tozero" or low != 0:
        low -= beyond
    return PlotAxis(log, low, high + beyond, start, end, list(ticks), list(texts))


def _grid(x: PlotAxis, y: PlotAxis) -> list[str]:
    """Grid lines and their labels."""
    parts = []
    for value, text in zip(y.ticks, y.texts, strict=True):
        place = y.at(value)
        if place is not None and y.end - 1 <= place <= y.start + 1:
            parts.append(_line(x.start, place, x.end, place, "var(--grid)", 1))
            parts.append(_text(x.start - 6, place + 3.5, value, text, "end"))
    for value, text in zip(x.ticks, x.texts, strict=True):
        place = x.at(value)
        if place is not None and x.start - 1 <= place <= x.end + 1:
            parts.append(_line(place, y.end, place, y.start, "var(--grid)", 1))
            parts.append(_text(place, y.start + 14, value, text, "middle"))
    parts.append(_line(x.start, y.start, x.end, y.start, "var(--line)", 1))
    return parts


def _x_title(title: str, middle: float, height: float) -> list[str]:
    if title:
        return [f'<text x="{middle:.1f}" y="{height - 5:.1f}" text-anchor="middle">{escape(title)}</text>']
    return []


def _text(x: float, y: float, value: float, text: str, anchor: str) -> str:
    """A label; a power of ten with its exponent raised."""
    exponent = power_of_ten(value)
    inside = str(escape(text))
    if exponent is not None:
        if text.endswith(" %"):
            suffix = " %"
        else:
            suffix = ""
        if exponent < 0:
            sign = "−"
        else:
            sign = ""
        inside = f'10<tspan dy="-4" font-size="9">{sign}{abs(exponent)}</tspan><tspan dy="4">{suffix}</tspan>'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{inside}</text>'


def _line(x0: float, y0: float, x1: float, y1: float, color: str, width: float, dashes: str = "") -> str:
    if dashes:
        dashed = f' stroke-dasharray="{dashes}"'
    else:
        dashed = ""
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" '
        f'style="stroke:{escape(color)};stroke-width:{width:g}"{dashed}/>'
    )


def _trace(trace: dict[str, Any], x: PlotAxis, y: PlotAxis) -> list[str]:
    """One curve, its gaps kept, and its markers."""
    line, marker, mode = trace["line"], trace["marker"], trace["mode"]
    pieces: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(trace["x"], trace["y"], strict=True):
        if a is None or b is None:
            place = None
        else:
            place = (x.at(a), y.at(b))
        if place is None or place[0] is None or place[1] is None:
            pieces.append([])
        else:
            pieces[-1].append((place[0], place[1]))
    parts = []
    if "lines" in mode:
        dashes = DASHES.get(line["dash"], "")
        if dashes:
            dashed = f' stroke-dasharray="{dashes}"'
        else:
            dashed = ""
        style = f"stroke:{line['color']};stroke-width:{line['width']:g};opacity:{trace['opacity']:g}"
        for piece in pieces:
            if len(piece) > 1:
                path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in piece)
                parts.append(f'<path class="curve" d="{path}" fill="none" style="{escape(style)}"{dashed}/>')
    if "markers" in mode:
        parts += [_marker(a, b, marker) for piece in pieces for a, b in piece]
    return parts


def _marker(x: float, y: float, marker: dict[str, Any]) -> str:
    half, color = marker["size"] / 2, escape(marker["color"])
    if marker.get("symbol") == "diamond":
        outline = f"M{x:.1f} {y - half:.1f}l{half:g} {half:g} {-half:g} {half:g} {-half:g} {-half:g}z"
        return f'<path d="{outline}" style="fill:{color}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{half:g}" style="fill:{color}"/>'


def _marks(layout: dict[str, Any], x: PlotAxis, y: PlotAxis) -> list[str]:
    """Hairlines and their labels."""
    parts = []
    for shape, label in zip(layout["shapes"], layout["annotations"], strict=True):
        text = escape(label["text"])
        if shape.get("yref") == "paper":
            place = x.at(shape["x0"])
            if place is None:
                continue
            parts.append(_line(place, y.end, place, y.start, "var(--muted)", 1, "2 3"))
            end = label["xanchor"] == "right"
            if end:
                anchor, beside = ("end", place - 4)
            else:
                anchor, beside = ("start", place + 4)
            parts.append(f'<text x="{beside:.1f}" y="{y.end + 9:.1f}" text-anchor="{anchor}">{text}</text>')
        else:
            height = y.at(shape["y0"])
            if height is None:
                continue
            parts.append(_line(x.start, height, x.end, height, "var(--muted)", 1, "2 3"))
            parts.append(f'<text x="{x.start + 3:.1f}" y="{height - 4:.1f}">{text}</text>')
    return parts
