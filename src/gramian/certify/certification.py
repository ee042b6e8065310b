"""The answer, its reasons, and the plain facts that a report is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gramian.certify.conditions import CONTRADICTED, NOT_SHOWN, STATUSES, Certificate
from gramian.train import Trace

SCHEMA = 1


@dataclass(frozen=True)
class Certification:
    """What `gramian.certify` found out about one network on one data set.

    Args:
        answer: three plain sentences: whether, how fast, why we know.
        certificates: every theorem that applies, checked.
        reached: whether the loss fell to the share that was asked for.
        data: facts of the data, plain.
        run: facts of the network and the run, plain; `report_facts` puts several of them together.
        trace: the training run; None if none was made, because the data contradict themselves.
    """

    answer: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    reached: bool
    data: dict[str, Any]
    run: dict[str, Any]
    trace: Trace | None

    @property
    def status(self) -> str:
        """The strongest word that a certificate gives: a contradiction before all, then "implied" downwards."""
        return overall(self.certificates)

    @property
    def holds(self) -> bool:
        """Whether the minimum was reached, and no theorem was contradicted."""
        return self.reached and self.status != CONTRADICTED

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    def __len__(self) -> int:
        return len(self.certificates)

    def __str__(self) -> str:
        lines = [f"{self.run['title']}: {self.status}", *(f"  {sentence}" for sentence in self.answer)]
        return "\n".join(lines + [f"  - {c.theorem}: {c.status}" for c in self.certificates])

    def write(self, folder: str) -> tuple[Any, Any]:
        """Writes report.html and report.json into a folder; returns their paths."""
        from gramian.report import write

        return write(report_facts([self]), folder)


def overall(certificates: Sequence[Certificate]) -> str:
    """The word for all of them together."""
    found = {c.status for c in certificates}
    return next((word for word in STATUSES if word in found), NOT_SHOWN)


def report_facts(certifications: Sequence[Certification], title: str | None = None) -> dict[str, Any]:
    """The plain facts of one or several certifications on the same data, for `gramian.report.write`."""
    data = certifications[0].data
    count = len(certifications)
    title = title or f"{data['name']}: " + (certifications[0].run["title"] if count == 1 else f"{count} networks")
    return {"schema": SCHEMA, "title": title, "data": data, "runs": [c.run for c in certifications]}
