"""Statement `before`: how long the intervals may be for the enclosure to reach a tail that converges.

Nothing here decides that anything is proved: the checker computes the path anew from the intervals' lengths alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gramian.checker.replay import Tail, tail
from gramian.checker.two_layer import Point, Task, TwoLayerWeights
from gramian.checker.two_layer_run import Replay
from gramian.checker.two_layer_tube import Interval, IntervalStart, tube
from gramian.prove.run import FARTHEST, Inequality, out_of_time, tail_condition, with_centring
from gramian.timing import TimeLimit

# defects allowed to one interval, in units of the distance that the tail condition would allow at the start
TOLERANCES = (3e-3, 6e-4, 1e-4, 2e-5)
LOST = 0.5  # of the residual: once S E is more, the tail condition is out of reach
LARGEST_FALL = 0.5  # of the residual over one interval: the tail may hold on the way
POINTS_BETWEEN_TAILS = 40  # a tail costs about what a point does


@dataclass(frozen=True)
class Enclosure:
    """What one network and one rate came to.

    Attributes:
        replay: the network, its data and start.
        proved: whether the search found the tail condition to hold; the checker's word decides.
        inequality: the tail condition, or what failed first.
        tail: its numbers, None where no tail was computed.
        end: the path's last point.
        intervals: the lengths of the path's pieces, in steps.
        distance: between exact run and path, the largest at the intervals' ends.
        growth: logarithm of the factor by which an early difference may have grown.
    """

    replay: Replay
    proved: bool
    inequality: Inequality
    tail: Tail | None
    end: Point | None
    intervals: np.ndarray
    distance: float
    growth: float
    seconds: float

    def __str__(self) -> str:
        word = {True: "proved", False: "not proved"}[self.proved]
        sense = "<" if self.inequality.holds else "is not <"
        numbers = f"{self.inequality.left:.4g} {sense} {self.inequality.right:.4g}"
        return (
            f"{word} with {len(self.intervals):,} intervals for {int(self.intervals.sum()):,} steps, "
            f"{self.seconds:.0f} s: {self.inequality.says}: {numbers}"
        )


@dataclass
class Pathfinder:
    """Chooses each interval's length, and where to look for the tail."""

    tolerance: float
    most_points: int
    limit: TimeLimit
    lengths: list[int] = field(default_factory=list)
    growth: float = 0.0
    distance: float = 0.0
    last: Tail | None = None
    failure: Inequality | None = None
    needed: float = 0.0
    first: float = math.inf

    def chosen(self, here: IntervalStart) -> Interval | None:
        """The next interval; None where the tail is proved, or nothing more can be hoped for."""
        size, number = here.residual, len(self.lengths)
        self.first = min(self.first, size)
        self.distance = max(self.distance, here.distance)
        if size <= self.needed or number % POINTS_BETWEEN_TAILS == 0:
            self._look(here)
        if self.last is not None and self.last.proved:
            return None
        self.failure = self._hopeless(here, size) or out_of_time(self.limit, here.point.step)
        if self.failure is not None:
            return None
        if number >= self.most_points:
            if self.last is None or self.last.step != here.point.step:
                self._look(here)
            return None
        interval = self._longest(here)
        self.growth += interval.steps * math.log(max(interval.stretch, 1.0))
        self.lengths.append(interval.steps)
        return interval

    def _longest(self, here: IntervalStart) -> Interval:
        """Up to twice as long as the last one, as the tolerance allows; one step has only its rounding."""
        steps, most = 1, math.inf
        if self.lengths:
            steps, most = max(self.lengths[-1] // 2, 1), 2 * self.lengths[-1]
        longest = here.enclosed(steps)
        while longest.steps < most and self._falls_little(here, 2 * longest.steps):
            longer = here.enclosed(2 * longest.steps)
            if not (longer.defect <= self.tolerance and math.isfinite(longer.distance)):
                break
            longest = longer
        return longest

    def _falls_little(self, here: IntervalStart, steps: int) -> bool:
        left = np.abs(1 - here.modes.lr * here.modes.values) ** steps * here.coefficients
        return float(np.linalg.norm(left)) >= LARGEST_FALL * float(np.linalg.norm(here.coefficients))

    def _look(self, here: IntervalStart) -> None:
        self.last = last = tail(here.replay, here.point, here.bounds())
        share = 1 - last.lr * last.jacobian_here**2 / 2
        self.needed = 0.9 * share * last.sigma**2 / (2 * last.lipschitz_here)
        if last.residual <= self.needed / 0.9:
            self.needed = 0.95 * last.residual

    def _hopeless(self, here: IntervalStart, size: float) -> Inequality | None:
        error = here.jacobian * here.distance
        if error > LOST * size:
            return Inequality(
                f"the enclosure grown to S E at step {here.point.step:,}, against the residual R",
                error,
                LOST * size,
                "a wider network, a larger output scale, a smaller learning rate, or statement='run'",
                grown_at=here.point.step,
            )
        if not size <= FARTHEST * self.first + 1e-300:
            says = f"the residual at step {here.point.step:,} stays within {FARTHEST} times the smallest before"
            return Inequality(says, size, FARTHEST * self.first, "a smaller learning rate")
        return None


def enclosure(
    task: Task, start: TwoLayerWeights, most_points: int, news: Callable[[str], None], limit: TimeLimit
) -> Enclosure:
    """The enclosure with the longest intervals that prove, else the finest attempt.

    Args:
        task: with its learning rate.
        start: the initial weights.
        most_points: intervals that one attempt may have.
        news: told what each attempt came to.
        limit: of time.
    """
    replay = Replay(task, start)
    allowed = _allowed_distance(replay)
    for tolerance in TOLERANCES:
        attempt = _attempt(replay, Pathfinder(tolerance * allowed, most_points, limit))
        news(str(attempt))
        # finer intervals help where the enclosure grew too large, and nowhere else
        if attempt.proved or attempt.inequality.grown_at is None or set(attempt.intervals.tolist()) == {1}:
            break
    return attempt


def _attempt(replay: Replay, finder: Pathfinder) -> Enclosure:
    began = time.perf_counter()
    failure = end = None
    try:
        for here, _interval in tube(replay, finder.chosen):
            end = here.point
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        failure = Inequality(str(error), math.inf, 0.0, "a smaller learning rate, or a wider network")
    if failure is None:
        failure = finder.failure
    proved = finder.last is not None and finder.last.proved and failure is None
    if failure is None:
        assert finder.last is not None  # a path that comes to its end has looked for one there
        failure = tail_condition(finder.last)
    lengths = np.array(finder.lengths, dtype=np.int64)
    numbers = finder.distance, finder.growth, time.perf_counter() - began
    failure = with_centring(failure, replay.task)
    return Enclosure(replay, proved, failure, finder.last, end, lengths, *numbers)


def _allowed_distance(replay: Replay) -> float:
    """A distance that moves the residual by as much as the tail condition would allow with the start's numbers."""
    start = replay.start
    h, _, _ = replay.gram(replay.at(0, start))
    values = np.linalg.eigvalsh(h)
    lipschitz = replay.lipschitz(replay.readout_norm(start, 0.0))
    return max(float(values[0]), 0.0) / (2 * lipschitz * math.sqrt(max(float(values[-1]), 1e-300)))
