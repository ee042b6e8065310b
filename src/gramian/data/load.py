"""From a name, a path or numbers in memory to a Dataset."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData

from .check import check
from .dataset import Dataset
from .geometry import equal_rows
from .labels import known_task
from .raw import Raw
from .scaling import Scaling, known_normalization
from .sources import Choices, read
from .subset import default_n_test, enough, head, split
from .wording import listed

TEST_ROWS = 1000  # of an official test set, where a subset was asked for


def load(
    data: str | os.PathLike[str] | Any,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    target: str | None = None,
    task: str | None = None,
    n: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    normalize: str = "auto",
    missing: str = "refuse",
    without: tuple[str, ...] | list[str] | str = (),
    layout: str = "auto",
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    r"""A data set by name or path, or from memory: drawn, split and scaled. The commands do the same.

    Args:
        data: "digits", "iris", "wine", "breast-cancer", "diabetes" (from scikit-learn); "mnist", "fashion-mnist",
            "cifar10", "uci:NAME" (from `data_dir`); "openml:NUMBER"; the path of a .csv, .tsv, .parquet, .npz or .npy
            file, or of a folder of images (a subfolder a class), of idx files or CIFAR-10 parts; or a DataFrame, a pair
            (x, y) of arrays, tensors or a frame and a series, or an array with a column of labels.
        data_dir: folder with mnist, fashion_mnist, cifar10, uci; default the environment variable GRAMIAN_DATA.
        target: the column with the labels, in a table; the array, in an .npz. Default: the one called target, label,
            class or y.
        task: "classification" or "regression", for labels that are whole numbers; default by how many there are, which
            is then said in a note.
        n: training rows, drawn in proportion to the classes; None takes all.
        n_test: test rows. None: of an official test set all, or 1000 if `n` is given; else 20 % of the rows, at most
            1000.
        seed: of the draw. The same seed picks the same rows, and a larger `n` only adds rows (of CIFAR-10: as long as
            they come from the same part).
        normalize: "standardize" (columns, or channels of images, by the training rows), "unit" (each row to norm 1),
            "none", or "auto": tables are standardized; images are not, whose pixels are between 0 and 1; nor are other
            arrays of rank 3 and more. `Dataset.scaling` says which, and brings new rows to the same scale.
        missing: for empty cells of a table. "refuse"; "drop" leaves their rows out; "mean" takes the mean of their
            column in the training rows.
        without: columns of a table that are left out.
        layout: of images and series in .npz files and arrays: "channels-first", "channels-last", or "auto": by the
            shape, as a note then says.
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
        >>> data.scaling.says
        'Inputs: divided by 16 and not scaled further.'
    """
    known_normalization(normalize)
    if not dtype.is_floating_point:
        raise BadArgument(f"dtype={dtype} is not floating point.", where="dtype", fix="torch.float64 or torch.float32.")
    columns: tuple[str, ...]
    if isinstance(without, str):
        columns = (without,)
    else:
        columns = tuple(map(str, without))
    # columns of a frame may be numbers
    if target is None:
        named = None
    else:
        named = str(target)
    raw = read(data, data_dir, Choices(named, known_task(task), missing, columns, layout))
    return drawn(raw, n=n, n_test=n_test, seed=seed, normalize=normalize, dtype=dtype)


def drawn(
    raw: Raw,
    *,
    n: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    normalize: str = "auto",
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """The Dataset of rows as read; see `load`."""
    if len(raw.x) == 0:
        raise BadData("no data: 0 rows.", where=raw.source, why="an empty file.", fix="give at least two rows.")
    train, test, notes = _draw(raw, n, n_test, seed)
    numbers = np.arange(len(raw.y)) if raw.rows is None else raw.rows
    rows = torch.from_numpy(numbers[train])
    x, y = _tensor(raw.x[train], dtype), _labels(raw, raw.y[train], dtype)
    held, held_y = raw.test or (raw.x, raw.y)
    rows_test = torch.from_numpy(test)  # numbers in the official test set, or in the source's rows
    if not raw.test:
        rows_test = torch.from_numpy(numbers[test])
    x_test, y_test = _tensor(held[test], dtype), _labels(raw, held_y[test], dtype)
    name = f"{raw.name} ({raw.source})"
    missing = raw.columns is not None and raw.columns.missing == "mean"
    if missing:
        notes += _refuse_unfilled(raw, x)
    plain = Scaling.of(x, "none", divisor=raw.scale, missing=missing)  # what is missing filled in
    x, x_test = plain(x), plain(x_test)
    check(x, y, rows=rows, name=name, n_classes=len(raw.classes) or None)
    if len(x_test):
        targets_test = None  # a test set may well be of one class
        if not raw.classes:
            targets_test = y_test
        check(x_test, targets_test, rows=rows_test, name=f"{name}, test", in_shape=tuple(x.shape[1:]))
    if normalize == "auto":
        if x.ndim == 2:
            normalize = "standardize"
        else:
            normalize = "none"
    scaling = Scaling.of(x, normalize)
    notes += _constant(raw, x)
    before, x = x, scaling(x, rows=rows, name=name)
    x_test = scaling(x_test, rows=rows_test, name=f"{name}, test")
    if normalize == "unit":
        notes += _collapsed(before, x)
    scaling = Scaling(normalize, raw.scale, scaling.mean, scaling.sigma, plain.fill)
    said = (*raw.notes, *notes, scaling.says)
    return Dataset(
        raw.name, x, y, x_test, y_test, raw.classes, rows, raw.source, said, scaling=scaling, columns=raw.columns
    )


def available_rows(raw: Raw, n_test: int | None) -> int:
    """Training rows that there are beside the test rows."""
    if raw.test is not None:
        return len(raw.y)
    if n_test is None:
        n_test = default_n_test(len(raw.y))
    return max(1, len(raw.y) - n_test)


def _draw(raw: Raw, n: int | None, n_test: int | None, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Training rows, test rows (of the official test set if there is one), and a note if parts were left unread."""
    if raw.classes:
        strata = raw.y
    else:
        strata = np.zeros(len(raw.y), np.int64)
    enough(n, len(strata), "training")
    if raw.test is None:
        wanted = n
        if wanted is not None:
            if n_test is None:
                wanted += TEST_ROWS
            else:
                wanted += n_test
        pool = _pool(raw.pools, len(strata), wanted)
        train, test = split(strata[:pool], n, n_test, seed)
    else:
        pool = _pool(raw.pools, len(strata), n)
        train = head(strata[:pool], n, seed, "training")
        if raw.classes:
            strata_test = raw.test[1]
        else:
            strata_test = np.zeros(len(raw.test[1]), np.int64)
        enough(n_test, len(strata_test), "test")
        if n_test is None and n is not None:
            n_test = min(TEST_ROWS, len(strata_test))
        test = head(strata_test[: _pool(raw.pools_test, len(strata_test), n_test)], n_test, seed, "test")
    if pool >= len(strata):
        return train, test, ()
    said = f"Only the files with the first {pool:,} of {len(strata):,} training rows were read, to draw {len(train):,}."
    return train, test, (said,)


