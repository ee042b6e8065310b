r"""What a torch optimizer does to a constant curvature: its preconditioner, and how large a step stays stable.

On a quadratic of curvature $\lambda$, seen through the preconditioner, heavy ball $u \leftarrow \beta u + g$ is stable
up to $\eta \lambda = 2 (1 + \beta)$, torch's Nesterov up to $(2 + 2\beta)/(1 + 2\beta)$, and Adam, whose momentum is a
mean, up to $(2 + 2\beta_1)/(1 - \beta_1)$: 38 at its usual $\beta_1 = 0.9$.

References:
    Cohen et al. 2021, arXiv:2103.00065, and 2022, arXiv:2207.14484 (adaptive methods).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from gramian.errors import BadArgument


@dataclass(frozen=True, eq=False)
class StepRule:
    """One optimizer as it stands.

    Attributes:
        name: of the optimizer, in words.
        lr: learning rate of its first group that moves; None for an optimizer that is only named.
        edge: learning rate times largest preconditioned curvature at which it stops being stable.
        scale: $P^{-1/2}$ by parameter name, relative to `lr`; empty for plain gradient steps.
        decay: weight decay that adds to the curvature.
        adaptive: whether P follows the gradients.
        guessed: whether P is that of one batch's gradient, because no step was made yet.
        momentum, nesterov: of SGD.
    """

    name: str
    lr: float | None
    edge: float
    scale: dict[str, Tensor | float] = field(default_factory=dict)
    decay: float = 0.0
    adaptive: bool = False
    guessed: bool = False
    momentum: float = 0.0
    nesterov: bool = False


NAMED = ("gd", "sgd", "momentum", "nesterov", "adam")


def step_rule(optimizer: Optimizer | str, module: nn.Module, gradient: dict[str, Tensor]) -> StepRule:
    """The rule of a torch optimizer, or of one by name (momentum 0.9; Adam with torch's own settings).

    Args:
        optimizer: SGD, Adam, AdamW, RMSprop or Adagrad of torch, or a name of `NAMED`.
        module: whose parameters it moves.
        gradient: of one batch, by name: stands in for an adaptive optimizer's memory before its first step.
    """
    if isinstance(optimizer, str):
        if optimizer not in NAMED:
            raise _unknown(repr(optimizer))
        if optimizer == "adam":
            return step_rule(Adam([p for p in module.parameters() if p.requires_grad]), module, gradient)
        beta = 0.9 if optimizer in ("momentum", "nesterov") else 0.0
        return _sgd(None, beta, 0.0, optimizer == "nesterov", {}, 0.0)
    if not isinstance(optimizer, Optimizer):
        raise _unknown(f"a {type(optimizer).__name__}")
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    groups = [g for g in optimizer.param_groups if any(id(p) in names for p in g["params"])]
    if not groups:
        raise BadArgument(
            "The optimizer holds none of the module's trainable parameters.",
            where=f"optimizer {type(optimizer).__name__}, module {type(module).__name__}",
            why="it was made for another module, or before the module was moved or wrapped",
            fix="torch.optim.SGD(module.parameters(), lr=...)",
        )
    lr = next((float(g["lr"]) for g in groups if float(g["lr"])), 0.0)  # a group at 0 is frozen, or warms up
    relative = {
        names[id(p)]: (float(g["lr"]) / lr if lr else 1.0) for g in groups for p in g["params"] if id(p) in names
    }
    if isinstance(optimizer, SGD):
        scale: dict[str, Tensor | float] = {n: r**0.5 for n, r in relative.items() if r != 1}
        scale |= {n: 0.0 for n in names.values() if n not in relative}  # in no group: it does not move
        kinds = [(g["momentum"], g["dampening"], g["nesterov"], scale, g["weight_decay"]) for g in groups]
        return min((_sgd(lr, *kind) for kind in kinds), key=lambda rule: rule.edge)
    if not isinstance(optimizer, Adam | AdamW | RMSprop | Adagrad):
        raise _unknown(f"torch.optim.{type(optimizer).__name__}")
    return _adaptive(optimizer, lr, relative, names, gradient)


def _sgd(
    lr: float | None, beta: float, dampening: float, nesterov: bool, scale: dict[str, Any], decay: float
) -> StepRule:
    edge = (2 + 2 * beta) / (1 + 2 * beta) if nesterov else 2 * (1 + beta) / (1 - dampening)
    name = "SGD" if not beta else f"SGD with {'Nesterov ' if nesterov else ''}momentum {beta:g}"
    return StepRule(name, lr, edge, scale, decay, momentum=beta, nesterov=nesterov)


def _adaptive(
    optimizer: Optimizer, lr: float, relative: dict[str, float], names: dict[int, str], gradient: dict[str, Tensor]
) -> StepRule:
    scale: dict[str, Tensor | float] = dict.fromkeys(names.values(), 0.0)
    guessed, edge = False, float("inf")
    for group in optimizer.param_groups:
        edge = min(edge, _adaptive_edge(optimizer, group))
        for p in group["params"]:
            if id(p) not in names:
                continue
            name = names[id(p)]
            second = _second_moment(optimizer, p, group)
            if second is None:
                second, guessed = gradient[name].square(), True
            scale[name] = (relative[name] / (second.sqrt() + group["eps"])).sqrt()
    first = optimizer.param_groups[0]
    decay = 0.0 if isinstance(optimizer, AdamW) or first.get("decoupled_weight_decay") else first["weight_decay"]
    return StepRule(type(optimizer).__name__, lr, edge, scale, decay, adaptive=True, guessed=guessed)


def _adaptive_edge(optimizer: Optimizer, group: dict[str, Any]) -> float:
    if isinstance(optimizer, RMSprop):
        return 2 * (1 + group["momentum"])
    if isinstance(optimizer, Adagrad):
        return 2.0
    beta = group["betas"][0]
    return (2 + 2 * beta) / (1 - beta)


def _second_moment(optimizer: Optimizer, p: nn.Parameter, group: dict[str, Any]) -> Tensor | None:
    """What the optimizer divides by, squared; None before its first step."""
    state = optimizer.state.get(p, {})
    if isinstance(optimizer, Adagrad):
        return state["sum"] if float(state.get("step", 0)) > 0 else None
    if isinstance(optimizer, RMSprop):
        if "square_avg" not in state:
            return None
        return state["square_avg"] - (state["grad_avg"].square() if group["centered"] else 0)
    if "exp_avg_sq" not in state:
        return None
    held = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return held / (1 - group["betas"][1] ** float(torch.as_tensor(state["step"])))


def _unknown(what: str) -> BadArgument:
    return BadArgument(
        f"The largest stable step of {what} is not known.",
        where="argument `optimizer`",
        why="it depends on the optimizer's own recursion, and this one was not worked out",
        fix=f"torch's SGD, Adam, AdamW, RMSprop or Adagrad, or one of {', '.join(map(repr, NAMED))}",
    )
