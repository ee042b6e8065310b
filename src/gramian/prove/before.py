"""`prove(..., statement="before")`: one network, or the smallest width or output scale, or largest rate, certified."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gramian.checker.before_statement import last_step_above
from gramian.checker.program import NetworkProgram
from gramian.checker.replay import Tail, proved_time
from gramian.checker.two_layer import Point, Task, TwoLayerWeights, norm
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.checker.two_layer_run import Replay
from gramian.errors import BadArgument, Unsupported
from gramian.prove.arguments import DRAWS
from gramian.prove.enclosure import Enclosure, enclosure
from gramian.prove.problem import Problem
from gramian.prove.proof import Proof, TriedNetwork
from gramian.prove.run import largest_eigenvalue
from gramian.prove.run_certificate import ROOM, Claimed, bounded_start, judged
from gramian.timing import Stopwatch, TimeLimit

TITLE = "Gradient descent from these weights will reach a global minimum"
MOST_POINTS = 1000  # of the path, for each attempt
FIRST = {"width": 64.0, "scale": 1.0, "lr": 0.97}  # of lr: the share of 2 / lambda_max
RATIO = {"width": 2.0, "scale": 2.0, "lr": 1 / 1.4}
LAST = {"width": 2.0**16, "scale": 2.0**20, "lr": 0.05}
LEAST = {"width": 2.0, "scale": 2.0**-20}
CLOSE = {"width": 1.1, "scale": 1.1, "lr": 1.05}  # a search ends once certified and not certified are so close
LEARNED = 0.01  # what a network learns is compared once its residual has fallen to this share
LEARNING_STEPS = 20_000  # of plain descent to get there, where the path does not

Drawn = Callable[[int], tuple[NetworkProgram, Problem]]


@dataclass(frozen=True)
class Before:
    """What was tried: a network, its task and what the enclosure came to."""

    program: NetworkProgram
    problem: Problem
    result: Enclosure


def prove_before(
    drawn: Drawn,
    find: str | None,
    lr: float | None,
    accuracy: float,
    most_points: int,
    news: Callable[[str], None],
    limit: TimeLimit,
) -> Proof:
    """The statement for one network, or at the smallest (`find="lr"`: largest) value that is certified.

    Args:
        drawn: program and data of the network at a width; 0 for its own.
        find: None, "width", "scale" or "lr".
        lr: None: 1 / lambda_max at the start.
        accuracy: the loss whose step is proved.
        most_points: at most so many intervals for each attempt.
        news: told what each attempt came to.
        limit: of time: what is tried once it is over counts as not certified.

    Raises:
        Unsupported: the network is not a two-layer one with a smooth activation.
    """
    watch = Stopwatch()
    trials: dict[float, Before] = {}
    shown: dict[float, TriedNetwork] = {}

    def tried(value: float) -> bool:
        if limit.over and trials:
            return False
        news(f"{find} {value:.4g}")
        trials[value] = _tried(drawn, find, value, lr, most_points, news, limit)
        shown[value] = _trial(value, trials[value].result, limit)
        return trials[value].result.proved

    if find is None:
        tried_once = _tried(drawn, None, 1.0, lr, most_points, news, limit)
        return _proof(tried_once, accuracy, {}, watch)
    certified = smallest(tried, find)
    if certified is None:
        nearest = min(trials.values(), key=lambda t: t.result.inequality.left / max(t.result.inequality.right, 1e-300))
        result = _proof(nearest, accuracy, {}, watch)
    else:
        result = _proof(trials[certified], accuracy, {find: _value(find, certified, trials[certified])}, watch)
    return replace(result, trials=tuple(shown[value] for value in sorted(shown)), find=find, certified=certified)


def smallest(tried: Callable[[float], bool], find: str) -> float | None:
    """By doubling and bisection: a value that is certified, next to one that is not; None if none is certified."""
    value, ratio, below = FIRST[find], RATIO[find], None
    while not tried(_whole(find, value)):
        below, value = value, value * ratio
        if abs(math.log(value)) > abs(math.log(LAST[find])):
            return None
    if find != "lr" and below is None:
        # the first value is certified: smaller ones may be as well
        below = value / ratio
        while below >= LEAST[find] and tried(_whole(find, below)):
            value, below = below, below / ratio
        if below < LEAST[find]:
            return _whole(find, value)
    if below is None:
        return _whole(find, value)
    while max(value / below, below / value) > CLOSE[find]:
        middle = _whole(find, math.sqrt(value * below))
        if middle in (_whole(find, value), _whole(find, below)):
            break
        if tried(middle):
            value = middle
        else:
            below = middle
    return _whole(find, value)


def _whole(find: str, value: float) -> float:
    """Widths are even, for networks of paired neurons."""
    if find == "width":
        return float(2 * round(value / 2))
    return value


def _value(find: str, value: float, trial: Before) -> float:
    if find == "lr":
        return trial.result.replay.task.lr
    return value


def _tried(
    drawn: Drawn,
    find: str | None,
    value: float,
    lr: float | None,
    most_points: int,
    news: Callable[[str], None],
    limit: TimeLimit,
) -> Before:
    width, share = 0, 0.5
    if find == "width":
        width = int(value)
    elif find == "lr":
        share = value
    program, problem = drawn(width)
    if find == "scale":
        program = scaled_outputs(program, value)
        problem = replace(
            problem, assumes=(*problem.assumes, f"the network is the module, its outputs times {value!r}")
        )
    task, start = _read(program, problem, lr)
    if find == "width" and len(start.w) != width:
        raise BadArgument(
            f"`module({width})` has {len(start.w)} hidden neurons.",
            why="with find='width' it is a function of the width, which is what is looked for",
            fix=DRAWS,
        )
    with bounded_start("before", "The network's start"):
        if lr is None or find == "lr":
            task = replace(task, lr=2 * share / largest_eigenvalue(task, start))
        return Before(program, problem, enclosure(task, start, most_points, news, limit))


def _read(program: NetworkProgram, problem: Problem, lr: float | None) -> tuple[Task, TwoLayerWeights]:
    """The program as a two-layer network; `lr` None is left at 1."""
    try:
        return two_layer(program, *problem.arrays, lr if lr is not None else 1.0)
    except NotTwoLayer as error:
        raise Unsupported(
            f"the statement 'before' is proved for two-layer networks with a smooth activation, and {error}; "
            "statement='run' takes deeper ones, statement='minimum' others"
        ) from None


def scaled_outputs(program: NetworkProgram, factor: float) -> NetworkProgram:
    """The same network with its outputs multiplied by a number."""
    *steps, readout = program.steps
    readout = replace(readout, weight_scale=readout.weight_scale * factor, bias_scale=readout.bias_scale * factor)
    return replace(program, steps=(*steps, readout))


def _proof(trial: Before, accuracy: float, value: dict[str, float], watch: Stopwatch) -> Proof:
    result = trial.result
    numbers, series = {"growth": result.growth} | value, {"intervals": result.intervals}
    claimed = Claimed("before", TITLE, _claims(result, accuracy), numbers, result.inequality, series)
    return judged(claimed, trial.program, trial.problem, watch)


def _claims(result: Enclosure, accuracy: float) -> dict[str, float]:
    claims: dict[str, float] = {"lr": result.replay.task.lr, "steps": int(result.intervals.sum())}
    claims["points"] = len(result.intervals) + 1
    last = result.tail
    if last is None:
        return claims | {"distance": 0.0, "residual": 0.0, "sigma": 0.0}
    claims |= {"distance": result.distance * ROOM, "sigma": last.sigma / ROOM}
    claims["residual"] = last.residual * (1 + 1e-6) + last.jacobian * last.distance * ROOM
    if last.proved:
        claims |= {"accuracy": accuracy, "time": _time(last, accuracy)}
    return claims


def _time(last: Tail, accuracy: float) -> float:
    """A step more than proved, for sums in another order elsewhere."""
    return proved_time(last, last_step_above(last, accuracy), accuracy) + 1


def _trial(value: float, result: Enclosure, limit: TimeLimit) -> TriedNetwork:
    change, moved = learned(result.replay, result.end, limit)
    ratio = math.inf
    if result.inequality.right > 0:
        ratio = result.inequality.left / result.inequality.right
    numbers = int(result.intervals.sum()), len(result.intervals) + 1, result.seconds
    return TriedNetwork(value, result.replay.task.lr, result.proved, ratio, change, moved, *numbers)


def learned(replay: Replay, end: Point | None, limit: TimeLimit) -> tuple[float, float]:
    """Relative changes of H and of the trained weights when the residual has fallen to 1 %, as computed.

    Plain descent goes on from `end` until then; nan where it does not get there, or not in time.
    """
    task, start = replay.task, replay.start
    first = replay.at(0, start)
    goal = LEARNED * norm(first.residual)
    point = end or first
    try:
        for step in range(LEARNING_STEPS):
            if norm(point.residual) <= goal:
                break
            weights, _ = replay.moved(point)
            point = replay.at(point.step + 1, weights)
            if step == LEARNING_STEPS - 1 or limit.over:
                return math.nan, math.nan
    except ArithmeticError:
        return math.nan, math.nan
    before, after = (replay.gram(p)[0] for p in (first, point))
    size = norm(start.w)
    if task.readout_trained:
        size = math.hypot(size, norm(start.a), norm(start.beta))
    return float(np.linalg.norm(after - before) / np.linalg.norm(before)), point.weights.distance(start) / size
