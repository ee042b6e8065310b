"""What a report calls a network and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramian.errors import BadArgument


@dataclass(frozen=True, kw_only=True)
class Description:
    """What to call the network and the data of `certify` in its report; nothing is computed from it.

    Args:
        name: of the network.
        data_name: of the data.
        source: where the data came from.
        classes: names of the classes, in the order of their numbers. Empty: as they stand in `y`.
        rows: number of each row in its source, by which errors and the report call it. None: 0, 1, 2, ...
        notes: sentences to repeat as warnings.

    Example:
        >>> Description(name="MLP", data_name="digits", rows=torch.tensor([4, 7])).rows
        (4, 7)
    """

    name: str = "network"
    data_name: str = "data"
    source: str = ""
    classes: Sequence[str] = ()
    rows: Sequence[int] | Tensor | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        # tuples, so that descriptions compare, hash and do not change when the caller's lists do
        for field in ("classes", "notes"):
            value = getattr(self, field)
            if isinstance(value, str):
                raise BadArgument(
                    f"{field}={value!r} is one string.",
                    where=f"gramian.Description({field}=)",
                    why="its letters would be taken for the entries of a list",
                    fix=f"{field}=[{value!r}]",
                )
            object.__setattr__(self, field, tuple(value))
        rows: Any = self.rows
        if rows is not None:
            if hasattr(rows, "tolist"):  # a tensor, an array or a column of a table, whose items would be tensors
                rows = rows.tolist()
            object.__setattr__(self, "rows", tuple(int(row) for row in rows))

    @property
    def row_numbers(self) -> Tensor | None:
        """The rows' numbers as a tensor; None where they are their positions."""
        if self.rows is None:
            return None
        return torch.tensor(self.rows, dtype=torch.int64)
