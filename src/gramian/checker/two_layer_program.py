"""The two-layer network that a certificate's program spells, and the inequalities of its statement `run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.checker.line import Line, compared
from gramian.checker.program import NetworkProgram
from gramian.checker.taylor_table import ACTIVATIONS, PAD
from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.checker.two_layer_run import Replay, Tail, proved_time, tail

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
    try:
        task, start = two_layer(program, x, y, numbers["lr"])
    except NotTwoLayer as error:
        return [compared("network", f"the network has two layers, but {error}", 1.0, "<=", 0.0)]
    goal, steps = float(numbers.get("accuracy", np.inf)), float(numbers["steps"])
    precise, bits = float(numbers.get("precise_steps", 0)), float(numbers.get("bits", 128))
    sane = [
        compared("rate", "the learning rate is positive", 0.0, "<", task.lr),
        compared("rate_size", "the learning rate is finite", task.lr, "<", np.inf),
        compared("steps", "the run has a whole number of steps, as many as can be replayed", steps % 1, "<=", 0.0),
        compared("first", "the end does not come before the start", 0.0, "<=", steps),
        compared("last", "the run has an end", steps, "<=", LONGEST_RUN),
        compared("precise", "ball arithmetic takes a whole number of steps", precise % 1, "<=", 0.0),
        compared("bits", "it has a whole number of bits", bits % 1, "<=", 0.0),
        compared("fewest_bits", "it has no fewer than float64", 53.0, "<=", bits),
        compared("most_bits", "it has no more than can be computed with", bits, "<=", MOST_BITS),
        compared("accuracy", "the accuracy is positive", 0.0, "<", goal),
    ]
    if not all(line.holds for line in sane):
        return [line for line in sane if not line.holds]
    try:
        end, last_above, farthest = _end(Replay(task, start, int(precise), int(bits)), int(steps), goal)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        return [compared("range", f"the run stays where it can be bounded, but {error}", 1.0, "<=", 0.0)]
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


def _end(replay: Replay, steps: int, goal: float) -> tuple[Tail, int, float]:
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
