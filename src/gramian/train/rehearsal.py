"""A few real steps on a copy: the largest stable step at these weights may be too large a few steps later."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from gramian.empirical.copied import copied
from gramian.train.curvature import LossOf

HALVINGS = 12
ENOUGH = 0.5  # of the first loss: a rehearsal that came down to this has shown what it can
LEAST = 20  # steps
RISE = 1.1  # times the smallest loss so far: more, after all steps, is a step that was too large


def rehearsed_lr(
    module: nn.Module, x: Tensor, y: Tensor, loss: LossOf, optimizer: Optimizer | str, lr: float, steps: int
) -> tuple[float, bool]:
    """The largest of lr, lr / 2, lr / 4, ... at which `steps` steps on this batch lower the loss and keep it low.

    Networks that learn features sharpen as they do (Cohen et al. 2021, arXiv:2103.00065: progressive sharpening), so
    that a step which is stable at the start soon is not. Copies of the module and of the optimizer make the steps.

    Returns:
        The learning rate, and whether it passed; the smallest one tried if none did.
    """
    for _ in range(HALVINGS):
        if _holds(rehearsal(module, x, y, loss, optimizer, lr, steps)):
            return lr, True
        lr /= 2
    return 2 * lr, False


def _holds(losses: list[float]) -> bool:
    if not all(map(math.isfinite, losses)):
        return False
    low = min(losses)
    return losses[-1] < losses[0] and losses[-1] <= RISE * low and max(losses) <= RISE * losses[0]


def rehearsal(
    module: nn.Module, x: Tensor, y: Tensor, loss: LossOf, optimizer: Optimizer | str, lr: float, steps: int
) -> list[float]:
    """Losses before and after each real step of a copy on this batch; it ends at a loss that is half or not finite."""
    made: Optimizer
    if isinstance(optimizer, str):
        net = copied(module)
        weights = [p for p in net.parameters() if p.requires_grad]
        if optimizer == "adam":
            made = Adam(weights, lr=lr)
        else:
            beta = 0.9 if optimizer in ("momentum", "nesterov") else 0.0
            made = SGD(weights, lr=lr, momentum=beta, nesterov=optimizer == "nesterov")
    else:
        net, made = copied(module, optimizer)  # together: the copy's groups hold the copy's parameters
        first = next((g["lr"] for g in made.param_groups if g["lr"]), 0.0)  # as `step_rule` has it
        for group in made.param_groups:
            group["lr"] = lr * (group["lr"] / first if first else 1.0)
    found: list[float] = []
    with torch.enable_grad():
        for step in range(steps + 1):
            value = loss(net(x.clone()), y)
            found.append(float(value.detach()))
            enough = step >= LEAST and found[-1] < ENOUGH * found[0]
            if step == steps or not math.isfinite(found[-1]) or enough:
                break
            made.zero_grad(set_to_none=True)
            value.backward()
            made.step()
    return found
