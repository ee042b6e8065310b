"""What the kernel predicts of a run: its losses, its outputs on test rows, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gramian.errors import NotPositive
from gramian.gram.spectrum import Eigensystem, eigensystem
from gramian.solve import coupled_descent, gradient_descent, minibatch_descent, momentum, nesterov, solve
from gramian.solve.dynamics import loss
from gramian.train.batches import Batches

MOST_PRODUCTS = 2e11  # multiplications of one prediction: some ten seconds


@dataclass(frozen=True, eq=False)
class Prediction:
    """Training losses at the measured steps; shape (s,). With test rows, the outputs there; shape (s, m, C)."""

    losses: list[float]
    test_outputs: Tensor | None


def above_rounding(values: Tensor) -> Tensor:
    """Eigenvalues of a Gram matrix, ascending, with 0 for those that can't be told from it.

    These are the ones within n eps lambda_max, which rounding alone makes of a zero; and, where an eigenvalue is below
    zero, which no Gram matrix has, those that are no larger: its size is that of the error in the entries.
    """
    # rounding error of an eigenvalue, n eps lambda_max; an eigenvalue below zero shows a larger error in the entries
    least = max(len(values) * torch.finfo(values.dtype).eps * abs(float(values[-1])), -float(values[0]))
    return torch.where(values.abs() <= least, 0.0, values)


def settled(system: Eigensystem) -> Eigensystem:
    """The eigensystem of a Gram matrix that is singular where it can't be told from a singular one."""
    return replace(system, values=above_rounding(system.values))


@dataclass(frozen=True)
class StepSchedule:
    """The steps of a run, for a prediction of it.

    Args:
        optimizer: its name.
        lr: learning rate, of the loss summed over the rows.
        momentum: that enters the steps.
        batch_size: rows in a step.
        seed: of the minibatches.
        steps: at which a prediction is asked for, ascending.
    """

    optimizer: str
    lr: float
    momentum: float
    batch_size: int
    seed: int
    steps: Sequence[int]

    def batches(self, n: int) -> Batches:
        """The minibatches of n rows, from the first on."""
        return Batches(n, self.batch_size, torch.Generator().manual_seed(self.seed))


def predict(
    theta: Tensor,
    r0: Tensor,
    schedule: StepSchedule,
    *,
    system: Eigensystem | None = None,
    cross: Tensor | None = None,
    f0_test: Tensor | None = None,
    y_test: Tensor | None = None,
) -> Prediction | None:
    """Prediction under a constant kernel for the squared loss; None for Adam, whose steps no kernel gives."""
    if schedule.optimizer == "adam":
        return None
    steps, lr = schedule.steps, schedule.lr
    test = None
    if cross is not None and f0_test is not None and y_test is not None:
        test = (cross, f0_test - y_test)
    if schedule.optimizer == "sgd":
        batches = schedule.batches(len(r0))
        rows = (batches.next() for _ in range(max(steps)))
        residuals = minibatch_descent(theta, r0, lr, rows, steps, cross=test)
    else:
        spectrum = system or settled(eigensystem(theta))
        if schedule.optimizer == "gd":
            residuals = gradient_descent(spectrum, r0, lr, steps, cross=test)
        elif schedule.optimizer == "momentum":
            residuals = momentum(spectrum, r0, lr, schedule.momentum, steps, cross=test)
        else:
            residuals = nesterov(spectrum, r0, lr, schedule.momentum, steps, cross=test)
    if test is None:
        train, at_test = (residuals, None)
    else:
        train, at_test = residuals
    if at_test is None or y_test is None:
        outputs = None
    else:
        outputs = at_test + y_test
    return Prediction([float(v) for v in loss(train)], outputs)


def predict_coupled(gram: Tensor, r0: Tensor, schedule: StepSchedule) -> list[float] | None:
    """Losses predicted from the network's own Gram matrix over all outputs; None for Adam, or where it takes long."""
    count, by_batches = max(schedule.steps), schedule.optimizer == "sgd"
    if by_batches:
        size = schedule.batch_size
    else:
        size = len(r0)
    if schedule.optimizer == "adam" or count * gram.numel() * size / len(r0) > MOST_PRODUCTS:
        return None
    batches = schedule.batches(len(r0))
    rows = (batches.next() if by_batches else None for _ in range(count))
    residuals = coupled_descent(
        gram, r0, schedule.lr, rows, schedule.steps, beta=schedule.momentum, nesterov=schedule.optimizer == "nesterov"
    )
    return [float(v) for v in loss(residuals)]


def kernel_predictor(theta: Tensor, y: Tensor, cross: Tensor) -> tuple[Tensor, str]:
    """Outputs on test rows of kernel regression without ridge; shape (m, C); and a warning where one was needed."""
    try:
        return solve(theta, y).predict(cross), ""
    except NotPositive:
        ridge = 1e-6 * float(theta.diagonal().mean())
        warning = f"The Gram matrix is singular to working precision; the kernel predictor has a ridge of {ridge:.1e}."
        return solve(theta, y, ridge).predict(cross), warning


def predictor_gap(theta: Tensor, y: Tensor, cross: Tensor, outputs: Tensor) -> float | None:
    """Distance of a network's test outputs from the kernel predictor's, over the size of these; None if they are 0."""
    expected, _ = kernel_predictor(theta, y, cross)
    size = float(expected.norm())
    if size > 0:
        return float((outputs - expected).norm()) / size
    return None
