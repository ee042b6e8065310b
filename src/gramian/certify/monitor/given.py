"""What a monitor is given, looked at before anything is measured."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from gramian.errors import BadArgument


def check_settings(module: nn.Module, optimizer: Optimizer, share: float, rows: int, tokens: int) -> None:
    """Raises BadArgument for what cannot be watched."""
    if not isinstance(optimizer, Optimizer):
        raise BadArgument(
            f"The optimizer is a {type(optimizer).__name__}.",
            where="Monitor(module, optimizer, loss, x, y)",
            why="the monitor counts the steps of a torch optimizer",
            fix="torch.optim.SGD(module.parameters(), lr=0.1)",
        )
    if not 0 < share <= 1 or not all(isinstance(v, int) and v >= 1 for v in (rows, tokens)):
        raise BadArgument(
            f"share={share!r}, rows={rows!r}, tokens={tokens!r} make no sense.",
            where="Monitor(..., share=, rows=, tokens=)",
            fix="share=0.05 is 5 % of the time; rows and tokens whole numbers, 1 or more",
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in module.parameters()):
        raise BadArgument(
            "The optimizer holds none of the module's parameters.",
            where="Monitor(module, optimizer, ...)",
            why="it was made for another module, or before the module was moved or wrapped",
            fix="the module whose parameters the optimizer was given",
        )
