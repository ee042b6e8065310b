"""Numbers, lists and rows in the words of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BE = ("is", "are")
MOST_SHOWN = 5  # names or rows in a message


def counted(n: int, thing: str, verb: tuple[str, str] = ("", "")) -> str:
    """ "1 cell", "3 cells"; with a verb "1 cell is", "3 cells are"."""
    one, several = verb
    if n == 1:
        return f"{n:,} {thing} {one}".rstrip()
    return f"{n:,} {thing}s {several}".rstrip()


def share_of_rows(some: int, of: int, what: str) -> str:
    """ "1 of 3 rows has empty cells", "2 of 3 rows have empty cells"."""
    verb = "have"
    if some == 1:
        verb = "has"
    return f"{some:,} of {counted(of, 'row')} {verb} {what}"


def no_numbers(bad: int, of: int, thing: str) -> str:
    """ "1 of 3 cells is no number", "2 of 3 cells are no numbers"."""
    if bad == 1:
        return f"1 of {of} {thing}s is no number"
    return f"{bad} of {of} {thing}s are no numbers"


def listed(names: Sequence[str], most: int = MOST_SHOWN) -> str:
    """The first few names, and of more of them how many there are."""
    shown = ", ".join(names[:most])
    if len(names) > most:
        shown += f", ... ({len(names)} in all)"
    return shown


def first_few(texts: Sequence[str], most: int = MOST_SHOWN, end: str = "") -> str:
    """The first few texts, with dots for the others, or `end` where there are no others."""
    shown = ", ".join(texts[:most])
    if len(texts) > most:
        return shown + ", ..."
    return shown + end


def row_number(i: Any, rows: Any) -> int:
    """The number by which errors name row i, where `rows` holds such numbers."""
    if rows is None:
        return int(i)
    return int(rows[int(i)])
