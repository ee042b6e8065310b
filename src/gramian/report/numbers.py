"""Numbers as people read them: the one place where the report turns a value into text.

What was not measured (None or nan) reads "not measured"; large and small numbers are written with a power of ten.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

NOT_MEASURED = "not measured"
NO_FINITE = "no finite number is enough"
NO_BOUND = "any number (no bound)"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POWER = re.compile(r"(?<=[\w)])\^(-?\d+)(?![\w.]*\w|\^|\()")
_ENDLESS, _NO_NUMBER = re.compile(r"(?<![\w.-])inf(?![\w.-]*\w)"), re.compile(r"(?<![\w.-])nan(?![\w.-]*\w)")
# "1.3e41" anywhere in a text, or an integer of five digits and more; not a piece of "1811.03962" or of a name
_IN_TEXT = re.compile(r"(?<![\w.,])[-+]?(?:\d+(?:\.\d+)?[eE][-+]?\d+|\d{5,})(?![\w]|[.,]\d)")


def missing(value: object) -> bool:
    """True for None and nan: nothing was measured."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits, thousands separators, and a power of ten where it is needed.

    Integers keep all their digits up to a billion.

    >>> number(1.3e41), number(1234567), number(0.02134), number(-2.5e-7), number(None)
    ('1.3 × 10⁴¹', '1,234,567', '0.0213', '−2.5 × 10⁻⁷', 'not measured')
    """
    if value is None or missing(value):
        return NOT_MEASURED
    sign, size = "−" if value < 0 else "", abs(value)
    if math.isinf(size):
        return sign + "∞"
    if size == 0:
        return "0"
    if isinstance(value, int) and size < 10**9:
        return f"{sign}{size:,}"
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 < power < 6:
        if power < digits:
            text = f"{float(f'{mantissa}e{power}'):,.{max(0, digits - 1 - power)}f}"
        else:
            text = f"{size:,.0f}"
        return sign + _trim(text)
    ten = "10" + str(power).translate(_SUPERSCRIPT)
    if float(mantissa) == 1:
        return sign + ten
    return f"{sign}{_trim(mantissa)} × {ten}"


def percent(share: float | None, digits: int = 3) -> str:
    """A share of 1 in percent. Only 1 itself reads "100 %": 0.99996 does not round up to a perfect score.

    >>> percent(0.032), percent(1.0), percent(0.9996), percent(0.99999999)
    ('3.2 %', '100 %', '99.96 %', '> 99.99 %')
    """
    if share is None or missing(share):
        return NOT_MEASURED
    if math.isinf(share):
        return "not finite"
    if share < 1 and number(100 * share, digits) == "100":
        if share < 0.99995:
            return f"{100 * share:.2f} %"
        return "> 99.99 %"
    return f"{number(100.0 * share, digits)} %"


def fold(ratio: float) -> str:
    """How many times: "100-fold".

    >>> fold(100.0), fold(2.345), fold(1234567.0)
    ('100-fold', '2.35-fold', '1.23 × 10⁶-fold')
    """
    return f"{number(ratio)}-fold"


def count(n: int | None, thing: str, things: str | None = None) -> str:
    """A number of things, with the plural where it belongs: "1 step", "1,000 steps".

    >>> count(1, "step"), count(1000, "step"), count(2, "class", "classes")
    ('1 step', '1,000 steps', '2 classes')
    """
    if n is None:
        return NOT_MEASURED
    return f"{number(n)} {thing if n == 1 else things or thing + 's'}"


def duration(seconds: float | None) -> str:
    """A time in the units of a clock.

    >>> duration(0.032), duration(1.25), duration(200), duration(7500), duration(None)
    ('32 ms', '1.2 s', '3 min 20 s', '2 h 5 min', 'not measured')
    """
    if seconds is None or missing(seconds):
        return NOT_MEASURED
    if seconds < 1:
        if seconds >= 1e-3:
            return f"{1000 * seconds:.0f} ms"
        return "< 1 ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        if rest:
            return f"{minutes} min {rest} s"
        return f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if minutes:
        return f"{hours} h {minutes} min"
    return f"{hours} h"


def date(iso: str | None) -> str:
    """An ISO date in words, in UTC; a text that is no ISO date is left as it is.

    >>> date("2026-11-21T11:00:00+01:00")
    '21 November 2026, 10:00 UTC'
    """
    if not iso:
        return NOT_MEASURED
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    else:
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def quantity(value: object) -> str:
    """A certificate's "needs" or "has", which may be a number or a text with numbers in it.

    >>> quantity("1.3e41"), quantity(">= 2500"), quantity("nan"), quantity(512), quantity(None)
    ('1.3 × 10⁴¹', '≥ 2,500', 'not measured', '512', 'not measured')
    """
    if isinstance(value, bool):
        if value:
            return "yes"
        return "no"
    if isinstance(value, int | float) or value is None:
        return number(value)
    text = str(value).strip()
    if text.lower() in ("", "none", "nan"):
        return NOT_MEASURED
    if text.lower() in ("inf", "-inf", "infinity", "-infinity"):
        return number(float(text))
    if endless := re.fullmatch(r"(>=|<=|[≥≤<>])\s*(-?)inf(?:inity)?", text):
        if endless[1] in (">=", "≥", ">") and not endless[2]:
            return NO_FINITE
        return NO_BOUND
    alone = re.fullmatch(r"(\D{0,4})(\d{4,})", text)  # a year stands in a longer text
    if alone:
        text = alone[1] + number(int(alone[2]))
    return prose(text)


def prose(text: object) -> str:
    """A text with its numbers, powers and comparisons as people write them.

    Powers are raised if all of a text's can be: never `L⁴.5`, nor one beside another that stays `L^4.5`.

    >>> prose("m >= 2.5e7: n^24 L^12 / δ^-8, arXiv:1811.03962"), prose(None)
    ('m ≥ 2.5 × 10⁷: n²⁴ L¹² / δ⁻⁸, arXiv:1811.03962', 'not measured')
    """
    if missing(text):
        return NOT_MEASURED
    text = _IN_TEXT.sub(lambda match: _from_text(match[0]), str(text))
    if len(_POWER.findall(text)) == text.count("^"):
        text = _POWER.sub(lambda match: match[1].translate(_SUPERSCRIPT), text)
    text = _NO_NUMBER.sub("not a number", _ENDLESS.sub("infinity", text))
    return text.replace("<=", "≤").replace(">=", "≥")


def steps_taken(steps: list | None) -> int | None:
    """The last of the measured steps, or None."""
    if steps:
        return steps[-1]
    return None


def last(values: list | None) -> float | None:
    """The last measured value of a series, or None."""
    return next((v for v in reversed(values or []) if not missing(v)), None)


def _from_text(digits: str) -> str:
    if digits.lstrip("+-").isdigit():
        return number(int(digits))
    return number(float(digits))


def _trim(text: str) -> str:
    if "." in text:
        return text.rstrip("0").rstrip(".")
    return text
