"""A network's one number an input, whose axis of length one the module drops at its end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Value
from gramian.arch.ops.computed import base_of
from gramian.errors import NoLimit

DROPS = {"squeeze", "select", "view", "_unsafe_view", "reshape", "flatten", "ravel"}


@dataclass(frozen=True)
class Single(Op):
    """(n, 1, *S) as (n, *S): what a module for regression may return."""

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].squeeze(1)

    def limit(self, *m: Moments) -> Moments:
        return m[0]


@dataclass(frozen=True)
class Dropped:
    """A value without its channels' axis, which had length one: nothing but the module's end takes it."""

    value: Value

    @property
    def refusal(self) -> NoLimit:
        """The refusal of a call after the channels' axis is dropped."""
        return NoLimit(
            "The channels' axis, of length one here, is dropped, and another call follows.",
            why="there is a rule for it at the module's end",
            fix="keep the axis (keepdim=True), or drop it in the last line: return out.squeeze(-1)",
        )


def dropped(call: Call) -> Dropped | None:
    """The value without its channels' axis, if a call drops that axis and does nothing else; else None."""
    if call.args:
        x = call.args[0]
    else:
        x = None
    if not isinstance(x, Value) or x.data or x.groups or x.shape[0] != 1 or 1 in x.shape[1:]:
        return None
    left = tuple(size for size, axis in zip(x.user_shape, x.order, strict=True) if axis != 0)
    if base_of(call.target) in DROPS and call.shape == left:
        return Dropped(x)
    return None