def _pool(ends: tuple[int, ...], available: int, needed: int | None) -> int:
    return next((end for end in ends if needed is not None and end >= needed), available)


def _tensor(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).to(dtype)


def _labels(raw: Raw, y: np.ndarray, dtype: torch.dtype) -> Tensor:
    if raw.classes:
        dtype = torch.int64
    return torch.from_numpy(np.ascontiguousarray(y)).to(dtype)


def _refuse_unfilled(raw: Raw, x: Tensor) -> tuple[str, ...]:
    """Raise for a column that has no number in any training row: it has no mean."""
    empty = x.isnan().all(0).nonzero().flatten().tolist()
    if empty and raw.columns is not None:
        name = raw.columns.encoded[empty[0]]
        raise BadData(
            f"column {name!r} has no value in any of the {len(x)} training rows.",
            where=raw.source,
            why="its few values are in rows that were not drawn.",
            fix=f"without=({name!r},) (--without {name}) leaves it out; or more rows.",
        )
    return ()


def _constant(raw: Raw, x: Tensor) -> tuple[str, ...]:
    """A note on columns of a table that are the same in all training rows."""
    if raw.columns is None or len(x) < 2:
        return ()
    same = (x == x[0]).all(0).nonzero().flatten().tolist()
    if not same:
        return ()
    names = [raw.columns.encoded[i] for i in same]
    return (f"The same in all training rows, so nothing is learned from it: {listed(names)}.",)


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
