"""Statement `run`: gradient descent in exact arithmetic, from these initial weights, reaches an exact global minimum.

Searches a learning rate and a step for which the checker's replay proves it. Nothing here decides that a run is
proved: `gramian.checker.two_layer_run` does, and `gramian.prove.check` repeats it from the certificate alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gramian.checker.replay import ReplayedRun, StepBounds, Tail, proved_time, tail
from gramian.checker.run_statement import RunTask, RunWeights, replay_of
from gramian.checker.taylor_table import PAD
from gramian.timing import TimeLimit

# shares of 2 / lambda_max(H) at the start that are tried, largest first; above 1 a run may still settle ("catapult")
RATES = (2.0, 1.5, 1.2, 0.97, 0.85, 0.7, 0.5, 0.25, 0.12)
RATE_WITH_MORE_BITS = 0.5  # where no rate is proved in float64: the one that is tried with more bits
PRECISIONS_TRIED = 6  # float64, then more steps in ball arithmetic, or more bits, while growth is what fails
HALVINGS = 3  # bisections between the largest share that proves and the next one above
MOST_STEPS = 20_000
GROWN = 1e-4  # a distance to the exact run above which bounds fail for it, rather than for the run itself
FARTHEST = 100  # a residual that has grown by this factor will not come back
MEASURED_STEPS = 200_000  # steps of plain descent that a measured T may take
WORTH_CENTRING = 0.3  # share of the inputs' sum of squares that lies in their mean
CENTRED = "{centred}"  # in an advice: what _centred says stands here
LONGEST_REST = 3  # a proved run is replayed up to this many times as far, towards the smallest accuracy asked for
NEXT_TRY = 1.5  # a tail is computed again after this factor of steps, if the residual has not fallen enough before


def _silent(text: str) -> None:
    """No news."""


@dataclass(frozen=True)
class Inequality:
    """Left < right is what a proof needs; both were bounded rigorously."""

    says: str
    left: float
    right: float
    fix: str = ""
    grown_at: int | None = None  # the step at which rounding errors had grown too large: more bits may help

    @property
    def holds(self) -> bool:
        return self.left < self.right


@dataclass(frozen=True)
class Precision:
    """Ball arithmetic of so many bits for the first steps, where a run amplifies rounding most."""

    steps: int = 0
    bits: int = 128

    def after(self, grown_at: int) -> Precision:
        """What to try where errors had grown too large at this step."""
        if grown_at <= self.steps:
            return replace(self, bits=2 * self.bits)
        return replace(self, steps=2 * grown_at)


@dataclass(frozen=True)
class RunProof:
    """What one learning rate came to.

    Attributes:
        proved: the word of the checker's arithmetic.
        inequality: the tail condition, or what failed first.
        tail: its numbers, None where no tail was computed.
        growth: logarithm of the factor by which a rounding error of step 0 may have grown.
        times: for each accuracy (proved T, measured T): steps until the loss stays at most that; None if unknown.
        distances, residuals: E_k, and bounds of the exact residual, by step.
        precision: how many of the first steps were replayed in ball arithmetic, and its bits.
        seconds: of the replay.
    """

    task: RunTask
    start: RunWeights
    share: float
    proved: bool
    inequality: Inequality
    tail: Tail | None
    growth: float
    times: Mapping[float, tuple[float | None, int | None]]
    distances: np.ndarray
    residuals: np.ndarray
    precision: Precision
    seconds: float

    def __str__(self) -> str:
        word = {True: "proved", False: "not proved"}[self.proved]
        head = f"{word} at lr = {self.task.lr:.4g} ({self.share:.3g} of 2 / lambda_max)"
        if self.precision.steps:
            head += f", {self.precision.steps:,} steps in ball arithmetic of {self.precision.bits} bits"
        sense = "<" if self.inequality.holds else "is not <"
        lines = [head, f"  {self.inequality.says}: {self.inequality.left:.4g} {sense} {self.inequality.right:.4g}"]
        lines += [f"  T({eps:g}): {_steps(t)} proved, {_steps(seen)} measured" for eps, (t, seen) in self.times.items()]
        if not self.proved:
            lines.append(f"  fix: {self.inequality.fix}")
        return "\n".join(lines)


def _steps(count: float | None) -> str:
    if count is None:
        return "not"
    return f"{count:,} steps"


@dataclass
class Crossings:
    """The first step from which on a series of losses stays at or below each accuracy."""

    accuracies: Sequence[float]
    above: dict[float, int] = field(default_factory=dict)

    def add(self, step: int, loss: float) -> None:
        for eps in self.accuracies:
            if not loss <= eps:
                self.above[eps] = step

    def copy(self) -> Crossings:
        return Crossings(self.accuracies, dict(self.above))

    def first(self, eps: float) -> int:
        return self.above.get(eps, -1) + 1


def largest_certified(
    task: RunTask,
    start: RunWeights,
    accuracies: Sequence[float] = (1e-3,),
    most_steps: int = MOST_STEPS,
    *,
    search: bool = True,
    news: Callable[[str], None] = _silent,
    limit: TimeLimit | None = None,
    most_precisions: int = PRECISIONS_TRIED,
) -> RunProof:
    """The proof at the largest learning rate for which one succeeds; else the attempt that came nearest.

    Args:
        task: its own lr is tried alone unless `search`.
        start: the initial weights.
        accuracies: losses (half the sum of squares) for which T is bounded.
        most_steps: at most so many are replayed at each rate.
        search: look for the largest rate.
        news: told what each rate came to.
        limit: once it is over no replay goes on.
        most_precisions: of one rate; 1 is float64 alone, as steps in ball arithmetic cost a multiple.
    """
    limit = limit if limit is not None else TimeLimit()
    stable = 2 / largest_eigenvalue(task, start)

    def tried_at(share: float, most_tries: int) -> RunProof:
        precision, previous = Precision(), None
        for tries in range(1, most_tries + 1):
            here = replace(task, lr=share * stable)
            if not search:
                here = task  # the rate as it was given, to its last bit
            result = attempt(here, start, share, accuracies, most_steps, precision, limit)
            news(str(result))
            if previous is not None and not result.proved and limit.over:
                return previous  # what failed then says more than that the time was over
            previous = result
            if result.inequality.grown_at is None or tries == most_tries:
                break
            precision = precision.after(result.inequality.grown_at)
            news(
                f"again, with ball arithmetic of {precision.bits} bits for {precision.steps:,} steps, much slower ones"
            )
        return result

    if not search:
        return tried_at(task.lr / stable, most_precisions)
    tried: list[RunProof] = []
    above = 2 * RATES[0]
    for share in RATES:
        tried.append(tried_at(share, 1))
        if tried[-1].proved:
            return _bisected(tried[-1], above, lambda share: tried_at(share, 1))
        above = share
    if any(proof.inequality.grown_at is not None for proof in tried):
        tried.append(tried_at(RATE_WITH_MORE_BITS, most_precisions))
        if tried[-1].proved:
            return tried[-1]
    return min(tried, key=lambda proof: proof.inequality.left / max(proof.inequality.right, 1e-300))


def _bisected(best: RunProof, above: float, tried_at: Callable[[float], RunProof]) -> RunProof:
    for _ in range(HALVINGS):
        nearer = tried_at((best.share + above) / 2)
        if nearer.proved:
            best = nearer
        else:
            above = nearer.share
    return best


def largest_eigenvalue(task: RunTask, start: RunWeights) -> float:
    """lambda_max of J J^T at the start, as computed: a guide for the search, part of no proof."""
    replay = replay_of(task, start)
    h, _, _ = replay.gram(replay.at(0, start))
    return float(np.linalg.eigvalsh(h)[-1])


def attempt(
    task: RunTask, start: RunWeights, share: float, accuracies: Sequence[float], most_steps: int,
    precision: Precision, limit: TimeLimit,
) -> RunProof:  # fmt: skip
    """Replay until the tail condition holds, or until something makes that hopeless."""
    began = time.perf_counter()
    losses = Crossings(accuracies), Crossings(accuracies)
    distances: list[float] = []
    residuals: list[float] = []
    growth, last, failure = 0.0, None, None
    proof: tuple[Tail, Crossings] | None = None
    schedule = Schedule(most_steps)
    try:
        replay = replay_of(task, start, precision.steps, precision.bits)
        for point, bounds in replay:
            size = float(np.linalg.norm(point.residual))
            distances.append(bounds.distance)
            residuals.append(bounds.residual)
            losses[0].add(point.step, bounds.residual**2 / 2 * PAD)
            losses[1].add(point.step, size**2 / 2)
            failure = out_of_time(limit, point.step)
            if failure is not None:
                break
            if schedule.due(point.step, size):
                last = tail(replay, point, bounds)
                if last.proved:
                    # a later tail need not be proved, near the edge of stability: this one is kept until one is
                    proof = last, losses[0].copy()
                schedule.learn(last, size, accuracies)
            failure = _hopeless(point, bounds, size, residuals[0])
            if failure is not None or schedule.ended(point.step):
                break
            growth += math.log(bounds.stretch)
    except ArithmeticError as error:
        failure = _stopped(str(error), distances, residuals)
    times: dict[float, tuple[float | None, int | None]] = dict.fromkeys(accuracies, (None, None))
    if proof is not None:
        last, failure = proof[0], None
        seen = _measured(replay, point, losses[1], accuracies)
        times = {eps: (proved_time(last, proof[1].first(eps) - 1, eps), seen[eps]) for eps in accuracies}
    if failure is None:
        assert last is not None  # the schedule ends with one
        failure = tail_condition(last)
    failure = with_centring(failure, task)
    elapsed = time.perf_counter() - began
    series = np.array(distances), np.array(residuals)
    return RunProof(task, start, share, proof is not None, failure, last, growth, times, *series, precision, elapsed)


class Schedule:
    """When to compute a tail, which costs the eigenvalues of H; and when to end."""

    def __init__(self, most_steps: int) -> None:
        self.next_step, self.needed, self.last_step = min(8, most_steps), 0.0, most_steps

    def due(self, step: int, residual: float) -> bool:
        return step >= self.next_step or residual <= self.needed

    def ended(self, step: int) -> bool:
        return step >= self.last_step

    def learn(self, last: Tail, residual: float, accuracies: Sequence[float]) -> None:
        if last.proved:
            # a few more steps, replayed, give a sharper T than the tail's rate does
            goal = 0.99 * math.sqrt(2 * min(accuracies))
            if residual <= goal:
                self.last_step = last.step
            self.last_step = min(self.last_step, max(int(last.step * LONGEST_REST), last.step + 1))
            self.next_step, self.needed = self.last_step, goal
            return
        self.next_step = min(int(last.step * NEXT_TRY) + 1, self.last_step)
        # the share that is left once the ball is small; the ball costs some of it, so this is tried a little early
        share = 1 - last.lr * last.jacobian_here**2 / 2
        self.needed = 0.9 * share * last.sigma**2 / (2 * last.lipschitz_here)
        if last.residual <= self.needed / 0.9:
            self.needed = 0.95 * last.residual


def _centred(task: RunTask) -> str:
    """Advice to centre, if the rows' mean is what makes their Gram matrix large."""
    share = len(task.x) * float(np.sum(np.square(task.x.mean(0))) / max(np.sum(np.square(task.x)), 1e-300))
    if share < WORTH_CENTRING:
        return ""
    return f"centred inputs (their mean makes up {share:.0%} of the sum of squares), "


