"""Numbers that were written as text: thousands separators, decimal commas; and what are dates."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from gramian.errors import BadData

THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")  # 1,234 and 1,234,567.8
DECIMAL_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)")  # 3,5 and 1.234,5
DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})( \d{1,2}:\d{2}.*)?"
)
MOSTLY = 0.5  # share of the cells from which on a column of text is taken for numbers or dates with faults


def numbers_in(text: pd.Series, where: str, *, separator: str = "") -> tuple[np.ndarray, str] | None:
    """A column of text as numbers with a note on how they were written; None if it is no column of numbers.

    Cells that are no numbers are NaN in the result, if most cells are numbers. Missing cells stay NaN.

    Args:
        text: cells as text, missing ones NaN.
        where: file and column, for errors.
        separator: what separates the file's cells: where that is a comma, nobody writes decimals with one.

    Raises:
        BadData: "1,234" may be a thousand and more, or one and a bit, and nothing in the column tells which.
    """
    known = text.dropna().str.strip()
    if not len(known):
        return np.full(len(text), np.nan), ""
    plain = pd.to_numeric(known, errors="coerce")
    thousands = known.map(lambda cell: THOUSANDS.fullmatch(cell) is not None)
    commas = known.map(lambda cell: DECIMAL_COMMA.fullmatch(cell) is not None)
    note = ""
    if (plain.notna() | commas | thousands).mean() <= MOSTLY:
        return None
    if (commas & ~thousands).any():
        if (thousands & ~commas).any():
            raise BadData(
                "commas separate thousands in some cells and decimals in others.",
                where=where,
                why=f"{known[thousands & ~commas].iloc[0]!r} and {known[commas & ~thousands].iloc[0]!r} do not agree.",
                fix="write these numbers alike, with a decimal point and without thousands separators.",
            )
        written = known.where(~commas, known.str.replace(".", "", regex=False).str.replace(",", ".", regex=False))
        plain, note = pd.to_numeric(written, errors="coerce"), "with decimal commas"
    elif thousands.any():
        # "1,234" alone could be a decimal; a group of three after a comma in every cell with one is the thousands' mark
        if separator != "," and not _surely_thousands(known[thousands], plain):
            raise BadData(
                f"{known[thousands].iloc[0]!r} is a thousand and more, or a decimal number.",
                where=where,
                why="every cell with a comma has three digits after it, and none has a second comma or a point.",
                fix="write these numbers with a decimal point and without thousands separators.",
            )
        written = known.where(~thousands, known.str.replace(",", "", regex=False))
        plain, note = pd.to_numeric(written, errors="coerce"), "with commas between thousands"
    if plain.notna().mean() <= MOSTLY:
        return None
    return plain.reindex(text.index).to_numpy(np.float64), note


def _surely_thousands(written: pd.Series, plain: pd.Series) -> bool:
    """Two commas, a decimal point beside a comma, a decimal point in another cell, or whole numbers beside them."""
    return bool(
        (written.str.count(",") > 1).any() or written.str.contains(".", regex=False).any() or plain.notna().any()
    )


def are_dates(text: pd.Series) -> bool:
    """Whether most of the known cells are dates."""
    known = text.dropna()
    return len(known) > 0 and known.map(lambda cell: DATE.fullmatch(cell.strip()) is not None).mean() > MOSTLY
