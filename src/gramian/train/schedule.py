"""At which steps a run is measured: often at first, ever more rarely later, and expensive probes at a dozen of them."""

from __future__ import annotations

MEASUREMENTS, GRAM_MEASUREMENTS = 40, 12


def measured_steps(steps: int, every: int | None = None) -> tuple[int, ...]:
    """Steps to measure, ascending, always with 0 and the last one.

    Args:
        steps: number of steps of the run.
        every: measure each `every` steps; None spaces about 40 points geometrically.

    Example:
        >>> measured_steps(1000)[:12], measured_steps(1000)[-3:]
        ((0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14), (702, 838, 1000))
        >>> measured_steps(10, every=4)
        (0, 4, 8, 10)
    """
    if every is not None:
        return tuple(sorted({*range(0, steps, every), steps}))
    # steps^(k / last) for k = 0, 1, ..., last: evenly spaced on a logarithmic axis from 1 to the last step
    if steps:
        points = {round(steps ** (k / (MEASUREMENTS - 1))) for k in range(MEASUREMENTS)}
    else:
        points = set()
    return tuple(sorted({0, *points, steps}))


def gram_steps(measured: tuple[int, ...], at_most: int = GRAM_MEASUREMENTS) -> frozenset[int]:
    """The measured steps at which Gram matrices are computed: the first, the last, the others evenly among the rest.

    Example:
        >>> sorted(gram_steps(tuple(range(0, 101, 10)), at_most=3))
        [0, 50, 100]
    """
    if len(measured) <= at_most:
        return frozenset(measured)
    last = len(measured) - 1
    return frozenset(measured[round(k * last / (at_most - 1))] for k in range(at_most))
