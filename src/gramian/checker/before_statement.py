"""The inequalities of statement `before`: a two-layer network's path, computed anew from its intervals' lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.checker.line import Line, compared
from gramian.checker.program import NetworkProgram
from gramian.checker.replay import Tail, tail
from gramian.checker.run_statement import end_lines, sane_lines
from gramian.checker.taylor_table import PAD
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.checker.two_layer_run import Replay
from gramian.checker.two_layer_tube import intervals_of, tube

MOST_INTERVALS = 10**7
LONGEST_PATH = 2**52  # steps: their number is exact in float64


def before_lines(
    program: NetworkProgram, x: NDArray, y: NDArray, numbers: Mapping[str, Any], intervals: NDArray
) -> list[Line]:
    """All inequalities of statement `before`.

    Args:
        numbers: lr, steps, points, distance, residual, sigma; accuracy and time for a claimed time.
        intervals: the path's lengths, whole numbers of steps that add up to `steps`.
    """
    if intervals.ndim != 1 or intervals.dtype != np.int64 or len(intervals) > MOST_INTERVALS:
        raise ValueError("the intervals' lengths are not a row of whole numbers")
    try:
        task, start = two_layer(program, x, y, numbers["lr"])
    except NotTwoLayer as error:
        return [compared("network", f"the network has two layers, but {error}", 1.0, "<=", 0.0)]
    goal, steps = float(numbers.get("accuracy", np.inf)), float(numbers["steps"])
    shortest, total = float(intervals.min(initial=1)), float(intervals.astype(float).sum())
    sane = [
        *sane_lines(task.lr, steps, goal, LONGEST_PATH),
        compared("points", "the path has no more points than claimed", len(intervals) + 1.0, "<=", numbers["points"]),
        compared("fewest", "and no fewer than claimed", numbers["points"], "<=", len(intervals) + 1.0),
        compared("shortest", "every interval has a step", 1.0, "<=", shortest),
        compared("total", "the intervals are no longer than the path", total, "<=", steps),
        compared("whole", "the path is no longer than its intervals", steps, "<=", total),
    ]
    if not all(line.holds for line in sane):
        return [line for line in sane if not line.holds]
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by name
            end, farthest = _end(Replay(task, start), intervals)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return [compared("range", f"the run stays where it can be bounded, but {error}", 1.0, "<=", 0.0)]
    return end_lines(numbers, end, last_step_above(end, goal), farthest, goal)


def _end(replay: Replay, intervals: NDArray) -> tuple[Tail, float]:
    """The tail at the path's end, and the largest distance to the exact run at its points."""
    farthest = 0.0
    for here, _interval in tube(replay, intervals_of(intervals.tolist())):
        farthest = max(farthest, here.distance)
    return tail(replay, here.point, here.bounds()), farthest


def last_step_above(end: Tail, goal: float) -> int:
    """The last step up to the path's end whose loss may be above the goal: the loss is bounded at the end alone."""
    if end.residual**2 / 2 * PAD <= goal:
        return end.step - 1
    return end.step
