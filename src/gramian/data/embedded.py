"""The data sets that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn import datasets

from .columns import Column, Columns
from .raw import Raw


def digits() -> Raw:
    """1797 handwritten digits, 8 x 8 grey values 0 .. 16, given as (n, 1, 8, 8) in 0 .. 1."""
    bunch = datasets.load_digits()
    return Raw(
        "digits",
        "scikit-learn",
        bunch.images[:, None],
        bunch.target.astype(np.int64),
        tuple(str(c) for c in bunch.target_names),
        scale=16.0,
    )


def _table(name: str, fetch: Callable) -> Callable[[], Raw]:
    def read() -> Raw:
        bunch = fetch()
        classes = tuple(str(c) for c in getattr(bunch, "target_names", ()))
        if classes:
            y = bunch.target.astype(np.int64)
        else:
            y = bunch.target.astype(np.float64)[:, None]
        columns = Columns(tuple(Column(str(column)) for column in bunch.feature_names), "target")
        return Raw(name, "scikit-learn", bunch.data, y, classes, columns=columns)

    return read


EMBEDDED: dict[str, Callable[[], Raw]] = {
    "digits": digits,
    "iris": _table("iris", datasets.load_iris),
    "wine": _table("wine", datasets.load_wine),
    "breast-cancer": _table("breast-cancer", datasets.load_breast_cancer),
    "diabetes": _table("diabetes", datasets.load_diabetes),
}