def with_centring(inequality: Inequality, task: RunTask) -> Inequality:
    """Its advice, with centring where that is what helps."""
    return replace(inequality, fix=inequality.fix.replace(CENTRED, _centred(task)))


def tail_condition(last: Tail) -> Inequality:
    """The tail condition in words, with its numbers and what would make it hold."""
    numbers = f"L = {last.lipschitz:.3g}, R = {last.residual:.3g}, c = {last.share:.3g}, sigma = {last.sigma:.3g}"
    says = f"2 L R < c sigma^2 at step {last.step} ({numbers})"
    if last.sigma <= 0:
        fix = "a wider network or fewer, better separated rows: J J^T is singular, or too near to it to be told apart"
    elif last.share <= 0 and last.residual < 1e-3:
        fix = "a smaller learning rate"
    else:
        fix = f"more steps, {CENTRED}or a wider network"
    return Inequality(says, last.left, max(last.right, 0.0), fix)


def _hopeless(point: Any, bounds: StepBounds, size: float, first: float) -> Inequality | None:
    if not size <= FARTHEST * first + 1e-300:
        says = f"the residual at step {point.step} stays within {FARTHEST} times that of step 0"
        return Inequality(says, size, FARTHEST * first, "a smaller learning rate")
    error = bounds.jacobian * bounds.distance
    if error > 0.5 * size:
        return Inequality(
            f"rounding errors grown to S E at step {point.step}, against the residual R",
            error,
            0.5 * size,
            f"higher precision, {CENTRED}a wider network, or a smaller learning rate",
            grown_at=point.step,
        )
    return None


