r"""What adaptive optimizers divide a gradient by, coordinate by coordinate, from their state.

Before an optimizer's first step it is guessed from the gradient of a batch. A coordinate that had no gradient yet, the
embedding of a word that did not come, has nothing to be divided by but eps; its first step is about lr whatever its
gradient and its curvature are (Adagrad: lr; Adam: lr (1 - beta_1) / sqrt(1 - beta_2)). It says nothing about how large
a rate is stable, and is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

ADAPTIVE = (Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad)
# times the memory: a gradient whose square is larger makes the next denominator, whatever was before
OUTWEIGHS_MEMORY = 10.0


class Preconditioner(NamedTuple):
    """One parameter's 1/P (0 where it is unseen), how many coordinates are unseen, and whether P is a guess."""

    inverse: Tensor
    unseen: int
    guessed: bool


def preconditioner(
    optimizer: Optimizer,
    p: nn.Parameter,
    group: dict[str, Any],
    gradient: Tensor,
    squares: Tensor | None = None,
    now: Tensor | None = None,
) -> Preconditioner:
    """1/P of one parameter as the optimizer stands, relative to the group's learning rate."""
    state, eps = optimizer.state.get(p, {}), float(group["eps"])
    step = float(torch.as_tensor(state.get("step", 0)))
    squares = gradient.square() if squares is None else squares
    if step < 1:
        memory = None
    else:
        memory = _memory(optimizer, state, group)
    guessed = memory is None
    if memory is None:
        memory = squares + float(group.get("initial_accumulator_value", 0.0))
        known = memory > 0
    else:
        known = memory > 0
        if now is not None:
            known = known & (_weight_of_the_next(optimizer, group) * now.square() <= OUTWEIGHS_MEMORY * memory)
    correction = _correction(optimizer, group, step)
    root = memory.clamp(min=0).sqrt()
    if isinstance(optimizer, Adamax):  # its norm holds eps already
        if not guessed:
            inverse = correction / root
        else:
            inverse = correction / (root + eps)
    else:
        inverse = correction / (root + eps)
    if isinstance(optimizer, RAdam) and _longest_mean(float(group["betas"][1])) <= 5:  # never divides
        return Preconditioner(torch.ones_like(inverse), 0, False)
    inverse = torch.where(known, inverse, torch.zeros_like(inverse))
    return Preconditioner(inverse.detach(), int((~known).sum()), guessed)


def _memory(optimizer: Optimizer, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The square of what the optimizer divides by, but for eps."""
    if isinstance(optimizer, Adagrad):
        return state["sum"]
    if isinstance(optimizer, Adamax):
        # torch adds eps to each gradient's size before the maximum: what is about eps had no gradient
        return torch.where(state["exp_inf"] <= 2 * float(group["eps"]), 0.0, state["exp_inf"]).square()
    if isinstance(optimizer, RMSprop):
        if group["centered"]:
            centered = state["grad_avg"].square()
        else:
            centered = 0.0
        return state["square_avg"] - centered
    # a running mean that began at 0 has collected 1 - beta_2^step of its weight after `step` steps
    if group.get("amsgrad"):
        held = state["max_exp_avg_sq"]
    else:
        held = state["exp_avg_sq"]
    return held / (1 - float(group["betas"][1]) ** float(torch.as_tensor(state["step"])))


def _weight_of_the_next(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The weight with which a new squared gradient enters the memory."""
    if isinstance(optimizer, RMSprop):
        return 1 - float(group["alpha"])
    if isinstance(optimizer, Adagrad | Adamax):
        return 1.0
    return 1 - float(group["betas"][1])


def _correction(optimizer: Optimizer, group: dict[str, Any], step: float) -> float:
    """What the steps are multiplied by beside lr / P."""
    if isinstance(optimizer, Adagrad):
        return 1 / (1 + step * float(group["lr_decay"]))
    if isinstance(optimizer, RAdam) and step >= 1 and _longest_mean(float(group["betas"][1])) > 5:
        return _rectification(float(group["betas"][1]), step)
    return 1.0


def _rectification(beta2: float, step: float) -> float:
    """RAdam's, of the step after; where it takes plain gradients (the first five steps) the one of the first after."""
    most, length = _longest_mean(beta2), 0.0
    while length <= 5:
        step += 1
        # length of the running mean of squares after `step` steps; it tends to `most`
        length = most - 2 * step * beta2**step / (1 - beta2**step)
    return float(((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)) ** 0.5)


def _longest_mean(beta2: float) -> float:
    """RAdam's rho_inf: it divides by its memory only where its running mean is longer than 5."""
    return 2 / (1 - beta2) - 1


def edge_of_adaptive(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """Learning rate times largest curvature through P at which steps stop being stable: 2 / G(-1)."""
    if isinstance(optimizer, RMSprop):
        # momentum on divided gradients, undampened: G = 1/(1 - beta/z)
        return 2 * (1 + float(group["momentum"]))
    if isinstance(optimizer, Adagrad):
        return 2.0
    beta = float(group["betas"][0])
    # NAdam steps along its present mix of the gradient and the running mean of gradients
    if isinstance(optimizer, NAdam):
        step = max((float(torch.as_tensor(s.get("step", 0))) for s in optimizer.state.values()), default=0.0) + 1
        mix, after = (beta * (1 - 0.5 * 0.96 ** (t * float(group["momentum_decay"]))) for t in (step, step + 1))
        # G(-1) of (1 - mix) times the gradient plus `after` times a mean (1 - beta)/(1 - beta/z)
        return 2 / (1 - mix + after * (1 - beta) / (1 + beta))
    # the momentum is a mean: G = (1 - beta)/(1 - beta/z)
    return (2 + 2 * beta) / (1 - beta)
