"""A run of gradient descent beside what a constant kernel says of it: the curve, and how far the weights go."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.gram import eigensystem
from gramian.solve import loss_curve, max_lr, solve
from gramian.train.trainer import train


@dataclass(frozen=True)
class KernelComparison:
    r"""A run, and the same under a constant kernel $\Theta$.

    Attributes:
        residuals: $\|f_k - y\| / \|f_0 - y\|$ at each step.
        predicted: $\sqrt{\sum_j (1 - \eta\lambda_j)^{2k} (u_j \cdot r_0)^2} / \|r_0\|$ at each step.
        movement: $\|W_k - W_0\|_F$ of the trainable parameters at the end.
        predicted_movement: $\sqrt{r_0^\top \Theta^{-1} r_0}$, where training to the end takes the linearized network.
    """

    residuals: tuple[float, ...]
    predicted: tuple[float, ...]
    movement: float
    predicted_movement: float

    @property
    def curve_error(self) -> float:
        """The largest distance of the two curves, as a share of the residual at the start."""
        return max(abs(a - b) for a, b in zip(self.residuals, self.predicted, strict=True))


def beside_kernel(
    module: nn.Module, x: Tensor, y: Tensor, gram: Tensor, *, steps: int, scale: float = 1.0
) -> KernelComparison:
    r"""Train a copy of `module` by gradient descent, and compare with the curve that a kernel predicts.

    The learning rate is $1/\lambda_{max}$ of the kernel, on half the sum of squared errors.

    Args:
        module: a network of one output; it stays as it is.
        x: inputs (n, ...).
        y: real targets (n, 1).
        gram: the kernel on x, (n, n): of the limit, or of the network at its start.
        steps: of descent.
        scale: the network's kernel is this times `gram`: the learning rate is divided by it, and the movement is
            taken times its root, so that time means the same.

    Returns:
        KernelComparison.

    References:
        Arora, Du, Hu, Li, Wang 2019, arXiv:1901.08584, Theorem 4.1 and Lemma 5.3.

    Example:
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> x, y = torch.eye(2), torch.tensor([[1.0], [2.0]])
        >>> beside_kernel(net, x, y, x @ x.mT, steps=3).curve_error < 1e-12
        True
    """
    system = eigensystem(gram)
    lr = 0.5 * max_lr(float(system.values[-1]))
    with torch.no_grad():
        residual = module(x) - y
    trained = copy.deepcopy(module)
    trace = train(trained, x, y, optimizer="gd", lr=lr / scale, steps=steps, probes=())
    predicted = loss_curve(system, residual, trace.steps, lr)
    before = dict(module.named_parameters())
    moved = sum(float((p.detach() - before[name].detach()).square().sum()) for name, p in trained.named_parameters())
    along = float((residual * solve(gram, residual).alpha).sum())
    start = trace.losses[0]
    return KernelComparison(
        tuple(math.sqrt(loss / start) for loss in trace.losses),
        tuple(math.sqrt(max(float(loss), 0.0) / start) for loss in predicted),
        math.sqrt(moved * scale),
        math.sqrt(max(along, 0.0)),
    )
