"""The optimizer's learning rate against the largest stable one, as a probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.train.curvature import LossOf, sharpness
from gramian.train.forward import batch_statistics
from gramian.train.probes.probe import NotApplicable, Reading
from gramian.train.run import Run
from gramian.train.step_rule import step_rule

TOLERANCE = 0.05  # of the sharpness: a few products, and no rate is chosen to a twentieth
BATCHES = 4  # of a summed loss: over so many of the loop's batch size the sharpness is averaged


class EdgeOfStability:
    """Learning rate over the largest stable one, at the weights and the optimizer's state of the step; 1 is the edge.

    Full-batch training sharpens until it is there and hovers (Cohen et al. 2021, arXiv:2103.00065); far above it the
    loss grows. Of a loss that is a sum over rows the edge is that of a batch of as many rows as the loop takes a step.

    Args:
        optimizer: the user's.
        module, x, loss: `loss(module(x), row numbers)` as training computes it.
        kind: of the loss over rows.
        batch: rows of a step; None as long as none was seen.
    """

    name, title, unit = "edge", "Learning rate over the largest stable one", ""
    cost: Literal["cheap", "gram"] = "gram"

    def __init__(
        self,
        optimizer: Optimizer,
        module: nn.Module,
        x: Tensor,
        loss: LossOf,
        kind: str = "mean",
        batch: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.optimizer, self.module, self.x, self.loss = optimizer, module, x, loss
        self.kind, self.batch, self.why = kind, batch, ""
        self.rows = torch.arange(len(x), device=x.device)
        self.adaptive = False

    def start(self, run: Run) -> None:
        """Raises NotApplicable for an optimizer or a loss whose edge is not known."""
        if self.kind == "rows":
            raise NotApplicable("the loss gives a number for each row, and what the loop makes of them is not known")
        if self.kind == "neither":
            raise NotApplicable("the loss is neither a mean nor a sum over rows: its curvature is that of these rows")
        try:
            self.adaptive = step_rule(self.optimizer, run.module, self._gradient(run)).adaptive
        except ValueError as error:
            raise NotApplicable(str(error).splitlines()[0]) from None

    def measure(self, run: Run) -> Reading | None:
        rule = step_rule(self.optimizer, run.module, self._gradient(run))
        n = self.batch() if self.kind == "sum" else len(self.x)
        if rule.guessed or n is None:
            self.why = "no step of the optimizer was seen yet" if rule.guessed else "no batch of the loop was seen yet"
            return None
        with batch_statistics(self.module):
            parts = self.rows.split(n)[:BATCHES]
            whole = [part for part in parts if len(part) == n] or [self.rows]
            sharp = sum(
                sharpness(self.module, self.x[part], part, self.loss, rule.scale, decay=rule.decay, tolerance=TOLERANCE)
                for part in whole
            ) / len(whole)
        if len(whole[0]) < n:  # a batch of more rows than are watched: so much more of the same
            sharp *= n / len(whole[0])
        if not sharp > 0:
            self.why = "the loss has no curvature in the outputs here"
            return None
        self.why = ""
        return Reading(float(rule.lr or 0.0) * sharp / rule.edge, upper=1.0)

    def _gradient(self, run: Run) -> dict[str, Tensor]:
        """A stand-in for the memory of an optimizer that has made no step; what comes of it is not used."""
        return {name: torch.ones_like(p) for name, p in run.parameters().items()}
