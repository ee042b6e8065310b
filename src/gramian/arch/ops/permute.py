"""Where the channels are: permutations of the axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Value, pair, reads, stored_layout, value
from gramian.errors import NoLimit


@reads(
    "aten.permute.default", "aten.transpose.int", "aten.movedim.int", "aten.movedim.intlist", "aten.swapaxes.default",
    "aten.swapdims.default", "aten.mT.default", "aten.moveaxis.int",
)  # fmt: skip
@dataclass(frozen=True)
class Permute(Op):
    """Axes in another order. Of the network's values only the user's view changes; of the input, the numbers move.

    Axis k of the result is axis `order[k]` of what it is made from, both without the batch.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    order: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> Value | tuple[Op, tuple[Value, ...]]:
        x = value(call.args[0], "what is permuted")
        ndim = len(x.order) + 1
        dims = _dims(call, ndim)
        if dims[0] != 0:
            return Turned(x, tuple(dims))  # type: ignore[return-value]
        layout = tuple(x.order[d - 1] for d in dims[1:])
        if x.data and x.plain:
            return cls(layout), (x,)
        return replace(x, layout=stored_layout(layout, ndim - 1))

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].permute(0, *(1 + axis for axis in self.order))

    def limit(self, *m: Moments) -> Moments:
        return m[0].permuted(tuple(axis - 1 for axis in self.order[1:]))

    def describe(self) -> str:
        return f"to {', '.join(map(str, self.order))}"


@dataclass(frozen=True)
class Turned:
    """A value whose samples the user moved from the first axis: nothing reads it before they are back.

    Axis k is axis `dims[k]` of the value, both with the batch.
    """

    value: Value
    dims: tuple[int, ...]
    where: str = ""

    def permuted(self, call: Call) -> Value | Turned:
        """The value with its axes in another order."""
        return replace(self, dims=tuple(self.dims[d] for d in _dims(call, len(self.dims)))).settled()

    def settled(self) -> Value | Turned:
        """The value itself, once its samples are first again."""
        if self.dims[0] != 0:
            return self
        layout = tuple(self.value.order[d - 1] for d in self.dims[1:])
        return replace(self.value, layout=stored_layout(layout, len(self.value.shape)))

    @property
    def refusal(self) -> NoLimit:
        """The refusal of an order in which the samples are not first."""
        return NoLimit(
            f"The axes are permuted to {self.dims}: the first one, the samples, moves.",
            why="axis 0 counts the samples throughout",
            fix="keep the samples first (batch_first=True)",
        )


def _dims(call: Call, ndim: int) -> list[int]:
    """The order of the axes, with the batch, that a call asks for."""
    kind = call.target.split(".")[1]
    if kind == "permute":
        return [d % ndim for d in call.args[1]]
    dims = list(range(ndim))
    if kind in ("movedim", "moveaxis"):
        source, target = (pair(axes, 1) for axes in call.args[1:3])
        left = [d for d in dims if d not in {s % ndim for s in source}]
        # in the order of their targets, so that each later one is inserted behind those before it
        for place, moved in sorted(zip((t % ndim for t in target), (s % ndim for s in source), strict=True)):
            left.insert(place, moved)
        return left
    if kind == "mT":
        a, b = (ndim - 2, ndim - 1)
    else:
        a, b = (d % ndim for d in call.args[1:3])
    dims[a], dims[b] = dims[b], dims[a]
    return dims
