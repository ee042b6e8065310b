"""The picture "certified against learned" of a search for the smallest network whose training is certified before it.

A wide network, or one with large outputs, is certified because its kernel hardly changes: the same reason why it learns
no features. The upper picture has that change for each network that was tried, the lower one what its certificate
cost, in points of the path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import escape

from gramian.report.picture import BOUND, FLIPS, NETWORK, curve, log_axis, mark_x, picture, points
from gramian.report.static_svg import static_svg

AXES = {"width": "width", "scale": "multiplier of the outputs", "lr": "learning rate, share of the largest stable one"}
WIDTH, HEIGHT, HEAD = 460, 200, 30
STYLE = """
svg { --ink: #1b1f24; --muted: #59636e; --line: #d9dce0; --grid: #ebedef; --surface: #ffffff;
  --series-network: #1f5fbf; --series-flips: #8b3f9e; font: 11px system-ui, sans-serif; fill: var(--muted); }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e9ec; --muted: #9da7b1; --line: #353c43; --grid: #272c32;
  --surface: #191d21; --series-network: #82b1ff; --series-flips: #d9a0ea; } }
.head { font-size: 12px; font-weight: 600; fill: var(--ink); } .key { fill: var(--ink); }
"""


def tradeoff_svg(trials: Sequence[Mapping[str, Any]], find: str, certified: float | None) -> str:
    """One SVG file.

    Args:
        trials: value, proved, points, kernel_change of each network tried; a number that is unknown is nan or None.
        find: "width", "scale" or "lr".
        certified: the value that the search ended with, None if nothing was certified.
    """
    marks = []
    if certified is not None:
        marks = mark_x(certified, "certified from here", log=True, left=find == "lr")
    changes = [(t["value"], 100 * _number(t["kernel_change"]), t["proved"]) for t in trials]
    costs = [(t["value"], _number(t["points"]), t["proved"]) for t in trials]
    upper = _plot(changes, "", marks)
    lower = _plot(costs, AXES[find], marks)
    heads = ("learned: change of the kernel during training, %", "certified: points of the path that were computed")
    total = 2 * (HEIGHT + HEAD) + 24
    body = [f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{total}" style="fill:var(--surface)"/>']
    for number, (head, plot) in enumerate(zip(heads, (upper, lower), strict=True)):
        top = number * (HEIGHT + HEAD)
        body.append(f'<text class="head" x="12" y="{top + 18}">{escape(head)}</text>')
        body.append(f'<svg x="0" y="{top + HEAD - 6}" width="{WIDTH}" height="{HEIGHT}">{plot}</svg>')
    body += _key(total - 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        f'role="img" aria-label="{escape(_sentence(trials, find, certified))}">{"".join(body)}</svg>\n'
    )


def _plot(values: list[tuple[float, float, bool]], title: str, marks: list[dict]) -> str:
    known = [v for v in values if math.isfinite(v[1]) and v[1] > 0]
    x, y = [v[0] for v in known], [v[1] for v in known]
    traces = curve(x, y, "all", BOUND)
    for proved, name, style, symbol in ((True, "proved", NETWORK, "circle"), (False, "not proved", FLIPS, "diamond")):
        traces += points(
            [v[0] for v in known if v[2] is proved], [v[1] for v in known if v[2] is proved], name, style, symbol
        )
    if not traces:
        return f'<text x="12" y="40">{escape("nothing could be measured")}</text>'
    here = [v[0] for v in values]
    shown = picture(
        "tradeoff", "", "", "", traces=traces, x=log_axis(here, title), y=log_axis(y), tables=[], marks=marks
    )
    assert shown.figure is not None
    return str(static_svg(shown.figure, WIDTH, HEIGHT))


def _key(y: float) -> list[str]:
    return [
        f'<circle cx="18" cy="{y - 4}" r="4.5" style="fill:{NETWORK[0]}"/>',
        f'<text class="key" x="28" y="{y}">proved</text>',
        f'<path d="M92 {y - 10}l6 6 -6 6 -6 -6z" style="fill:{FLIPS[0]}"/>',
        f'<text class="key" x="104" y="{y}">not proved</text>',
    ]


def _sentence(trials: Sequence[Mapping[str, Any]], find: str, certified: float | None) -> str:
    if certified is None:
        return f"None of {len(trials)} networks is certified."
    return f"Of {len(trials)} networks the one with {AXES[find]} {certified:.4g} ends the search, certified."


def _number(value: float | None) -> float:
    if value is None:
        return math.nan
    return float(value)
