"""The two-layer network that a certificate's program spells, and the inequalities of its statements `run` and
`before`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.checker.program import NetworkProgram
from gramian.checker.statements import Line
from gramian.checker.taylor_table import ACTIVATIONS, PAD
from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.checker.two_layer_run import Replay, Tail, proved_time, tail
from gramian.checker.two_layer_tube import tube

LONGEST_RUN, MOST_BITS = 10**7, 2**14


class NotTwoLayer(ValueError):
    """The program is not input, affine, activation, affine."""


def two_layer(program: NetworkProgram, x: NDArray, y: NDArray, lr: float) -> tuple[Task, TwoLayerWeights]:
    """The same network as arrays; every number is taken as it stands, only x times its multiplier is rounded."""
    steps = list(program.steps)
    inputs = np.asarray(x, dtype=np.float64)
    first = 1
    while first < len(steps) - 3 and steps[first].kind == "linear" and steps[first].inputs == (first - 1,):
        inputs = _rearranged(program, first, inputs)
        first += 1
    kinds = [step.kind for step in steps[:1] + steps[first:]]
    chained = all(step.inputs == (number,) for number, step in enumerate(steps[1:]))
    if kinds != ["input", "affine", "function", "affine"] or not chained:
        raise NotTwoLayer(f"this one's steps are {', '.join(step.kind for step in steps)}")
    hidden, function, readout = steps[first:]
    if hidden.positions != 1 or readout.positions != 1 or function.function not in ACTIVATIONS:
        raise NotTwoLayer(f"this one's activation is {function.function!r}, or it shares weights between positions")
    w, a = (np.asarray(program.arrays[step.weight], dtype=np.float64) for step in (hidden, readout))
    multipliers = np.full(inputs.shape[1], hidden.weight_scale)
    if hidden.bias:
        bias = np.asarray(program.arrays[hidden.bias], dtype=np.float64).reshape(-1, 1)
        w = np.hstack([w, bias])
        inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
        multipliers = np.append(multipliers, hidden.bias_scale)
    beta, bias_scale = np.zeros(len(a)), 0.0
    if readout.bias:
        beta = np.asarray(program.arrays[readout.bias], dtype=np.float64).ravel()
        bias_scale = readout.bias_scale
    trained = [[name in program.trained for name in (step.weight, step.bias) if name] for step in (hidden, readout)]
    names = [name for step in (hidden, readout) for name in (step.weight, step.bias) if name]
    if len(set(names)) < len(names):
        raise NotTwoLayer("this one's layers share a parameter")
    if not all(trained[0]) or any(trained[1]) != all(trained[1]):
        raise NotTwoLayer("of this one other parts train than the first layer, or the whole network")
    targets = np.asarray(y, dtype=np.float64).reshape(len(inputs), len(a))
    task = Task(
        inputs * multipliers,
        targets,
        function.function,
        readout.weight_scale,
        bias_scale,
        all(trained[1]),
        float(lr),
        (inputs, multipliers),
    )
    return task, TwoLayerWeights(w, a, beta)


def _rearranged(program: NetworkProgram, number: int, values: NDArray) -> NDArray:
    matrix = program.matrix(number)
    moves_only = np.all(matrix.data == 1) and np.diff(matrix.indptr).max(initial=0) <= 1
    if program.steps[number].offset or not moves_only:
        raise NotTwoLayer("this one maps its inputs before the first layer")
    return np.asarray((matrix @ values.T).T)


def run_lines(program: NetworkProgram, x: NDArray, y: NDArray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of statement `run`, the whole run replayed.

    Args:
        numbers: lr, steps (where the tail condition is claimed), distance, residual, sigma; precise_steps and bits for
            a run that begins in ball arithmetic; accuracy and time for a claimed time.
    """
    precise, bits = float(numbers.get("precise_steps", 0)), float(numbers.get("bits", 128))
    sane = [
        _line("precise", "ball arithmetic takes a whole number of steps", precise % 1, "<=", 0.0),
        _line("bits", "it has a whole number of bits", bits % 1, "<=", 0.0),
        _line("fewest_bits", "it has no fewer than float64", 53.0, "<=", bits),
        _line("most_bits", "it has no more than can be computed with", bits, "<=", MOST_BITS),
    ]

    def ended(task: Task, start: TwoLayerWeights, steps: int, goal: float) -> tuple[Tail, int, float]:
        return _end(Replay(task, start, int(precise), int(bits)), steps, goal)

    return _lines(program, x, y, numbers, sane, ended)


