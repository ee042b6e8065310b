"""Is a column of labels a class or a number, and which classes are there?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gramian.errors import BadArgument, BadData


def nearest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {by_lower[close[0]]!r}?"
    return ""


def text_of(value: object) -> str:
    """A cell or label as text; whole numbers without a point, so that 1, 1.0 and "1" are one name."""
    if isinstance(value, float | np.floating) and np.isfinite(value) and value == round(float(value)):
        return str(int(value))
    return str(value).strip()


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels as numbers: `y` is int64 (n,) with `classes`, or float64 (n, C) without."""

    y: np.ndarray
    classes: tuple[str, ...]
    values: np.ndarray
    notes: tuple[str, ...]

    def encode(self, column: np.ndarray, where: str) -> np.ndarray:
        """Labels of a test set, by the classes of the training set."""
        column = _one_column(column)
        if not self.classes:
            return _targets(column)
        if (
            len(column)
            and column.dtype.kind != self.values.dtype.kind
            and "U" in column.dtype.kind + self.values.dtype.kind
        ):
            column = column.astype(str)
        # the place where a label would stand among the sorted classes; a label that is not one of them differs from
        # what is there
        codes = np.searchsorted(self.values, column).clip(max=len(self.values) - 1)
        unknown = np.flatnonzero(self.values[codes] != column)
        if len(unknown):
            raise BadData(
                f"test label {str(column[unknown[0]])!r} is none of the {len(self.classes)} training classes.",
                where=f"{where}, test row {unknown[0]} (counted from 0)",
                why="training and test labels are coded differently, or a class has no training row.",
                fix="code both alike.",
            )
        return codes.astype(np.int64)


def known_task(task: str | None, where: str = "task") -> str | None:
    """ "classification", "regression" or None; "classes" is the first.

    Raises:
        BadArgument: another word.
    """
    if task == "classes":
        return "classification"
    if task not in (None, "classification", "regression"):
        raise BadArgument(
            f"task {task!r} is neither classification nor regression.",
            where=where,
            why="labels are names to tell apart or numbers to hit." + nearest(task, ("classification", "regression")),
            fix='task="classification" or task="regression" (--task), or leave it out.',
        )
    return task


def as_labels(column: np.ndarray, where: str, task: str | None = None) -> Labels:
    """Classes for text, booleans and few whole numbers; regression otherwise, or as `task` says.

    Whole numbers are few if at most 10, or 10 % of the rows but no more than 100, are different.

    Args:
        column: labels as read; shape (n,), or (n, C) for regression.
        where: file and column, for errors.
        task: "classification" (or "classes"), "regression", or None to decide by the rule above.

    Raises:
        BadArgument: text labels for a regression, or an unknown `task`.

    Example:
        >>> as_labels(np.array(["no", "yes", "no"]), "here").y
        array([0, 1, 0])
        >>> as_labels(np.array([0.5, 1.5]), "here").classes
        ()
    """
    task = known_task(task, where)
    column = _one_column(column)
    text = column.dtype.kind not in "iuf"
    if task == "regression" and text and column.dtype.kind != "b":
        raise BadArgument(
            f"regression on text: the first label is {str(column.flat[0])!r}.",
            where=where,
            why="another column was meant, or one cell of the column is no number.",
            fix='task="classification" (--task classification), or the column of numbers.',
        )
    if column.ndim == 2:
        if task == "classification":
            raise BadArgument(
                f"labels of shape {column.shape} are not one class a row.",
                where=where,
                why="rows of one-hot labels hold one 1 and else 0; these do not.",
                fix="save class numbers or names, shape (n,).",
            )
        return Labels(
            _targets(column), (), np.empty(0), ("Labels of several columns were taken as regression targets.",)
        )
    values = np.unique(column)
    whole = text or bool(np.isfinite(column).all() and (column == np.round(column)).all())
    few = len(values) <= max(10, min(100, len(column) // 10))
    if task == "regression" or (task is None and not (text or (whole and few))):
        if not whole:
            kind = "numbers"
        else:
            kind = f"{len(values)} different whole numbers"
        guessed = f'Labels are {kind}, taken as regression targets; task="classification" (--task) makes them classes.'
        if task:
            return Labels(_targets(column), (), values, ())
        return Labels(_targets(column), (), values, (guessed,))
    said: tuple[str, ...] = ()
    if not text and task is None:
        kind = f"{len(values)} whole numbers as labels"
        said = (f'{kind} were taken as classes; task="regression" (--task) takes them as numbers.',)
    names = tuple(text_of(v) for v in values)
    return Labels(np.searchsorted(values, column).astype(np.int64), names, values, said)


def _one_column(column: np.ndarray) -> np.ndarray:
    """Labels of shape (n,) out of a column or out of one-hot rows; anything else stays as it is."""
    column = np.asarray(column)
    if column.dtype.kind == "O":
        column = column.astype(str)
    if column.ndim == 2 and column.shape[1] == 1:
        return column[:, 0]
    if column.ndim == 2 and column.dtype.kind in "biuf" and len(column):
        ones = column == 1
        if ((column == 0) | ones).all() and (ones.sum(1) == 1).all():
            return ones.argmax(1)
    return column


def _targets(column: np.ndarray) -> np.ndarray:
    column = np.asarray(column).astype(np.float64)
    if column.ndim == 1:
        return column[:, None]
    return column
