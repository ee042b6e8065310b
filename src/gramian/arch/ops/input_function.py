"""Functions of the input only that no op reads by itself: the user's own calls, run as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramian.arch.inputs import cast_floating
from gramian.arch.ops.base import Op
from gramian.arch.ops.computed import CASTS, Computed, base_of

TRACED = 2  # samples in the exported graph, whose sizes stand in its calls


@dataclass(frozen=True)
class CallResult:
    """The result of an earlier call, or of an input, by its number."""

    number: int


@dataclass(frozen=True)
class CallLine:
    """One call: its aten name ("getitem" for an entry of a tuple), and its arguments with `CallResult` for results."""

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class InputFunction(Op):
    """Calls on the inputs and constants alone, each sample by itself; the same at every width.

    The exported calls have the traced number of samples in their sizes (`view(2, 12)`, `new_zeros(2, 4)`), so the
    samples go through them in pairs. That each is computed by itself was tried when the module was read.
    """

    inputs: int
    lines: tuple[CallLine, ...]

    def apply(self, *x: Tensor) -> Tensor:
        n = len(x[0])
        floating = next((v.dtype for v in x if v.is_floating_point()), torch.float64)
        if n == 0:
            like = self.run([v.new_ones(TRACED, *v.shape[1:]) for v in x], floating)
            return like[:0]
        whole = list(x)
        if n % TRACED != 0:
            whole = [torch.cat([v, v[-1:]]) for v in x]
        parts = [
            self.run([v[start : start + TRACED].clone() for v in whole], floating) for start in range(0, n, TRACED)
        ]
        return torch.cat(parts)[:n]

    def run(self, x: list[Tensor], floating: torch.dtype) -> Tensor:
        """The last line's result on `TRACED` samples; numbers are in the precision `floating`."""
        values: list[Any] = [cast_floating(v, floating) for v in x]
        for line in self.lines:
            args = [_filled(a, values, floating, x[0].device) for a in line.args]
            if line.target == "getitem":
                values.append(args[0][args[1]])
                continue
            kwargs = {k: _filled(v, values, floating, x[0].device) for k, v in line.kwargs}
            values.append(_called(line.target, args, kwargs, floating))
        return values[-1]

    def describe(self) -> str:
        names = [base_of(line.target) for line in self.lines if line.target != "getitem"]
        return f"{', '.join(names[-3:])} of the input"


def apply_to_data(op: Op, x: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """An op's result on numbers; floating ones that were computed from masks or tokens in this precision."""
    result = op.apply(*x)
    if isinstance(op, Computed | InputFunction) and result.is_floating_point():
        return result.to(dtype)
    return result


def _called(target: str, args: list[Any], kwargs: dict[str, Any], floating: torch.dtype) -> Any:
    if base_of(target) in CASTS and isinstance(args[0], Tensor):
        wanted = next((a for a in [*args[1:], *kwargs.values()] if isinstance(a, torch.dtype)), None)
        if wanted is None or (wanted == floating and args[0].dtype == floating):
            return args[0].clone()
    _, name, overload = target.split(".")
    call = getattr(getattr(torch.ops.aten, name), overload)
    return call(*args, **kwargs)


def _filled(arg: Any, values: list[Any], floating: torch.dtype, device: torch.device) -> Any:
    """An argument with results in place, and every floating dtype that of the kernel: a float32 module is a law of
    real numbers here, not of roundings."""
    if isinstance(arg, CallResult):
        return values[arg.number]
    if isinstance(arg, list | tuple):
        return type(arg)(_filled(a, values, floating, device) for a in arg)
    if isinstance(arg, Tensor):
        moved = arg.to(device)
        if arg.is_floating_point() or arg.is_complex():
            return moved.to(_precise(arg.dtype, floating))
        return moved
    if isinstance(arg, torch.dtype):
        return _precise(arg, floating)
    if isinstance(arg, torch.device):
        return device
    return arg


def _precise(dtype: torch.dtype, floating: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        if floating == torch.float64:
            return torch.complex128
        return torch.complex64
    if dtype.is_floating_point:
        return floating
    return dtype
