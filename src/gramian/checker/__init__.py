"""The independent checker of certificates: it reads one file, recomputes every inequality in it with bounds of all
rounding errors, and imports neither torch nor anything of what made the certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramian.checker.arora2019 import ARORA2019, arora2019_lines
from gramian.checker.before_statement import before_lines
from gramian.checker.certificate_file import Content, read
from gramian.checker.du2019 import DU2019, du2019_lines
from gramian.checker.line import Line
from gramian.checker.relu_descent import RELU_DESCENT, relu_descent_lines
from gramian.checker.run_statement import run_lines
from gramian.checker.sentences import assumptions, sentence
from gramian.checker.song2021 import SONG2021, song2021_lines
from gramian.checker.statements import lines
from gramian.checker.well_formed import require_targets, require_well_formed
from gramian.errors import BadData

LINES_OF = {"run": run_lines, SONG2021: song2021_lines, RELU_DESCENT: relu_descent_lines}
LINES_OF_DRAWS = {DU2019: du2019_lines, ARORA2019: arora2019_lines}

__all__ = ["Checked", "Line", "check"]


@dataclass(frozen=True)
class Checked:
    """What became of a certificate: `lines`, each an inequality with its two numbers.

    Attributes:
        statement: the name of what is proved.
        says: the same in words.
        assumes: what is taken for granted.
        lines: the inequalities that were recomputed.
    """

    statement: str
    says: str
    assumes: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def valid(self) -> bool:
        """Whether every inequality holds."""
        return bool(self.lines) and all(line.holds for line in self.lines)

    @property
    def failing(self) -> tuple[Line, ...]:
        """The inequalities that do not hold."""
        return tuple(line for line in self.lines if not line.holds)

    def __str__(self) -> str:
        if self.valid:
            head = f"VALID: {self.says}"
        else:
            head = f"NOT VALID, {len(self.failing)} of {len(self.lines)} inequalities fail. It claims: {self.says}"
        marks = {True: "holds", False: "FAILS"}
        body = [f"  {marks[k.holds]}: {k.says}: {k.left:.6g} {k.sense} {k.right:.6g}" for k in self.lines]
        return "\n".join([head, *body, *(f"  assumed: {text}" for text in self.assumes)])


def check(path: str | Path, x: np.ndarray | None = None, y: np.ndarray | None = None) -> Checked:
    """Recompute every inequality of a certificate.

    Args:
        path: the file.
        x: inputs (n, ...); given, they are compared with those in the certificate, number by number.
        y: targets, likewise.

    Raises:
        BadData: the file is no certificate, was changed, or is about other data.

    Example:
        >>> gramian.prove.check("digits.certificate").valid                  # doctest: +SKIP
        True
    """
    content = read(path)
    for name, given, kept in (("x", x, content.x), ("y", y, content.y)):
        if given is not None and not _same(np.asarray(given), kept):
            raise BadData(
                f"The certificate is about other data: {name} differs from what it holds.",
                where=str(path),
                why=f"it holds {name} of shape {kept.shape}; a statement is about these numbers alone",
                fix="the data that gramian.prove was called with, scaled in the same way and in float64",
            )
    try:
        with np.errstate(all="ignore"):  # what overflows fails its inequality
            return checked(content)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise BadData(
            "This is no certificate that can be checked.",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            fix="the file as `Certificate.save` of gramian wrote it; make it anew with gramian.prove",
        ) from None


def checked(content: Content) -> Checked:
    """The same for a certificate in memory.

    The sentence and what it assumes come from here: a file may say anything in words.
    """
    if content.statement in LINES_OF_DRAWS:  # about draws of a network: there is none to look at
        recomputed = LINES_OF_DRAWS[content.statement](content.x, content.y, content.numbers)
    elif content.statement in LINES_OF:
        outputs = require_well_formed(content.program, content.x)
        require_targets(content.statement, content.y, len(content.x), outputs)
        with np.errstate(over="ignore", invalid="ignore"):
            recomputed = LINES_OF[content.statement](content.program, content.x, content.y, content.numbers)
    elif content.statement == "before":
        outputs = require_well_formed(content.program, content.x)
        require_targets("before", content.y, len(content.x), outputs)
        intervals = content.series["intervals"]
        recomputed = before_lines(content.program, content.x, content.y, content.numbers, intervals)
    else:
        recomputed = lines(content.statement, content.program, content.x, content.y, content.numbers)
    says = sentence(content.statement, content.numbers, len(content.x))
    assumes = dict.fromkeys((*assumptions(content.statement), *content.assumes))
    return Checked(content.statement, says, tuple(assumes), tuple(recomputed))


def _same(given: np.ndarray, kept: np.ndarray) -> bool:
    return given.size == kept.size and np.array_equal(given.reshape(kept.shape), kept)
