"""Tensors out of what people hold their data in: data frames, series, arrays, lists."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData

from .labels import Labels, as_labels


class Tensors(NamedTuple):
    """What `as_tensors` gives.

    Args:
        x: inputs; shape (n, *in_shape).
        y: int64 (n,) for classes, float (n, C) for regression; None where no targets were given.
        classes: names of the classes that were coded here, `classes[y[i]]`; () where `y` came as numbers or a tensor.
        notes: what was decided on the way, a sentence each.
        labels: the coding of the targets, by which `as_tensors(..., like=)` codes those of a test set.
        columns: names of the columns of inputs and of targets; () of what is no frame with named columns.
    """

    x: Tensor
    y: Tensor | None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    labels: Labels | None = None
    columns: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def as_tensors(
    x: Any, y: Any = None, *, task: str | None = None, like: Tensors | None = None, names: tuple[str, str] = ("x", "y")
) -> Tensors:
    """Inputs and targets as tensors. Tensors pass as they are; frames, series, arrays and lists are copied.

    Float64 stays float64 and float32 float32; columns of whole numbers or booleans become float64, bytes of images
    stay bytes. Targets that are text are coded as classes, one column of floats becomes (n, 1).

    Args:
        x: a tensor, a numeric `DataFrame`, an array, or nested lists.
        y: targets, as a tensor, a `Series`, a `DataFrame`, an array or a list; or None.
        task: "classification" or "regression" decides what targets are; None: floats are regression targets, whole
            numbers and text are classes. A tensor keeps its own meaning: integer is classes, floating is regression.
        like: what this function gave for the training rows; targets are coded as there, and columns of frames are
            matched by name.
        names: what errors call the two.

    Raises:
        BadData: columns of text or dates, rows of different lengths, values that are no numbers; columns that the
            training rows have and a test frame does not, or the reverse.
        BadArgument: text for a regression.

    Example:
        >>> frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
        >>> x, y, classes, *_ = as_tensors(frame, pd.Series(["no", "yes"]))
        >>> x.tolist(), y.tolist(), classes
        ([[1.0, 0.5], [2.0, 1.5]], [0, 1], ('no', 'yes'))
    """
    if like is not None:
        x, y = (in_order(*given) for given in zip((x, y), like.columns, names, strict=True))
    columns = column_names(x), column_names(y)
    inputs = _inputs(x, names[0])
    if y is None or isinstance(y, Tensor):
        return Tensors(inputs, y, columns=columns)
    column = as_array(y, names[1])
    if like is not None and like.labels is not None:
        coded = like.labels.encode(column, names[1])
        return Tensors(inputs, torch.from_numpy(np.ascontiguousarray(coded)), like.classes, (), like.labels, columns)
    if task is None:
        if column.dtype.kind == "f":
            task = "regression"
        elif column.ndim == 1:
            task = "classification"
    labels = as_labels(column, names[1], task)
    return Tensors(
        inputs, torch.from_numpy(np.ascontiguousarray(labels.y)), labels.classes, labels.notes, labels, columns
    )


def column_names(values: Any) -> tuple[str, ...]:
    """Names of a frame's columns, if all are text; () of anything else."""
    if isinstance(values, pd.DataFrame) and all(isinstance(c, str) for c in values.columns):
        return tuple(values.columns)
    return ()


def in_order(values: Any, columns: tuple[str, ...], name: str) -> Any:
    """A frame with its columns in the order of the training rows' frame; anything else as it is."""
    here = column_names(values)
    if not columns or not here or here == columns:
        return values
    missing, extra = [c for c in columns if c not in here], [c for c in here if c not in columns]
    if missing or extra:
        if missing:
            parts = [f"missing {', '.join(map(repr, missing[:5]))}"]
        else:
            parts = []
        if extra:
            parts += [f"unknown {', '.join(map(repr, extra[:5]))}"]
        if missing:
            fix = f"a frame with the column {missing[0]!r} too."
        else:
            fix = f"{name}.drop(columns={extra!r})."
        if missing and extra:
            fix = f"{name}.rename(columns={{{extra[0]!r}: {missing[0]!r}}}), if these are the same."
        raise BadData(
            f"{name} has not the columns of the training rows: {'; '.join(parts)}.",
            where=f"{name}, a DataFrame with columns {', '.join(here[:10])}",
            why="columns are matched by name, so a renamed one is another one.",
            fix=fix,
        )
    return values[list(columns)]


