"""A theorem whose premises are numbers, none of them a constant that a paper leaves open: proved, or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gramian.conditions import Certificate
from gramian.prove.proof import NOT_PROVED, PROVED


@dataclass(frozen=True)
class NumericCertificate(Certificate):
    """A theorem derived with all its constants, and the numbers that decide it.

    Attributes:
        numbers: what was computed on the way.
        paper: the condition that the paper prints, with its open constants taken to be 1, beside ours.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "proved" if every premise holds, else "not proved"."""
        if self.premises and all(premise.holds for premise in self.premises):
            return PROVED
        return NOT_PROVED
