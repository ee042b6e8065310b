"""The columns of a table: their names, kinds and categories, by which other tables are read as the first one was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gramian.errors import BadArgument, BadData

from .labels import nearest
from .numerals import are_dates, as_float, as_text, numbers_in, refuse_objects, refuse_units
from .wording import BE, counted, first_few, listed, no_numbers

MISSING_CHOICES = ("refuse", "drop", "mean")
UNSEEN_CHOICES = ("refuse", "zero")


@dataclass(frozen=True, eq=False)
class Table:
    """A table with named columns, as read.

    Args:
        frame: its index counts the rows from 0.
        name: of the data set.
        where: file or object, for errors.
        lines: line in the file of the row with each number; None where rows have no lines.
        separator: between the cells of a text file; "" elsewhere.
        notes: what reading it decided, a sentence each.
    """

    frame: pd.DataFrame
    name: str
    where: str
    lines: np.ndarray | None = None
    separator: str = ""
    notes: tuple[str, ...] = ()

    def row(self, i: int) -> str:
        """What errors call the row with index i."""
        line = ""
        if self.lines is not None:
            line = f"; line {self.lines[i]} of the file"
        return f"row {i} (counted from 0{line})"

    def rows(self, indices: np.ndarray) -> str:
        """The first few of several rows."""
        if len(indices) == 1:
            return self.row(int(indices[0]))
        shown = first_few([str(int(i)) for i in indices])
        line = ""
        if self.lines is not None:
            line = f"; line {self.lines[int(indices[0])]} of the file is row {indices[0]}"
        return f"rows {shown} (counted from 0{line})"


@dataclass(frozen=True)
class Column:
    """One column of inputs.

    Args:
        name: as in the table.
        categories: of text, sorted, each of which is a number 0 or 1; None for a column of numbers.
    """

    name: str
    categories: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """Numbers that it is encoded into."""
        return len(self.encoded)

    @property
    def encoded(self) -> tuple[str, ...]:
        """A name for each number that it is encoded into."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class Columns:
    """How the rows of a table become numbers: columns in their order, text as one number 0 or 1 a category.

    Args:
        columns: the inputs, in order.
        target: name of the column of labels; "" where there was none.
        without: columns that were left out on request.
        missing: "refuse", "drop" (rows) or "mean" (of the training rows), what was asked for empty cells.
    """

    columns: tuple[Column, ...]
    target: str = ""
    without: tuple[str, ...] = ()
    missing: str = "refuse"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def encoded(self) -> tuple[str, ...]:
        """A name for each number of an encoded row, such as `color=red`."""
        return tuple(name for column in self.columns for name in column.encoded)

    def encode(self, table: Table, *, unseen: str = "refuse") -> tuple[np.ndarray, tuple[str, ...]]:
        """Rows of a table that has these columns, in any order; NaN where a cell is empty.

        Args:
            table: the table; further columns are left out, and named in a note.
            unseen: of a category that no training row had: "refuse", or "zero": all its 0-1 numbers are 0.

        Returns:
            Numbers of shape (n, d), float64, and notes.

        Raises:
            BadData: a column is missing, a cell is no number, a category is unseen.
        """
        there = [str(column) for column in table.frame.columns]
        self._refuse_missing_columns(table, there)
        extra = [name for name in there if name not in {*self.names, self.target, *self.without}]
        notes = []
        if extra:
            notes.append(f"Not used, because the training data had no such column: {listed(extra)}.")
        parts = []
        for column in self.columns:
            part, note = _encoded(table, column, unseen)
            parts.append(part)
            notes += note
        return np.hstack(parts), tuple(notes)

    def _refuse_missing_columns(self, table: Table, there: list[str]) -> None:
        lacking = [name for name in self.names if name not in there]
        if not lacking:
            return
        extra = [name for name in there if name not in {*self.names, self.target}]
        close = nearest(lacking[0], extra)
        raise BadData(
            f"{counted(len(lacking), 'training column', BE)} not there: {listed(lacking)}.",
            where=f"{table.where}, columns: {listed(there, 20)}",
            why="other data than were trained on, or renamed columns." + close,
            fix=f"a table with the columns {listed(list(self.names), 20)}, in any order.",
        )


