"""What a ledger says of a claim: its verdict, that of its negative control, and whether it falls short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gramian.claims.claim import HOLDS, VERDICTS, Claim, Measured, Verdict
from gramian.claims.ledger import Ledger, LedgerKey
from gramian.claims.versions import code_version

RECORD = Path(__file__).parent / "record.json"


@dataclass(frozen=True)
class Outcome:
    """One claim at one scale, judged.

    Attributes:
        claim: its key.
        scale: "tiny", "smoke" or "paper".
        seeds: that were measured.
        verdict: of the claim.
        control: with the broken premise; None where that was not measured.
        recorded: the status that this version of gramian has on record; "" where it has none.
        measured: of each seed.
        measured_broken: of each seed, with the broken premise.
    """

    claim: str
    scale: str
    seeds: tuple[int, ...]
    verdict: Verdict
    control: Verdict | None
    recorded: str
    measured: tuple[Measured, ...]
    measured_broken: tuple[Measured, ...]

    @property
    def falls_short(self) -> bool:
        """Whether the verdict is weaker than the one on record, or the claim holds without its premise."""
        if self.control is not None and self.control.status == HOLDS:
            return True
        return bool(self.recorded) and VERDICTS.index(self.verdict.status) < VERDICTS.index(self.recorded)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: verdicts without the measured series."""
        control = None
        if self.control is not None:
            control = verdict_facts(self.control)
        return {
            "claim": self.claim,
            "scale": self.scale,
            "seeds": list(self.seeds),
            "recorded": self.recorded,
            "falls_short": self.falls_short,
            "verdict": verdict_facts(self.verdict),
            "control": control,
        }


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data."""
    return {
        "status": verdict.status,
        "agreed": verdict.agreed,
        "seeds": verdict.seeds,
        "says": verdict.says,
        "conditions": [condition.to_dict() for condition in verdict.conditions],
        "effects": [vars(effect) for effect in verdict.effects],
    }


@cache
def record() -> dict[str, dict[str, str]]:
    """The verdicts on record, by claim and scale."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def outcome(claim: Claim, scale: str, ledger: Ledger, seeds: Sequence[int] | None = None) -> Outcome | None:
    """The claim judged on what the ledger has of its present version.

    Args:
        claim, scale: which.
        ledger: of measurements.
        seeds: the ones to judge; None takes all that are there.

    Returns:
        None where nothing was measured.
    """
    own = _measured(claim, scale, ledger, False, seeds)
    if not own:
        return None
    broken = _measured(claim, scale, ledger, True, seeds)
    control = None
    if broken:
        control = claim.judge(list(broken.values()))
    recorded = record().get(claim.key, {}).get(scale, "")
    verdict = claim.judge(list(own.values()))
    return Outcome(
        claim.key, scale, tuple(own), verdict, control, recorded, tuple(own.values()), tuple(broken.values())
    )


def outcomes(ledger: Ledger, claims: Sequence[Claim], scales: Sequence[str]) -> list[Outcome]:
    """Every claim at every scale of which the ledger has something."""
    judged = [outcome(claim, scale, ledger) for claim in claims for scale in scales]
    return [one for one in judged if one is not None]


def _measured(
    claim: Claim, scale: str, ledger: Ledger, broken: bool, seeds: Sequence[int] | None
) -> dict[int, Measured]:
    """By seed, in ascending order, so that a verdict does not depend on the order of the runs."""
    version = code_version(claim, scale, broken)
    own = {
        key.seed: measured
        for key, measured in ledger.measured.items()
        if key == LedgerKey(claim.key, scale, key.seed, broken, version)
    }
    return {seed: own[seed] for seed in sorted(own) if seeds is None or seed in seeds}
