"""Arrays in .npz and .npy files, read without pickle."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gramian.errors import BadArgument, BadData

from .labels import as_labels, nearest
from .layout import channels_first
from .raw import Raw

INPUTS = ("x", "x_train", "train_x", "data", "features", "inputs", "images", "train_images")
LABELS = ("y", "y_train", "train_y", "label", "labels", "target", "targets", "train_labels")
INPUTS_TEST = ("x_test", "test_x", "test_images")
LABELS_TEST = ("y_test", "test_y", "test_labels")


@contextmanager
def readable(path: Path, member: str = "") -> Iterator[None]:
    """What numpy, zipfile and the decoders say about a damaged file, in our words."""
    try:
        yield
    except (zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError, KeyError, OSError) as error:
        if isinstance(error, BadData):
            raise
        pickled = "pickle" in str(error).lower()
        if pickled:
            why = "it holds Python objects, which could run code."
            fix = "save plain numbers: np.savez(path, x=..., y=...)."
        else:
            why = "the file is truncated or damaged."
            fix = "download or save the file again."
        place = str(path)
        if member:
            place += f", member {member}"
        raise BadData(
            f"the arrays cannot be read: {error or type(error).__name__}",
            where=f"{place} ({path.stat().st_size} bytes)",
            why=why,
            fix=fix,
        ) from None


def read_npz(path: Path, target: str | None = None, task: str | None = None, layout: str = "auto") -> Raw:
    """Inputs and labels by their usual names (x, y, X_train, train_labels, ...); `target` names the labels."""
    with readable(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        members = list(file.files)
        lower = {member.lower(): member for member in members}
        if target is not None and target not in members:
            raise BadData(
                f"no array {target!r}; there are {', '.join(members)}.",
                where=str(path),
                why="another name or spelling." + nearest(target, members),
                fix="`target` = the name of the labels.",
            )
        names = (_first(lower, INPUTS), target or _first(lower, LABELS))
        names_test = (_first(lower, INPUTS_TEST), _first(lower, LABELS_TEST))
        for name, what in zip(names, ("inputs", "labels"), strict=True):
            if name is None:
                raise BadData(
                    f"no {what} among the arrays {', '.join(members) or '(none)'}.",
                    where=str(path),
                    why="inputs are looked for as x, X_train, data, ..., labels as y, y_train, labels, target, ...",
                    fix="np.savez(path, x=..., y=...), or `target` = the name of the labels.",
                )
        x, y = _members(file, path, names)
        if None in names_test:
            test = None
        else:
            test = _members(file, path, names_test)
    return from_arrays(str(path), x, y, test, task, layout)


def _first(lower: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((lower[name] for name in names if name in lower), None)


def _members(file, path: Path, names: tuple[str | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name in names:
        with readable(path, name or ""):
            arrays.append(file[name])
    x, y = arrays
    return x, y


def read_npy(path: Path, target: str | None = None, task: str | None = None, layout: str = "auto") -> Raw:
    """A table of numbers, of which column `target` (a number, -1 is the last) holds the labels."""
    with readable(path):
        table = np.load(path, allow_pickle=False)
    return from_array(str(path), table, target, task)


def from_array(where: str, table: np.ndarray, target: str | None = None, task: str | None = None) -> Raw:
    """A table of numbers in one array, labels in column `target`."""
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.number):
        raise BadData(
            f"an array of shape {table.shape} and dtype {table.dtype} is no table of inputs and labels.",
            where=where,
            why="an .npy file holds one array: rows of numbers, the labels in one column.",
            fix="np.savez(path, x=..., y=...) for anything else.",
        )
    width = table.shape[1]
    try:
        if target is not None:
            column = int(target)
        else:
            column = width
    except ValueError:
        column = width
    if not -width <= column < width:
        raise BadArgument(
            f"`target` must be a column number from {-width} to {width - 1}, not {target}.",
            where=where,
            why="the columns of an array have numbers, not names.",
            fix='target="-1" (--target -1) for the last column.',
        )
    return from_arrays(where, np.delete(table, column, 1), table[:, column], None, task)


def from_arrays(
    where: str,
    x: np.ndarray,
    y: np.ndarray,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    task: str | None = None,
    layout: str = "auto",
) -> Raw:
    """Inputs channels first and labels as numbers."""
    _check_rows("training", x, y, where)
    if test:
        _check_rows("test", *test, where)
        if test[0].shape[1:] != x.shape[1:]:
            raise BadData(
                f"test inputs of shape {test[0].shape} do not go with training inputs of shape {x.shape}.",
                where=where,
                why="training and test rows were prepared differently.",
                fix="give both the same columns or image size.",
            )
    labels = as_labels(y, where, task)
    inputs, note = channels_first(x, layout, where)
    if x.dtype == np.uint8 and inputs.ndim == 4:
        scale = 255.0
    else:
        scale = 1.0
    held = None
    if test:
        held = (channels_first(test[0], layout, where)[0], labels.encode(test[1], where))
    return Raw(
        Path(where).stem,
        where,
        inputs,
        labels.y,
        labels.classes,
        held,
        scale=scale,
        notes=(*labels.notes, *note),
    )


def _check_rows(which: str, x: np.ndarray, y: np.ndarray, where: str) -> None:
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise BadData(
            f"{which} inputs of shape {x.shape} and dtype {x.dtype} are not rows of numbers.",
            where=where,
            why="one row without its row dimension, or text.",
            fix="save inputs of shape (n, d) or (n, c, h, w).",
        )
    if y.ndim == 0 or len(x) != len(y):
        raise BadData(
            f"{len(x)} rows of {which} inputs, but labels of shape {y.shape}.",
            where=where,
            why="inputs and labels of different files or splits.",
            fix="save one label a row, in the same order.",
        )
