"""What a monitor is given, looked at before anything is measured: only what no run could have is refused."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from gramian.errors import BadArgument
from gramian.train.objective import objective
from gramian.train.probes import choose

WHERE = "Monitor(module, optimizer, loss, x, y)"


def check_settings(
    module: object, optimizer: object, loss: object, share: float, rows: int, tokens: int, probes: Any
) -> None:
    """Raises BadArgument for a mistake in the call itself: what is no module, no optimizer, no loss, no setting."""
    if not isinstance(module, nn.Module):
        if isinstance(module, type):
            kind = f"the class {module.__name__}"
        else:
            kind = f"a {type(module).__name__}"
        raise BadArgument(
            f"The module is {kind}, no torch.nn.Module.",
            where=WHERE,
            why="a class was given for one of its instances" if isinstance(module, type) else "",
            fix="the module whose parameters the optimizer has",
        )
    if not isinstance(optimizer, Optimizer):
        raise BadArgument(
            f"The optimizer is a {type(optimizer).__name__}.",
            where=WHERE,
            why="the monitor counts the steps of a torch optimizer",
            fix="torch.optim.SGD(module.parameters(), lr=0.1)",
        )
    if loss is not None and not isinstance(loss, nn.Module):
        objective(loss)  # type: ignore[arg-type]
    fractions = isinstance(share, int | float) and 0 < share <= 1
    if not fractions or not all(isinstance(v, int) and v >= 1 for v in (rows, tokens)):
        raise BadArgument(
            f"share={share!r}, rows={rows!r}, tokens={tokens!r} make no sense.",
            where="Monitor(..., share=, rows=, tokens=)",
            fix="share=0.05 is 5 % of the time; rows and tokens whole numbers, 1 or more",
        )
    choose(probes)


def torch_optimizer(optimizer: Any) -> Any:
    """torch's optimizer inside the wrappers of Lightning and accelerate."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def holds_none(module: nn.Module, optimizer: Optimizer) -> bool:
    """Whether the optimizer moves none of the module's parameters."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return not any(id(p) in held for p in module.parameters())
