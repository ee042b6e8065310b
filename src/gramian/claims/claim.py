"""What a claim is: a paper's statement, how it is measured and judged, and the premise without which it must fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gramian.conditions import Condition
from gramian.report.picture import Picture

HOLDS, DIFFERS, NOT_SHOWN = "holds", "differs", "not shown"
VERDICTS = (NOT_SHOWN, DIFFERS, HOLDS)  # from the weakest to the strongest
TINY, SMOKE, PAPER = "tiny", "smoke", "paper"
SCALES = (TINY, SMOKE, PAPER)

# where the number comes from that ours stands beside; only the first two are compared with it
PRINTED, DERIVED, FROM_MEMORY = "printed in the paper", "derived", "from memory, not compared"
PRINTED_OF_ANOTHER = "printed in the paper for a trained network, ours is its limit: not compared"

Setting = Mapping[str, Any]
Numbers = Mapping[str, float | None]
Series = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Paper:
    """A paper, as the gallery names it.

    Args:
        key: author+year+word, the name of its file in `claims`.
        authors: last names.
        year: of the publication.
        title: as printed.
        arxiv: id, such as "1901.08584".
        topic: what the gallery's filter calls it.
    """

    key: str
    authors: str
    year: int
    title: str
    arxiv: str
    topic: str


@dataclass(frozen=True)
class Measured:
    """What one measurement gave: numbers and series by name, nothing judged.

    Numbers are plain floats; None is what did not happen, such as a loss that was never reached. A number that is not
    finite becomes None, as JSON has none of these.

    Args:
        numbers: by name.
        series: lists of numbers by name.

    Example:
        >>> Measured({"steps": 3, "loss": math.inf}, {"widths": [64, 128]})
        Measured(numbers={'loss': None, 'steps': 3.0}, series={'widths': [64.0, 128.0]})
    """

    numbers: Numbers
    series: Series

    def __post_init__(self) -> None:
        # in the order of their names, as the ledger has them: a verdict does not tell where its numbers come from
        plain = {name: _plain(self.numbers[name]) for name in sorted(self.numbers)}
        lists = {name: [_plain(value) for value in self.series[name]] for name in sorted(self.series)}
        object.__setattr__(self, "numbers", plain)
        object.__setattr__(self, "series", lists)

    def number(self, name: str) -> float:
        """The number of this name; nan for what did not happen."""
        value = self.numbers[name]
        if value is None:
            return math.nan
        return value

    def values(self, name: str) -> list[float]:
        """The series of this name, nan for what did not happen."""
        return [value if value is not None else math.nan for value in self.series[name]]

    def kinds(self, quantity: str) -> list[str]:
        """What a quantity was measured of: "a" and "b" where there are the series "loss, a" and "loss, b" of "loss"."""
        start = f"{quantity}, "
        return [name.removeprefix(start) for name in self.series if name.startswith(start)]


def _plain(value: Any) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Effect:
    """A measured size with its interval over the seeds, and the number that it stands beside.

    Args:
        says: what it is.
        value: the mean over the seeds; None where it was not measured.
        low, high: ends of the 95 % interval; None where there are too few seeds.
        other: the paper's number, or the one that theory derives.
        source: of the other number: `PRINTED`, `DERIVED`, `FROM_MEMORY` or `PRINTED_OF_ANOTHER`.
    """

    says: str
    value: float | None
    low: float | None = None
    high: float | None = None
    other: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Verdict:
    """What all seeds together say of a claim.

    Args:
        status: "holds", "differs" (the statement was seen, but a printed or derived number is another one), or "not
            shown" (a part of the statement was not seen).
        conditions: what each part of the statement asks for, and what was measured.
        agreed: seeds in which every part that can be asked of a single seed holds.
        seeds: how many there were.
        effects: sizes with intervals.
        says: what would change the verdict.
    """

    status: str
    conditions: tuple[Condition, ...]
    agreed: int
    seeds: int
    effects: tuple[Effect, ...] = ()
    says: str = ""


@dataclass(frozen=True)
class BrokenPremise:
    """The setting in which the claim must fail.

    Args:
        says: which premise is broken, and what is expected then.
        changes: of the setting.
    """

    says: str
    changes: Setting


@dataclass(frozen=True)
class Claim:
    """A paper's statement that the program checks.

    Args:
        key: key of the paper, a dot, and a word.
        paper: where it is from.
        says: the statement, one sentence of ours.
        done: what is measured.
        settings: by scale. "tiny" is for tests; "smoke" takes less than a minute of one core for all five seeds;
            "paper" has the paper's own sizes or the largest that are possible here, and `paper_scale` says which.
        paper_scale: what the settings of scale "paper" are.
        measure: (setting, seed) -> Measured. It judges nothing; the same setting and seed give the same numbers.
        judge: all seeds' Measured -> Verdict.
        broken: the premise without which it fails.
        picture: all seeds' Measured -> pictures, the first of which is the thumbnail.
        gives: what a practitioner gets from it.
        python: lines that do the same with the reader's own data or network.
        revision: raised by hand when a method that `measure` calls returns other numbers: see `versions.py`.
    """

    key: str
    paper: Paper
    says: str
    done: str
    settings: Mapping[str, Setting]
    paper_scale: str
    measure: Callable[[Setting, int], Measured]
    judge: Callable[[Sequence[Measured]], Verdict]
    broken: BrokenPremise
    picture: Callable[[Sequence[Measured]], list[Picture]]
    gives: str
    python: str
    revision: int = 1

    def setting(self, scale: str, broken: bool = False) -> dict[str, Any]:
        """The setting of a scale, with the broken premise if it is asked for."""
        setting = dict(self.settings[scale])
        if broken:
            setting |= self.broken.changes
        return setting


def judged(
    conditions: Sequence[Condition],
    compared: Sequence[Condition] = (),
    *,
    agreed: Sequence[bool],
    effects: Sequence[Effect] = (),
    says: str,
) -> Verdict:
    """The verdict of a statement's parts and of comparisons with printed or derived numbers.

    Args:
        conditions: the parts of the statement. Where one fails or is not known, it is "not shown".
        compared: comparisons with numbers of the paper. Where one fails, the verdict is "differs".
        agreed: for each seed, whether it agrees by itself.
        effects, says: of the verdict.
    """
    if not all(condition.holds for condition in conditions):
        status = NOT_SHOWN
    elif not all(condition.holds for condition in compared):
        status = DIFFERS
    else:
        status = HOLDS
    return Verdict(status, (*conditions, *compared), sum(agreed), len(agreed), tuple(effects), says)
