r"""Squared gradient norm over the loss, against its bounds: the Polyak-Lojasiewicz inequality, seen.

For the squared loss $F = \tfrac12 \|r\|^2$ the gradient is $J^\top r$, so
$\|\nabla F\|^2 / F = 2\, r^\top J J^\top r / r^\top r$ lies between twice the smallest and twice the largest eigenvalue
of the Gram matrix $J J^\top$ over all samples and outputs. As long as the lower bound stays away from zero, the loss
falls at a linear rate. Allen-Zhu, Li and Song 2018 (arXiv:1811.03962, Theorem 3) bound the same ratio by
$\Omega(\delta m / (d n^2))$ from below and $O(L n m / d)$ from above.
"""

from __future__ import annotations

import math

from torch import Tensor

from gramian.errors import BadArgument
from gramian.train.probes.probe import NotApplicable, Reading
from gramian.train.run import Run


def squared_norm(gradient: dict[str, Tensor]) -> float:
    """Sum of squares over all parameters."""
    return math.fsum(float(g.double().square().sum()) for g in gradient.values())


class GradientOverLoss:
    """||grad F||^2 / F on all training samples; with its bounds where the whole Gram matrix is small enough."""

    name, title, unit, cost = "gradient_over_loss", "Squared gradient norm over the loss", "", "cheap"

    def start(self, run: Run) -> None:
        self.bounded = run.objective.name == "squared" and len(run.full_rows) == len(run.train)
        if self.bounded:
            try:
                run.full_eigenvalues()  # kept for the first measurement
            except BadArgument:  # a module that mixes samples has a gradient but no Gram matrix
                self.bounded = False

    def measure(self, run: Run) -> Reading | None:
        if run.loss() == 0:
            return None
        value = squared_norm(run.gradient()) / run.loss()
        if not (self.bounded and run.gram_is_due):
            return Reading(value)
        lam = run.full_eigenvalues()
        return Reading(value, max(2 * float(lam[0]), 0.0), 2 * float(lam[-1]))


class SampleGradientOverLoss:
    """The same ratio for a subsample whose Gram matrix is small enough, between its exact bounds."""

    name, title = "sample_gradient_over_loss", "Squared gradient norm over the loss, on a subsample"
    unit, cost = "", "gram"

    def start(self, run: Run) -> None:
        if run.objective.name != "squared":
            raise NotApplicable("the bounds are those of the squared loss")
        if len(run.full_rows) == len(run.train):
            raise NotApplicable("gradient_over_loss has its bounds on all samples")
        run.full_eigenvalues()  # kept for the first measurement; refuses modules that have none

    def measure(self, run: Run) -> Reading | None:
        # loss, gradient and Gram matrix are all of these rows: the ratio lies between twice the extreme eigenvalues
        rows = run.full_rows
        x, targets = run.train.x[rows], run.train.targets[rows]
        loss = float(run.objective(run.train_outputs()[rows], targets))
        if loss == 0:
            return None
        lam = run.full_eigenvalues()
        value = squared_norm(run.gradient_of(x, targets)) / loss
        return Reading(value, max(2 * float(lam[0]), 0.0), 2 * float(lam[-1]))


class LayerGradientOverLoss:
    """||grad_l F||^2 / F for each trainable parameter l, on all training samples; they sum to the ratio of all."""

    name, title, unit = "layer_gradient_over_loss", "Squared gradient norm over the loss, by layer", ""
    cost = "cheap"

    def start(self, run: Run) -> None:
        pass

    def measure(self, run: Run) -> dict[str, float] | None:
        if run.loss() == 0:
            return None
        return {name: squared_norm({name: g}) / run.loss() for name, g in run.gradient().items()}
