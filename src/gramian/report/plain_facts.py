"""A group of a report's facts: frozen and typed, to plain data and back.

A field that was not written has no key in the plain data; read back, every field is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args, get_origin, get_type_hints


class _NotWritten:
    """The value of a field that nobody wrote; it has no key in report.json."""

    def __repr__(self) -> str:
        return "NOT_WRITTEN"

    def __copy__(self) -> _NotWritten:
        return self

    def __deepcopy__(self, memo: object) -> _NotWritten:
        return self

    def __reduce__(self) -> str:
        return "NOT_WRITTEN"


NOT_WRITTEN: Any = _NotWritten()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of one subject; `MISSING` says what the page reads where nothing was written, if that is not None."""

    MISSING: ClassVar[dict[str, Any]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the fields that were not written."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not NOT_WRITTEN}

    @classmethod
    def completed(cls, plain: Mapping[str, Any] | None) -> dict[str, Any]:
        """These plain data with every field; what is None or not there is what the page reads for missing."""
        plain = plain or {}
        held = _held_facts(cls)
        whole: dict[str, Any] = {}
        for entry in fields(cls):
            name, value = entry.name, plain.get(entry.name)
            kind, is_list = held.get(name, (None, False))
            if kind is not None and is_list:
                value = [kind.completed(one) for one in value or []]
            elif kind is not None:
                value = kind.completed(value)
            elif value is None:
                value = copy(cls.MISSING.get(name))
            whole[name] = value
        return whole


def _held_facts(kind: type[Facts]) -> dict[str, tuple[type[Facts], bool]]:
    """Fields that hold facts of their own, by their types: which ones, and whether it is a list of them."""
    held = {}
    for name, hint in get_type_hints(kind).items():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, Facts):
                held[name] = (part, get_origin(hint) is list)
    return held


def _plain(value: Any) -> Any:
    if isinstance(value, Facts):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
