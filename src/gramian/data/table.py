"""Tables with named columns: csv, tsv, parquet, data frames, and what OpenML sends."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gramian.errors import BadData

from .columns import Table, complete, learn, one_hot_notes, refuse_infinite
from .labels import as_labels, nearest
from .numerals import are_dates, as_text, numbers_in
from .raw import Raw
from .wording import counted, listed, no_numbers

USUAL_TARGETS = ("target", "label", "class", "y")
SEPARATORS = ",;\t|"
TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".parquet")


def read_table(path: Path) -> Table:
    """The table in a file that ends in one of `TABLE_ENDINGS`."""
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    return read_csv(path)


def read_csv(path: Path) -> Table:
    """A text table with a line of column names; separated by commas, semicolons, tabs or bars, whichever the names are.

    Rows are counted from 0; blank lines count.
    """
    try:
        skip, columns, separator = _header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path,
                sep=separator,
                skiprows=skip,
                skip_blank_lines=False,  # so that lines can be counted
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
    _refuse_data_as_names(frame, path, skip)
    if _one_line_a_row(frame):
        lines = np.arange(len(frame)) + skip + 2
    else:
        lines = None
    frame = frame[~frame.isna().all(axis=1)]  # blank lines
    return _without_index(Table(frame, path.stem, str(path), lines, separator))


def read_parquet(path: Path) -> Table:
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
    return table_of(frame, path.stem, str(path))


def table_of(frame: pd.DataFrame, name: str = "frame", where: str = "a DataFrame") -> Table:
    """A data frame as a table; its index is not used, rows are counted from 0."""
    frame = frame.reset_index(drop=True)
    frame.columns = frame.columns.map(str)
    again = frame.columns[frame.columns.duplicated()]
    if len(again):
        raise BadData(
            f"column {again[0]!r} is named twice.",
            where=where,
            why="two columns have one name.",
            fix="rename or drop one of them.",
        )
    return _without_index(Table(frame, name, where))


def _header(path: Path) -> tuple[int, list[str], str]:
    """Blank lines before the column names, the names, and what separates them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        skip, line = 0, file.readline()
        while line and not line.strip():
            skip, line = skip + 1, file.readline()
    separator = max(SEPARATORS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    if not names:
        raise BadData("the table is empty.", where=str(path), why="nothing was written to it.", fix="write it again.")
    again = sorted({name for name in names if names.count(name) > 1})
    data = [name for name in names if _is_number(name) and not name.lstrip("-").isdigit()]
    if len(names) > 1 and all(map(_is_number, names)) and names != [str(i) for i in range(len(names))]:
        data = data or names  # 0, 1, 2, ... are names that programs give
    if again or data:
        if again:
            what = f"column {again[0]!r} is named twice."
        else:
            what = f"column name {data[0]!r} is a number."
        if data or _is_number(again[0]):
            why = "the table probably has no line of column names, and this is its first row of data."
        else:
            why = "two columns have one name."
        raise BadData(
            what,
            where=f"{path}, line {skip + 1} of the file",
            why=why,
            fix="put a line of different column names first.",
        )
    return skip, names, separator


def _refuse_data_as_names(frame: pd.DataFrame, path: Path, skip: int) -> None:
    """A name of text that is also a value of its column: the file has no line of names."""
    for name in frame.columns:
        if _holds_text(frame[name]) and str(name) and (frame[name] == name).any():
            raise BadData(
                f"column name {name!r} is also a value in its column.",
                where=f"{path}, line {skip + 1} of the file",
                why="the table probably has no line of column names, and this is its first row of data.",
                fix="put a line of different column names first.",
            )


def _one_line_a_row(frame: pd.DataFrame) -> bool:
    """No cell goes over several lines."""
    return not any(
        frame[name].astype(str).str.contains("\n", regex=False).any()
        for name in frame.columns
        if _holds_text(frame[name])
    )


def _holds_text(column: pd.Series) -> bool:
    return pd.api.types.is_string_dtype(column) or column.dtype == object


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without_index(table: Table) -> Table:
    """Without a nameless column that counts the rows, as pandas writes its index; another nameless one is refused."""
    frame, notes = table.frame, list(table.notes)
    for name in frame.columns:
        if name != "" and not str(name).startswith("Unnamed: "):
            continue
        values = frame[name]
        if values.isna().all():
            frame = frame.drop(columns=name)
            notes.append("Left out: a column without a name and without values.")
            continue
        if not _counts_rows(values):
            raise BadData(
                f"column {list(frame.columns).index(name)} (counted from 0) has no name.",
                where=table.where,
                why="a separator too many in the line of names, or a name was left out.",
                fix="give it a name, or take it out of the file.",
            )
        frame = frame.drop(columns=name)
        notes.append("The column without a name counts the rows: an index, left out.")
    return replace(table, frame=frame, notes=tuple(notes))


def _counts_rows(values: pd.Series) -> bool:
    """Different whole numbers, as a table's index has them, in whichever order its rows are now."""
    return pd.api.types.is_integer_dtype(values) and values.is_unique


def from_table(
    table: Table,
    target: str | None,
    task: str | None = None,
    *,
    missing: str = "refuse",
    without: tuple[str, ...] = (),
) -> Raw:
    """Features and labels of a table. Text columns are one-hot encoded; an empty cell is what `missing` says.

    Args:
        table: the table.
        target: column of the labels; None takes the only column called target, label, class or y.
        task: as in `as_labels`.
        missing: "refuse", "drop" or "mean"; with "mean", empty cells are NaN in the result.
        without: columns that are left out.
    """
    target = _target(table, target)
    frame = table.frame.drop(columns=[name for name in without if name in table.frame.columns])
    if len(frame) == 0 or frame.shape[1] < 2:
        raise BadData(
            f"the table has {counted(len(frame), 'row')} and {counted(frame.shape[1] - 1, 'column')} besides "
            f"{target!r}.",
            where=table.where,
            why="nothing but the line of column names, or no features.",
            fix="give at least one feature column and two rows.",
        )
    columns = learn(table, target, without=without, missing=missing)
    empty = [name for name in columns.without if name not in without]
    notes = [f"Left out: column {name!r}, which has no value in any row." for name in empty]
    table = replace(table, frame=frame.drop(columns=empty))
    table, left_out = complete(table, missing, target)
    # categories that only the lost rows had do not count: learned again without these rows
    if left_out:
        columns = replace(learn(table, target, missing=missing), without=columns.without)
    x, read = columns.encode(table)
    labels, written = _labels(table, target)
    coded = as_labels(labels, f"{table.where}, column {target!r}", task)
    return Raw(
        table.name,
        table.where,
        x,
        coded.y,
        coded.classes,
        rows=table.frame.index.to_numpy(np.int64),
        notes=(*table.notes, *notes, *left_out, *written, *coded.notes, *read, *one_hot_notes(columns)),
        columns=columns,
        lines=table.lines,
    )


def _labels(table: Table, target: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The column of labels as numbers or text, and how it was written."""
    labels, where = table.frame[target], f"{table.where}, column {target!r}"
    if pd.api.types.is_bool_dtype(labels):
        return labels.to_numpy(bool), ()
    if pd.api.types.is_numeric_dtype(labels):
        values = labels.to_numpy(np.float64)
        refuse_infinite(table, target, values)
        return values, ()
    text = as_text(labels)
    if pd.api.types.is_datetime64_any_dtype(labels) or are_dates(text):
        raise BadData(
            f"the labels in {target!r} are dates; the first is {text.iloc[0]!r}.",
            where=where,
            why="a date is neither a number to hit nor a class.",
            fix="replace them by numbers, e.g. days since the first one.",
        )
    numbers = numbers_in(text, where, separator=table.separator)
    if numbers is None or isinstance(labels.dtype, pd.CategoricalDtype):
        return text.to_numpy(str), ()
    values, written = numbers
    bad = np.flatnonzero(np.isnan(values))
    if len(bad) and written:
        raise BadData(
            f"{no_numbers(len(bad), len(text), 'label')}; the first is {text.iloc[bad[0]]!r}.",
            where=f"{where}, {table.rows(text.index[bad].to_numpy())}",
            why="a mark for missing values, a unit or a typing error in a column of numbers.",
            fix="mend or drop such rows.",
        )
    if len(bad):
        return text.to_numpy(str), ()
    if not written:
        return values, ()
    return values, (f"Labels were read as numbers {written}.",)


def _target(table: Table, target: str | None) -> str:
    columns = [str(column) for column in table.frame.columns]
    if target is not None and target in columns:
        return target
    usual = [column for column in columns if column.lower() in USUAL_TARGETS]
    if target is None and len(usual) == 1:
        return usual[0]
    shown = listed(columns, 20)
    if target is None:
        raise BadData(
            "which column holds the labels was not said.",
            where=f"{table.where}, columns: {shown}",
            why="only one column called target, label, class or y goes without saying.",
            fix=f"`target` (--target on the command line), e.g. {(usual or columns)[-1]!r} if that is it.",
        )
    raise BadData(
        f"no column {target!r}.",
        where=f"{table.where}, columns: {shown}",
        why="another name or spelling." + nearest(target, columns),
        fix="`target` (--target on the command line): one of these columns.",
    )
