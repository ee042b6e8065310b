"""The data that `certify` is given, checked and as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramian.arch.inputs import one_tensor
from gramian.certify.goal import are_signs
from gramian.data import as_tensors, check
from gramian.data.tensors import Tensors
from gramian.errors import BadArgument, BadData

MOST_TARGETS = 200_000_000  # numbers of the targets as rows with one 1: 800 MB
# mean over deviation of real targets, or deviation (or 1 over it): a network at 0 starts far off then
FAR_TARGETS = 10.0


@dataclass(frozen=True, eq=False)
class CheckedData:
    """Data as they are trained on.

    Args:
        x, x_test: inputs, float64; shapes (n, *in_shape) and (m, *in_shape), m may be 0.
        y, y_test: class numbers, int64, or real targets (n, C), in the user's own unit.
        scale: mean and deviation, each (C,), that are taken from real targets before training; None: as given.
        classes: names.
        notes: what was decided on the way.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    scale: tuple[Tensor, Tensor] | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def as_trained(self, y: Tensor) -> Tensor:
        """Targets as the network is trained to give them."""
        if self.scale is None:
            return y
        return (y - self.scale[0]) / self.scale[1]


def checked_data(
    x: Any, y: Any, x_test: Any, y_test: Any, *, rows: Tensor | None, classes: Sequence[str], loss: str
) -> CheckedData:
    """The data, checked, as the user gave them.

    Raises:
        BadData, BadArgument: numbers that can't be used, with the row; shapes that don't go together.
    """
    one_tensor(x, "certify")
    if (x_test is None) != (y_test is None):
        raise BadArgument(
            "x_test and y_test go together; one of them is None.",
            where="certify(module, x, y, x_test=, y_test=)",
            why="test rows without labels have no error, labels without rows no outputs",
            fix="give both or none",
        )
    known = as_tensors(x, _whole_numbers(y))
    assert known.y is not None
    x, y = known.x.detach().double(), labels(known.y.detach())
    check(x, y, rows=rows)
    if not y.is_floating_point() and len(y) * (int(y.max()) + 1) > MOST_TARGETS:
        row = int(y.argmax())
        raise BadData(
            f"Label {int(y.max()):,} as a class number means {int(y.max()) + 1:,} classes.",
            where=f"y, row {row if rows is None else int(rows[row])} (counted from 0)",
            why="a code, a date or a quantity where numbers of classes from 0 on were meant",
            fix="pandas.factorize(y)[0] numbers the classes; y as floats for a quantity",
        )
    if loss == "cross-entropy" and y.is_floating_point():
        raise BadData(
            f"The cross-entropy takes class numbers; y is {y.dtype}.",
            where="certify(module, x, y, loss=)",
            why="real targets have no classes",
            fix='y as int64 of shape (n,), or loss="squared"',
        )
    x_test, y_test = _test_rows(known, x, y, x_test, y_test)
    return CheckedData(x, y, x_test, y_test, None, tuple(classes) or known.classes, known.notes)


def labels(y: Tensor) -> Tensor:
    """Class numbers as int64, real targets as (n, C) in float64."""
    if not y.is_floating_point():
        return y.long()
    return (y[:, None] if y.ndim == 1 else y).double()


def _whole_numbers(y: Any) -> Any:
    """Class numbers keep their meaning, output k for class k, whatever holds them; text is coded by `as_tensors`."""
    if isinstance(y, Tensor):
        return y
    array = np.asarray(y)
    if array.dtype.kind in "iu" and array.ndim == 1 and array.size and array.min() >= 0:
        return torch.as_tensor(array.astype(np.int64))
    return y


def _test_rows(known: Tensors, x: Tensor, y: Tensor, x_test: Any, y_test: Any) -> tuple[Tensor, Tensor]:
    """Checked test rows and their labels; none of them where none were given."""
    if x_test is None or len(x_test) == 0:
        return x[:0], y[:0]
    test = as_tensors(x_test, _whole_numbers(y_test), like=known, names=("x_test", "y_test"))
    assert test.y is not None
    x_test, y_test = test.x.detach().double(), labels(test.y.detach())
    # test rows may well be of one class
    if y_test.is_floating_point():
        real = y_test
    else:
        real = None
    check(x_test, real, in_shape=tuple(x.shape[1:]), name="x_test")
    if y_test.shape[1:] != y.shape[1:] or y_test.dtype != y.dtype or len(y_test) != len(x_test):
        raise BadData(
            f"{len(x_test)} test rows with labels of shape {tuple(y_test.shape)} and type {y_test.dtype}; "
            f"the training rows' are {tuple(y.shape)} and {y.dtype}.",
            where="certify(module, x, y, x_test=, y_test=)",
            why="labels of another file, or classes in one and real targets in the other",
            fix="one label a row, of the same kind",
        )
    return x_test, y_test


def with_scale(data: CheckedData, targets: str, way: str | None, loss: str) -> CheckedData:
    """Real targets as they are trained on.

    "auto" standardizes where a parametrization that draws the weights anew is asked for by name, whose outputs and
    learning rate are of order one; and, for a copy of the module, targets that are far from a network's first outputs,
    on which training would diverge or spend itself on their mean. In place the module has to give the targets itself.
    Labels 1 and -1 are classes, and stay as they are.

    Args:
        data: the data.
        targets: "auto", "as given" or "standardized".
        way: the parametrization that was asked for.
        loss: its name.
    """
    y = data.y
    if y.dtype == torch.int64 or loss != "squared" or (targets == "auto" and are_signs(y)):
        return data
    mean, sigma = y.mean(0), y.std(0, correction=0)
    varies = y.amax(0) > y.amin(0)
    sigma = torch.where(varies, sigma, torch.ones_like(sigma))
    far = bool(varies.any()) and bool(
        ((mean.abs() > FAR_TARGETS * sigma) | (sigma > FAR_TARGETS) | (sigma < 1 / FAR_TARGETS)).any()
    )
    auto = way not in (None, "own") or (way is None and far)
    if targets == "standardized" or (targets == "auto" and auto and bool(varies.any())):
        said = (
            f"Real targets (mean {float(mean[0]):.4g}, standard deviation {float(sigma[0]):.4g}) were brought to mean "
            '0 and deviation 1 for the training; targets="as given" (--targets as-given) does not. RMSE and R^2 are in '
            "their own unit."
        )
        return replace(data, scale=(mean, sigma), notes=(*data.notes, said))
    if far:
        said = (
            f"The targets have mean {float(mean[0]):.4g} and standard deviation {float(sigma[0]):.4g}, far from a "
            'network\'s first outputs; targets="standardized" (--targets standardized) trains on (y - mean) / sigma.'
        )
        return replace(data, notes=(*data.notes, said))
    return data
