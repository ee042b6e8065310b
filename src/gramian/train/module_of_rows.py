"""A user's module as one of a single tensor of rows, with its parameters, their names and its modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def called_otherwise(module: nn.Module, run: Callable[[Tensor, nn.Module], Any]) -> nn.Module:
    """A module whose forward on `rows` is `run(rows, module)`: its submodules, parameters, names and modes are those
    of the module, which is called as its user calls it (with its hooks, and with a `forward` that was set on it)."""
    kind = type(module)
    other = type(kind.__name__, (_Otherwise,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})()
    other.lent, other.run = (module,), run  # in a tuple: no submodule, so that names stay
    other._parameters, other._buffers, other._modules = module._parameters, module._buffers, module._modules
    return other


class _Otherwise(nn.Module):
    """See `called_otherwise`."""

    lent: tuple[nn.Module]
    run: Callable[[Tensor, nn.Module], Any]

    def forward(self, rows: Tensor) -> Any:
        return self.run(rows, self.lent[0])

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        return self.lent[0].named_modules(*args, **kwargs)

    def train(self, mode: bool = True) -> Any:
        self.lent[0].train(mode)
        return self

    def _apply(self, fn: Callable, recurse: bool = True) -> Any:
        self.lent[0]._apply(fn, recurse)
        return self

    def __getattribute__(self, name: str) -> Any:
        if name == "training" and (lent := self.__dict__.get("lent")) is not None:
            return lent[0].training
        return super().__getattribute__(name)
