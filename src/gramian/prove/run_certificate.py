"""What `run` and `before` have in common: where a search starts, and from what it claims to the checker's word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from gramian.checker import checked
from gramian.checker.certificate_file import Content
from gramian.checker.program import NetworkProgram
from gramian.checker.sentences import assumptions, sentence
from gramian.errors import BadArgument
from gramian.prove.problem import Problem
from gramian.prove.proof import Proof, proof
from gramian.prove.run import Inequality
from gramian.timing import Stopwatch

LINES = ("range", "distance", "residual", "sigma", "share", "tail", "time")
# what another machine's sums in another order may change; a claim is rounded by that
ROOM = 1.05


@dataclass(frozen=True, eq=False)
class Claimed:
    """What a search claims, to be judged.

    Attributes:
        claims: the certificate's numbers.
        numbers: further ones, that nothing is proved about.
        inequality: what decided for the search, or against it.
        series: arrays of the certificate.
    """

    statement: str
    title: str
    claims: Mapping[str, float]
    numbers: Mapping[str, float]
    inequality: Inequality
    series: Mapping[str, np.ndarray]


def judged(claimed: Claimed, program: NetworkProgram, problem: Problem, watch: Stopwatch) -> Proof:
    """The checker's word on these claims; where it is no, the summary is the search's inequality.

    Args:
        watch: started with the search.
    """
    x, y = problem.arrays
    statement, claims, first = claimed.statement, claimed.claims, claimed.inequality
    assumes = (*assumptions(statement), *problem.assumes)
    content = Content(statement, sentence(statement, claims, len(x)), assumes, claims, program, x, y, claimed.series)
    word = checked(content)
    numbers = {**claims, **claimed.numbers, "seconds": watch.seconds}
    result = proof(statement, claimed.title, content, word, numbers, dict.fromkeys(LINES, first.fix))
    if word.valid:
        return result
    return replace(result, summary=f"Not proved: {first.says} ({first.left:.3g} < {first.right:.3g} fails).")


@contextmanager
def bounded_start(statement: str, what: str, further_fix: str = "") -> Iterator[None]:
    """Refuses, by name, a start whose bounds overflow."""
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by name
            yield
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise BadArgument(
            f"{what} cannot be bounded.",
            where=f"prove(module, x, y, statement={statement!r})",
            why=str(error),
            fix="inputs, targets and weights scaled to sizes near 1" + further_fix,
        ) from None
