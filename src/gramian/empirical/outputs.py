"""What is differentiated: a module's outputs, or what a callable makes of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gramian.empirical import checks

Outputs = str | Callable[[Tensor], Tensor]
INSIDE = "module."


class Composed(nn.Module):
    """A callable of a module's output."""

    def __init__(self, module: nn.Module, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.then = module, then
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.module(x))


def composed(module: nn.Module, outputs: Outputs) -> tuple[nn.Module, str]:
    """The module to differentiate, and "full", "sum" or "mean".

    Raises:
        BadArgument: an unknown word, or nothing trainable.
    """
    if isinstance(module, DistributedDataParallel):
        module = module.module
    checks.trainable(module)
    if isinstance(outputs, str):
        checks.check_options(outputs, "auto", 1)
        return module, outputs
    return Composed(module, outputs), "full"


def own_name(name: str, module: nn.Module) -> str:
    """A parameter's name in the user's module."""
    return name.removeprefix(INSIDE) if isinstance(module, Composed) else name