def out_of_time(limit: TimeLimit, step: int) -> Inequality | None:
    """What fails once the time is over."""
    if not limit.over:
        return None
    fix = "more time (max_seconds), or a smaller network"
    return Inequality(f"the seconds taken by step {step:,}, of those allowed", limit.used, limit.seconds, fix)


def _stopped(text: str, distances: Sequence[float], residuals: Sequence[float]) -> Inequality:
    """Where a bound could not be had: the run diverges, or it is only known up to grown rounding errors."""
    if distances and distances[-1] > GROWN and residuals[-1] <= residuals[0]:
        text += f", as rounding errors grown to {distances[-1]:.2g} allow"
        fix = f"higher precision, {CENTRED}a wider network, or a smaller learning rate"
        return Inequality(text, math.inf, 0.0, fix, grown_at=len(distances) - 1)
    return Inequality(text, math.inf, 0.0, "a smaller learning rate, or inputs scaled down")


def _measured(
    replay: ReplayedRun, point: Any, crossings: Crossings, accuracies: Sequence[float]
) -> dict[float, int | None]:
    """The computed run goes on, without bounds, until its loss has reached every accuracy."""
    for step in range(point.step + 1, MEASURED_STEPS):
        if np.sum(np.square(point.residual)) / 2 <= min(accuracies):
            return {eps: crossings.first(eps) for eps in accuracies}
        weights, _ = replay.moved(point)
        point = replay.at(step, weights)
        crossings.add(step, float(np.sum(np.square(point.residual))) / 2)
    return dict.fromkeys(accuracies)