def learn(table: Table, target: str, *, without: tuple[str, ...] = (), missing: str = "refuse") -> Columns:
    """The columns of a training table: which are numbers, which are text, and the categories of these.

    Raises:
        BadData: dates, text that is no category, numbers with faults in them.
        BadArgument: a column of `without` is not there; an unknown word for `missing`.
    """
    if missing not in MISSING_CHOICES:
        raise BadArgument(
            f"missing={missing!r} is unknown.",
            where="missing (--missing)",
            why="an empty cell is refused, its row dropped, or the mean of its column taken.",
            fix="missing='refuse', 'drop' or 'mean' (--missing).",
        )
    there = [str(column) for column in table.frame.columns]
    for name in without:
        if name not in there:
            raise BadArgument(
                f"no column {name!r} to leave out.",
                where=f"{table.where}, columns: {listed(there, 20)}",
                why="another name or spelling." + nearest(name, there),
                fix="without=(...) (--without): columns that are there.",
            )
    columns = []
    for name in there:
        if name == target or name in without:
            continue
        column = _kind(table, name)
        if table.frame[name].isna().all():
            if missing != "mean":
                raise BadData(
                    f"column {name!r} has no value in any of {counted(len(table.frame), 'row')}.",
                    where=table.where,
                    why="it was never filled in.",
                    fix=f"without=({name!r},) (--without {name}) leaves it out.",
                )
            without = (*without, name)
            continue
        columns.append(column)
    return Columns(tuple(columns), target, without, missing)


def complete(table: Table, missing: str, target: str) -> tuple[Table, tuple[str, ...]]:
    """The rows that can be used: all of them, or those without empty cells; a row without a label never can.

    Raises:
        BadData: empty cells where they are to be refused; names rows and columns.
    """
    frame = table.frame
    empty = frame.isna()
    if not empty.to_numpy().any():
        return table, ()
    if missing == "refuse":
        _refuse_empty_cells(table, empty)
    lost = empty[target]
    if missing == "drop":
        lost = empty.any(axis=1)
    kept, notes = frame[~lost], []
    if lost.any():
        if missing == "drop":
            of = "with an empty cell"
        else:
            of = f"without a label in {target!r}"
        notes.append(f"Left out: {counted(int(lost.sum()), 'row')} of {len(frame)} {of}.")
    if missing == "mean":
        columns = [str(name) for name in frame.columns if name != target and kept[name].isna().any()]
        if columns:
            cells = int(kept[columns].isna().to_numpy().sum())
            notes.append(
                f"{counted(cells, 'empty cell')} in {listed(columns)} took the mean of the column in the "
                "training rows (of text: the shares of its categories)."
            )
    if empty[target].all():
        raise BadData(
            f"column {target!r} has no label in any of {counted(len(frame), 'row')}.",
            where=table.where,
            why="it was never filled in, or another column holds the labels.",
            fix="target=... (--target COLUMN), the column with the labels.",
        )
    if not len(kept):
        raise BadData(
            f"no row of {len(frame)} is left.",
            where=table.where,
            why=f"each has an empty cell; most are in {listed([str(c) for c in empty.sum().nlargest(3).index])}.",
            fix="missing='mean' (--missing mean), or without=(...) (--without) for columns that are mostly empty.",
        )
    return replace(table, frame=kept), tuple(notes)


def _refuse_empty_cells(table: Table, empty: pd.DataFrame) -> None:
    cells = empty.to_numpy()
    rows = empty.index[cells.any(1)].to_numpy()
    columns = [repr(str(column)) for column, some in zip(empty.columns, cells.any(0), strict=True) if some]
    which = "columns"
    if len(columns) == 1:
        which = "column"
    raise BadData(
        f"{counted(int(cells.sum()), 'cell', BE)} empty or NaN, in {int(cells.any(1).sum())} of {len(empty)} rows.",
        where=f"{table.where}, {table.rows(rows)}, {which} {listed(columns)}",
        why="missing values ('', NA, NaN, null, None), or rows with too few cells.",
        fix="missing='drop' (--missing drop) leaves such rows out, 'mean' takes the mean of the training rows.",
    )


