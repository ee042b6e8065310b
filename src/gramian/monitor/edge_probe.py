"""The optimizer's learning rate against the largest stable one, as a probe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.empirical.modules.arguments import Samples
from gramian.train.curvature import LossOf
from gramian.train.edge import stable_rate
from gramian.train.forward import batch_statistics
from gramian.train.probes.probe import NotApplicable, Reading
from gramian.train.run import Run
from gramian.train.step_rule import StepRule, step_rule

TOLERANCE = 0.05  # of the sharpness: a few products, and no rate is chosen to a twentieth
MOST_BATCHES = 4  # of a summed loss: over so many of the loop's batch size the sharpness is averaged


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
        x: Samples,
        loss: LossOf,
        kind: str = "mean",
        batch: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.optimizer, self.module, self.x, self.loss = optimizer, module, x, loss
        self.kind, self.batch, self.why = kind, batch, ""
        self.rows = torch.arange(len(x), device=x.device)
        self.adaptive, self.unseen = False, 0

    def start(self, run: Run) -> None:
        """Raises NotApplicable for an optimizer or a loss whose edge is not known."""
        if self.kind == "rows":
            raise NotApplicable("the loss gives a number for each row, and what the loop makes of them is not known")
        if self.kind == "neither":
            raise NotApplicable("the loss is neither a mean nor a sum over rows: its curvature is that of these rows")
        try:
            self.adaptive = self._rule(run).adaptive
        except ValueError as error:
            raise NotApplicable(str(error).splitlines()[0]) from None

    def measure(self, run: Run) -> Reading | None:
        if self._rule(run).guessed:
            self.why = "no step of the optimizer was seen yet"
            return None
        if self.kind == "sum":
            n = self.batch()
        else:
            n = len(self.x)
        if n is None:
            self.why = "no batch of the loop was seen yet"
            return None
        whole = [part for part in self.rows.split(n)[:MOST_BATCHES] if len(part) == n] or [self.rows]
        shares = []
        with batch_statistics(self.module):
            for part in whole:
                stable = stable_rate(
                    self.module, self.x[part], part, self.loss, self.optimizer, batch_size=n, tolerance=TOLERANCE
                )
                if stable.largest is None:
                    self.why = stable.why
                    return None
                shares.append(float(stable.rule.lr or 0.0) / stable.largest)
                self.unseen = stable.rule.unseen
        self.why = ""
        return Reading(sum(shares) / len(shares), upper=1.0)

    def _rule(self, run: Run) -> StepRule:
        return step_rule(self.optimizer, run.module, self._gradient(run))

    def _gradient(self, run: Run) -> dict[str, Tensor]:
        """A stand-in for the memory of an optimizer that has made no step; what comes of it is not used."""
        return {name: torch.ones_like(p) for name, p in run.parameters().items()}
