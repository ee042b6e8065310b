"""After a run of plain gradient descent on a two-layer network: is the exact run from its initial weights proved?

The statement is about gradient descent in real numbers, from the initial weights as float64, at the run's learning
rate. The recorded run is another one: it rounds, in its own precision. How far apart the two end is measured, not
proved.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gramian.certify.finished_run import FinishedRun
from gramian.certify.goal import steps_taken
from gramian.certify.study_clock import Clock
from gramian.checker.sentences import rounded_up
from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.checker.two_layer_run import Replay
from gramian.empirical.modules.module_copy import copied
from gramian.predict.cost import MEMORY_SHARE, free_memory
from gramian.prove.cost import first_step_cost
from gramian.prove.problem import problem_of
from gramian.prove.proof import PROVED, Proof
from gramian.prove.read_program import checked_layers
from gramian.prove.run import MOST_STEPS, NEXT_TRY, PRECISIONS_TRIED
from gramian.prove.whole_run import TIMED_STEPS, RunLimits, prove_run, replay_cost
from gramian.timing import TimeLimit

SAYS_HOW = "prove=True (--prove) takes the time"
MOST_TENSORS = 4  # weights and biases of two layers; the formula of a deeper network need not be read to refuse it
REPLAYS = 2  # the search's and the checker's
# where nobody counts the time: of the predicted seconds and the recorded steps, as a tail comes after the goal
LONGER = 10
LEAST_SEARCH, LONGEST_SEARCH = 20.0, 1_800.0  # seconds even then; `gramian prove --statement run` has no such end


def proof_of_run(run: FinishedRun, budget: TimeLimit, clock: Clock) -> tuple[Proof | None, str]:
    """The proof, where the statement applies and fits the time, and a sentence on it.

    It applies to two layers with a smooth activation, the squared loss, and plain gradient descent on all rows.
    """
    start = run.initial.start
    if start is None or run.loss_name != "squared" or not run.descends or run.initial.mode_differences:
        return None, ""
    if len(list(start.parameters())) > MOST_TENSORS:
        return None, ""
    problem = problem_of(start, run.data.inputs, run.data.training_targets(), "squared")
    program = checked_layers(problem.module, problem.x)
    try:
        task, weights = two_layer(program, *problem.arrays, run.plan.lr)
    except NotTwoLayer:
        return None, ""
    limits, refusal = _limits(task, weights, steps_taken(run.trace), budget)
    if limits is None:
        return None, f"No proof of the whole run was tried: {refusal}."
    result = prove_run(program, problem, run.plan.lr, (run.goal.target,), limits, clock.say)
    if result.status != PROVED:
        failing = result.summary.removeprefix("Not proved: ").rstrip(".")
        text = f"That the exact run from the initial weights converges is not proved: {failing}"
        return result, f"{text}; what would prove it: {result.fix}."
    end = copied(run.initial.network).cpu().double().eval()
    _, recorded = two_layer(checked_layers(end, problem.x), *problem.arrays, run.plan.lr)
    return _compared(run, result, task, weights, recorded)


def _limits(task: Task, start: TwoLayerWeights, steps: int, budget: TimeLimit) -> tuple[RunLimits | None, str]:
    """What the replay may take; None, with the reason, where even the recorded run's steps do not fit."""
    (n, d), (outputs, m) = task.x.shape, start.a.shape
    guess = first_step_cost(m, d, outputs, n)
    if guess.bytes > MEMORY_SHARE * free_memory():
        return None, f"bounding one step is predicted to take {guess.bytes / 2**30:.1f} GiB"
    # some steps are timed first, each of which may compute all eigenvalues anew
    timed = (TIMED_STEPS + 1) * guess.seconds
    if timed > budget.left:
        words = f"bounding its first steps alone is predicted to take about {timed:,.0f} s"
        return None, f"{words}, and {budget.left:.0f} s are left; {SAYS_HOW}"
    with np.errstate(all="ignore"):
        cost = replay_cost(task, start)
    # tail conditions are tried after each half more steps, and once more by the checker
    tails = (math.log(max(steps, 8) / 8, NEXT_TRY) + 3) * cost.first
    seconds = REPLAYS * steps * cost.each + tails
    if math.isinf(budget.left):
        longest = max(LEAST_SEARCH, min(LONGER * seconds, LONGEST_SEARCH))
        return RunLimits(max(MOST_STEPS, LONGER * steps), TimeLimit(longest), PRECISIONS_TRIED), ""
    if seconds > budget.left:
        words = f"replaying its {steps:,} steps with bounds of all rounding errors is predicted to take about "
        return None, f"{words}{seconds:,.0f} s, and {budget.left:.0f} s are left; {SAYS_HOW}"
    allowed = int((budget.left - tails) / (REPLAYS * cost.each))
    return RunLimits(min(allowed, max(MOST_STEPS, steps)), TimeLimit(budget.left / REPLAYS), 1), ""


def _compared(
    run: FinishedRun, result: Proof, task: Task, start: TwoLayerWeights, recorded: TwoLayerWeights
) -> tuple[Proof, str]:
    """The proof with the measured distance between the recorded end and the replayed iterate of the same step."""
    steps, numbers = steps_taken(run.trace), dict(result.numbers)
    precise, bits = int(numbers.get("precise_steps", 0)), int(numbers.get("bits", 128))
    apart = _iterate(task, start, steps, precise, bits).distance(recorded)
    numbers |= {"recorded_steps": steps, "recorded_distance": apart}
    precision = str(run.data.request.training_dtype).removeprefix("torch.")
    measured = (
        f"Measured: the recorded run, in {precision}, is another one; its weights after {steps:,} steps are "
        f"{apart:.2g} from those of the replay"
    )
    if steps <= numbers["steps"]:
        measured += f", and the exact ones are proved to be within {rounded_up(numbers['distance'])} of these"
    text = (
        "Proved: gradient descent in real numbers from this run's initial weights, at its learning rate, converges to "
        "weights with training loss exactly 0"
    )
    if "time" in numbers:
        loss = rounded_up(numbers["accuracy"], 3)
        text += f", and its loss is at most {loss} from step {numbers['time']:,.0f} on"
    summary = f"{result.summary} {measured}."
    return replace(result, numbers=numbers, summary=summary), f"{text}. {measured}."


def _iterate(task: Task, start: TwoLayerWeights, steps: int, precise_steps: int, bits: int) -> TwoLayerWeights:
    """The replay's weights after so many steps."""
    replay = Replay(task, start, precise_steps, bits)
    if precise_steps:
        for point, _ in replay:
            if point.step == steps:
                return point.weights
    with np.errstate(all="ignore"):
        weights = start
        for step in range(steps):
            weights, _ = replay.moved(replay.at(step, weights))
    return weights
