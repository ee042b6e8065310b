"""The words of the claims, one file of text a paper in `statements/`, joined with what measures and judges them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gramian.claims.claim import BrokenPremise, Claim, Measured, Paper, Setting, Verdict
from gramian.report.picture import Picture

FOLDER = Path(__file__).parent / "statements"


@dataclass(frozen=True)
class Statement:
    """The words of one claim; the fields are those of `Claim`, `broken` is the premise that is broken, in words."""

    key: str
    paper: Paper
    says: str
    done: str
    paper_scale: str
    broken: str
    gives: str
    python: str

    def claim(
        self,
        settings: Mapping[str, Setting],
        measure: Callable[[Setting, int], Measured],
        judge: Callable[[Sequence[Measured]], Verdict],
        picture: Callable[[Sequence[Measured]], list[Picture]],
        changes: Setting,
        revision: int = 1,
    ) -> Claim:
        """The claim with what measures and judges it; `changes` of the setting break its premise."""
        return Claim(
            key=self.key, paper=self.paper, says=self.says, done=self.done, settings=settings,
            paper_scale=self.paper_scale, measure=measure, judge=judge, broken=BrokenPremise(self.broken, changes),
            picture=picture, gives=self.gives, python=self.python, revision=revision,
        )  # fmt: skip


def statements(key: str) -> tuple[Paper, list[Statement]]:
    """A paper and the words of its claims, in the order of its file."""
    text = _card(key)
    paper = Paper(key, **text["paper"])
    words = [
        Statement(f"{key}.{name}", paper, **{field: _joined(field, value) for field, value in fields.items()})
        for name, fields in text["claim"].items()
    ]
    return paper, words


def _joined(field: str, text: str) -> str:
    """A paragraph on one line; code as it stands."""
    if field == "python":
        return text.strip()
    return " ".join(text.split())


def printed_numbers(key: str) -> dict[str, dict[str, list[float]]]:
    """The numbers that a paper prints, by data set and quantity, as its card gives them."""
    return _card(key)["printed"]


@cache  # a paper whose claims are in several files
def _card(key: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{key}.toml").read_text(encoding="utf-8"))
