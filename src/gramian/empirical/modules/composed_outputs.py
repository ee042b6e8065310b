"""What is differentiated: a module's outputs, or what a callable makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.parallel import DistributedDataParallel

from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import Arguments

Outputs = str | Callable[[Tensor], Tensor]
INNER_PREFIX = "module."


class Wrapper(nn.Module):
    """A module of ours around the user's `module`, which has all parameters; messages name the user's own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.training = module, module.training


class Composed(Wrapper):
    """A callable of a module's output for a batch of one, for each sample: numbers in a row."""

    def __init__(self, module: nn.Module, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__(module)
        self.then = then

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        out = self.module(*args, **kwargs)
        if not isinstance(out, Tensor):
            return self._each_alone(Arguments(args, kwargs), out)
        try:
            return vmap(lambda row: self._one(row[None])[0])(out)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # vmap knows not every operation, nor branches on numbers
            return torch.cat([self._one(row[None]) for row in out])

    def _each_alone(self, given: Arguments, out: Any) -> Tensor:
        """Outputs of a module that returns no tensor: one sample after the other."""
        n = len(given.tensors()[0])
        if n == 1:
            return self._one(out)
        rows = [given.change(lambda t, i=i: t[i : i + 1]) for i in range(n)]
        return torch.cat([self._one(self.module(*row.args, **row.kwargs)) for row in rows])

    def _one(self, out: Any) -> Tensor:
        return self.then(out).reshape(1, -1)


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's module in one that DistributedDataParallel wraps."""
    if isinstance(module, DistributedDataParallel):
        return module.module
    return module


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
    """A parameter's or a part's name in the user's module; empty for that itself."""
    if isinstance(module, Wrapper):
        return f"{name}.".removeprefix(INNER_PREFIX).removesuffix(".")
    return name


def own_module(module: nn.Module) -> nn.Module:
    """The user's module in one of ours."""
    if isinstance(module, Wrapper):
        return module.module
    return module
