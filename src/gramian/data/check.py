"""Is this data that a network can be trained on?"""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.errors import BadData

from .wording import row_number


def check(
    x: Tensor,
    y: Tensor | None = None,
    *,
    n_classes: int | None = None,
    in_shape: tuple[int, ...] | None = None,
    rows: Tensor | None = None,
    name: str = "x",
) -> None:
    """Raise unless `x` and `y` are finite, of matching shape and of more than one class.

    Args:
        x: inputs; shape (n, *in_shape), floating point.
        y: labels; integers of shape (n,) for classes, or floats of shape (n, C) for regression.
        n_classes: with it, labels must lie in 0 .. n_classes - 1.
        in_shape: with it, the rows of `x` must have this shape.
        rows: numbers by which errors name the rows; shape (n,), default 0 .. n - 1.
        name: what errors call `x`.

    Raises:
        BadData: with the row and column of the first fault.

    Example:
        >>> check(torch.tensor([[1.0, 2.0], [3.0, torch.nan]], dtype=torch.float64))
        Traceback (most recent call last):
        gramian.errors.BadData: 1 of 4 numbers are not finite; the first is nan.
          where: x, row 1, column 1 (both counted from 0)
          why: a missing value, a division by zero, or an overflow in the dtype torch.float64.
          fix: fill in or drop such rows before training.
    """
    _check_shape(x, in_shape, name)
    _check_finite(x, rows, name)
    if y is not None:
        _check_labels(x, y, n_classes, rows, name)


def _check_shape(x: Tensor, in_shape: tuple[int, ...] | None, name: str) -> None:
    if x.ndim < 2 or (in_shape is not None and tuple(x.shape[1:]) != tuple(in_shape)):
        if in_shape is None:
            needs = "(n, d), or (n, c, h, w) for images"
        else:
            needs = f"(n, {', '.join(map(str, in_shape))})"
        raise BadData(
            f"inputs of shape {tuple(x.shape)} are not of shape {needs}.",
            where=name,
            why="one row without its row dimension, a table where images were meant, or channels last.",
            fix="`x[:, None]` for one column, `x.reshape(n, c, h, w)` or `x.permute(0, 3, 1, 2)` for images.",
        )
    if x.numel() == 0:
        raise BadData(
            f"no data: inputs of shape {tuple(x.shape)}.",
            where=name,
            why="an empty file, or a filter that kept nothing.",
            fix="give at least one row and one column.",
        )
    if not x.is_floating_point():
        raise BadData(
            f"inputs of dtype {x.dtype} are not floating point.",
            where=name,
            why="pixels or counts as they were read.",
            fix="`x.double()`, and `/ 255` for pixels.",
        )


def _check_finite(x: Tensor, rows: Tensor | None, name: str) -> None:
    bad = 0
    first: tuple[int, ...] = ()
    # block by block: a mask of all numbers at once would cost memory
    for start in range(0, len(x), 4096):
        mask = ~x[start : start + 4096].isfinite()
        here = int(mask.sum())
        if here and not bad:
            i, *rest = (int(k) for k in mask.nonzero()[0])
            first = (start + i, *rest)
        bad += here
    if bad:
        row = row_number(first[0], rows)
        place = f"position {first[1:]}"
        if x.ndim == 2:
            place = f"column {first[1]}"
        raise BadData(
            f"{bad} of {x.numel()} numbers are not finite; the first is {float(x[first])}.",
            where=f"{name}, row {row}, {place} (both counted from 0)",
            why=f"a missing value, a division by zero, or an overflow in the dtype {x.dtype}.",
            fix="fill in or drop such rows before training.",
        )


def _check_labels(x: Tensor, y: Tensor, n_classes: int | None, rows: Tensor | None, name: str) -> None:
    if y.ndim == 0:
        raise BadData(
            f"the labels are one number ({y.item()!r}), not one for each row.",
            where=f"labels of {name}",
            why="an index took the axis of the rows away, or a loss was given in their place.",
            fix="labels of shape (n,), or targets of shape (n, C): `y[None]` for a single row.",
        )
    if len(y) != len(x):
        raise BadData(
            f"{len(x)} rows of inputs, but {len(y)} labels.",
            where=f"{name}: shape {tuple(x.shape)}, its labels: shape {tuple(y.shape)}",
            why="inputs and labels of different files or splits.",
            fix="give one label a row, in the same order.",
        )
    if not y.is_floating_point():
        _check_classes(y, n_classes, rows, name)
        return
    if y.ndim != 2:
        raise BadData(
            f"regression targets must have shape (n, C), not {tuple(y.shape)}.",
            where=f"labels of {name}",
            why="float labels are taken as regression targets, integer labels as classes.",
            fix="`y[:, None]` for one target, `y.long()` for classes.",
        )
    _check_finite(y, rows, f"labels of {name}")


def _check_classes(y: Tensor, n_classes: int | None, rows: Tensor | None, name: str) -> None:
    if y.ndim != 1:
        raise BadData(
            f"class labels must have shape (n,), not {tuple(y.shape)}.",
            where=f"labels of {name}",
            why="a column or one-hot rows where class numbers were meant.",
            fix="`y.argmax(1)` for one-hot rows, `y[:, 0]` for a column.",
        )
    outside = ((y < 0) | (y >= (n_classes or torch.iinfo(torch.int64).max))).nonzero()
    if len(outside):
        i, last_class = int(outside[0]), "C - 1"
        if n_classes:
            last_class = f"{n_classes - 1}"
        raise BadData(
            f"label {int(y[i])} is outside 0 .. {last_class}.",
            where=f"labels of {name}, row {row_number(i, rows)} (counted from 0)",
            why="classes are numbered from 0.",
            fix="number the labels from 0 and give the right number of classes.",
        )
    if bool((y == y[0]).all()):
        if len(y) == 1:
            labels = "the only label is"
        else:
            labels = f"all {len(y)} labels are"
        raise BadData(
            f"{labels} class {int(y[0])}: there is nothing to tell apart.",
            where=f"labels of {name}",
            why="only the first rows of a sorted file, the wrong target column, or too small a subset.",
            fix="take rows of at least two classes (a larger `n`), or another target.",
        )
