"""One inequality of a certificate: two numbers, and whether it was shown to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Line:
    """One inequality: `left` `sense` `right`; `holds` is what was proved, not what the two floats suggest."""

    name: str
    says: str
    left: float
    sense: str
    right: float
    holds: bool


def compared(name: str, says: str, left: float, sense: str, right: float) -> Line:
    """Of two floats as they are."""
    if sense == "<":
        return Line(name, says, float(left), sense, float(right), bool(left < right))
    return Line(name, says, float(left), sense, float(right), bool(left <= right))


def shown(name: str, says: str, claimed: float, holds: bool) -> Line:
    """A claimed bound that a factorization proves, or does not: then nothing is known of it."""
    if holds:
        return Line(name, says, claimed, "<=", claimed, True)
    return Line(name, says, claimed, "<=", float("nan"), False)


def rational(name: str, says: str, left: Fraction, sense: str, right: Fraction) -> Line:
    """Left < right in rational arithmetic."""
    return Line(name, says, _as_float(left), sense, _as_float(right), left < right)


def _as_float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        if number < 0:
            return -math.inf
        return math.inf


def positive(had: dict[str, float]) -> Line:
    """That every claimed bound is a positive number."""
    smallest = min(number if math.isfinite(number) else -1.0 for number in had.values())
    return compared("sizes", "every claimed bound is a positive number", 0.0, "<", smallest)
