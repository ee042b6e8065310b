"""Numbers over seeds: means and exponents with intervals, where a curve crosses a level, how close a bound is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gramian.claims.claim import Effect, Measured
from gramian.errors import BadArgument

CONFIDENCE = 0.95
FEWEST_SIZES = 4  # of an exponent: with fewer, a bent curve passes for a power


@dataclass(frozen=True)
class SeedInterval:
    """A mean over seeds with Student's 95 % interval.

    Attributes:
        value: the mean; nan if a seed has no value.
        low, high: nan with fewer than two seeds.
        each: the value of each seed.
    """

    value: float
    low: float
    high: float
    each: tuple[float, ...]

    def distance(self, target: float) -> float:
        """How far the end of the interval is from a number that is farther from it; nan where there is none."""
        return max(abs(self.low - target), abs(self.high - target))

    def effect(self, says: str, other: float | None = None, source: str = "") -> Effect:
        """As a line of a verdict."""
        value, low, high = (v if math.isfinite(v) else None for v in (self.value, self.low, self.high))
        return Effect(says, value, low, high, other, source)


def over_seeds(values: Sequence[float]) -> SeedInterval:
    """The mean of one value a seed, with Student's interval.

    Example:
        >>> interval = over_seeds([1.0, 2.0, 3.0])
        >>> interval.value, round(interval.low, 3), round(interval.high, 3)
        (2.0, -0.484, 4.484)
    """
    each = tuple(float(v) for v in values)
    mean = float(np.mean(each))
    if len(each) < 2 or not math.isfinite(mean):
        return SeedInterval(mean, math.nan, math.nan, each)
    # the standard error of the mean times the quantile of Student's distribution
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1) * stats.sem(each))
    return SeedInterval(mean, mean - half, mean + half, each)


def ratio_over_seeds(measured: Sequence[Measured], name: str, over: str | None = None) -> SeedInterval:
    """A measured number, or its ratio to another one of the same seed, over the seeds."""
    values = [m.number(name) for m in measured]
    if over is not None:
        values = [value / m.number(over) for value, m in zip(values, measured, strict=True)]
    return over_seeds(values)


def exponent(sizes: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> SeedInterval:
    r"""The exponent b of $y = a\,x^b$, fitted for each seed on log scales, with its interval over the seeds.

    Args:
        sizes: x, for each seed at least four different ones.
        values: y, for each seed as many.

    Raises:
        BadArgument: fewer than four sizes.

    Example:
        >>> round(exponent([[1, 2, 4, 8]] * 2, [[3, 6, 12, 24], [5, 10, 20, 40]]).value, 12)
        1.0
    """
    slopes = []
    for x, y in zip(sizes, values, strict=True):
        if len(set(x)) < FEWEST_SIZES:
            raise BadArgument(
                f"An exponent from {len(set(x))} sizes.",
                where="claims.exponent",
                why="with fewer than four sizes, a bent curve passes for a power",
                fix=f"at least {FEWEST_SIZES} sizes",
            )
        if not all(v > 0 and math.isfinite(v) for v in (*x, *y)):
            slopes.append(math.nan)
            continue
        slopes.append(float(stats.linregress(np.log(x), np.log(y)).slope))
    return over_seeds(slopes)


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """Where a curve first crosses a level, by linear interpolation; nan if it never does.

    Example:
        >>> crossing([1.0, 2.0, 3.0], [0.0, 0.0, 1.0], 0.25)
        2.25
    """
    for i in range(len(x) - 1):
        before, after = y[i] - level, y[i + 1] - level
        if before == 0:
            return float(x[i])
        if before * after < 0:
            # the straight line through both points is zero at this share of the way
            return float(x[i] + (x[i + 1] - x[i]) * before / (before - after))
    if y[-1] == level:
        return float(x[-1])
    return math.nan


def worst_ratio(values: Sequence[float], bounds: Sequence[float]) -> float:
    """The largest value over its bound at any step: at most 1 where the bound holds at every step.

    Example:
        >>> worst_ratio([1.0, 3.0], [2.0, 4.0])
        0.75
    """
    ratios = []
    for value, bound in zip(values, bounds, strict=True):
        if bound != 0:
            ratios.append(value / bound)
        elif value <= 0:
            ratios.append(0.0)  # a bound of 0 that holds
        else:
            ratios.append(math.inf)
    return max(ratios)