def before_lines(
    program: NetworkProgram, x: NDArray, y: NDArray, numbers: Mapping[str, Any], intervals: NDArray
) -> list[Line]:
    """All inequalities of statement `before`, the path computed anew.

    Args:
        numbers: lr, steps, points, distance, residual, sigma; accuracy and time for a claimed time.
        intervals: the path's lengths, whole numbers of steps that add up to `steps`.
    """
    if intervals.ndim != 1 or intervals.dtype != np.int64 or len(intervals) > LONGEST_RUN:
        raise ValueError("the intervals' lengths are not a row of whole numbers")
    shortest, total = float(intervals.min(initial=1)), float(intervals.astype(float).sum())
    sane = [
        _line("points", "the path has at most the points claimed", len(intervals) + 1.0, "<=", numbers["points"]),
        _line("shortest", "every interval has a step", 1.0, "<=", shortest),
        _line("total", "the intervals are no longer than the path", total, "<=", float(numbers["steps"])),
        _line("whole", "the path is no longer than its intervals", float(numbers["steps"]), "<=", total),
    ]

    def ended(task: Task, start: TwoLayerWeights, steps: int, goal: float) -> tuple[Tail, int, float]:
        return _path_end(task, start, intervals, goal)

    return _lines(program, x, y, numbers, sane, ended)


def _lines(
    program: NetworkProgram,
    x: NDArray,
    y: NDArray,
    numbers: Mapping[str, Any],
    sane: list[Line],
    ended: Callable[[Task, TwoLayerWeights, int, float], tuple[Tail, int, float]],
) -> list[Line]:
    try:
        task, start = two_layer(program, x, y, numbers["lr"])
    except NotTwoLayer as error:
        return [_line("network", f"the network has two layers, but {error}", 1.0, "<=", 0.0)]
    goal, steps = float(numbers.get("accuracy", np.inf)), float(numbers["steps"])
    sane = [
        _line("rate", "the learning rate is positive", 0.0, "<", task.lr),
        _line("rate_size", "the learning rate is finite", task.lr, "<", np.inf),
        _line("steps", "the run has a whole number of steps, as many as can be replayed", steps % 1, "<=", 0.0),
        _line("first", "the end does not come before the start", 0.0, "<=", steps),
        _line("last", "the run has an end", steps, "<=", LONGEST_RUN),
        _line("accuracy", "the accuracy is positive", 0.0, "<", goal),
        *sane,
    ]
    if not all(line.holds for line in sane):
        return [line for line in sane if not line.holds]
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by name
            end, last_above, farthest = ended(task, start, int(steps), goal)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return [_line("range", f"the run stays where it can be bounded, but {error}", 1.0, "<=", 0.0)]
    return _claims(numbers, end, last_above, farthest, goal)


def _claims(numbers: Mapping[str, Any], end: Tail, last_above: int, farthest: float, goal: float) -> list[Line]:
    claims = (
        ("distance", "the exact run is never farther from the computed one than claimed", farthest),
        ("residual", "the exact run's residual there is at most as claimed", end.residual),
    )
    result = [_line(name, says, seen, "<=", numbers[name]) for name, says, seen in claims]
    says = "the Jacobian's smallest singular value there is at least as claimed"
    result.append(_line("sigma", says, numbers["sigma"], "<=", end.sigma))
    result.append(_line("share", "a step lowers the residual", 0.0, "<", end.share))
    result.append(_line("tail", "2 L R < c sigma^2: the rest of the run converges", end.left, "<", end.right))
    if "time" in numbers:
        time = np.inf
        if end.proved:
            time = float(proved_time(end, last_above, goal))
        says = "from the claimed step on the loss is at most the accuracy"
        result.append(_line("time", says, time, "<=", numbers["time"]))
    return result


def _end(replay: Replay, steps: int, goal: float) -> tuple[Tail, int, float]:
    """The tail after this many steps, the last of them whose loss may be above the goal, and the largest distance."""
    last_above, farthest = -1, 0.0
    for point, bounds in replay:
        if not bounds.residual**2 / 2 * PAD <= goal:
            last_above = point.step
        farthest = max(farthest, bounds.distance)
        if point.step == steps:
            break
    return tail(replay, point, bounds), last_above, farthest


def _path_end(task: Task, start: TwoLayerWeights, intervals: NDArray, goal: float) -> tuple[Tail, int, float]:
    """The same at the path's end; the loss on its way there is not bounded."""
    lengths, farthest = iter(intervals.tolist()), 0.0
    for here, _ in tube(Replay(task, start), lambda _here: next(lengths, 0)):
        farthest = max(farthest, here.distance)
    end = tail(here.replay, here.point, here.bounds())
    return end, last_step_above(end, goal), farthest


def last_step_above(end: Tail, goal: float) -> int:
    """The last step up to the end of a path whose loss may be above the goal: its loss is bounded at the end alone."""
    if end.residual**2 / 2 * PAD <= goal:
        return end.step - 1
    return end.step


def _line(name: str, says: str, left: float, sense: str, right: float) -> Line:
    holds = left < right if sense == "<" else left <= right
    return Line(name, says, float(left), sense, float(right), bool(holds))
