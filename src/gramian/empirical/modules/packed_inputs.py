"""Modules that take several tensors, as modules of one: all that a sample is in one row of numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, overload

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Form, Inputs, leaves, several
from gramian.errors import BadArgument

LARGEST_EXACT = 2**53  # whole numbers up to here are exact in float64


@overload
def packed(module: nn.Module, x: Inputs, x2: Inputs | None) -> tuple[nn.Module, Tensor, Tensor | None]: ...
@overload
def packed(module: Any, x: Inputs, x2: Inputs | None) -> tuple[Any, Tensor, Tensor | None]: ...
def packed(module: Any, x: Inputs, x2: Inputs | None) -> tuple[Any, Tensor, Tensor | None]:
    """The module and its inputs as one tensor each; as they are where there is one already.

    The module shares its parameters, and their names, with the one that was given. Rows hold the leaves one after the
    other in float64, from which every float32, boolean and whole number below 2^53 comes back as it was.

    Raises:
        BadData: `x` or `x2` are not tensors of the same structure and shapes, with as many rows.
    """
    if not several(x):
        return module, x, x2  # type: ignore[return-value]
    form = Form.of(x, "argument `x`")
    taken = [form.check(x, "x")] + ([] if x2 is None else [form.check(x2, "x2")])
    rows = [_row(given) for given in taken]
    return pack_module(module, x) if isinstance(module, nn.Module) else module, rows[0], None if x2 is None else rows[1]


def pack_module(module: nn.Module, like: Inputs) -> nn.Module:
    """The module as one of a single tensor of rows, of inputs that have the structure of `like`."""
    form, dtypes = Form.of(like, "argument `x`"), [t.dtype for t in leaves(like)]

    def call(rows: Tensor, inner: nn.Module) -> Any:
        args, kwargs = form.call(_leaves(rows, form, dtypes, inner))
        return inner(*args, **kwargs)

    return called_otherwise(module, call)


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


def _row(given: tuple[Tensor, ...]) -> Tensor:
    for t in given:
        if (
            not t.is_floating_point()
            and t.numel()
            and int(t.abs().max() if t.dtype != torch.bool else 0) > LARGEST_EXACT
        ):
            raise BadArgument(
                "A whole number above 2^53 is among the inputs.",
                where="inputs of several tensors",
                why="the tensors of a sample are carried as float64 here, in which it is not exact",
                fix="number the tokens from 0",
            )
    return torch.cat([t.reshape(len(t), -1).double() for t in given], 1)


def _leaves(rows: Tensor, form: Form, dtypes: list[torch.dtype], module: nn.Module) -> list[Tensor]:
    """What the rows were made of; floating ones in the module's precision."""
    own = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    values, start = [], 0
    for leaf, dtype in zip(form.leaves, dtypes, strict=True):
        size = prod(leaf.shape)
        part = rows[:, start : start + size].reshape(len(rows), *leaf.shape)
        kept = (own or dtype) if dtype.is_floating_point else dtype
        values.append(part != 0 if dtype == torch.bool else part.to(kept))
        start += size
    return values
