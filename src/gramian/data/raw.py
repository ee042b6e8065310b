"""What every reader gives: rows as they lie in the source, before a subset is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .columns import Columns


class RowSource(Protocol):
    """Rows that can be counted and picked: an array, or images that are only decoded where they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Raw:
    """Rows, labels and names, as read.

    Args:
        name: what the user calls it.
        source: where it came from, in words.
        x: inputs, images channels first; shape (n, *in_shape).
        y: int64 (n,) for classes, float (n, C) for regression.
        classes: names of the classes; () is regression.
        test: inputs and labels of the official test set, as `x` and `y`; or None.
        scale: inputs are divided by it (255 for pixels).
        rows: numbers of the rows in the source; None is 0 .. n - 1.
        pools: ends of the leading parts of `x` that can be read by themselves; a small subset is drawn from the first.
        pools_test: the same of the test set.
        notes: what a reader should know, a sentence each.
        columns: of a table, how its rows became numbers; None elsewhere.
        lines: line of each row in its file, by the row's number; None where rows have no lines.
    """

    name: str
    source: str
    x: RowSource
    y: np.ndarray
    classes: tuple[str, ...]
    test: tuple[RowSource, np.ndarray] | None = None
    scale: float = 1.0
    rows: np.ndarray | None = None
    pools: tuple[int, ...] = ()
    pools_test: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Columns | None = None
    lines: np.ndarray | None = None
