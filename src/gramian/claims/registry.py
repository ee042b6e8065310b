"""All claims by key, in the order of their papers."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.claims import (
    arora2019curve,
    arora2019fine,
    arora2019powers,
    bombari2022memorization,
    liu2022nesterov,
    montanari2022interpolation,
    munteanu2022coupled,
    munteanu2022movement,
    nguyen2021tight,
    yang2023bias,
)
from gramian.claims.claim import Claim, Paper
from gramian.data.labels import nearest
from gramian.errors import BadArgument

PAPER_FILES = (
    arora2019fine,
    arora2019curve,
    arora2019powers,
    bombari2022memorization,
    liu2022nesterov,
    montanari2022interpolation,
    munteanu2022coupled,
    munteanu2022movement,
    nguyen2021tight,
    yang2023bias,
)
PAPERS: dict[str, Paper] = {file.PAPER.key: file.PAPER for file in PAPER_FILES}
CLAIMS: dict[str, Claim] = {claim.key: claim for file in PAPER_FILES for claim in file.CLAIMS}


def chosen(keys: Sequence[str] = ()) -> list[Claim]:
    """The claims of these keys, in the registry's order; a paper's key stands for all of its claims.

    Args:
        keys: such as "arora2019fine" or "arora2019fine.measure"; () takes all.

    Raises:
        BadArgument: an unknown key.

    Example:
        >>> [claim.key for claim in chosen(["liu2022nesterov.rates"])]
        ['liu2022nesterov.rates']
    """
    for key in keys:
        if key not in CLAIMS and key not in PAPERS:
            raise BadArgument(
                f"no claim {key!r}.",
                where="the key of a claim or of a paper",
                why="another spelling." + nearest(key, [*PAPERS, *CLAIMS]),
                fix="gramian claims list",
            )
    return [c for c in CLAIMS.values() if not keys or c.key in keys or c.paper.key in keys]
