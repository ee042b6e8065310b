"""From a name or a path to a Dataset."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData

from .check import check
from .dataset import Dataset
from .geometry import equal_rows
from .normalize import standardize, unit_norm
from .raw import Raw
from .sources import read
from .subset import enough, head, split

TEST_ROWS = 1000  # of an official test set, where a subset was asked for


def load(
    data: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    task: str | None = None,
    n: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    normalize: str = "unit",
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    r"""A data set by name or path, drawn, split and scaled.

    Args:
        data: "digits", "iris", "wine", "breast-cancer", "diabetes" (from scikit-learn); "mnist", "fashion-mnist",
            "cifar10", "uci:NAME" (from `data_dir`); "openml:NUMBER"; the path of a .csv, .tsv, .parquet, .npz or .npy
            file, or of a folder of idx files or CIFAR-10 parts.
        data_dir: folder with mnist, fashion_mnist, cifar10, uci; default the environment variable GRAMIAN_DATA.
        target: the column with the labels, in a table; the array, in an .npz. Default: the one called target, label,
            class or y.
        task: "classes" or "regression", for labels that are whole numbers; default by how many there are.
        n: training rows, drawn in proportion to the classes; None takes all.
        n_test: test rows. None: of an official test set all, or 1000 if `n` is given; else 20 % of the rows, at most
            1000.
        seed: of the draw. The same seed picks the same rows, and a larger `n` only adds rows (of CIFAR-10: as long as
            they come from the same part).
        normalize: "unit" (each row to norm 1), "standardize" (columns, or channels of images, by the training rows),
            "none".
        dtype: of the inputs and regression targets.

    Returns:
        Dataset; training rows in the order of the source.

    Raises:
        BadData: the data are not there, damaged, not finite, of one class; with file, row and column.
        BadArgument: more rows asked for than there are, an unknown option.

    Example:
        >>> data = load("digits", n=500)
        >>> data.x.shape, data.x_test.shape, data.targets.shape
        (torch.Size([500, 1, 8, 8]), torch.Size([359, 1, 8, 8]), torch.Size([500, 10]))
    """
    if normalize not in ("unit", "standardize", "none"):
        raise BadArgument(
            f"normalize={normalize!r} is unknown.",
            where="normalize",
            why="inputs are scaled in one of three ways.",
            fix='"unit" (rows to norm 1), "standardize" (columns to mean 0, deviation 1) or "none".',
        )
    if not dtype.is_floating_point:
        raise BadArgument(f"dtype={dtype} is not floating point.", where="dtype", fix="torch.float64 or torch.float32.")
    raw = read(data, data_dir, target, task)
    if len(raw.x) == 0:
        raise BadData("no data: 0 rows.", where=raw.source, why="an empty file.", fix="give at least two rows.")
    train, test, notes = _draw(raw, n, n_test, seed)
    numbers = np.arange(len(raw.y)) if raw.rows is None else raw.rows
    rows = torch.from_numpy(numbers[train])
    x, y = _tensor(raw.x[train], raw.scale, dtype), _labels(raw, raw.y[train], dtype)
    held, held_y = raw.test or (raw.x, raw.y)
    rows_test = torch.from_numpy(test if raw.test else numbers[test])
    x_test, y_test = _tensor(held[test], raw.scale, dtype), _labels(raw, held_y[test], dtype)
    name = f"{raw.name} ({raw.source})"
    check(x, y, rows=rows, name=name, n_classes=len(raw.classes) or None)
    if len(x_test):
        check(
            x_test, None if raw.classes else y_test, rows=rows_test, name=f"{name}, test", in_shape=tuple(x.shape[1:])
        )
    if normalize == "unit":
        raw_x, x = x, unit_norm(x, rows=rows, name=name)
        x_test = unit_norm(x_test, rows=rows_test, name=f"{name}, test") if len(x_test) else x_test
        notes += _collapsed(raw_x, x)
    elif normalize == "standardize":
        x, x_test = standardize(x), standardize(x_test, x)
    return Dataset(raw.name, x, y, x_test, y_test, raw.classes, rows, raw.source, (*raw.notes, *notes))


def _draw(raw: Raw, n: int | None, n_test: int | None, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Training rows, test rows (of the official test set if there is one), and a note if parts were left unread."""
    strata = raw.y if raw.classes else np.zeros(len(raw.y), np.int64)
    enough(n, len(strata), "training")
    if raw.test is None:
        pool = _pool(raw.pools, len(strata), None if n is None else n + (TEST_ROWS if n_test is None else n_test))
        train, test = split(strata[:pool], n, n_test, seed)
    else:
        pool = _pool(raw.pools, len(strata), n)
        train = head(strata[:pool], n, seed, "training")
        strata_test = raw.test[1] if raw.classes else np.zeros(len(raw.test[1]), np.int64)
        enough(n_test, len(strata_test), "test")
        if n_test is None and n is not None:
            n_test = min(TEST_ROWS, len(strata_test))
        test = head(strata_test[: _pool(raw.pools_test, len(strata_test), n_test)], n_test, seed, "test")
    drawn = (
        f"Only the files with the first {pool:,} of {len(strata):,} training rows were read, to draw {len(train):,}."
    )
    return train, test, (drawn,) if pool < len(strata) else ()


def _pool(ends: tuple[int, ...], available: int, needed: int | None) -> int:
    return next((end for end in ends if needed is not None and end >= needed), available)


def _tensor(x: np.ndarray, scale: float, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(dtype)
    return tensor / scale if scale != 1 else tensor


def _labels(raw: Raw, y: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(y)).to(torch.int64 if raw.classes else dtype)


def _collapsed(before: Tensor, after: Tensor) -> tuple[str, ...]:
    """A note if scaling made rows equal, as it does to multiples of one another; looked for in tables only."""
    if before.ndim > 2:
        return ()
    was, now = (sum(len(group) - 1 for group in equal_rows(x)) for x in (before, after.round(decimals=9)))
    if now <= was:
        return ()
    return (
        f"{now - was} of {len(after)} rows became equal to another one when rows were scaled to norm 1, as multiples "
        'of one another do; normalize="standardize" or "none" keeps them apart.',
    )
