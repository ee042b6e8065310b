"""Values that are the same for every sample, without an axis of samples: learned positions, fixed encodings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from gramian.arch.ops import Call, Value
from gramian.arch.ops.base import replaced
from gramian.arch.ops.computed import base_of
from gramian.arch.ops.embedding import Unbatched, positional
from gramian.arch.ops.learned import Fixed
from gramian.arch.structure import with_place
from gramian.errors import NoLimit
from gramian.network.reader.export import flat
from gramian.network.reader.reading import GraphReading

# calls that say no axis by its number, and so read a value without samples as one with them
WITHOUT_AXES = {"matmul", "mm", "mul", "div", "neg", "linear", "relu", "gelu", "silu", "tanh"}


def looked_up(reading: GraphReading, args: list[Any], where: str) -> Value | Unbatched:
    """A table at constant numbers: learned positions."""
    padding = -1
    if len(args) > 2:
        padding = args[2]
    op, inputs, layout, batched = positional(args[0], args[1], padding)
    shape = (args[0].shape[1], *inputs[0].shape)
    rows = reading.add(op, tuple(reading.materialized(i, where) for i in inputs), shape, layout, where)
    if batched:
        return rows
    return Unbatched(rows)


def of_numbers(reading: GraphReading, args: list[Any], val: Tensor, where: str) -> Value | Unbatched:
    """A Linear on a constant tensor, such as fixed encodings of the positions."""
    numbers, batched = args[0].detach(), args[0].ndim > 1 and len(args[0]) == 1
    if batched:
        numbers = numbers[0]
    stored = numbers.movedim(-1, 0)  # channels first
    start, layout = Value(-1, (), data=True), (*range(1, stored.ndim), 0)
    fixed = reading.add(Fixed(stored), (start,), tuple(stored.shape), layout, where)
    call = Call("aten.linear.default", (fixed, *args[1:]), (), reading.training)
    encoded = reading.read(call, torch.empty(2, *val.shape[int(batched) :], device="meta"), where)
    assert isinstance(encoded, Value)
    if batched:
        return encoded
    return Unbatched(encoded)


def _as_batched(args: list[Any]) -> list[Any]:
    """The arguments, with an axis of samples for what has none."""
    return replaced(args, Unbatched, lambda constant: constant.value)


def batched(reading: GraphReading, node: Node, args: list[Any], where: str) -> Any:
    """The arguments with what has no axis of samples broadcast over them; or the result, if it has none either."""
    base, val = base_of(str(node.target)), node.meta["val"]
    first = args[0]
    if isinstance(first, Unbatched) and val.ndim == len(first.value.shape) + 1:
        if (base == "unsqueeze" and args[1] in (0, -val.ndim)) or base in ("expand", "expand_as"):
            return first.value
        if base in ("add", "sub", "mul"):
            return _as_batched(args)
    if base in ("add", "sub", "mul") and isinstance(first, Value) and val.ndim == len(first.shape) + 1:
        return _as_batched(args)
    if base in ("dropout", "to", "clone", "contiguous", "alias"):
        return first
    if base in WITHOUT_AXES and not any(isinstance(a, Value) for a in flat(args)):
        call = Call(str(node.target), tuple(_as_batched(args)), (), reading.training)
        alike = reading.read(call, torch.empty(2, *val.shape, device="meta"), where)
        assert isinstance(alike, Value)
        return Unbatched(alike)
    raise with_place(
        NoLimit(
            f"`{base}` acts on an embedding of constant numbers, which has no axis of samples.",
            why="axis 0 counts the samples throughout",
            fix="numbers of shape (1, positions): pos(torch.arange(s)[None])",
        ),
        where,
    )
