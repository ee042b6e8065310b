"""A kernel predictor with what it knows of its data: columns, categories, scale, classes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from gramian.arch.law import Law
from gramian.data import Columns, Dataset, Scaling
from gramian.data.columns import Table
from gramian.data.table import table_of
from gramian.data.tensors import as_array, numbers_of
from gramian.data.wording import row_number, share_of_rows
from gramian.errors import BadArgument, BadData
from gramian.network.biases import lengths_tell, says_homogeneous
from gramian.predict.estimators import NTKClassifier, NTKRegressor, Progress, watched

FILLED_BY_MEANS = "they took the means of the training rows."


class Rows(TransformerMixin, BaseEstimator):
    """From rows as they lie in a source to numbers on the scale of the training rows; nothing is fitted.

    Parameters:
        columns: of the training table, or None.
        scaling: of the training rows.
        in_shape: shape of one row in the source, such as (1, 8, 8).
        missing: of numbers: "refuse" or "mean" of the training rows.
        unseen: of categories: "refuse" or "zero".
    """

    def __init__(
        self,
        columns: Columns | None,
        scaling: Scaling,
        in_shape: tuple[int, ...],
        missing: str = "refuse",
        unseen: str = "refuse",
    ) -> None:
        self.columns = columns
        self.scaling = scaling
        self.in_shape = in_shape
        self.missing = missing
        self.unseen = unseen

    def fit(self, X: Any, y: Any = None) -> Rows:
        """Itself."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Any) -> np.ndarray:
        """Rows of a DataFrame, columns by name in any order, or of an array, in the training order; (m, d) float64."""
        if isinstance(X, pd.DataFrame) and self.columns is not None:
            values, notes = self.encoded(table_of(X, where="the DataFrame"))
            for note in notes:
                if not note.endswith(FILLED_BY_MEANS):  # as was asked for in training
                    warnings.warn(note, stacklevel=2)
            return values
        if isinstance(X, pd.DataFrame):
            numbers = numbers_of(X, "X")
        else:
            numbers = as_array(X, "X")
        if self.columns is not None and any(column.categories is not None for column in self.columns.columns):
            raise BadArgument(
                "an array has no names of columns, and some of them hold text",
                where=f"X of shape {numbers.shape}",
                why=f"this model was trained on {', '.join(self.columns.names[:10])}, with categories of text",
                fix="a DataFrame with these columns",
            )
        return self.scaled(np.asarray(numbers, np.float64), "X")

    def encoded(self, table: Table) -> tuple[np.ndarray, tuple[str, ...]]:
        """Scaled rows of a table, and what is to be said about them."""
        assert self.columns is not None
        values, notes = self.columns.encode(table, unseen=self.unseen)
        empty = np.isnan(values)
        if empty.any() and self.missing == "refuse":
            rows = table.frame.index[empty.any(1)].to_numpy()
            names = [repr(name) for name in self.columns.names if table.frame[name].isna().any()]
            raise BadData(
                f"{share_of_rows(len(rows), len(values), 'empty cells')}.",
                where=f"{table.where}, {table.rows(rows)}, column {', '.join(names[:5])}",
                why="missing values ('', NA, NaN, null, None), and the model was trained without any.",
                fix="--missing mean (missing='mean') takes the training rows' mean; --missing drop leaves them out.",
            )
        if empty.any():
            notes = (*notes, f"{share_of_rows(int(empty.any(1).sum()), len(values), 'empty cells')}: {FILLED_BY_MEANS}")
        return self.scaled(values, table.where, torch.tensor(table.frame.index.to_numpy(np.int64))), notes

    def scaled(self, values: np.ndarray, where: str, rows: Tensor | None = None) -> np.ndarray:
        """Encoded rows on the scale of the training rows; shape (m, d)."""
        if values.ndim < 2 or not len(values):
            raise BadData(
                f"X of shape {values.shape} holds no rows.",
                where=where,
                why="one row without its row dimension, or an empty table.",
                fix="`x[None]` for one row; at least one row.",
            )
        if math.prod(values.shape[1:]) != math.prod(self.in_shape):
            shapes = ["x".join(map(str, shape)) for shape in (values.shape[1:], self.in_shape)]
            raise BadData(
                f"rows of shape {shapes[0]}; the model takes {shapes[1]}.",
                where=where,
                why="other data than it was trained on, or the label column was taken for a feature.",
                fix="the columns of the training data; --target COLUMN names the labels.",
            )
        x = torch.from_numpy(np.ascontiguousarray(values, np.float64)).reshape(len(values), *self.in_shape)
        if bool(x.isnan().any()):
            x = self._filled(x, where)
        if bool(x.isinf().any()):
            row = int(x.isinf().flatten(1).any(1).nonzero()[0])
            raise BadData(
                "a number is infinite.",
                where=f"{where}, row {row_number(row, rows)} (counted from 0)",
                why="a division by zero where the rows were made.",
                fix="mend or drop such rows.",
            )
        return self.scaling(x, rows=rows, name=where).flatten(1).numpy()

    def _filled(self, x: Tensor, where: str) -> Tensor:
        fill = self.scaling.mean if self.scaling.fill is None else self.scaling.fill
        if self.missing == "mean" and fill is not None and x.ndim == 2:
            return torch.where(x.isnan(), fill.to(x.dtype) * self.scaling.divisor, x)
        row, more = int(x.isnan().flatten(1).any(1).nonzero()[0]), ", and the model keeps no means."
        if self.missing == "refuse":
            more = "."
        raise BadData(
            f"{int(x.isnan().sum())} of {x.numel()} numbers are missing.",
            where=f"{where}, row {row} (counted from 0)",
            why=f"NaN among the inputs{more}",
            fix="train with --missing mean, or leave such rows out.",
        )


