"""The optimizer's learning rate against the largest stable one, as a probe; and a user's loss as a sum over samples."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.train.curvature import LossOf, sharpness
from gramian.train.forward import batch_statistics
from gramian.train.lazy import grows_with_rows
from gramian.train.objective import Loss, Objective, objective
from gramian.train.probes.probe import NotApplicable, Reading
from gramian.train.run import Run
from gramian.train.step_rule import step_rule

TOLERANCE = 0.05  # of the sharpness: a few products, and no rate is chosen to a twentieth


class EdgeOfStability:
    """Learning rate over the largest stable one, at the weights and the optimizer's state of the step; 1 is the edge.

    Full-batch training sharpens until it is there and hovers (Cohen et al. 2021, arXiv:2103.00065); far above it the
    loss grows.
    """

    name, title, unit = "edge", "Learning rate over the largest stable one", ""
    cost: Literal["cheap", "gram"] = "gram"

    def __init__(self, optimizer: Optimizer, module: nn.Module, x: Tensor, y: Tensor, loss: LossOf) -> None:
        self.optimizer, self.module, self.x, self.y, self.loss = optimizer, module, x, y, loss

    def start(self, run: Run) -> None:
        try:
            step_rule(self.optimizer, run.module, self._gradient(run))
        except ValueError as error:
            raise NotApplicable(str(error).splitlines()[0]) from None

    def measure(self, run: Run) -> Reading | None:
        rule = step_rule(self.optimizer, run.module, self._gradient(run))
        if rule.guessed:
            return None
        with batch_statistics(self.module):
            sharp = sharpness(self.module, self.x, self.y, self.loss, rule.scale, decay=rule.decay, tolerance=TOLERANCE)
        return Reading(float(rule.lr or 0.0) * sharp / rule.edge, upper=1.0)

    def _gradient(self, run: Run) -> dict[str, Tensor]:
        """A stand-in for the memory of an optimizer that has made no step; what comes of it is not used."""
        return {name: torch.ones_like(p) for name, p in run.parameters().items()}


def as_sum(loss: Loss, module: nn.Module, x: Tensor, y: Tensor) -> tuple[Objective, bool]:
    """The user's loss as a sum over samples, as probes take it; and whether it is a mean, here times their number."""
    made = objective(loss)
    if isinstance(loss, str):
        return made, False
    with torch.no_grad():
        few, targets = module(x[:4]), y[:4]
    if grows_with_rows(made.function, few, targets):
        return Objective(made.name, made.function, _curvature(loss, few)), False
    function = made.function
    return Objective(made.name, lambda f, t: len(f) * function(f, t), _curvature(loss, few)), True


def _curvature(loss: object, outputs: Tensor) -> float | None:
    """Bound on the curvature of one sample's loss, for the losses that are known."""
    if isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None:
        return 0.5
    if isinstance(loss, nn.MSELoss):
        return 2.0 / (outputs[0].numel() if loss.reduction == "mean" else 1)
    return None
