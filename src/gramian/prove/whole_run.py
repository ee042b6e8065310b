"""`prove(..., statement="run")`: the module read as a fully connected network, the search, and the certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gramian.checker.deep_network import DeepTask
from gramian.checker.program import NetworkProgram
from gramian.checker.run_statement import NotReplayed, RunTask, RunWeights, read_run, replay_of
from gramian.errors import Unsupported
from gramian.prove.problem import Problem
from gramian.prove.proof import Proof
from gramian.prove.run import PRECISIONS_TRIED, RunProof, largest_certified
from gramian.prove.run_certificate import ROOM, Claimed, bounded_start, judged
from gramian.timing import Stopwatch, TimeLimit

TITLE = "The exact run from these weights reaches a global minimum"
TIMED_STEPS = 8
STILL = 1e-9  # a rate that hardly moves the weights
DEEP_ROOM = 3.0  # of deeper networks, where it may change when second derivatives are looked at anew


@dataclass(frozen=True)
class RunLimits:
    """What the search for a proof may take.

    Attributes:
        steps: replayed at each rate, at most.
        time: once it is over no replay goes on; the checker's own replay comes after it.
        precisions: of one rate; 1 is float64 alone.
    """

    steps: int
    time: TimeLimit = field(default_factory=TimeLimit)
    precisions: int = PRECISIONS_TRIED


@dataclass(frozen=True)
class ReplayCost:
    """Seconds of a replay: of its first step, of each further one; how many of so many steps cost like the first.

    A tail condition costs about a first step.
    """

    first: float
    each: float
    anchors: Callable[[int], int]

    def says(self, most_steps: int) -> str:
        longest = self.anchors(most_steps) * self.first + most_steps * self.each
        return f"predicted: {self.each:.2g} s a step, at most {longest:,.0f} s for {most_steps:,} steps at each rate"


def prove_run(
    program: NetworkProgram,
    problem: Problem,
    lr: float | None,
    accuracies: Sequence[float],
    limits: RunLimits,
    news: Callable[[str], None],
) -> Proof:
    """The run as a whole; `lr` None: the largest rate for which it can be proved.

    Raises:
        Unsupported: the network is not fully connected with smooth activations.
    """
    watch = Stopwatch()
    task, start = _read(program, problem, lr)
    with bounded_start("run", "The run's first step", "; of a deep network fewer rows or a smaller width"):
        small = replace(task, lr=min(task.lr, STILL))  # whatever rate: no eigenvalues but the first ones
        news(replay_cost(small, start).says(limits.steps))
        result = largest_certified(
            task, start, accuracies, limits.steps, search=lr is None, news=news, limit=limits.time,
            most_precisions=limits.precisions,
        )  # fmt: skip
    numbers = {"growth": result.growth, "share": result.share}
    for eps, (proved, measured) in result.times.items():
        for name, steps in (("proved", proved), ("measured", measured)):
            if steps is not None:
                numbers[f"steps_{name}_{eps:g}"] = steps
    claims = _claims(result, accuracies)
    return judged(Claimed("run", TITLE, claims, numbers, result.inequality, {}), program, problem, watch)


def _read(program: NetworkProgram, problem: Problem, lr: float | None) -> tuple[RunTask, RunWeights]:
    """The network as arrays; `lr` None is left at 1."""
    try:
        return read_run(program, *problem.arrays, lr if lr is not None else 1.0)
    except NotReplayed as error:
        raise Unsupported(
            f"the statement 'run' is proved for fully connected networks with smooth activations, and {error}; "
            "statement='minimum' takes other networks"
        ) from None


def replay_cost(task: RunTask, start: RunWeights) -> ReplayCost:
    """Timed on the first steps at the task's rate, where eigenvalues are computed anew most often."""
    began = time.perf_counter()
    replay = replay_of(task, start)
    for point, _ in replay:
        if point.step == 0:
            first = time.perf_counter() - began
        if point.step == TIMED_STEPS:
            break
    each = (time.perf_counter() - began - first) / TIMED_STEPS
    return ReplayCost(first, each, replay.anchors)


def _claims(result: RunProof, accuracies: Sequence[float]) -> dict[str, float]:
    claims: dict[str, float] = {"lr": result.task.lr}
    if result.precision.steps:
        claims |= {"precise_steps": result.precision.steps, "bits": result.precision.bits}
    last = result.tail
    if last is None:
        return claims | {"steps": 0, "distance": 0.0, "residual": 0.0, "sigma": 0.0}
    room = ROOM
    if isinstance(result.task, DeepTask):
        room = DEEP_ROOM
    claims |= {
        "steps": last.step,
        "distance": float(result.distances[: last.step + 1].max()) * room,
        "sigma": (last.sigma - (room - ROOM) * last.lipschitz_here * last.distance) / (1 + 1e-6),
    }
    claims["residual"] = last.residual * (1 + 1e-6) + last.jacobian * last.distance * room
    smallest = min(accuracies)
    proved, _ = result.times[smallest]
    if proved is not None:
        claims |= {"accuracy": smallest, "time": proved + 1}
    return claims
