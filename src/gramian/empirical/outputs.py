"""What is differentiated: a module's outputs, or what a callable makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.parallel import DistributedDataParallel

from gramian.empirical import checks

Outputs = str | Callable[[Tensor], Tensor]
INSIDE = "module."


class Composed(nn.Module):
    """A callable of a module's output for a batch of one, for each sample: numbers in a row."""

    def __init__(self, module: nn.Module, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self.then = module, then
        self.training = module.training

    def forward(self, x: Tensor) -> Tensor:
        out = self.module(x)
        if not isinstance(out, Tensor):
            return self._one(out) if len(x) == 1 else torch.cat([self._one(self.module(row[None])) for row in x])
        try:
            return vmap(lambda row: self._one(row[None])[0])(out)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # vmap knows not every operation, nor branches on numbers
            return torch.cat([self._one(row[None]) for row in out])

    def _one(self, out: Any) -> Tensor:
        return self.then(out).reshape(1, -1)


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
