"""Which learning rate a run takes, where it comes from, and how it stands to the largest stable one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.errors import BadArgument
from gramian.solve import max_lr
from gramian.train.batches import Batches
from gramian.train.largest_eigenvalue import largest_eigenvalue, largest_eigenvalue_of_batches
from gramian.train.run import Run
from gramian.train.settings import ADAM_LR, Settings


@dataclass(frozen=True)
class LearningRate:
    """A learning rate.

    Attributes:
        value: the number.
        source: where it comes from, in words.
        lambda_max: largest curvature of the loss at initialization that a step can meet: the Gram matrix's largest
            eigenvalue times the loss's own curvature. None if it was not needed.
    """

    value: float
    source: str
    lambda_max: float | None = None


def choose_lr(run: Run, settings: Settings, batches: Batches) -> LearningRate:
    """The learning rate given, or 1/lambda_max of the network as it stands (Adam: 1e-3).

    Raises:
        BadArgument: none was given and none can be chosen.
    """
    if settings.lr is not None:
        return LearningRate(float(settings.lr), "given")
    if settings.optimizer == "adam":
        return LearningRate(ADAM_LR, "Adam's usual one")
    lam = lambda_max(run, batches)
    if lam is None:
        raise _no_lr(f"the curvature of the loss {run.objective.name!r} is not known")
    if not (math.isfinite(lam) and lam > 0):
        raise _no_lr(f"the Gram matrix at initialization has largest eigenvalue {lam:g}")
    if batches.size >= batches.n:
        of = "the Gram matrix at initialization"
    else:
        of = "the minibatches' Gram matrices at initialization"
    if run.objective.curvature == 1:
        times = ""
    else:
        times = f" times the loss's curvature {run.objective.curvature:g}"
    # half of 2/lambda_max, the largest stable rate of plain gradient descent
    return LearningRate(1 / lam, f"1/lambda_max of {of}{times}", lam)


def lambda_max(run: Run, batches: Batches) -> float | None:
    """Largest curvature that a step meets at the network as it stands; None if the loss's curvature is not known."""
    if run.objective.curvature is None:
        return None
    if batches.size >= batches.n:
        # J^T L'' J <= c J^T J where c bounds the curvature L'' of the loss, and J^T J has the nonzero eigenvalues of
        # J J^T
        return run.objective.curvature * largest_eigenvalue(run.module, run.train.x)
    return run.objective.curvature * largest_eigenvalue_of_batches(run.module, run.train.x, batches.first_epoch())


def why_diverged(settings: Settings, lr: float, lam: float | None, step: int, first: float, loss: float) -> str:
    """A sentence or two on a run that diverged, with the learning rate against the largest stable one."""
    if step == 0:
        return f"diverged: the loss is {loss:g} before the first step; look at the targets and the initial weights"
    what = f"diverged: the loss went from {first:.3g} to {loss:.3g} in {step} steps."
    if step == 1:
        what = f"diverged: the loss went from {first:.3g} to {loss:.3g} in 1 step."
    if settings.optimizer == "adam":
        return f"{what} Adam has no fixed limit on its learning rate {lr:.3g}; try lr={lr / 10:.1g}"
    if lam is None or not math.isfinite(lam) or lam <= 0:
        return f"{what} Try a smaller learning rate than {lr:.3g}"
    method, form = "gd", "2/lambda_max"
    if settings.optimizer in ("momentum", "nesterov"):
        method = settings.optimizer
        form = f"with momentum {settings.momentum:g}; 2/lambda_max is {2 / lam:.3g}"
    limit = max_lr(lam, method, settings.effective_momentum)
    stable = f"the largest stable one at initialization, {limit:.3g} ({form}, lambda_max = {lam:.3g})"
    if lr > limit:
        return f"{what} The learning rate {lr:.3g} is {lr / limit:.3g} times {stable}; try lr={limit / 2:.1g}"
    left = "so the network left its linearization"
    return f"{what} The learning rate {lr:.3g} is below {stable}, {left}; try lr={lr / 4:.1g}"


def _no_lr(why: str) -> BadArgument:
    return BadArgument(
        "No learning rate can be chosen.",
        where="train(..., lr=None)",
        why=why,
        fix="a number: lr=0.1, or optimizer='adam'",
    )
