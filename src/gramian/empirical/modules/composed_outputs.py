"""What is differentiated: a module's outputs, or what a callable makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.parallel import DistributedDataParallel

from gramian.empirical.modules import checks

Outputs = str | Callable[[Tensor], Tensor]
INNER_PREFIX = "module."


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


class Aimed(nn.Module):
    """A callable of a module's output and a target, both of a batch of one, for each sample: numbers in a row.

    It takes what the module takes, in order, and the targets last; `names`: of the module's inputs, if it has them.
    """

    def __init__(self, module: nn.Module, then: Callable[..., Tensor], names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.then, self.names = module, then, names
        self.training = module.training

    def forward(self, *given: Tensor) -> Tensor:
        *args, target = given
        if len(target) == 1:
            return self._one(self._out(args), target)
        try:
            return vmap(lambda row, t: self._one(row[None], t[None])[0])(self._out(args), target)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # an output that is no tensor; vmap knows not every operation
            return torch.cat([self(*(t[i : i + 1] for t in given)) for i in range(len(target))])

    def _out(self, args: list[Tensor]) -> Any:
        return self.module(**dict(zip(self.names, args, strict=True))) if self.names else self.module(*args)

    def _one(self, out: Any, target: Tensor) -> Tensor:
        return self.then(out, target).reshape(1, -1)


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's module in one that DistributedDataParallel wraps."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def composed(module: nn.Module, outputs: str | Callable[..., Tensor]) -> tuple[nn.Module, str]:
    """The module to differentiate, and "full", "sum" or "mean".

    Raises:
        BadArgument: an unknown word, or nothing trainable.
    """
    module = unwrapped(module)
    checks.trainable(module)
    if isinstance(outputs, str):
        checks.check_options(outputs, 1)
        return module, outputs
    return Composed(module, outputs), "full"


def own_name(name: str, module: nn.Module) -> str:
    """A parameter's name in the user's module."""
    return name.removeprefix(INNER_PREFIX) if isinstance(module, Composed | Aimed) else name
