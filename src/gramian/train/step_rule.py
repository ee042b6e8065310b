r"""What a torch optimizer does to a constant curvature: its preconditioner, and how large a step stays stable.

Near a minimum with Hessian H an optimizer makes linear steps, $w_{t+1} - w_t = -\eta\, G(z) P^{-1} H w_t$, P its
preconditioner and G the filter that its momentum puts on gradients. They stop being stable where the weights swing
from one side to the other without growing or shrinking, at $z = -1$:
$2 w = \eta\, G(-1) P^{-1} H w$. So the largest stable rate is $2 / (G(-1) \lambda_{max}(P^{-1} H))$, also where G and P
differ between parameters, and $2 / G(-1)$ is called the edge here:

- SGD with momentum $\beta$ and dampening $\tau$: $G = (1 - \tau)/(1 - \beta/z)$, edge $2 (1 + \beta)/(1 - \tau)$;
- torch's Nesterov: $G = 1 + \beta/(1 - \beta/z)$, edge $(2 + 2\beta)/(1 + 2\beta)$;
- Adam, whose momentum is a mean: $G = (1 - \beta_1)/(1 - \beta_1/z)$, edge $(2 + 2\beta_1)/(1 - \beta_1)$, 38 at 0.9.

Weight decay that is added to the gradient adds to H. Decoupled decay, $w \leftarrow (1 - \eta \omega) w$, goes beside
G and P: $2 w = \eta\,(G(-1) P^{-1} H + \omega) w$.

References:
    Cohen et al. 2021, arXiv:2103.00065, and 2022, arXiv:2207.14484 (adaptive methods).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from gramian.empirical.modules.composed_outputs import own_module
from gramian.errors import BadArgument
from gramian.train.preconditioner import ADAPTIVE, edge_of_adaptive, preconditioner


@dataclass(frozen=True, eq=False)
class StepRule:
    """One optimizer as it stands.

    Attributes:
        name: of the optimizer, in words.
        lr: learning rate of its first group that moves; None for an optimizer that is only named.
        edge: learning rate times largest preconditioned curvature at which it stops being stable.
        scale: $P^{-1/2}$ by parameter name, relative to `lr` and `edge`; empty for plain gradient steps. A number 0 or
            an entry 0: the parameter does not move, or its next step does not depend on its curvature.
        decay: weight decay that adds to the curvature, by name.
        shift: decoupled weight decay by name, in units of `edge`: adds to the preconditioned curvature.
        adaptive: whether P follows the gradients.
        guessed: whether P is that of one batch's gradient, because no step was made yet.
        momentum, dampening, nesterov: of SGD; momentum is the mean's of Adam and its kin.
        maximize: whether the optimizer climbs.
        unseen: coordinates without a gradient yet, which are left out of the curvature.
    """

    name: str
    lr: float | None
    edge: float
    scale: dict[str, Tensor | float] = field(default_factory=dict)
    decay: dict[str, float] = field(default_factory=dict)
    shift: dict[str, float] = field(default_factory=dict)
    adaptive: bool = False
    guessed: bool = False
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    unseen: int = 0


NAMED_OPTIMIZERS = ("gd", "sgd", "momentum", "nesterov", "adam")
USUAL_MOMENTUM = 0.9  # of "momentum" and "nesterov"


def named_optimizer(name: str, weights: list[Tensor], lr: float | None = None) -> Optimizer:
    """A torch optimizer by one of the names in `NAMED_OPTIMIZERS`; lr None: torch's own default."""
    if name not in NAMED_OPTIMIZERS:
        raise _unknown(repr(name))
    rate = 1e-3 if lr is None else lr
    if name == "adam":
        return Adam(weights, lr=rate)
    if name in ("momentum", "nesterov"):
        beta = USUAL_MOMENTUM
    else:
        beta = 0.0
    return SGD(weights, lr=rate, momentum=beta, nesterov=name == "nesterov")


