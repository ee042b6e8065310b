"""Heads that share their keys and values: grouped queries, by `repeat_interleave`, or `expand` and `reshape`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.axes import Resize
from gramian.arch.ops.base import GROUPED, Call, Op, Pending, Result, Value, reads, value
from gramian.errors import NoLimit


@dataclass(frozen=True)
class Copies(Op):
    """Each of `groups` groups of channels `times` times, one copy after the other: the keys and values of more heads.

    Every head has the law that it would have alone, and a layer on top sums over their channels: K and the NTK of
    attention are those of as many keys and values as queries (Ainslie et al. 2023, arXiv:2305.13245, for the network).
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    groups: int
    times: int

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].unflatten(1, (self.groups, -1)).repeat_interleave(self.times, 1).flatten(1, 2)

    def limit(self, *m: Moments) -> Moments:
        return m[0]

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        return c[0] * self.times

    def describe(self) -> str:
        return f"of {self.groups} groups, {self.times} each"


def copied(x: Value, times: int, layout: tuple[int, ...] = ()) -> Result:
    """The op, for a value whose channels are split into heads and the width of each."""
    op = Copies(x.groups[0], times)
    shape = (x.shape[0] * times, *x.shape[1:])
    return Result(op, (x,), shape, layout or x.layout, (x.groups[0] * times, *x.groups[1:]))


def is_heads(x: Value, dim: int) -> bool:
    """Whether the user's axis counts the heads."""
    return not x.data and len(x.groups) == 2 and x.axis(dim) == GROUPED


@reads("aten.repeat_interleave.self_int")
@dataclass(frozen=True)
class Repeated(Copies):
    """`repeat_interleave` along the heads."""

    @classmethod
    def read(cls, call: Call) -> Result:
        x, times, dim = value(call.args[0], "what is repeated"), call.args[1], call.args[2]
        if not isinstance(times, int) or dim is None or not is_heads(x, dim):
            raise NoLimit(
                "`repeat_interleave` acts on another axis than the heads of attention.",
                why="there is a rule for keys and values that several heads of queries share",
                fix="k.repeat_interleave(times, dim=1) for k of shape (n, heads, positions, channels); F.interpolate "
                "for positions",
            )
        return copied(x, times)


@dataclass(frozen=True)
class Expanded:
    """Heads with an axis of copies after them, which nothing but a reshape into more heads reads."""

    value: Value
    axis: int  # the user's axis of the copies, with the batch
    times: int

    def reshaped(self, sizes: tuple[int, ...]) -> tuple[Pending, Value] | None:
        """An op that drops the axis of copies, and what it is of, where a reshape merges it with the heads."""
        x = self.value
        order = tuple(a for k, a in enumerate(x.order, 1) if k != self.axis)
        gone = x.order[self.axis - 1]
        heads = x.groups[0] * self.times
        kept = [size for k, size in enumerate(x.user_shape, 1) if k != self.axis]
        if GROUPED in order:
            kept[order.index(GROUPED)] = heads
        if sizes != tuple(kept):
            return None
        shape = tuple(size for a, size in enumerate(x.shape) if a != gone)
        # axes behind the one that goes are counted one less
        renumbered = {a: a - 1 for a in order if gone < a < GROUPED}
        layout = tuple(renumbered.get(a, a) for a in order)
        return Pending(Resize(shape), (x,), shape, layout), replace(x, shape=shape, layout=layout)


def expanded(x: Value, sizes: tuple[int, ...]) -> Expanded | None:
    """`k[:, :, None].expand(n, heads, times, positions, channels)`; None for other expansions."""
    before = x.user_shape
    wider = [k for k, (old, new) in enumerate(zip(before, sizes, strict=False), 1) if new not in (old, -1)]
    if len(sizes) != len(before) or len(wider) != 1 or before[wider[0] - 1] != 1 or wider[0] < 2:
        return None
    behind_heads = is_heads(x, wider[0] - 1) and 1 <= x.axis(wider[0]) < GROUPED
    if behind_heads:
        return Expanded(x, wider[0], sizes[wider[0] - 1])
    return None


def stray_copies() -> NoLimit:
    """The refusal of a call other than a reshape on expanded heads."""
    return NoLimit(
        "Heads are expanded along an axis of copies, and another call than a reshape reads them.",
        why="there is a rule for keys and values that several heads of queries share",
        fix="k[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2), or k.repeat_interleave(times, dim=1)",
    )
