"""Tables with named columns: csv, tsv, parquet, and what OpenML sends."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from gramian.errors import BadArgument, BadData

from .labels import as_labels, nearest
from .raw import Raw

USUAL_TARGETS = ("target", "label", "class", "y")


def read_csv(path: Path, target: str | None = None, task: str | None = None) -> Raw:
    """A text table with a line of column names; separated by commas, semicolons or tabs, whichever the names are."""
    try:
        skip, columns, separator = _header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path,
                sep=separator,
                skiprows=skip,
                skip_blank_lines=False,  # so that row numbers stay those of the file
                skipinitialspace=True,
                index_col=False,
                encoding="utf-8-sig",
                low_memory=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError, csv.Error) as error:
        raise BadData(
            f"the table cannot be read: {str(error).strip()}",
            where=str(path),
            why="a row with more cells than the line of column names, an open quote, or text that is not UTF-8.",
            fix="mend that line, or save the table again as UTF-8 csv.",
        ) from None
    frame.columns = pd.Index(columns)
    frame = frame[~frame.isna().all(axis=1)]  # blank lines
    first = skip + 2
    return from_frame(frame, path.stem, str(path), target, task, lambda i: f"row {i + first}")


def read_parquet(path: Path, target: str | None = None, task: str | None = None) -> Raw:
    """A parquet table."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise BadData(
            f"the parquet file cannot be read: {str(error).splitlines()[0]}",
            where=f"{path} ({path.stat().st_size} bytes)",
            why="it is truncated, or not parquet.",
            fix="save or download it again.",
        ) from None
    frame = frame.reset_index(drop=True)
    frame.columns = frame.columns.map(str)
    return from_frame(frame, path.stem, str(path), target, task, lambda i: f"row {i + 1}")


