"""Bounds of the error on new samples, beside the measured one: where an exact minimum is proved, of 1,000 rows or more.

They are about the trained weights or the polished ones, next to which the minimum lies, whichever are nearer to the
start: both bounds hold for all weights at once. What they assume of the rows, nobody here can check: the report says it
with them.
"""

from __future__ import annotations

import contextlib
import math
import time

import torch
from torch import nn

from gramian.bounds.classes import margins
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.noisy_weights import GRID, noisy_error, pac_bayes
from gramian.bounds.paired import paired
from gramian.bounds.weight_ball import rademacher
from gramian.certify.finished_run import FinishedRun
from gramian.empirical.modules.module_copy import copied
from gramian.errors import GramianError
from gramian.prove.proof import PROVED, Proof
from gramian.report.facts import BoundFacts
from gramian.timing import TimeLimit

LEAST_ROWS = 1_000  # with fewer, the deviation of the rows alone leaves little
MOST_DRAWS, LEAST_DRAWS, PILOT_DRAWS, TEST_DRAWS = 1_000, 100, 12, 20
ROOM = 1.5  # of the predicted seconds
SHARE_OF_LEFT = 0.5  # other statements want some of the time as well


def error_bounds(run: FinishedRun, minimum: Proof, polished: nn.Module, budget: TimeLimit) -> tuple[BoundFacts, ...]:
    """The bounds that apply and fit the time that is left.

    Args:
        run: the finished run.
        minimum: the proof of an exact minimum near the polished weights.
        polished: these, float64.
        budget: seconds.
    """
    data, start = run.data, run.initial.start
    labels = _labels(run, data.checked.y)
    proved = minimum.status == PROVED and minimum.statement == "minimum"
    if labels is None or start is None or not proved or len(data.inputs) < LEAST_ROWS:
        return ()
    x, initial = data.inputs.cpu().double(), copied(start).double()
    centre, where, radius = copied(run.initial.network).cpu().double(), "at the trained weights", 0.0
    if paired(polished, initial).distance <= paired(centre, initial).distance:
        centre, where, radius = polished, "at the polished weights", minimum.numbers["radius"]
    results = []
    draws = _draws(centre, x, budget)
    if draws >= LEAST_DRAWS:
        with contextlib.suppress(GramianError):
            bound = pac_bayes(centre, x, labels, initial, radius=radius, draws=draws, pilot_draws=PILOT_DRAWS)
            results.append(_facts(bound, where, _noisy_error_on_test_rows(run, centre, bound)))
    # its dear part is the Gram matrix of the initial Jacobian, in pieces: a share of what the proof took
    if minimum.numbers["seconds"] <= budget.left:
        with contextlib.suppress(GramianError):
            bound = rademacher(centre, x, labels, initial, radius=radius)
            results.append(_facts(bound, where, _error_on_test_rows(run, centre)))
    return tuple(results)


def _labels(run: FinishedRun, y: torch.Tensor) -> torch.Tensor | None:
    """Class numbers, or the signs of one output; None for other targets."""
    if run.data.has_classes:
        if run.data.n_outputs > 1:
            return y.cpu()
        return None
    signs = y.reshape(len(y), -1)
    if signs.shape[1] == 1 and run.data.checked.scale is None and bool((signs.abs() == 1).all()):
        return signs[:, 0].cpu()
    return None


def _draws(centre: nn.Module, x: torch.Tensor, budget: TimeLimit) -> int:
    """How many draws of noise fit the time that is left; each is one pass over all rows."""
    if math.isinf(budget.left):
        return MOST_DRAWS
    began = time.perf_counter()
    with torch.no_grad():
        centre(x)
    one = ROOM * (time.perf_counter() - began)
    fit = int(SHARE_OF_LEFT * budget.left / max(one, 1e-6)) - len(GRID) * PILOT_DRAWS - TEST_DRAWS
    return min(max(fit, 0), MOST_DRAWS)


def _noisy_error_on_test_rows(run: FinishedRun, centre: nn.Module, bound: GeneralizationBound) -> float | None:
    labels = _test_labels(run)
    if labels is None:
        return None
    rows = run.data.test_inputs.cpu().double()
    return noisy_error(centre, rows, labels, bound.numbers["sigma"], draws=TEST_DRAWS)


def _error_on_test_rows(run: FinishedRun, centre: nn.Module) -> float | None:
    labels = _test_labels(run)
    if labels is None:
        return None
    with torch.no_grad():
        wrong = margins(centre(run.data.test_inputs.cpu().double()), labels) <= 0
    return float(wrong.double().mean())


def _test_labels(run: FinishedRun) -> torch.Tensor | None:
    if not run.data.has_test:
        return None
    return _labels(run, run.data.checked.y_test)


def _facts(bound: GeneralizationBound, where: str, test_error: float | None) -> BoundFacts:
    return BoundFacts(
        name=bound.name,
        of=f"{bound.classifier}, {where}",
        value=bound.value,
        vacuous=bound.vacuous,
        probability=1 - bound.failure_probability,
        samples=bound.samples,
        test_error=test_error,
        assumes=list(bound.assumes),
        reference=bound.reference,
    )
