"""Where an axis has its labels: round numbers, few enough not to touch one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_LABELS = 6  # of an axis; more would touch on a phone
ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def linear_ticks(low: float, high: float, most: int = MOST_LABELS) -> list[float]:
    """Multiples of a round step between two values, at most `most` of them.

    >>> linear_ticks(0.0, 97.0), linear_ticks(0.31, 0.52)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [0.35, 0.4, 0.45, 0.5])
    """
    if not high > low:
        return [low]
    # the smallest step that could do is (high - low) / most; round steps are tried from its power of ten upwards
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (size * factor * more for more in (1, 10) for factor in ROUND_STEPS):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            # dividing by a whole number of steps a unit keeps 0.35 from reading 0.35000000000000003
            return [float(f"{k * step:.12g}") for k in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float, most: int = MOST_LABELS) -> list[float]:
    """Labels of a logarithmic axis: powers of ten over two decades and more, else round numbers between them.

    >>> log_ticks(1e-12, 1.0), log_ticks(0.1, 3.0), log_ticks(30.0, 44.0)
    ([1e-12, 1e-09, 1e-06, 0.001, 1.0], [0.1, 0.2, 0.5, 1.0, 2.0], [30.0, 35.0, 40.0])
    """
    if not high > low > 0:
        return [low]
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if math.log10(high / low) >= 2:
        every = math.ceil((last - first + 1) / most)
        return [10.0**k for k in range(first, last + 1, every)]
    decades = range(first - 1, last + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{s}e{k}") for k in decades for s in steps]
        ticks = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if 3 <= len(ticks) <= most:
            return ticks
    return apart(linear_ticks(low, high, 4))


def apart(values: Sequence[float], share: float = 0.14) -> list[float]:
    """Drops ascending positive values that are closer than a share of the logarithmic range; the last one stays.

    >>> apart([1.0, 1.1, 10.0, 95.0, 100.0])
    [1.1, 10.0, 100.0]
    """
    if len(values) < 2:
        return list(values)
    least = share * math.log(values[-1] / values[0])
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if math.log(kept[0] / value) >= least:
            kept.insert(0, value)
    return kept


def power_of_ten(value: float) -> int | None:
    """The exponent of a power of ten that is written as one (beyond 0.001 to 1,000); None of any other value.

    >>> power_of_ten(1e-5), power_of_ten(10.0), power_of_ten(2e5)
    (-5, None, None)
    """
    if value <= 0:
        return None
    exponent = round(math.log10(value))
    exact = math.isclose(value, 10.0**exponent, rel_tol=1e-9)
    if exact and abs(exponent) > 3:
        return exponent
    return None
