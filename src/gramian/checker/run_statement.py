"""The inequalities of statement `run`: the network read from a certificate's program, and its whole run replayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.deep_program import NotFullyConnected, fully_connected
from gramian.checker.deep_run import DeepReplay
from gramian.checker.line import Line, compared
from gramian.checker.program import NetworkProgram
from gramian.checker.replay import ReplayedRun, Tail, proved_time, tail
from gramian.checker.taylor_table import PAD
from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.checker.two_layer_run import Replay

SMALLEST_ACCURACY = 1e-290  # a loss below it may have underflowed
LONGEST_RUN, MOST_BITS = 10**7, 2**14
RunTask = Task | DeepTask
RunWeights = TwoLayerWeights | DeepWeights


class NotReplayed(ValueError):
    """The program is no network whose run can be replayed."""


def read_run(program: NetworkProgram, x: NDArray, y: NDArray, lr: float) -> tuple[RunTask, RunWeights]:
    """The network as arrays: two layers, for which the bounds are sharper, or more."""
    try:
        return two_layer(program, x, y, lr)
    except NotTwoLayer as error:
        if sum(step.kind == "affine" for step in program.steps) <= 2:
            raise NotReplayed(str(error)) from None
    try:
        return fully_connected(program, x, y, lr)
    except NotFullyConnected as error:
        raise NotReplayed(str(error)) from None


def replay_of(task: Any, start: Any, precise_steps: int = 0, bits: int = 128) -> ReplayedRun:
    """The run of this network from these weights."""
    if isinstance(task, DeepTask):
        return DeepReplay(task, start, precise_steps, bits)
    return Replay(task, start, precise_steps, bits)


def run_lines(program: NetworkProgram, x: NDArray, y: NDArray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of statement `run`, the whole run replayed.

    Args:
        numbers: lr, steps (where the tail condition is claimed), distance, residual, sigma; precise_steps and bits for
            a run that begins in ball arithmetic; accuracy and time for a claimed time.
    """
    try:
        task, start = read_run(program, x, y, numbers["lr"])
    except NotReplayed as error:
        return [compared("network", f"the network is fully connected and smooth, but {error}", 1.0, "<=", 0.0)]
    goal, steps = float(numbers.get("accuracy", np.inf)), float(numbers["steps"])
    precise, bits = float(numbers.get("precise_steps", 0)), float(numbers.get("bits", 128))
    sane = [
        *sane_lines(task.lr, steps, goal),
        compared("precise", "ball arithmetic takes a whole number of steps", precise % 1, "<=", 0.0),
        compared("bits", "it has a whole number of bits", bits % 1, "<=", 0.0),
        compared("fewest_bits", "it has no fewer than float64", 53.0, "<=", bits),
        compared("most_bits", "it has no more than can be computed with", bits, "<=", MOST_BITS),
    ]
    if not all(line.holds for line in sane):
        return [line for line in sane if not line.holds]
    try:
        end, last_above, farthest = _end(replay_of(task, start, int(precise), int(bits)), int(steps), goal)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return [compared("range", f"the run stays where it can be bounded, but {error}", 1.0, "<=", 0.0)]
    return end_lines(numbers, end, last_above, farthest, goal)


def sane_lines(lr: float, steps: float, goal: float, longest: int = LONGEST_RUN) -> list[Line]:
    """That these numbers can mean a run."""
    return [
        compared("rate", "the learning rate is positive", 0.0, "<", lr),
        compared("rate_size", "the learning rate is finite", lr, "<", np.inf),
        compared("steps", "the run has a whole number of steps", steps % 1, "<=", 0.0),
        compared("first", "the end does not come before the start", 0.0, "<=", steps),
        compared("last", "the run has an end", steps, "<=", longest),
        compared("accuracy", "the accuracy is above all underflow", SMALLEST_ACCURACY, "<=", goal),
    ]


def end_lines(numbers: Mapping[str, Any], end: Tail, last_above: int, farthest: float, goal: float) -> list[Line]:
    """What is claimed of the run, and that its rest converges.

    Args:
        end: the tail at the claimed step.
        last_above: the last step up to there whose loss may be above `goal`.
        farthest: the largest distance between the exact run and what was computed.
    """
    claims = (
        ("distance", "the exact run is never farther from the computed one than claimed", farthest),
        ("residual", "the exact run's residual there is at most as claimed", end.residual),
    )
    result = [compared(name, says, seen, "<=", numbers[name]) for name, says, seen in claims]
    says = "the Jacobian's smallest singular value there is at least as claimed"
    result.append(compared("sigma", says, numbers["sigma"], "<=", end.sigma))
    result.append(compared("share", "a step lowers the residual", 0.0, "<", end.share))
    result.append(compared("tail", "2 L R < c sigma^2: the rest of the run converges", end.left, "<", end.right))
    if "time" in numbers:
        time = np.inf
        if end.proved:
            time = float(proved_time(end, last_above, goal))
        says = "from the claimed step on the loss is at most the accuracy"
        result.append(compared("time", says, time, "<=", numbers["time"]))
    return result


def _end(replay: ReplayedRun, steps: int, goal: float) -> tuple[Tail, int, float]:
    """The tail after this many steps, the last of them whose loss may be above the goal, and the largest distance."""
    last_above, farthest = -1, 0.0
    with np.errstate(all="ignore"):  # what overflows is refused by name
        for point, bounds in replay:
            if not bounds.residual**2 / 2 * PAD <= goal:
                last_above = point.step
            farthest = max(farthest, bounds.distance)
            if point.step == steps:
                break
        return tail(replay, point, bounds), last_above, farthest
