"""Names of data sets, the folders they lie in, and which reader reads what."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gramian.errors import BadArgument, BadData

from . import cifar, folder, idx, uci
from .columns import Table
from .embedded import EMBEDDED
from .labels import nearest
from .npz import from_array, from_arrays, read_npy, read_npz
from .openml import read_openml
from .raw import Raw
from .table import TABLE_ENDINGS, from_table, read_table, table_of
from .tensors import as_array
from .wording import counted

VARIABLE = "GRAMIAN_DATA"
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FOLDERS = {  # below the data folder; the last ones are torchvision's
    "mnist": ("mnist", "MNIST/raw"),
    "fashion-mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    "cifar10": ("cifar10", "cifar-10"),
    "uci": ("uci",),
}
IN_FOLDERS: dict[str, Callable[[Path], Raw]] = {
    "mnist": lambda folder: idx.read_folder("mnist", folder),
    "fashion-mnist": lambda folder: idx.read_folder("fashion-mnist", folder, CLOTHES),
    "cifar10": cifar.read_cifar10,
}
ALIASES = {"cifar-10": "cifar10", "fashionmnist": "fashion-mnist", "fmnist": "fashion-mnist"}
ARRAY_READERS: dict[str, Callable[..., Raw]] = {".npz": read_npz, ".npy": read_npy}
READABLE_ENDINGS = (*TABLE_ENDINGS, *ARRAY_READERS)


@dataclass(frozen=True)
class Choices:
    """What is chosen about data that have no labels, columns or layout of their own; as in `load`."""

    target: str | None = None
    task: str | None = None
    missing: str = "refuse"
    without: tuple[str, ...] = ()
    layout: str = "auto"


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The argument, else the environment variable GRAMIAN_DATA, else None.

    Raises:
        BadArgument: it is not a folder.
    """
    said = data_dir or os.environ.get(VARIABLE)
    if not said:
        return None
    folder = Path(said).expanduser()
    if not folder.is_dir():
        if data_dir:
            where = "data_dir (--data-dir)"
        else:
            where = f"the environment variable {VARIABLE}"
        raise BadArgument(
            f"no folder {said}.",
            where=where,
            why="another spelling, or a path relative to another folder." + f" This one is {Path.cwd()}.",
            fix="the folder that holds mnist, fashion_mnist, cifar10 or uci.",
        )
    return folder


def read(data: Any, data_dir: str | os.PathLike[str] | None, choices: Choices) -> Raw:
    """Rows of a data set by name or path, or of a data frame, an array, or a pair of arrays.

    Raises:
        BadData: unknown name, missing or damaged file; with what was looked for.
        BadArgument: a choice that these data leave nobody.
    """
    parsed = table(data, choices.target)
    if parsed is not None:
        if choices.layout != "auto":
            raise _no_choice(parsed[0].where, "layout", choices.layout, "a table has columns and no channels.")
        of, target = parsed
        return from_table(of, target, choices.task, missing=choices.missing, without=choices.without)
    for option in ("missing", "without"):
        if getattr(choices, option) != getattr(Choices, option):
            why = "these rows are no table with named columns."
            raise _no_choice(str(data)[:60], option, getattr(choices, option), why)
    if not isinstance(data, str | os.PathLike):
        return _in_memory(data, choices)
    text = os.fspath(data)
    kind, colon, rest = text.partition(":")
    name = text.lower().replace("_", "-")
    name = ALIASES.get(name, name)
    path = Path(text).expanduser()
    of_its_own = name in EMBEDDED or name in IN_FOLDERS or (colon and kind.lower() == "uci") or path.is_dir()
    if of_its_own and (choices.target is not None or choices.task is not None):
        raise BadArgument(
            f"{text} has labels of its own.",
            where=f"target={choices.target!r}, task={choices.task!r}",
            why="a target column is chosen for files and OpenML tables.",
            fix="leave it out.",
        )
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if name in IN_FOLDERS:
        return IN_FOLDERS[name](_folder(name, data_folder(data_dir)))
    if colon and kind.lower() == "uci":
        return uci.read_uci(rest, _folder("uci", data_folder(data_dir)))
    if path.is_dir():
        return _read_folder(path)
    _refuse_no_file(text, path)
    return ARRAY_READERS[path.suffix.lower()](path, choices.target, choices.task, choices.layout)


def table(data: Any, target: str | None = None) -> tuple[Table, str | None] | None:
    """Data that are a table with named columns, and which column was said to be the target; None for all others."""
    if isinstance(data, pd.DataFrame):
        return table_of(data), target
    if not isinstance(data, str | os.PathLike):
        return None
    text = os.fspath(data)
    kind, colon, rest = text.partition(":")
    if colon and kind.lower() == "openml":
        return read_openml(rest, target)
    path = Path(text).expanduser()
    if path.suffix.lower() not in TABLE_ENDINGS or path.is_dir():
        return None
    _refuse_no_file(text, path)
    return read_table(path), target


def _in_memory(data: Any, choices: Choices) -> Raw:
    """An array with a column of labels, or a pair of inputs and labels."""
    pair = isinstance(data, tuple) or (isinstance(data, list) and all(hasattr(part, "shape") for part in data))
    if pair and len(data) == 2:
        x, y = data
        if isinstance(x, pd.DataFrame):
            return _frame_and_labels(x, y, choices)
        return from_arrays("(x, y)", as_array(x, "x"), as_array(y, "y"), None, choices.task, choices.layout)
    return from_array("an array", as_array(data, "data"), choices.target, choices.task)


