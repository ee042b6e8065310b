"""A theorem whose premises are numbers, none of them a constant that a paper leaves open: proved, or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gramian.prove.proof import NOT_PROVED, PROVED, Proof

ROOMS = (4.0, 1.1, 1.0)  # of a claimed residual, largest first: another machine's rounding may make it larger


@dataclass(frozen=True)
class NumericCertificate(Proof):
    """A theorem derived with all its constants, and the numbers that decide it.

    One about a network and its data holds what the checker recomputes, and is proved if the checker says so; `save`
    writes it. One about random draws of the weights has no network to write.

    Attributes:
        paper: the condition that the paper prints, with its open constants taken to be 1, beside ours.
    """

    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "proved" if every inequality holds, else "not proved"."""
        if self.checked is not None:
            return super().status
        if self.premises and all(premise.holds for premise in self.premises):
            return PROVED
        return NOT_PROVED
