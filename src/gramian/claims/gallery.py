"""The gallery's facts, from a ledger alone: what each claim says, what came out, and its pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gramian.claims.claim import PAPER, PRINTED, SMOKE, Claim
from gramian.claims.ledger import SHIPPED, Ledger
from gramian.claims.outcomes import Outcome, outcomes, verdict_facts
from gramian.claims.registry import CLAIMS, PAPERS
from gramian.errors import BadData
from gramian.report.gallery import picture_facts, write_gallery_pages

SHOWN_SCALES = (PAPER, SMOKE)  # the telling one first


def write_gallery(folder: str | os.PathLike[str], ledger: Ledger | str | os.PathLike[str] | None = None) -> Path:
    """Writes the gallery: an index and a page a paper, static and offline.

    Args:
        folder: made if it does not exist.
        ledger: of measurements; None takes the one that ships with gramian.

    Returns:
        The path of `index.html`.

    Raises:
        BadData: the ledger has nothing of the present claims.
        BadArgument: the folder cannot be written.
    """
    if ledger is None:
        ledger = SHIPPED
    if not isinstance(ledger, Ledger):
        ledger = Ledger(ledger)
    papers = gallery_facts(outcomes(ledger, list(CLAIMS.values()), SHOWN_SCALES))
    if not papers:
        raise BadData(
            "The ledger has no measurement of the present claims.",
            where=str(ledger.path or "a ledger in memory"),
            why="it is empty, or of another version of gramian",
            fix="gramian claims run --all",
        )
    return write_gallery_pages(papers, folder)


def gallery_facts(judged: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Papers with their claims and outcomes, as plain data; what was not measured is left out."""
    papers = []
    for paper in PAPERS.values():
        claims = [
            _claim_facts(claim, [one for one in judged if one.claim == claim.key])
            for claim in CLAIMS.values()
            if claim.paper == paper and any(one.claim == claim.key for one in judged)
        ]
        if claims:
            papers.append({**vars(paper), "claims": claims})
    return papers


def _claim_facts(claim: Claim, judged: Sequence[Outcome]) -> dict[str, Any]:
    ordered = sorted(judged, key=lambda one: SHOWN_SCALES.index(one.scale))
    return {
        "key": claim.key,
        "anchor": claim.key.split(".")[1],
        "says": claim.says,
        "done": claim.done,
        "paper_scale": claim.paper_scale,
        "broken": claim.broken.says,
        "gives": claim.gives,
        "python": claim.python,
        "outcomes": [_outcome_facts(claim, one) for one in ordered],
    }


def _outcome_facts(claim: Claim, one: Outcome) -> dict[str, Any]:
    verdict = verdict_facts(one.verdict)
    control, control_pictures = None, []
    if one.control is not None:
        control = verdict_facts(one.control)
        control_pictures = [picture_facts(p) for p in claim.picture(one.measured_broken)]
    return {
        "scale": one.scale,
        "seeds": list(one.seeds),
        "setting": _setting_words(claim.setting(one.scale)),
        "verdict": verdict,
        "headline": _headline(verdict["effects"]),
        "control": control,
        "pictures": [picture_facts(p) for p in claim.picture(one.measured)],
        "control_pictures": control_pictures,
    }


def _headline(effects: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The size for the index: one beside a printed number if there is one, else the first."""
    printed = [effect for effect in effects if effect["source"] == PRINTED]
    return next(iter([*printed, *effects]), None)


def _setting_words(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items())
