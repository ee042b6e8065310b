r"""The loss that a network's own Gram matrix predicts on a batch, for any loss: the lazy regime, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.empirical import empirical_ntk
from gramian.empirical.jacobian_products.pushforward import along
from gramian.empirical.modules.arguments import Samples, inputs_of
from gramian.empirical.modules.calling import call_at
from gramian.train.curvature import LossOf
from gramian.train.step_rule import StepRule

MOST_GRAM_ROWS = 1024  # rows times outputs of a Gram matrix
SLOW_ROWS_NAMED = 10  # slowest rows that are named
LEARNED_RESIDUAL = 1e-24  # of the squared residual: below this, float64 has nothing left to learn


@dataclass(frozen=True)
class Forecast:
    """A predicted run on a batch.

    Attributes:
        losses: predicted loss before and after each step, of the whole batch if it is like its first `rows`.
        rows: how many of the batch's rows were looked at.
        slow: rows with the largest predicted loss at the end, worst first.
        left: the loss of each of these over the mean loss of a row at the start.
        directions: how many directions of the outputs that the loss pulls at are not learned: after all steps the
            pull is still more than 1/e of what it was.
        of: how many the loss pulls at: eigenvectors of the Gram matrix with more than 1e-6 of the squared residual.
        residual: share of the squared residual (the gradient in the outputs) that is left after all steps.
        budget: steps asked for.
    """

    losses: tuple[float, ...]
    rows: int
    slow: tuple[int, ...]
    left: tuple[float, ...]
    directions: int
    of: int
    residual: float
    budget: int

    def steps_to(self, target: float) -> float:
        """First step at which the predicted loss is at most `target`; inf if it never is."""
        return next((step for step, value in enumerate(self.losses) if value <= target), math.inf)

    def sentences(self) -> list[str]:
        """The forecast in words."""
        many = f"{self.of} directions of the outputs that the loss pulls at"
        said = [f"All {many} are learned in {self.budget:,} steps."]
        if self.directions:
            said = [f"Of the {many}, {self.directions} are not learned in {self.budget:,} steps."]
        if self.slow and self.left[0] >= 0.01:
            worst = ", ".join(f"{row} ({left:.0%})" for row, left in zip(self.slow[:5], self.left, strict=False))
            said.append(f"Slowest rows, with the part of the mean initial loss that is left: {worst}.")
        return said


def forecast(
    module: nn.Module,
    x: Samples,
    y: Tensor,
    loss: LossOf,
    rule: StepRule,
    lr: float,
    value: float,
    budget: int,
    velocity: dict[str, Tensor] | None = None,
) -> Forecast:
    r"""SGD on the outputs of the linearized network, $f \leftarrow f - \eta\,\Theta\,\nabla_f L$ with momentum.

    Args:
        module: in eval mode, with outputs (n, C).
        x, y: the batch; its first rows are used, as many as `MOST_GRAM_ROWS` rows times outputs allow.
        loss: as training computes it.
        rule: of SGD.
        lr: learning rate.
        value: loss of the whole batch.
        budget: steps.
        velocity: the optimizer's momentum buffers by name; None before its first step.
    """
    with torch.no_grad():
        c = call_at(module, {}, x[:1]).numel()
        rows = min(len(x), max(1, MOST_GRAM_ROWS // c))
        f0 = call_at(module, {}, x[:rows]).double()
    target = y[:rows]
    if y.is_floating_point():
        target = target.double()
    gram = empirical_ntk(module, inputs_of(x[:rows]), outputs="full").double()
    # (n, n, C, C) to a matrix over (sample, output), in the order of f.flatten()
    gram = gram.permute(0, 2, 1, 3).reshape(rows * c, rows * c)
    # a sum: the other rows' pull is that of these
    if grows_with_rows(loss, f0, target):
        gram = gram * (len(x) / rows)
    u = _output_velocity(module, velocity, x[:rows])
    losses, last = _descend(gram, f0, target, loss, rule, lr, budget, u)
    g0, g1 = (_slope(loss, f, target)[1].flatten() for f in (f0, last))
    vectors = torch.linalg.eigh(gram).eigenvectors
    # squared pull of the loss along each eigenvector of the Gram matrix, at the start and at the end
    before, after = (vectors.mT @ g0).square(), (vectors.mT @ g1).square()
    total = float(before.sum())
    # directions with next to nothing of the first pull have nothing to be learned along them
    pulled = before > 1e-6 * total
    slow, left = _slowest(f0, last, target, loss)
    scale, residual = 1.0, 0.0
    if losses[0]:  # the curve is that of the first rows; the loss of the whole batch starts at `value`
        scale = value / losses[0]
    if total:
        residual = float(after.sum()) / total
    return Forecast(
        losses=tuple(scale * v for v in losses),
        rows=rows,
        slow=slow,
        left=left,
        # squares: more than 1/e of the pull is more than 1/e^2 of its square
        directions=int((pulled & (after > before / math.e**2)).sum()),
        of=int(pulled.sum()),
        residual=residual,
        budget=budget,
    )


def _output_velocity(module: nn.Module, velocity: dict[str, Tensor] | None, x: Samples) -> Tensor | None:
    """Momentum of the linearized outputs: they move by J times the change of the weights, so J times the buffers."""
    if velocity is None:
        return None
    here = {name: p.detach() for name, p in module.named_parameters() if name in velocity}
    with torch.no_grad():
        return along(module, here, velocity, x)[1].double().flatten()


def _descend(
    gram: Tensor, f: Tensor, y: Tensor, loss: LossOf, rule: StepRule, lr: float, budget: int, u: Tensor | None
) -> tuple[list[float], Tensor]:
    """Losses before and after each step, and the outputs at the end."""
    losses: list[float] = []
    first = 0.0
    for _ in range(budget):
        value, g = _slope(loss, f, y)
        losses.append(value)
        size = float(g.square().sum())
        first = first or size
        if not math.isfinite(value) or size <= LEARNED_RESIDUAL * first:
            return losses, f
        # weights that move by -lr J^T g move the linearized outputs by -lr J J^T g
        pull = gram @ g.flatten()
        # torch begins undampened
        if u is None:
            u = pull
        else:
            u = rule.momentum * u + (1 - rule.dampening) * pull
        if rule.nesterov:
            step = pull + rule.momentum * u
        else:
            step = u
        f = f - lr * step.reshape(f.shape)
    losses.append(_slope(loss, f, y)[0])
    return losses, f


def _slope(loss: LossOf, f: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """The loss and its gradient in the outputs."""
    with torch.enable_grad():
        f = f.detach().requires_grad_()
        value = loss(f, y)
        (slope,) = torch.autograd.grad(value, f)
    return float(value.detach()), slope


def grows_with_rows(loss: LossOf, f: Tensor, y: Tensor) -> bool:
    """Whether the loss is a sum over rows, not a mean: every row twice doubles it."""
    with torch.no_grad():
        once, twice = float(loss(f, y)), float(loss(torch.cat([f, f]), torch.cat([y, y])))
    return twice > 1.5 * once


def _slowest(first: Tensor, last: Tensor, y: Tensor, loss: LossOf) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Rows by the loss that they have left, over the mean loss of a row at the start."""
    with torch.no_grad():
        start = torch.stack([loss(first[i : i + 1], y[i : i + 1]) for i in range(len(y))]).double()
        end = torch.stack([loss(last[i : i + 1], y[i : i + 1]) for i in range(len(y))]).double()
    mean = float(start.mean())
    if not mean > 0 or not bool(end.isfinite().all()):
        return (), ()
    worst = end.argsort(descending=True)[:SLOW_ROWS_NAMED]
    return tuple(worst.tolist()), tuple((end[worst] / mean).tolist())