def step_rule(
    optimizer: Optimizer | str,
    module: nn.Module,
    gradient: Mapping[str, Tensor],
    *,
    squares: Mapping[str, Tensor] | None = None,
    now: Mapping[str, Tensor] | None = None,
) -> StepRule:
    """The rule of a torch optimizer, or of one by name (momentum 0.9; Adam with torch's own settings).

    Args:
        optimizer: SGD, or one of `preconditioner.ADAPTIVE`, or a name of `NAMED_OPTIMIZERS`.
        module: whose parameters it moves.
        gradient: of one batch, by name: stands in for an adaptive optimizer's memory before its first step.
        squares: expected squares of a batch's gradient, for the same; None: those of `gradient`.
        now: a gradient of the present weights. Coordinates that it would be the first to move are `unseen`.

    Raises:
        BadArgument: the optimizer is none of these, holds none of the module's parameters, or climbs with some of its
            groups and descends with others.
    """
    named = isinstance(optimizer, str)
    optimizer = _as_known(optimizer, module)
    adaptive = isinstance(optimizer, ADAPTIVE)
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    groups = [g for g in optimizer.param_groups if any(id(p) in names for p in g["params"])]
    _check_groups(optimizer, module, groups)
    lr = next((float(g["lr"]) for g in groups if float(g["lr"])), 0.0)  # a group at 0 is frozen, or warms up
    edges = [_edge_of(optimizer, g) for g in groups]
    scale: dict[str, Tensor | float] = dict.fromkeys(names.values(), 0.0)  # in no group: it does not move
    decay, shift = dict.fromkeys(names.values(), 0.0), dict.fromkeys(names.values(), 0.0)
    unseen, guessed = 0, False
    for group, edge in zip(groups, edges, strict=True):
        # the sharpness is measured against edges[0]; a group of another edge has its curvature in these units
        ratio = _relative_rate(group, lr) * edges[0] / edge
        for p in group["params"]:
            if id(p) not in names:
                continue
            name, w = names[id(p)], float(group["weight_decay"])
            inverse: Tensor | float = 1.0
            if adaptive:
                square = None if squares is None else squares[name]
                present = None if now is None else now[name]
                divisor = preconditioner(optimizer, p, group, gradient[name], square, present)
                inverse, unseen, guessed = divisor.inverse, unseen + divisor.unseen, guessed or divisor.guessed
            scale[name] = (ratio * inverse) ** 0.5
            if group.get("decoupled_weight_decay"):
                # stable where lr (2/edge P^{-1} h + w) <= 2, which is lr (P^{-1} h + w edge/2) <= edge
                shift[name] = w * ratio * edge / 2
            else:
                decay[name] = w
    return StepRule(
        name=_name(optimizer, groups),
        lr=None if named else lr,
        edge=edges[0],
        scale={n: s for n, s in scale.items() if isinstance(s, Tensor) or s != 1},
        decay={n: w for n, w in decay.items() if w},
        shift={n: w for n, w in shift.items() if w},
        adaptive=adaptive,
        guessed=guessed,
        unseen=unseen,
        **_momentum(groups[0]),
    )


def _relative_rate(group: dict[str, Any], lr: float) -> float:
    """A group's learning rate over `lr`; 1 where no group moves."""
    if lr:
        return float(group["lr"]) / lr
    return 1.0


def _momentum(group: dict[str, Any]) -> dict[str, Any]:
    """Fields of a rule that say how steps build on those before them, and in which direction they go."""
    momentum = group.get("momentum", 0.0)
    if "betas" in group:
        momentum = group["betas"][0]
    return {
        "momentum": float(momentum),
        "dampening": float(group.get("dampening", 0.0)),
        "nesterov": bool(group.get("nesterov", False)),
        "maximize": bool(group.get("maximize", False)),
    }


def _as_known(optimizer: object, module: nn.Module) -> Optimizer:
    """One of torch's own optimizers, also by its name; raise for others, and for one with a step of its own."""
    if isinstance(optimizer, str):
        optimizer = named_optimizer(optimizer, [p for p in module.parameters() if p.requires_grad])
    if not isinstance(optimizer, Optimizer):
        raise _unknown(f"a {type(optimizer).__name__}")
    stepped_by = getattr(type(optimizer).step, "__module__", "") or ""
    if not isinstance(optimizer, (SGD, *ADAPTIVE)) or not stepped_by.startswith("torch.optim"):
        raise _unknown(f"{type(optimizer).__module__}.{type(optimizer).__name__}".replace(".optim.sgd", ".optim"))
    return optimizer


def _check_groups(optimizer: Optimizer, module: nn.Module, groups: list[dict[str, Any]]) -> None:
    if not groups:
        raise BadArgument(
            "The optimizer holds none of the module's trainable parameters.",
            where=f"optimizer {type(optimizer).__name__}, module {type(own_module(module)).__name__}",
            why="it was made for another module, before the module was moved or wrapped, or the module has none",
            fix="torch.optim.SGD(module.parameters(), lr=...)",
        )
    if len({bool(g.get("maximize", False)) for g in groups}) > 1:
        raise BadArgument(
            "The optimizer climbs with some parameters and descends with others.",
            where=f"the groups of {type(optimizer).__name__}",
            why="a saddle point is sought then, and whether steps come to it is no matter of the largest curvature",
            fix="one `maximize` for all groups",
        )


def _edge_of(optimizer: Optimizer, group: dict[str, Any]) -> float:
    if isinstance(optimizer, ADAPTIVE):
        return edge_of_adaptive(optimizer, group)
    return _sgd_edge(group)


def _sgd_edge(group: dict[str, Any]) -> float:
    beta, dampening = float(group["momentum"]), float(group["dampening"])
    # 2 / G(-1) of the filters in the docstring of this file
    if group["nesterov"]:
        return (2 + 2 * beta) / (1 + 2 * beta)
    # torch then takes no notice of the dampening
    if not beta:
        return 2.0
    if dampening < 1:
        return 2 * (1 + beta) / (1 - dampening)
    return float("inf")


def _name(optimizer: Optimizer, groups: list[dict[str, Any]]) -> str:
    if not isinstance(optimizer, SGD):
        return type(optimizer).__name__
    betas = {float(g["momentum"]) for g in groups}
    if betas == {0.0}:
        return "SGD"
    if all(g["nesterov"] for g in groups):
        kind = "Nesterov "
    else:
        kind = ""
    return f"SGD with {kind}momentum {', '.join(f'{b:g}' for b in sorted(betas))}"


def _unknown(what: str) -> BadArgument:
    known = ", ".join(kind.__name__ for kind in ADAPTIVE)
    return BadArgument(
        f"The largest stable step of {what} is not known.",
        where="argument `optimizer`",
        why="it depends on the optimizer's own recursion, and this one was not worked out",
        fix=f"torch's own SGD, {known}, or one of {', '.join(map(repr, NAMED_OPTIMIZERS))}",
    )
