"""A theorem whose premises are numbers, none of them a constant that a paper leaves open: proved, or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gramian.conditions import IMPLIED
from gramian.prove.proof import Proof

ROOMS = (4.0, 1.1, 1.0)  # of a claimed residual, largest first: another machine's rounding may make it larger


@dataclass(frozen=True)
class NumericCertificate(Proof):
    """A theorem derived with all its constants, and the numbers that decide it.

    It holds what the checker recomputes, and is proved if the checker says so; `save` writes it. One that the checker
    has not seen, such as a statement about infinite width, is implied by its premises at most.

    Attributes:
        paper: the condition that the paper prints, with its open constants taken to be 1, beside ours.
    """

    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """ "proved" if the checker found every inequality to hold; "implied" unseen by it; else "not proved"."""
        if self.checked is None and self.premises and all(premise.holds for premise in self.premises):
            return IMPLIED
        return super().status
