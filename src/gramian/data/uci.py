"""The UCI sets as Fernandez-Delgado et al. (JMLR 2014) prepared them: X, y and the authors' own splits in an .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gramian.errors import BadArgument, BadData

from .labels import nearest
from .npz import readable
from .raw import Raw
from .wording import first_few

SPLITS_OF_AUTHORS = {str(k): (f"fold{k}_train", f"fold{k}_test") for k in range(4)} | {
    "tune": ("tune_train", "tune_val")
}


def names(folder: Path) -> dict[str, Path]:
    """The sets found in a folder `uci`, in it or one folder below."""
    files = [*folder.glob("*.npz"), *folder.glob("*/*.npz")]
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def read_uci(name: str, folder: Path) -> Raw:
    """Set `NAME`, split as its authors did; `NAME:k` for their draw k = 0 .. 3, `NAME:tune` for their tuning halves.

    Without k: the separate test file where there is one on the scale of the training file, else draw 0.
    """
    name, _, wish = name.partition(":")
    known = names(folder)
    if name not in known:
        raise BadData(
            f"no UCI set {name!r} among the {len(known)} found.",
            where=str(folder),
            why="another spelling, or it is not there." + nearest(name, known),
            fix="uci:NAME, one of: " + first_few(list(known), 8, end="."),
        )
    if wish and wish not in SPLITS_OF_AUTHORS:
        raise BadArgument(
            f"no split {wish!r} of {name}.",
            where=f"uci:{name}:{wish}",
            why="the authors drew four splits, 0 to 3, and one to tune on.",
            fix=f"uci:{name}:0 .. uci:{name}:3, or uci:{name}:tune.",
        )
    path = known[name]
    train, test = SPLITS_OF_AUTHORS[wish or "0"]
    with readable(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {key: file[key] for key in ("X", "y", "X_test", "y_test", train, test) if key in file.files}
    lacking = [key for key in ("X", "y", train, test) if key not in arrays]
    if lacking:
        raise BadData(
            f"the arrays {', '.join(lacking)} are not there.",
            where=str(path),
            why="another kind of file among the UCI sets.",
            fix=f"give it by its path instead: --data {path.name}.",
        )
    x, y = arrays["X"], arrays["y"].astype(np.int64)
    classes = tuple(str(c) for c in range(int(y.max()) + 1))
    title, notes = f"uci:{name}", []
    if wish:
        title += f":{wish}"
    if "X_test" in arrays and not wish:
        if _standardized(x) == _standardized(arrays["X_test"]):
            if _standardized(x):
                notes.append("Training and test rows were each standardized by themselves by those who prepared them.")
            test_file = (arrays["X_test"], arrays["y_test"].astype(np.int64))
            return Raw(title, str(path), x, y, classes, test_file, notes=tuple(notes))
        notes.append("Its separate test file is on another scale than its training file (one of them is standardized), "
                     "so the test rows are the authors' draw 0 from the training file.")  # fmt: skip
    rows = np.sort(arrays[train])
    held = np.sort(arrays[test])
    return Raw(title, str(path), x[rows], y[rows], classes, (x[held], y[held]), rows=rows, notes=tuple(notes))


def _standardized(x: np.ndarray) -> bool:
    """Mean 0 and standard deviation 1 (with n - 1) in every column that is not constant."""
    sigma = x.std(0, ddof=1)
    varies = sigma > 0
    return bool((abs(x.mean(0)) < 0.01).all() and (abs(sigma[varies] - 1) < 0.01).all())