def fit(
    data: Dataset,
    kernel: Callable[..., Tensor] | nn.Module | None = None,
    *,
    which: str = "ntk",
    law: Law = "he",
    ridge: float = 1e-3,
    flatten: bool = False,
    tile: int = 1024,
    progress: Progress | None = None,
) -> Pipeline:
    """The kernel predictor of a network on a data set, which takes rows as they lie in the source: `gramian fit`.

    Args:
        data: of `gramian.data.load`; its test rows are not used.
        kernel, which, law, ridge, tile: as in `NTKClassifier` and `NTKRegressor`.
        flatten: give images to the network as vectors.
        progress: called with a word for the work and its finished share.

    Returns:
        A scikit-learn pipeline with `predict`, `score` and, for classes, `decision_function`. It takes a DataFrame
        with the training columns by name, in any order, or an array of rows in the units of the source.

    Example:
        >>> import gramian.data
        >>> data = gramian.data.load("wine")
        >>> model = fit(data)
        >>> from sklearn.datasets import load_wine
        >>> [str(name) for name in model.predict(load_wine().data[:2])]
        ['class_0', 'class_0']
    """
    shape: tuple[int, ...]
    if flatten:
        shape = (math.prod(data.in_shape),)
    else:
        shape = data.in_shape
    options: dict[str, Any] = {"which": which, "law": law, "ridge": ridge, "input_shape": shape, "tile": tile}
    predictor: NTKClassifier | NTKRegressor
    if data.classes:
        predictor = NTKClassifier(kernel, **options)
    else:
        predictor = NTKRegressor(kernel, scale_targets=True, **options)
    with watched(predictor, progress):
        predictor.fit(data.x.flatten(1).numpy(), names(data, data.y))
    if (kernel is None or isinstance(kernel, nn.Module)) and len(shape) == 1 and lengths_tell(data.x, data.y):
        how = "use a network with biases, under law='torch' or a pair such as law=(1.4, 0.1)"
        said = says_homogeneous(predictor.kernel_, predictor.X_fit_, how)
        if said:
            warnings.warn(said, stacklevel=2)
    if data.columns is not None and data.columns.missing == "mean":
        missing = "mean"
    else:
        missing = "refuse"
    return Pipeline([("rows", Rows(data.columns, data.scaling, data.in_shape, missing)), ("predictor", predictor)])


def names(data: Dataset, y: Tensor) -> np.ndarray:
    """Labels as a model gives them: names of classes, or numbers; (n,) where there is one target."""
    if data.classes:
        return np.array(data.classes)[y.numpy()]
    if y.shape[1] == 1:
        return y[:, 0].numpy()
    return y.numpy()