def _inputs(x: Any, name: str) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, pd.DataFrame):
        x = numbers_of(x, name)
    array = as_array(x, name)
    if array.dtype.kind not in "biuf":
        what = "inputs are empty."
        if array.size:
            what = f"inputs of dtype {array.dtype} are not numbers; the first is {array.flat[0]!r}."
        raise BadData(
            what,
            where=name,
            why="text, dates or objects in an array.",
            fix="a table with its columns: gramian.data.load(frame, target=...) codes text by categories.",
        )
    if array.dtype.kind in "bi" or array.dtype == np.float16 or (array.dtype.kind == "u" and array.itemsize > 1):
        array = array.astype(np.float64)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def numbers_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """The columns of a frame as float64 (float32 if all are), shape (n, d); text and dates are refused by name."""
    for column in frame.columns:
        values = frame[column]
        if isinstance(values, pd.DataFrame):
            raise BadData(
                f"column {column!r} is there twice.", where=name, why="two columns have one name.", fix="rename one."
            )
        if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)):
            if values.notna().any():
                first = values.dropna().iloc[0]
            else:
                first = None
            raise BadData(
                f"column {column!r} holds {values.dtype}, not numbers; its first value is {first!r}.",
                where=f"{name}, a DataFrame with columns {', '.join(map(str, list(frame.columns)[:10]))}",
                why="a network takes numbers, and which numbers stand for text or dates is the reader's choice.",
                fix="gramian.data.load(frame, target=...) codes text by categories; or drop or replace the column.",
            )
    dtype: type[np.floating[Any]]
    if len(frame.columns) and all(d == np.float32 for d in frame.dtypes):
        dtype = np.float32
    else:
        dtype = np.float64
    return frame.to_numpy(dtype, na_value=np.nan)


def as_array(values: Any, name: str) -> np.ndarray:
    """Numbers or text in an array; see `as_tensors`."""
    if isinstance(values, type):
        raise BadArgument(
            f"{name} is the class {values.__name__}, not data.",
            where=name,
            why="a class was given where an object of it was meant.",
            fix=f"{values.__name__}(...), called",
        )
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    if np.ma.is_masked(values):
        raise BadData(
            f"{int(np.ma.getmaskarray(values).sum())} of {values.size} values are masked.",
            where=name,
            why="a masked array says that they are missing, and holds some numbers in their places.",
            fix=f"drop these rows, or fill them in: {name}.filled(...).",
        )
    if hasattr(values, "toarray") and not isinstance(values, np.ndarray):  # SciPy's sparse matrices
        raise BadData(
            f"{name} is a sparse matrix ({type(values).__name__}).",
            where=name,
            why="rows are compared, scaled and put through the network with their zeros.",
            fix=f"{name}.toarray().",
        )
    if isinstance(values, pd.Series | pd.Index | pd.DataFrame):
        values = _from_pandas(values)
    if isinstance(values, list | tuple) and values and all(isinstance(row, Tensor) for row in values):
        values = [row.detach().cpu().numpy() for row in values]
    array = _asarray(values, name)
    if array.dtype.kind == "O":
        array = _from_objects(array, name)
    if not array.dtype.isnative:  # of a file of another machine, such as FITS
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 0:
        raise BadData(
            f"{name} is a {type(values).__name__}, not rows of numbers.",
            where=name,
            why="a tensor, an array, a DataFrame or a list of rows is taken.",
            fix="a data set by its name or path: gramian.data.load(...) gives data.x and data.y.",
        )
    return array


def _asarray(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(values, list | tuple):
            why = "rows of different lengths."
            fix = "rows of equal length."
        else:
            why = f"a {type(values).__name__} gives no numbers by itself."
            fix = "its inputs and targets as a pair of arrays or tensors."
        raise BadData(f"{name} is no array: {str(error).split('.')[0]}.", where=name, why=why, fix=fix) from None


def _from_pandas(values: pd.Series | pd.Index | pd.DataFrame) -> np.ndarray:
    if not isinstance(values, pd.DataFrame) and isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(object).to_numpy()
    if _extension_number(values):
        return values.to_numpy(np.float64, na_value=np.nan)
    return values.to_numpy()


def _extension_number(values: pd.Series | pd.Index | pd.DataFrame) -> bool:
    """Whether these are pandas' own nullable numbers, of which numpy would make objects."""
    if isinstance(values, pd.DataFrame):
        dtypes = values.dtypes
    else:
        dtypes = [values.dtype]
    return all(pd.api.types.is_numeric_dtype(d) and pd.api.types.is_extension_array_dtype(d) for d in dtypes)


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """An array of Python objects as numbers or as text; a missing value is refused with its row."""
    if array.dtype.kind == "O" and array.ndim == 1 and pd.isna(array).any():
        row = int(np.flatnonzero(pd.isna(array))[0])
        raise BadData(
            f"{int(pd.isna(array).sum())} of {len(array)} values are missing.",
            where=f"{name}, row {row} (counted from 0)",
            why="None or NaN among other values.",
            fix="drop these rows of inputs and targets before.",
        )
    if all(isinstance(value, bool | int | np.integer) for value in array.flat):
        return array.astype(np.int64)
    if all(isinstance(value, bool | int | float | np.number) for value in array.flat):
        return array.astype(np.float64)
    return array.astype(str)