def _kind(table: Table, name: str) -> Column:
    """Numbers, or text with its categories."""
    column = table.frame[name]
    where = f"{table.where}, column {name!r}"
    refuse_objects(column, name, where)
    if _is_numeric(column) or column.isna().all():
        return Column(name)
    out = f"without=({name!r},) (--without {name}) leaves it out"
    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype | pd.DatetimeTZDtype):
        raise _dates(name, where, out, column.dropna().iloc[0])
    text = as_text(column)
    if are_dates(text):
        raise _dates(name, where, out, text.dropna().iloc[0])
    if not isinstance(column.dtype, pd.CategoricalDtype):
        refuse_units(text, where)
        numbers = numbers_in(text, where, separator=table.separator)
        if numbers is not None:
            _refuse_no_numbers(table, name, text, numbers[0])
            return Column(name)
    kinds = sorted(text.dropna().unique())
    if len(kinds) > max(10, min(100, len(text) // 2)):
        raise BadArgument(
            f"column {name!r} has {len(kinds)} different texts in {counted(len(text), 'row')}.",
            where=where,
            why="a name or an identifier, not a category; up to 10, or half the rows but 100, are one-hot encoded.",
            fix=f"drop the column: {out}; or replace it by numbers.",
        )
    return Column(name, tuple(kinds))


def _dates(name: str, where: str, out: str, first: object) -> BadData:
    return BadData(
        f"column {name!r} holds dates; the first is {str(first)!r}.",
        where=where,
        why="a date is neither a number nor a category.",
        fix=f"{out}; or replace it by numbers, e.g. days since the first one.",
    )


def _refuse_no_numbers(table: Table, name: str, text: pd.Series, values: np.ndarray) -> None:
    bad = np.flatnonzero(np.isnan(values) & text.notna().to_numpy())
    if len(bad):
        rows = text.index[bad].to_numpy()
        raise BadData(
            f"{no_numbers(len(bad), len(text), 'cell')}; the first is {text.iloc[bad[0]]!r}.",
            where=f"{table.where}, {table.rows(rows)}, column {name!r}",
            why="a mark for missing values, a unit or a typing error in a column of numbers.",
            fix="leave such cells empty and say --missing drop or mean (missing='drop'), or mend them.",
        )


def _encoded(table: Table, column: Column, unseen: str) -> tuple[np.ndarray, list[str]]:
    """(n, 1) numbers, or (n, categories) of 0 and 1; NaN where the cell is empty."""
    values = table.frame[column.name]
    if isinstance(values, pd.DataFrame):
        raise BadData(
            f"column {column.name!r} is there twice.",
            where=table.where,
            why="two columns have one name.",
            fix="rename or drop one of them.",
        )
    if column.categories is None:
        return _numbers(table, column.name, values)
    text = as_text(values)
    codes = pd.Index(column.categories, dtype=object).get_indexer(pd.Index(text, dtype=object))
    new = np.flatnonzero((codes < 0) & text.notna().to_numpy())
    notes = []
    if len(new):
        kinds = sorted(text.iloc[new].unique())
        if unseen != "zero":
            raise BadData(
                f"category {kinds[0]!r} of column {column.name!r} is none of the training data's.",
                where=f"{table.where}, {table.rows(text.index[new].to_numpy())}, column {column.name!r}",
                why=f"training rows had {listed(list(column.categories), 10)}." + nearest(kinds[0], column.categories),
                fix="--unseen zero (unseen='zero') takes it for none of these; or train on rows that have it.",
            )
        notes.append(
            f"{counted(len(new), 'row')} with a new category of {column.name!r} ({listed(kinds)}), taken "
            "for none of those that were trained on."
        )
    # an unknown category has the code -1, the last row of the identity: zeros, as its 1 is in the column cut off
    out = np.where(text.isna().to_numpy()[:, None], np.nan, np.eye(len(column.categories) + 1)[codes, :-1])
    return out, notes


def _numbers(table: Table, name: str, column: pd.Series) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    if _is_numeric(column) or column.isna().all():
        values = as_float(column)
    else:
        text = as_text(column)
        parsed = numbers_in(text, f"{table.where}, column {name!r}", separator=table.separator)
        if parsed is None:
            values = np.full(len(text), np.nan)
        else:
            values = parsed[0]
        _refuse_no_numbers(table, name, text, values)
        if parsed is not None and parsed[1]:
            notes.append(f"Column {name!r} was read as numbers {parsed[1]}.")
    refuse_infinite(table, name, values)
    return values[:, None], notes


def refuse_infinite(table: Table, name: str, values: np.ndarray) -> None:
    """Raise for the first cell that is infinite; empty cells pass."""
    bad = np.flatnonzero(np.isinf(values))
    if len(bad):
        raise BadData(
            f"{counted(len(bad), 'cell', BE)} not finite; the first is {values[bad[0]]}.",
            where=f"{table.where}, {table.rows(table.frame.index[bad].to_numpy())}, column {name!r}",
            why="a division by zero where the table was made.",
            fix="mend such cells, or leave them empty and say --missing drop or mean (missing='drop').",
        )


def _is_numeric(column: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return True
    if column.dtype != object:
        return False
    known = column.dropna()
    return len(known) > 0 and bool(known.map(lambda v: isinstance(v, bool | np.bool_ | int | float | np.number)).all())


def one_hot_notes(columns: Columns) -> tuple[str, ...]:
    """A sentence for each column of text."""
    return tuple(
        f"Column {column.name!r} (text: {listed(list(column.categories), 4)}) was one-hot encoded into "
        f"{counted(column.width, 'column')}."
        for column in columns.columns
        if column.categories is not None
    )
