"""What gramian says when it cannot go on.

Every message has four parts: what failed, with numbers; where; the likely cause; what to type instead. The first
line is the caller's, the others are made here so that all of them read alike.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def message(what: str, *, where: str = "", why: str = "", fix: str = "") -> str:
    """The four parts as one text, a line each; parts left out give no line."""
    parts = [what, *(f"  {name}: {text}" for name, text in (("where", where), ("why", why), ("fix", fix)) if text)]
    return "\n".join(parts)


class GramianError(Exception):
    """Base of the errors that the command line prints without a traceback."""

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(message(what, where=where, why=why, fix=fix))
        self.what, self.where, self.why, self.fix = what, where, why, fix

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.where, self.why, self.fix)


def named_in_errors(function: Callable[P, R]) -> Callable[P, R]:
    """A public function whose errors say its own call as the place where they have none."""
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    where = f"{function.__qualname__}({', '.join(n for n in required if n != 'self')})"

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except GramianError as error:
            if not error.where:
                error.where = where
                error.args = (message(error.what, where=where, why=error.why, fix=error.fix),)
            raise

    return call


def _rebuild(cls, what, where, why, fix):
    return cls(what, where=where, why=why, fix=fix)


class NoLimit(GramianError, NotImplementedError):
    """A module has no infinite-width limit in closed form, or none that is implemented."""


class NotPositive(GramianError, ArithmeticError):
    """A matrix that must be positive is not, to working precision.

    Attributes:
        enough: a ridge in the units of the matrix that makes it positive; None where none is known.
    """

    enough: float | None = None


class StaleTiles(GramianError):
    """Stored tiles were made from other data, another kernel, or are damaged."""


class BadData(GramianError, ValueError):
    """Data that cannot be used: not finite, empty, of the wrong shape, truncated, contradictory."""


class BadArgument(GramianError, ValueError):
    """An option or argument that makes no sense, with what would."""


class Unsupported(ValueError):
    """An engine cannot compute this kernel, and another one does: never the caller's error under `engine="auto"`.

    Args:
        why: the reason.
        op: the layer or value that is in its way.
        where: that one's place in the user's code.
    """

    def __init__(self, why: str, *, op: str = "", where: str = "") -> None:
        super().__init__(why)
        self.why, self.op, self.where = why, op, where

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.op, self.where) if part)
        return f"{place}: {self.why}" if place else self.why
