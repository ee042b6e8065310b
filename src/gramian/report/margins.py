"""The inequalities of a proof as bars: left over right on a log scale, against the line at 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gramian.report.numbers import number

BY_FACTORIZATION = ("sigma", "largest")  # a factorization that runs to its end shows these: there is no second number
DECIDING = ("h", "path", "tail", "margin", "width")  # of a statement's inequalities, those between its claims
LEAST_DECADES = 2  # that the scale has left of 1
RIGHT_OF_ONE = 0.6  # decades; a failing bar crosses the line visibly
MOST_DECADES = (-20, 3)  # left and right of 1; bars beyond end at the edge, so that the others can be read
SIGNS = {"<": "<", "<=": "≤"}


@dataclass(frozen=True)
class MarginBar:
    """One inequality: words, both numbers as text, whether it holds, the bar's length in percent or None."""

    says: str
    numbers: str
    holds: bool | None
    length: float | None
    ratio: str


@dataclass(frozen=True)
class MarginChart:
    """Bars on one scale; `one`: where 1 is, in percent; `least`: the ratio at the left end, in words."""

    bars: list[MarginBar]
    one: float
    least: str


def margin_chart(margins: list[dict[str, Any]]) -> MarginChart | None:
    """The chart of a proof's inequalities; None of a certificate without any."""
    if not margins:
        return None
    ratios = [ratio_of(margin) for margin in margins]
    drawn = [_clipped(r) for r in ratios if r is not None]
    low = math.floor(min([-LEAST_DECADES, *drawn]) - 0.3)
    high = max([0.0, *drawn]) + RIGHT_OF_ONE
    bars = []
    for margin, ratio in zip(margins, ratios, strict=True):
        length, said = None, ""
        if ratio is not None:
            length = round(100 * (_clipped(ratio) - low) / (high - low), 2)
            said = number(ratio)
        bars.append(MarginBar(margin["says"], _numbers(margin), margin["holds"], length, said))
    return MarginChart(bars, round(-100 * low / (high - low), 2), number(10.0**low))


def _clipped(ratio: float) -> float:
    return min(max(math.log10(ratio), MOST_DECADES[0]), MOST_DECADES[1])


def ratio_of(margin: dict[str, Any]) -> float | None:
    """Left over right, below 1 where the inequality holds; None where a number is compared with 0, or is missing."""
    left, right = margin["left"], margin["right"]
    if margin["name"] in BY_FACTORIZATION or left is None or right is None:
        return None
    if not (left > 0 and right > 0 and math.isfinite(left) and math.isfinite(right)):
        return None
    ratio = left / right
    if 0 < ratio < math.inf:
        return ratio
    return None


def _numbers(margin: dict[str, Any]) -> str:
    left, right = margin["left"], margin["right"]
    if margin["name"] in BY_FACTORIZATION:
        if margin["holds"]:
            return f"{number(left)}, shown by a factorization"
        return f"{number(left)}, could not be shown"
    return f"{number(left)} {SIGNS.get(margin['sense'], '?')} {number(right)}"


def tightest(margins: list[dict[str, Any]]) -> str:
    """The inequality that decides, with both numbers: one that fails, else the first of `DECIDING`; "" without any.

    Not the one nearest to 1: claims are made just above what was computed, so that their own lines are near 1 by
    design. Of a proof that holds, the line on the whole ("h") or on the path is the one that could have failed.
    """
    failing = [margin for margin in margins if not margin["holds"]]
    deciding = [margin for margin in margins if margin["name"] in DECIDING]
    # a bound of a share that is negative is no number to be below: then the share's own line says it
    compared = [one for one in deciding if not one["holds"] and one["right"] is not None and one["right"] > 0]
    candidates = compared or [one for one in failing if one["name"] != "h"] or deciding or margins
    if not candidates:
        return ""
    return f"{candidates[0]['says']}: {_numbers(candidates[0])}"
