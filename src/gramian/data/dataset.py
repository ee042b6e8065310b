"""A data set ready for a network, and the labels as numbers to fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gramian.errors import BadData

from .columns import Columns
from .scaling import Scaling
from .wording import counted


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test rows, with where they came from.

    Args:
        name: what the user called it, e.g. "digits".
        x: training inputs; shape (n, *in_shape), images channels first.
        y: training labels; int64 of shape (n,) for classes, float of shape (n, C) for regression.
        x_test: test inputs; shape (m, *in_shape). m is 0 if there is no test set.
        y_test: test labels, as `y`.
        classes: the classes' names, `classes[y[i]]` is the label of row i; () means regression.
        rows: number of each training row in its source, from 0; shape (n,), int64.
        source: where the rows came from, in words.
        notes: what was done on the way that a reader should know, a sentence each.
        scaling: how new rows are brought to the scale of `x`: `data.scaling(rows)`.
        columns: of a table, how new rows become numbers: `data.columns.encode(table)`; None elsewhere.

    Example:
        >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> data = Dataset("toy", x[:3], y[:3], x[3:], y[3:], ("a", "b"), torch.arange(3), "by hand")
        >>> data.targets
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000],
                [ 0.5000, -0.5000]])
    """

    name: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    rows: Tensor
    source: str
    notes: tuple[str, ...] = ()
    scaling: Scaling = field(default_factory=lambda: Scaling("none"))
    columns: Columns | None = None

    @property
    def n_outputs(self) -> int:
        """C: the number of classes, or of regression targets."""
        return len(self.classes) or self.y.shape[1]

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    @property
    def targets(self) -> Tensor:
        """What a network is trained to give: shape (n, C), centered one-hot rows or the regression targets."""
        return self._numbers(self.y)

    @property
    def targets_test(self) -> Tensor:
        """As `targets`, for the test rows; shape (m, C)."""
        return self._numbers(self.y_test)

    def _numbers(self, y: Tensor) -> Tensor:
        if self.classes:
            return one_hot(y, len(self.classes), dtype=self.x.dtype)
        return y.to(self.x.dtype)

    def __repr__(self) -> str:
        if self.classes:
            kind = f"{self.n_outputs} classes"
        else:
            kind = f"regression, {self.n_outputs} target(s)"
        test = counted(len(self.x_test), "test row")
        return (
            f"Dataset({self.name!r}: {len(self.x)} training and {test} of shape {self.in_shape}, "
            f"{kind}, {str(self.x.dtype).removeprefix('torch.')}, from {self.source})"
        )


def one_hot(y: Tensor, n_classes: int, *, centered: bool = True, dtype: torch.dtype = torch.float64) -> Tensor:
    r"""Class labels as rows of numbers, $e_c - \tfrac1C \mathbf 1$, so that a network that says nothing is at 0.

    Args:
        y: labels 0 .. n_classes - 1; shape (n,), any integer dtype.
        n_classes: C.
        centered: subtract 1/C, so that each row sums to 0.
        dtype: of the result.

    Returns:
        Shape (n, C).

    Raises:
        BadData: a label is no integer or lies outside 0 .. n_classes - 1; names the row.

    References:
        Arora et al. 2019, arXiv:1904.11955, for targets of this form (there -0.1 and 0.9: ten classes).

    Example:
        >>> one_hot(torch.tensor([0, 1]), 2).tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    if y.ndim != 1 or y.is_floating_point():
        raise BadData(
            f"class labels must be integers of shape (n,), not {y.dtype} of shape {tuple(y.shape)}.",
            where="y",
            why="float labels of shape (n, C) are regression targets, which need no one-hot.",
            fix="`y.long()`, or give regression targets as they are.",
        )
    outside = ((y < 0) | (y >= n_classes)).nonzero()
    if len(outside):
        i = int(outside[0])
        raise BadData(
            f"label {int(y[i])} is outside 0 .. {n_classes - 1}.",
            where=f"y, row {i} (counted from 0)",
            why=f"{n_classes} classes were announced, and classes are numbered from 0.",
            fix="number the labels from 0, or give the right number of classes.",
        )
    rows = torch.nn.functional.one_hot(y.long(), n_classes).to(dtype)
    if centered:
        return rows - 1 / n_classes
    return rows
