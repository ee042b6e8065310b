"""What a theorem asks for, what we have, and what follows: plain frozen data."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gramian.report.facts import CertificateFacts, ConditionFacts

IMPLIED, UP_TO_CONSTANTS, OBSERVED = "implied", "implied up to constants", "observed"
NOT_SHOWN, CONTRADICTED = "not shown", "CONTRADICTED"
STATUSES = (CONTRADICTED, IMPLIED, UP_TO_CONSTANTS, OBSERVED, NOT_SHOWN)  # in the order in which they are told
TRAINING, OTHER = "training", "other"  # what a theorem is about: the user's question, or something else
SENSES: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "is": operator.eq,
}


@dataclass(frozen=True)
class Condition:
    """A number that a theorem asks for, and the number that we have.

    Args:
        says: the condition in words.
        needs: the bound; for `sense` "is" a word or truth value.
        has: the number of this data and this run; None where it was not measured or is not known.
        sense: ">=", ">", "<=", "<" or "is".
        note: what was assumed, such as a constant taken to be 1.
        vacuous: why this bound says nothing, such as that no run could violate it; "" where it says something. A
            vacuous conclusion shows nothing.

    Example:
        >>> Condition("width", needs=1e40, has=512, sense=">=").holds
        False
    """

    says: str
    needs: float | bool | str
    has: float | bool | str | None
    sense: str = "is"
    note: str = ""
    vacuous: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None where that is not known."""
        if self.has is None or (isinstance(self.has, float) and math.isnan(self.has)):
            return None
        return SENSES[self.sense](self.has, self.needs)

    def facts(self) -> ConditionFacts:
        """Plain text for a report."""
        sign = {">=": "≥ ", "<=": "≤ ", ">": "> ", "<": "< ", "is": ""}[self.sense]
        if self.has is None:
            has = None
        else:
            has = _text(self.has)
        if self.vacuous:
            vacuous = f"vacuous: {self.vacuous}"
        else:
            vacuous = ""
        return ConditionFacts(
            says=self.says,
            needs=sign + _text(self.needs),
            has=has,
            holds=self.holds,
            note="; ".join(part for part in (self.note, vacuous) if part),
            vacuous=bool(self.vacuous),
        )

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain data."""
        return self.facts().to_dict()


def _text(value: float | bool | str) -> str:
    if isinstance(value, bool):
        if value:
            return "yes"
        return "no"
    if isinstance(value, str):
        return value
    if math.isfinite(value):
        return f"{value:.3g}"
    return f"{value:f}".replace("inf", "infinity")


@dataclass(frozen=True)
class Certificate:
    """One theorem, checked on one data set and one run.

    `status` is "implied" (every premise holds, so the conclusion follows, and it was not seen to fail), "implied up to
    constants" (the same, where each constant that the paper leaves open was taken to be 1), "observed" (a premise fails
    or is not known; the conclusion was seen nevertheless), "not shown" (neither, or no run could violate it),
    or "CONTRADICTED" (every premise holds and the conclusion was seen to fail: a mistake, or an open constant that is
    not 1).

    Args:
        theorem: its name in words.
        reference: arXiv id.
        premises: what it asks for.
        conclusion: what it says, as measured.
        constants: which constants the paper leaves open, all taken to be 1; "" where none is.
        summary: one sentence on this run.
        about: "training" if the conclusion answers whether training reaches the minimum, and at which rate; "other".
    """

    theorem: str
    reference: str
    premises: tuple[Condition, ...]
    conclusion: tuple[Condition, ...]
    constants: str = ""
    summary: str = ""
    about: str = OTHER

    @property
    def status(self) -> str:
        """One of the five words."""
        implied = all(c.holds for c in self.premises)
        telling = [c for c in self.conclusion if not c.vacuous]
        if implied and any(c.holds is False for c in telling):
            return CONTRADICTED
        if self.conclusion and not telling:
            return NOT_SHOWN
        if implied:
            if self.constants:
                return UP_TO_CONSTANTS
            return IMPLIED
        if telling and all(c.holds for c in telling):
            return OBSERVED
        return NOT_SHOWN

    @property
    def failing(self) -> tuple[Condition, ...]:
        """The premises that do not hold or are not known."""
        return tuple(c for c in self.premises if not c.holds)

    def facts(self) -> CertificateFacts:
        """The certificate for a report."""
        return CertificateFacts(
            theorem=self.theorem,
            reference=self.reference,
            status=self.status,
            about=self.about,
            summary=self.summary,
            premises=[c.facts() for c in self.premises],
            conclusion=[c.facts() for c in self.conclusion],
            constants=self.constants,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the report's JSON."""
        return self.facts().to_dict()

    def to_json(self) -> str:
        """The certificate as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        lines = [f"{self.theorem} ({self.reference}): {self.status}"]
        for kind, conditions in (("premise", self.premises), ("conclusion", self.conclusion)):
            for c in conditions:
                mark = {True: "holds", False: "fails", None: "not known"}[c.holds]
                text = c.to_dict()
                lines.append(f"  {kind}: {c.says}: needs {text['needs']}, has {text['has'] or 'not measured'} ({mark})")
        return "\n".join(lines)
