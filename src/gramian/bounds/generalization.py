"""What a bound of the population error says, with what it assumes and what is random in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GeneralizationBound:
    r"""An upper bound of the error on new samples of the distribution that the rows were drawn from.

    Attributes:
        name: "PAC-Bayes" or "Rademacher".
        value: with probability at least `1 - failure_probability` the error is at most this.
        failure_probability: delta; what is random is in `assumes`.
        samples: n, the rows that the bound counts.
        classifier: whose error it is.
        guessing: the error of choosing one of the C classes blindly, 1 - 1/C.
        numbers: the parts of the bound.
        assumes: what must be true for the statement to hold, in words.
        reference: arXiv ids.
    """

    name: str
    value: float
    failure_probability: float
    samples: int
    classifier: str
    guessing: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    assumes: tuple[str, ...] = ()
    reference: str = ""

    @property
    def vacuous(self) -> bool:
        """Whether blind guessing is promised to be as good."""
        return not self.value < self.guessing

    def __str__(self) -> str:
        verdict = f"at most {self.value:.4f}"
        if self.vacuous:
            verdict = f"no bound below blind guessing ({self.guessing:.3g}): vacuous ({self.value:.4g})"
        lines = [
            f"{self.name}: the error of {self.classifier} on new samples is {verdict}, with probability "
            f"{1 - self.failure_probability:g}, from {self.samples:,} samples.",
            *(f"  {name}: {number:.4g}" for name, number in self.numbers.items()),
            *(f"  assumed: {text}" for text in self.assumes),
        ]
        return "\n".join(lines)
