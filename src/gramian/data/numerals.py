"""Numbers that were written as text: thousands separators, decimal commas; dates, units and objects, which are none."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
import pandas as pd

from gramian.errors import BadData

from .labels import text_of

THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")  # 1,234 and 1,234,567.8
DECIMAL_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)")  # 3,5 and 1.234,5
CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}([-/.]\d{{1,2}})?([T ]{CLOCK}.*)?"  # 2020-01-31, 2020/01, with a time
    rf"|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{2}}|\d{{4}})( {CLOCK}.*)?"  # 31.01.2020, 1/31/20
    rf"|\d{{1,2}}[. -]+{MONTH}[, -]*\d{{2,4}}|{MONTH} \d{{1,2}},? \d{{4}}|{MONTH}[ -]\d{{2,4}}"  # 31 Jan 2020
    rf"|{CLOCK}( ?[ap]m)?",
    re.IGNORECASE,
)
UNIT = re.compile(r"([$€£¥])? ?[-+]?[\d.,]+ ?(%|[$€£¥])?")  # $5, 5 €, 5 %
# share of the cells from which on a column of text is taken for numbers or dates with faults
LEAST_READABLE_SHARE = 0.5


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
    if (plain.notna() | commas | thousands).mean() <= LEAST_READABLE_SHARE:
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
    if plain.notna().mean() <= LEAST_READABLE_SHARE:
        return None
    return plain.reindex(text.index).to_numpy(np.float64), note


def _surely_thousands(written: pd.Series, plain: pd.Series) -> bool:
    """Two commas, a decimal point beside a comma, a decimal point in another cell, or whole numbers beside them."""
    return bool(
        (written.str.count(",") > 1).any() or written.str.contains(".", regex=False).any() or plain.notna().any()
    )


def refuse_units(text: pd.Series, where: str) -> None:
    """Raise where most cells are numbers with a currency or a percent sign, which categories would make of no order."""
    known = text.dropna().str.strip()
    marked = known[known.map(lambda cell: any(sign in cell for sign in "$€£¥%") and UNIT.fullmatch(cell) is not None)]
    if len(marked) and len(marked) > LEAST_READABLE_SHARE * len(known):
        raise BadData(
            f"{len(marked)} of {len(known)} cells are numbers with a sign, such as {marked.iloc[0]!r}.",
            where=where,
            why="as text they would be categories, without order or size.",
            fix="write the numbers alone, and the unit into the column's name.",
        )


def refuse_objects(column: pd.Series, name: str, where: str) -> None:
    """Raise for complex numbers, and for lists and other objects, which are neither numbers nor text."""
    known = column.dropna()
    plain = (str, bytes, bool, int, float, np.generic, datetime.date, datetime.time, datetime.timedelta)
    if column.dtype == object:
        odd = [value for value in known if not isinstance(value, plain)]
    else:
        odd = []
    if column.dtype.kind != "c" and not odd:
        return
    if odd:
        first = odd[0]
    else:
        first = known.iloc[0]
    raise BadData(
        f"column {name!r} holds neither numbers nor text; the first such value is {first!r}.",
        where=where,
        why=f"a {type(first).__name__} is no single real number.",
        fix=f"a column for each number in it; or without=({name!r},) (--without {name}) leaves it out.",
    )


def are_dates(text: pd.Series) -> bool:
    """Whether most of the known cells are dates or times of day."""
    known = text.dropna()
    if pd.to_numeric(known, errors="coerce").notna().mean() > LEAST_READABLE_SHARE:  # 2020.01 is a number first
        return False
    return (
        len(known) > 0
        and known.map(lambda cell: DATE.fullmatch(cell.strip()) is not None).mean() > LEAST_READABLE_SHARE
    )


def as_float(column: pd.Series) -> np.ndarray:
    """Cells as float64, empty ones NaN."""
    dtype: Any = column.dtype
    if column.dtype == object:
        dtype = "Float64"
    return column.astype(dtype).to_numpy(np.float64, na_value=np.nan)


def as_text(column: pd.Series) -> pd.Series:
    """Cells as text, whole numbers without a point; empty ones NaN."""
    return column.astype(object).map(text_of, na_action="ignore").astype(object)