def _frame_and_labels(x: pd.DataFrame, y: Any, choices: Choices) -> Raw:
    """A frame of inputs and its labels as one table, in which the labels' column hides none of the inputs."""
    if isinstance(y, pd.Series):
        labels = y
    else:
        labels = pd.Series(as_array(y, "y").tolist())
    if len(labels) != len(x):
        raise BadData(
            f"{counted(len(x), 'row')} of inputs, but {counted(len(labels), 'label')}.",
            where=f"x, a DataFrame of shape {x.shape}, and y",
            why="inputs and labels of different files or splits.",
            fix="one label a row, in the same order.",
        )
    if labels.name is None:
        name = "label"
    else:
        name = str(labels.name)
    while name in {str(column) for column in x.columns}:
        name += "_"
    frame = x.reset_index(drop=True).assign(**{name: labels.reset_index(drop=True)})
    return from_table(table_of(frame), name, choices.task, missing=choices.missing, without=choices.without)


def _no_choice(where: str, option: str, value: object, why: str) -> BadArgument:
    return BadArgument(f"{option}={value!r} has no meaning here.", where=where, why=why, fix="leave it out.")


def _read_folder(path: Path) -> Raw:
    if list(path.glob("cifar10*.npz")):
        return cifar.read_cifar10(path)
    if idx.find(path):
        return idx.read_folder(path.name, path)
    return folder.read_images(path)


def _refuse_no_file(text: str, path: Path) -> None:
    """Raise unless there is a file, and a reader for it."""
    suffix = path.suffix.lower()
    if not path.is_file():
        if suffix not in READABLE_ENDINGS and len(path.parts) == 1:
            raise BadData(
                f"no data set {text!r}.",
                where=f"known: {', '.join([*EMBEDDED, *IN_FOLDERS])}; uci:NAME; openml:NUMBER; "
                f"or the path of a {', '.join(READABLE_ENDINGS)} file or of a folder",
                why="another spelling." + nearest(text, [*EMBEDDED, *IN_FOLDERS, *ALIASES]),
                fix="one of these; `gramian doctor` lists what is found.",
            )
        if path.parent.is_dir():
            beside = [file.name for file in path.parent.iterdir()]
        else:
            beside = []
        if beside:
            why = "another spelling." + nearest(path.name, beside)
        else:
            why = f"there is no folder {path.parent}."
        raise BadData(
            f"no file {text}.",
            where=str(path.absolute()),
            why=why,
            fix="the path of the file, relative to the folder you are in or absolute.",
        )
    if suffix not in READABLE_ENDINGS:
        is_idx = "idx" in path.name
        if is_idx:
            why = "one idx file is images or labels only."
            fix = f"give the folder of all four: {path.parent}"
        else:
            why = f"read are {', '.join(READABLE_ENDINGS)}."
            fix = "unpack or convert it, e.g. to .csv."
        raise BadData(
            f"no reader for a file that ends in {path.suffix or 'nothing'!r}.",
            where=str(path),
            why=why,
            fix=fix,
        )


def _folder(name: str, root: Path | None) -> Path:
    if root is None:
        raise BadData(
            f"where {name} lies was not said.",
            where=f"no data_dir (--data-dir), and the environment variable {VARIABLE} is not set",
            why="these files do not come with gramian, and nothing is downloaded unasked.",
            fix=f"--data-dir FOLDER, where FOLDER/{FOLDERS[name][0]} holds {name}.",
        )
    for candidate in FOLDERS[name]:
        if (root / candidate).is_dir():
            return root / candidate
    raise BadData(
        f"{name} is not in the data folder.",
        where=", ".join(str(root / candidate) for candidate in FOLDERS[name]),
        why="the data folder is another one, or it is not there yet.",
        fix=f"--data-dir FOLDER, where FOLDER/{FOLDERS[name][0]} holds {name}.",
    )


@dataclass(frozen=True)
class Available:
    """A data set that `load` knows by name: is it there, where, and what is missing."""

    name: str
    present: bool
    where: str
    missing: tuple[str, ...] = ()
    note: str = ""


def available(data_dir: str | os.PathLike[str] | None = None) -> tuple[Available, ...]:
    """Every data set with a name, for `gramian doctor`: found or not, where it was looked for, what is missing.

    Example:
        >>> [row.name for row in available() if row.where == "scikit-learn"]
        ['digits', 'iris', 'wine', 'breast-cancer', 'diabetes']
    """
    rows = [Available(name, True, "scikit-learn") for name in EMBEDDED]
    root = data_folder(data_dir)
    for name, candidates in FOLDERS.items():
        if root is None:
            rows.append(Available(name, False, "", ("a data folder",), f"--data-dir, or set {VARIABLE}"))
            continue
        folder = next((root / c for c in candidates if (root / c).is_dir()), None)
        if folder is None:
            rows.append(Available(name, False, ", ".join(str(root / c) for c in candidates), ("the folder",)))
        else:
            rows.append(_inside(name, folder))
    return tuple(rows)


def _inside(name: str, folder: Path) -> Available:
    if name == "uci":
        count = len(uci.names(folder))
        missing: tuple[str, ...] = ()
        if not count:
            missing = ("*.npz",)
        return Available("uci", count > 0, str(folder), missing, f"{count} sets, as uci:NAME")
    if name == "cifar10":
        try:
            parts = cifar.find(folder)
        except BadData as error:
            return Available(name, False, str(folder), (error.where,), error.what)
        return Available(name, bool(parts["train"]), str(folder), cifar.gaps(parts))
    idx_files = idx.find(folder)
    missing = tuple(file for file in idx.IDX_FILES if file not in idx_files)
    return Available(name, not missing, str(folder), missing)
