"""Other papers' theorems with every constant carried out, on the user's own numbers, beside the papers' budgets.

Each is shown only where its premises about the network, the loss and the steps hold; whether its inequality holds is
then a matter of two numbers. Of the Polyak-Lojasiewicz condition: two layers, a smooth activation, both trained,
squared loss. Of ReLU descent: two layers, the readout fixed, squared loss, plain descent on all rows; the width of Du
et al. asks for their network besides.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from torch import nn

from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.du2019relu import du2019
from gramian.bounds.relu_run import relu_descent
from gramian.bounds.song2021pl import song2021
from gramian.certify.finished_run import FinishedRun
from gramian.certify.network_form import network_facts
from gramian.certify.theorems.premises import FAILURE
from gramian.checker.program import NetworkProgram
from gramian.checker.sentences import rounded_down, rounded_up
from gramian.checker.taylor_table import ACTIVATIONS
from gramian.errors import GramianError
from gramian.prove.cost import cost_of
from gramian.prove.layer_form import in_layers
from gramian.prove.problem import Problem, problem_of
from gramian.prove.read_program import read_program
from gramian.timing import TimeLimit

MOST_TENSORS = 4  # weights and biases of two layers
SHARE_OF_PROOF = 1.0  # of the predicted seconds of a "minimum", which polishes besides
MOST_ROWS = 2_000  # of the limit Gram matrix of Du et al.


def numeric_theorems(run: FinishedRun, polished: nn.Module | None, budget: TimeLimit) -> tuple[NumericCertificate, ...]:
    """Those that apply and fit the time that is left.

    Args:
        run: the finished run.
        polished: a float64 copy of the trained network that Gauss-Newton steps have moved; None without one.
        budget: seconds.
    """
    start, results = run.initial.start, []
    if start is None or run.loss_name != "squared" or run.initial.mode_differences:
        return ()
    if len(list(start.parameters())) > MOST_TENSORS:
        return ()
    problem = problem_of(start, run.data.inputs, run.data.training_targets(), "squared")
    program = in_layers(read_program(problem.module, problem.x))
    if not _has_two_layers(program):
        return ()
    seconds = SHARE_OF_PROOF * cost_of(program, len(problem.x), problem.y.shape[1]).seconds
    for theorem in _applicable(run, polished, problem, program):
        if seconds > budget.left:
            break
        # one that fails in its arithmetic, or has no rule for a layer, leaves the others
        with contextlib.suppress(GramianError, ArithmeticError, np.linalg.LinAlgError):
            results.append(theorem())
    return tuple(results)


def _applicable(
    run: FinishedRun, polished: nn.Module | None, problem: Problem, program: NetworkProgram
) -> list[Callable[[], NumericCertificate]]:
    """The theorems whose premises about the network, the loss and the steps hold."""
    start = run.initial.start
    theorems: list[Callable[[], NumericCertificate]] = []
    assert start is not None  # without one nothing applies
    names = {step.function for step in program.steps if step.function}
    if names <= ACTIVATIONS.keys() and program.trained == _weights(program):
        if run.descends:
            theorems.append(partial(_polyak, run, start, "from the initial weights"))
        if polished is not None:
            theorems.append(partial(_polyak, run, polished, "from the polished weights"))
    if names == {"relu"} and run.descends and not _readout_trains(program):
        x, y = run.data.inputs, run.data.training_targets()
        theorems.append(partial(relu_descent, start, x, y, lr=run.plan.lr))
        if len(x) <= MOST_ROWS and _is_that_of_du2019(run, problem, program):
            theorems.append(partial(_width, run, program, problem))
    return theorems


def _has_two_layers(program: NetworkProgram) -> bool:
    return [step.kind for step in program.steps] == ["input", "affine", "function", "affine"]


def _weights(program: NetworkProgram) -> set[str]:
    """All weights and biases of the two layers."""
    layers = [step for step in program.steps if step.kind == "affine"]
    return {name for step in layers for name in (step.weight, step.bias) if name}


def _readout_trains(program: NetworkProgram) -> bool:
    readout = program.steps[-1]
    return bool(program.trained & {readout.weight, readout.bias})


def _polyak(run: FinishedRun, module: nn.Module, where: str) -> NumericCertificate:
    """The condition with measured constants; what the paper's own allow in the summary."""
    x, y = run.data.inputs, run.data.training_targets()
    rate, measured = "", None
    if run.descends:
        measured = song2021(module, x, y, lr=run.plan.lr)
        rate = "at this run's learning rate "
    if measured is None or measured.numbers["allowed_path"] == 0:
        measured = song2021(module, x, y)
        rate = f"at the learning rate that suits it best, {measured.numbers['lr']:.2g}, "
    numbers, paper = measured.numbers, song2021(module, x, y, constants="paper").numbers
    summary = (
        f"With the singular values of the network's own Jacobian the argument {rate}asks for a residual below "
        f"{rounded_down(numbers['allowed_path'])}, and it is {rounded_up(numbers['residual'])}. With the paper's "
        f"constants at their best rate it asks for {rounded_down(paper['allowed_path'])}, and the paper's own budget, "
        f"from a geometric sum, is {rounded_down(paper['allowed_geometric'])}."
    )
    title = f"Song et al. 2021: Polyak-Lojasiewicz condition along descent {where}, with its constants"
    return replace(measured, theorem=title, summary=summary)


def _is_that_of_du2019(run: FinishedRun, problem: Problem, program: NetworkProgram) -> bool:
    """One output, no biases, signs over root m as the fixed readout, the first layer drawn from N(0, I)."""
    setup = run.data.setup
    facts = network_facts(setup.arch, run.initial.network, setup.x, setup.paper, setup.initialization)
    hidden, readout = (step for step in program.steps if step.kind == "affine")
    no_biases = not hidden.bias and not readout.bias
    outside = abs(readout.weight_scale - 1) <= 1e-9
    drawn = facts.get("gaussian") is True and facts.get("sign_readout") is True
    return problem.y.shape[1] == 1 and no_biases and outside and drawn


def _width(run: FinishedRun, program: NetworkProgram, problem: Problem) -> NumericCertificate:
    """Du et al.'s width with its constants, of the inputs as the first layer takes them."""
    hidden = next(step for step in program.steps if step.kind == "affine")
    width = program.arrays[hidden.weight].shape[0]
    x = hidden.weight_scale * problem.x.reshape(len(problem.x), -1).numpy()
    result = du2019(x, problem.y.numpy()[:, 0], width, lr=run.plan.lr, failure_probability=FAILURE)
    paper = result.paper["width"]
    budget = "no width is enough for the paper's proof"
    if math.isfinite(paper):
        budget = f"the paper's own, with constant 1, is {paper:.2g}"
    summary = f"{result.summary} {budget[0].upper()}{budget[1:]}."
    return replace(result, summary=summary)
