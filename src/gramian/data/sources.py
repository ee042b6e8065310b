"""Names of data sets, the folders they lie in, and which reader reads what."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gramian.errors import BadArgument, BadData

from . import cifar, idx, uci
from .embedded import EMBEDDED
from .labels import nearest
from .npz import read_npy, read_npz
from .openml import read_openml
from .raw import Raw
from .table import read_csv, read_parquet

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
FILES: dict[str, Callable[[Path, str | None, str | None], Raw]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".npy": read_npy,
}


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
        raise BadArgument(
            f"no folder {said}.",
            where="data_dir (--data-dir)" if data_dir else f"the environment variable {VARIABLE}",
            why="another spelling, or a path relative to another folder." + f" This one is {Path.cwd()}.",
            fix="the folder that holds mnist, fashion_mnist, cifar10 or uci.",
        )
    return folder


def read(
    data: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, target: str | None, task: str | None
) -> Raw:
    """Rows of a data set by name or path.

    Raises:
        BadData: unknown name, missing or damaged file; with what was looked for.
        BadArgument: `target` or `task` for data that have labels of their own.
    """
    text = os.fspath(data)
    kind, colon, rest = text.partition(":")
    if colon and kind.lower() == "openml":
        return read_openml(rest, target, task)
    name = text.lower().replace("_", "-")
    name = ALIASES.get(name, name)
    path = Path(text).expanduser()
    of_its_own = name in EMBEDDED or name in IN_FOLDERS or (colon and kind.lower() == "uci") or path.is_dir()
    if of_its_own and (target is not None or task is not None):
        raise BadArgument(
            f"{text} has labels of its own.",
            where=f"target={target!r}, task={task!r}",
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
        return cifar.read_cifar10(path) if list(path.glob("cifar10*.npz")) else idx.read_folder(path.name, path)
    return _read_file(text, path, target, task)


def _read_file(text: str, path: Path, target: str | None, task: str | None) -> Raw:
    reader = FILES.get(path.suffix.lower())
    if not path.is_file():
        if reader is None and len(path.parts) == 1:
            raise BadData(
                f"no data set {text!r}.",
                where=f"known: {', '.join([*EMBEDDED, *IN_FOLDERS])}; uci:NAME; openml:NUMBER; "
                f"or the path of a {', '.join(FILES)} file or of a folder",
                why="another spelling." + nearest(text, [*EMBEDDED, *IN_FOLDERS, *ALIASES]),
                fix="one of these; `gramian doctor` lists what is found.",
            )
        beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise BadData(
            f"no file {text}.",
            where=str(path.absolute()),
            why=("another spelling." + nearest(path.name, beside)) if beside else f"there is no folder {path.parent}.",
            fix="the path of the file, relative to the folder you are in or absolute.",
        )
    if reader is None:
        is_idx = "idx" in path.name
        raise BadData(
            f"no reader for a file that ends in {path.suffix or 'nothing'!r}.",
            where=str(path),
            why="one idx file is images or labels only." if is_idx else f"read are {', '.join(FILES)}.",
            fix=f"give the folder of all four: {path.parent}" if is_idx else "unpack or convert it, e.g. to .csv.",
        )
    return reader(path, target, task)


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
    found: bool
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
        return Available("uci", count > 0, str(folder), () if count else ("*.npz",), f"{count} sets, as uci:NAME")
    if name == "cifar10":
        try:
            parts = cifar.find(folder)
        except BadData as error:
            return Available(name, False, str(folder), (error.where,), error.what)
        return Available(name, bool(parts["train"]), str(folder), cifar.gaps(parts))
    found = idx.find(folder)
    missing = tuple(file for file in idx.FILES if file not in found)
    return Available(name, not missing, str(folder), missing)
