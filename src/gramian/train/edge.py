"""The largest stable rate of an optimizer at the weights as they stand, or why no rate follows from the curvature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.empirical.modules.arguments import Samples, in_parts
from gramian.empirical.modules.calling import call_at
from gramian.train.curvature import SHARPNESS_TOLERANCE, LossOf, gradient, jumps, sharpness
from gramian.train.forward import evaluating, mixes_samples
from gramian.train.linearized_loss import grows_with_rows
from gramian.train.step_rule import StepRule, step_rule

GRADIENT_PARTS = 8  # of a batch: their gradients say how much that of a batch varies


@dataclass(frozen=True, eq=False)
class StableRate:
    """How large the steps of an optimizer may be.

    Attributes:
        rule: the optimizer as it stands.
        sharpness: largest curvature of the objective that a step meets, through the preconditioner; 0 where none is
            positive.
        largest: learning rate above which steps along the sharpest direction grow; None where no rate follows.
        why: why none does; "" if one does.
        summed: whether the loss is a sum over rows, so that the rate is that of batches of this size only.
        rows: of such a batch.
    """

    rule: StepRule
    sharpness: float
    largest: float | None
    why: str
    summed: bool
    rows: int


def stable_rate(
    module: nn.Module,
    x: Samples,
    y: Tensor,
    loss: LossOf,
    optimizer: Optimizer | str,
    *,
    batch_size: int | None = None,
    tolerance: float = SHARPNESS_TOLERANCE,
) -> StableRate:
    """The largest stable learning rate of steps on these rows.

    Args:
        module: any module with one output tensor, taken in eval mode.
        x, y: rows and targets.
        loss: `loss(outputs, y)`, one number.
        optimizer: as for `step_rule`.
        batch_size: rows of the batches that are trained on; the curvature of a loss that is a sum over rows counts
            that many times over `len(x)`. None: these rows are a batch.
        tolerance: relative accuracy of the sharpness.

    Raises:
        BadArgument: an optimizer whose stable step is not known, a loss that is not one number, no parameters.
    """
    with evaluating(module):
        with torch.no_grad():
            outputs = call_at(module, {}, x)
        summed = _is_sum(loss, outputs, y)
        now, squares = _gradients(module, x, y, loss, summed)
        rule = step_rule(optimizer, module, now, squares=squares, now=now)
        rows = batch_size or len(x)
        if jumps(loss, outputs, y):
            why = "the loss is piecewise linear in the outputs, and has no curvature that says where steps turn back"
            return StableRate(rule, 0.0, None, why, summed, rows)
        if rule.maximize:
            goal = _climbed(loss)
        else:
            goal = loss
        # the curvature of a sum grows with its rows: from these rows to those of a batch
        if summed:
            times = rows / len(x)
        else:
            times = 1.0
        sharp = sharpness(
            module, x, y, goal, rule.scale, decay=rule.decay, shift=rule.shift, times=times, tolerance=tolerance
        )
    if not math.isfinite(sharp):
        return StableRate(rule, sharp, None, "the curvature of the loss is not finite here", summed, rows)
    if sharp <= 0:
        return StableRate(rule, 0.0, None, "the loss is curved upwards in no direction at these weights", summed, rows)
    # steps along the sharpest direction grow once rate times sharpness is above the rule's edge
    return StableRate(rule, sharp, rule.edge / sharp, "", summed, rows)


def _climbed(loss: LossOf) -> LossOf:
    return lambda outputs, targets: -loss(outputs, targets)


def _is_sum(loss: LossOf, outputs: Tensor, y: Tensor) -> bool:
    try:
        return grows_with_rows(loss, outputs[:8], y[:8])
    except (RuntimeError, ValueError, IndexError):  # a loss that takes batches of one size only
        return False


def _gradients(
    module: nn.Module, x: Samples, y: Tensor, loss: LossOf, summed: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    r"""The gradient of the batch, and the expected square of that of another batch of its size.

    $E\,\hat g^2 = g^2 + \mathrm{Var}\,\hat g$, the variance from the gradients of `GRADIENT_PARTS` parts of the
    batch, over their number, or times it where the loss is a sum. Of one batch's gradient alone the smallest
    coordinates would be far too small. None: of the gradient itself.
    """
    now = gradient(module, x, y, loss)[1]
    if len(x) < GRADIENT_PARTS or mixes_samples(module):
        return now, None
    size = math.ceil(len(x) / GRADIENT_PARTS)
    try:
        part_gradients = [
            gradient(module, part, targets, loss)[1]
            for part, targets in zip(in_parts(x, size), y.split(size), strict=True)
        ]
    except (RuntimeError, ValueError):
        return now, None
    # of P independent parts the mean has the variance of a part over P, and the sum that of a part times P
    parts = len(part_gradients)
    times: float
    if summed:
        times = parts
    else:
        times = 1 / parts
    return now, {
        name: g.square() + torch.stack([part[name] for part in part_gradients]).var(0) * times
        for name, g in now.items()
    }
