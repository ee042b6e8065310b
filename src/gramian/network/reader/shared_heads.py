"""Keys and values that several heads of queries share, where they are copied by `expand` and a reshape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gramian.arch.ops import Value
from gramian.arch.ops.computed import base_of
from gramian.arch.ops.copies import Expanded, copied, expanded, stray_copies
from gramian.arch.ops.sparse_matmul import MERGING_CALLS
from gramian.arch.structure import with_place
from gramian.network.reader.reading import GraphReading


def heads_copied(reading: GraphReading, target: str, args: list[Any], val: Any, where: str) -> Any:
    """What `expand` makes of heads, and a reshape of that; None for other calls."""
    if not args:
        return None
    base, first = base_of(target), args[0]
    if base == "expand" and isinstance(first, Value) and first.groups:
        return expanded(first, tuple(val.shape[1:]))
    if not isinstance(first, Expanded):
        return None
    if base in ("clone", "contiguous"):
        return first
    if base in MERGING_CALLS:
        reshaped = first.reshaped(tuple(val.shape[1:]))
    else:
        reshaped = None
    if reshaped is None:
        raise with_place(stray_copies(), where)
    dropped, like = reshaped
    copies = copied(replace(reading.materialized(dropped, where), groups=like.groups), first.times)
    return reading.add(copies.op, copies.inputs, copies.shape, copies.layout, where, copies.groups)
