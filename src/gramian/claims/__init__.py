"""Papers as checked claims: `gramian.claims.run("arora2019fine")` measures, judges, and says what came out."""

from gramian.claims.claim import (
    DIFFERS,
    HOLDS,
    NOT_SHOWN,
    BrokenPremise,
    Claim,
    Effect,
    Measured,
    Paper,
    Verdict,
    judged,
)
from gramian.claims.gallery import write_gallery
from gramian.claims.ledger import Ledger
from gramian.claims.outcomes import Outcome, outcome, outcomes
from gramian.claims.registry import CLAIMS, PAPERS, chosen
from gramian.claims.runner import run
from gramian.claims.seed_statistics import SeedInterval, crossing, exponent, over_seeds, worst_ratio

__all__ = [
    "CLAIMS",
    "DIFFERS",
    "HOLDS",
    "NOT_SHOWN",
    "PAPERS",
    "BrokenPremise",
    "Claim",
    "Effect",
    "Ledger",
    "Measured",
    "Outcome",
    "Paper",
    "SeedInterval",
    "Verdict",
    "chosen",
    "crossing",
    "exponent",
    "judged",
    "outcome",
    "outcomes",
    "over_seeds",
    "run",
    "worst_ratio",
    "write_gallery",
]
