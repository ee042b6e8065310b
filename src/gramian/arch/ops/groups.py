"""Channels in several axes, and channels taken apart: the heads of attention, and its q, k, v from one layer."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from gramian.arch.ops.affine import Affine
from gramian.arch.ops.base import GROUPED, Call, ChannelSlice, Op, Value, stored_layout, value
from gramian.errors import NoLimit

SPLITTING_CALLS = {"aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default",
          "aten.unbind.int"}  # fmt: skip


def regrouped(x: Value, after: tuple[int, ...]) -> Value | None:
    """The value with its channels seen as other axes, the positions as they are; None where a reshape does more.

    Channels are alike, so splitting them into heads and merging them again changes no moment.
    """
    before, order = x.user_shape, x.order
    at = [k for k, axis in enumerate(order) if axis == 0 or axis >= GROUPED]
    first, behind = at[0], len(order) - 1 - at[-1]
    if at != list(range(first, at[-1] + 1)) or [order[k] for k in at] != sorted(order[k] for k in at):
        return None  # the groups are apart, or turned
    middle = after[first : len(after) - behind]
    if after[:first] != before[:first] or math.prod(middle) != x.shape[0] or not middle:
        return None
    if behind and after[-behind:] != before[-behind:]:
        return None
    if len(middle) > 1:
        groups = middle
    else:
        groups = ()
    axes = tuple(GROUPED + k for k in range(len(groups))) or (0,)
    layout = order[:first] + axes + order[at[-1] + 1 :]
    return replace(x, layout=stored_layout(layout, len(x.shape)), groups=groups)


def channels_taken(x: Value, dim: int, index: tuple[int, ...], *, drop: bool) -> ChannelSlice | None:
    """Some channels of a value of the network, by their numbers on the user's axis `dim`; None for what has no rule."""
    axis = x.axis(dim)
    group = max(axis - GROUPED, 0)
    numbers = torch.arange(x.shape[0]).reshape(x.groups or -1)
    rows = tuple(numbers.index_select(group, torch.tensor(index)).flatten().tolist())
    if len(rows) < 2 or len(set(rows)) < len(rows) or list(rows) != sorted(rows):
        return None
    sizes = list(x.groups or x.shape[:1])
    sizes[group] = len(index)
    kept = [k for k in range(len(sizes)) if not (drop and k == group)]
    if not kept:
        return None
    groups: tuple[int, ...] = ()
    new = {GROUPED + kept[0]: 0}
    if len(kept) > 1:
        new, groups = {GROUPED + k: GROUPED + place for place, k in enumerate(kept)}, tuple(sizes[k] for k in kept)
    layout = tuple(new.get(a, a) for a in x.order if not (drop and a == GROUPED + group))
    return ChannelSlice(x, rows, layout, groups)


def pieces(call: Call) -> list[Call]:
    """`chunk`, `split` and `unbind` as the slices, or single positions, that they are."""
    x, kind = value(call.args[0], "what is split"), call.target.split(".")[1]
    dim = call.args[-1]
    if kind == "unbind":
        size = x.user_shape[dim % (len(x.order) + 1) - 1]
        return [Call("aten.select.int", (x, dim, k), (), call.training) for k in range(size)]
    if dim % (len(x.order) + 1) == 0:
        raise NoLimit("The samples are split.", why="they are alike", fix="split positions or channels")
    size, given = x.user_shape[dim % (len(x.order) + 1) - 1], call.args[1]
    if isinstance(given, int):
        if kind.startswith("split"):
            length = given
        else:
            length = -(-size // given)
        ends = list(range(length, size, length))
    else:
        ends = [sum(given[:k]) for k in range(1, len(given))]
    cuts = [0, *ends, size]
    return [Call("aten.slice.Tensor", (x, dim, a, b, 1), (), call.training) for a, b in pairwise(cuts)]


@dataclass
class ChannelSlices:
    """The parts of a network's values that were asked for, each made once.

    Rows of a weight are independent of the others, so a part of a layer's channels is a layer of its own; what acts on
    each channel alike acts on the part. Hence the parts need no covariances with one another.

    Args:
        steps: read so far; the parts are added to them.
        add: `(number of a step, its op instead, its inputs instead, channels)` adds such a step, and gives its number.
    """

    steps: MutableSequence[Any]
    add: Callable[[int, Op, tuple[int, ...], int], int]

    def __post_init__(self) -> None:
        self.known: dict[tuple[int, tuple[int, ...]], int] = {}

    def step(self, number: int, rows: tuple[int, ...]) -> int:
        """The step that makes these channels of another one."""
        if (number, rows) not in self.known:
            self.known[number, rows] = self._selected(number, rows)
        return self.known[number, rows]

    def _selected(self, number: int, rows: tuple[int, ...]) -> int:
        op, inputs = self.steps[number].op, self.steps[number].inputs
        if isinstance(op, Affine):
            whole = op.rows or range(op.out_channels)
            return self.add(number, replace(op, out_channels=len(rows), rows=tuple(whole[r] for r in rows)), inputs,
                            len(rows))  # fmt: skip
        if not op.each_channel:
            raise NoLimit(
                f"Channels are taken apart after {op.name}.",
                why="there is a rule for parts of a layer's channels, and of what acts on each channel alone",
                fix="take them apart right after the layer, or give each part its own layer",
            )
        return self.add(number, op, tuple(self.step(i, rows) for i in inputs), len(rows))
