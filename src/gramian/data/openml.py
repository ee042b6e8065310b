"""Data sets of openml.org by number, through scikit-learn, which keeps them on disk."""

from __future__ import annotations

import warnings

from sklearn import datasets

from gramian.errors import BadArgument, BadData

from .columns import Table
from .table import table_of


def read_openml(number: str, target: str | None = None) -> tuple[Table, str]:
    """The table `openml:NUMBER`, and its target column: its own unless `target` names another.

    Raises:
        BadArgument: not a number.
        BadData: no network, no such data set, or a table with two columns of one name.
    """
    if not number.isdigit():
        raise BadArgument(
            f"{number!r} is no OpenML number.",
            where=f"openml:{number}",
            why="OpenML data sets are named by number; names have several versions.",
            fix="the number in the address of its page, e.g. openml:61 for iris.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its retries
            # "default-target" takes the set's own
            bunch = datasets.fetch_openml(
                data_id=int(number), as_frame=True, parser="auto", n_retries=1, target_column=target or "default-target"
            )
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "reason", None) or error
        raise BadData(
            f"OpenML data set {number} could not be fetched: {str(reason).strip()}",
            where=f"openml:{number}",
            why="no network, a proxy that refuses, or no such number or target column.",
            fix="try again with a network, or save the table elsewhere and give the file: --data table.csv.",
        ) from None
    targets = [str(name) for name in (bunch.target_names or [])]
    if len(targets) != 1:
        raise BadData(
            f"OpenML data set {number} has {len(targets)} target columns: {', '.join(targets) or '(none)'}.",
            where=f"openml:{number}, columns: {', '.join(map(str, bunch.frame.columns[:20]))}",
            why="its authors named none, or several.",
            fix="`target` = one column.",
        )
    if "details" in bunch:
        name = str(bunch.details.get("name", number))
    else:
        name = number
    return table_of(bunch.frame, name, f"openml:{number}"), targets[0]
