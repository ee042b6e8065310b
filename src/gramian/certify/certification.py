"""The answer, its reasons, and the plain facts that a report is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gramian.certify.goal import REACHED
from gramian.conditions import CONTRADICTED, Certificate
from gramian.report.facts import SCHEMA
from gramian.train import Trace


@dataclass(frozen=True)
class Certification:
    """What `gramian.certify` found out about one network on one data set.

    Args:
        answer: three plain sentences: whether, how fast, why we know.
        certificates: what was proved or not of the trained network, then every theorem that applies, checked.
        did: "reached", "not reached" or "impossible": whether the last training loss counts as the global minimum.
        why: how we know: "proved" (an exact minimum near the weights that the run left, or the exact run from the
            initial ones), "implied", "implied up to constants" (by a theorem about training) or "observed".
        data: facts of the data, plain: `gramian.report.facts.DataFacts`.
        run: facts of the network and the run, plain: `gramian.report.facts.RunFacts`. `report_facts` puts several of
            them together.
        trace: the training run; None if none was made, because the data contradict themselves.
    """

    answer: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    did: str
    why: str
    data: dict[str, Any]
    run: dict[str, Any]
    trace: Trace | None

    @property
    def reached(self) -> bool:
        """Whether the global minimum was reached."""
        return self.did == REACHED

    @property
    def status(self) -> str:
        """The headline: what the run did, and how we know. Statements about other things do not enter."""
        return f"{self.did}, {self.why}"

    @property
    def holds(self) -> bool:
        """Whether the minimum was reached, and no theorem was contradicted."""
        return self.reached and all(c.status != CONTRADICTED for c in self.certificates)

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    def __len__(self) -> int:
        return len(self.certificates)

    def __str__(self) -> str:
        lines = [f"{self.run['title']}: {self.status}", *(f"  {sentence}" for sentence in self.answer)]
        line = (self.run["loss"].get("torch") or {}).get("line")
        if line:
            lines += [f"  {line}"]
        return "\n".join(lines + [f"  - {c.theorem}: {c.status}" for c in self.certificates])

    def write(self, folder: str) -> tuple[Any, Any]:
        """Writes report.html and report.json into a folder; returns their paths."""
        from gramian.report import write

        return write(report_facts([self]), folder)


def report_facts(certifications: Sequence[Certification], title: str | None = None) -> dict[str, Any]:
    """The plain facts of one or several certifications on the same data, for `gramian.report.write`."""
    data = certifications[0].data
    count = len(certifications)
    networks = f"{count} networks"
    if count == 1:
        networks = certifications[0].run["title"]
    title = title or f"{data['name']}: {networks}"
    return {"schema": SCHEMA, "title": title, "data": data, "runs": [c.run for c in certifications]}