def _header(path: Path) -> tuple[int, list[str], str]:
    """Blank lines before the column names, the names, and what separates them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        skip, line = 0, file.readline()
        while line and not line.strip():
            skip, line = skip + 1, file.readline()
    separator = max(",;\t", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    if not names:
        raise BadData("the table is empty.", where=str(path), why="nothing was written to it.", fix="write it again.")
    again = sorted({name for name in names if names.count(name) > 1})
    data = [name for name in names if _is_number(name) and not name.lstrip("-").isdigit()]
    if again or data:
        raise BadData(
            f"column {again[0]!r} is named twice." if again else f"column name {data[0]!r} is a number.",
            where=f"{path}, row {skip + 1}",
            why="the table probably has no line of column names, and this is its first row of data."
            if data or _is_number(again[0])
            else "two columns have one name.",
            fix="put a line of different column names first.",
        )
    return skip, names, separator


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def from_frame(
    frame: pd.DataFrame,
    name: str,
    where: str,
    target: str | None,
    task: str | None,
    row_name: Callable[[int], str],
) -> Raw:
    """Features and labels of a table. Text columns are one-hot encoded; an empty cell is an error.

    Args:
        frame: its index numbers the rows from 0.
        name: of the data set.
        where: the file, for errors.
        target: column of the labels; None takes the only column called target, label, class or y.
        task: as in `as_labels`.
        row_name: what a row is called in its source, by index.
    """
    target = _target(frame, where, target)
    if len(frame) == 0 or frame.shape[1] < 2:
        raise BadData(
            f"the table has {len(frame)} rows and {frame.shape[1] - 1} columns besides {target!r}.",
            where=where,
            why="nothing but the line of column names, or no features.",
            fix="give at least one feature column and two rows.",
        )
    _refuse_empty_cells(frame, where, row_name)
    parts, notes = [], []
    for column in frame.columns:
        if column != target:
            part, note = _numbers(frame[column], where, row_name)
            parts.append(part)
            notes += note
    labels = frame[target]
    if pd.api.types.is_numeric_dtype(labels):
        _refuse_infinite(labels.to_numpy(float), target, frame, where, row_name)
    found = as_labels(labels.to_numpy(), f"{where}, column {target!r}", task)
    rows = frame.index.to_numpy(np.int64)
    return Raw(name, where, np.hstack(parts), found.y, found.classes, rows=rows, notes=(*found.notes, *notes))


def _target(frame: pd.DataFrame, where: str, target: str | None) -> str:
    columns = [str(column) for column in frame.columns]
    if target is not None and target in columns:
        return target
    usual = [column for column in columns if column.lower() in USUAL_TARGETS]
    if target is None and len(usual) == 1:
        return usual[0]
    shown = ", ".join(columns[:20]) + (f", ... ({len(columns)} in all)" if len(columns) > 20 else "")
    if target is None:
        raise BadData(
            "which column holds the labels was not said.",
            where=f"{where}, columns: {shown}",
            why="only one column called target, label, class or y goes without saying.",
            fix=f"`target` (--target on the command line), e.g. {(usual or columns)[-1]!r} if that is it.",
        )
    raise BadData(
        f"no column {target!r}.",
        where=f"{where}, columns: {shown}",
        why="another name or spelling." + nearest(target, columns),
        fix="`target` (--target on the command line): one of these columns.",
    )


def _refuse_empty_cells(frame: pd.DataFrame, where: str, row_name: Callable[[int], str]) -> None:
    empty = frame.isna().to_numpy()
    if empty.any():
        i, j = np.argwhere(empty)[0]
        columns = [str(column) for column, some in zip(frame.columns, empty.any(0), strict=True) if some]
        raise BadData(
            f"{empty.sum()} cells are empty or NaN, in {empty.any(1).sum()} of {len(frame)} rows.",
            where=f"{where}, {row_name(int(frame.index[i]))}, column {frame.columns[j]!r}",
            why=f"missing values ('', NA, NaN, null, None) in column {', '.join(columns[:5])}"
            f"{', ...' if len(columns) > 5 else ''}, or rows with too few cells.",
            fix="fill in or drop such rows or columns, e.g. pandas.DataFrame.dropna.",
        )


def _refuse_infinite(
    values: np.ndarray, column: str, frame: pd.DataFrame, where: str, row_name: Callable[[int], str]
) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise BadData(
            f"{len(bad)} cells are not finite; the first is {values[bad[0]]}.",
            where=f"{where}, {row_name(int(frame.index[bad[0]]))}, column {column!r}",
            why="a division by zero where the table was made.",
            fix="mend or drop such rows.",
        )


def _numbers(column: pd.Series, where: str, row_name: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """One column as (n, 1) numbers, or as (n, categories) one-hot with a note."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64)
        _refuse_infinite(values, str(column.name), column.to_frame(), where, row_name)
        return values[:, None], []
    if pd.api.types.is_datetime64_any_dtype(column):
        raise BadData(
            f"column {column.name!r} holds dates.",
            where=where,
            why="a date is neither a number nor a category.",
            fix="replace it by numbers, e.g. days since the first one.",
        )
    text = column.astype(str)
    numeric = pd.to_numeric(text, errors="coerce").notna()
    if numeric.mean() > 0.5 and not isinstance(column.dtype, pd.CategoricalDtype):
        i = int(np.flatnonzero(~numeric)[0]) if not numeric.all() else 0
        raise BadData(
            f"{(~numeric).sum()} of {len(text)} cells are no numbers; the first is {text.iloc[i]!r}.",
            where=f"{where}, {row_name(int(column.index[i]))}, column {column.name!r}",
            why="a mark for missing values, a unit or a typing error in a column of numbers.",
            fix="mend or drop such rows.",
        )
    kinds, codes = np.unique(text.to_numpy(str), return_inverse=True)
    if len(kinds) > max(10, min(100, len(text) // 2)):
        raise BadArgument(
            f"column {column.name!r} has {len(kinds)} different texts in {len(text)} rows.",
            where=where,
            why="a name or an identifier, not a category; up to 10, or half the rows but 100, are one-hot encoded.",
            fix="drop the column, or replace it by numbers.",
        )
    shown = ", ".join(str(kind) for kind in kinds[:4]) + (", ..." if len(kinds) > 4 else "")
    note = f"Column {column.name!r} (text: {shown}) was one-hot encoded into {len(kinds)} columns."
    return np.eye(len(kinds))[codes], [note]
