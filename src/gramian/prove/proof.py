"""What `prove` returns: a certificate whose word is "proved" or "not proved"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gramian.checker import Checked, Line
from gramian.checker.certificate_file import Content, write
from gramian.conditions import TRAINING, Certificate, Condition
from gramian.errors import BadArgument
from gramian.files import replace_file
from gramian.report.facts import CertificateFacts, MarginFacts
from gramian.report.tradeoff import tradeoff_svg

PROVED, NOT_PROVED = "proved", "not proved"
REFERENCE = "docs/proofs.md"
RESIDUAL_OF_A_MINIMUM = 1e-6  # a larger one after polishing is not rounding: it is worth saying


@dataclass(frozen=True)
class TriedNetwork:
    """One network that a search of the statement "before" tried.

    Attributes:
        value: the width, output scale, or share of 2 / lambda_max.
        lr: the step that was tried.
        proved: whether it is certified.
        ratio: left over right side of the inequality that decides, below 1 where it is proved.
        kernel_change: of the network's Gram matrix H when the residual has fallen to 1 %, relative; measured.
        moved: the trained weights' way until then, over their size at the start; measured.
        steps: that the path stands for.
        points: of it that were computed.
        seconds: of the trial.
    """

    value: float
    lr: float
    proved: bool
    ratio: float
    kernel_change: float
    moved: float
    steps: int
    points: int
    seconds: float


@dataclass(frozen=True)
class Proof(Certificate):
    """A statement about one network and one data set, proved or not.

    Attributes:
        statement: "minimum", "descent", "separation", "run" or "before".
        content: what is written to a file and checked; None where the proof did not come so far.
        checked: the checker's word on it.
        numbers: what was computed on the way: residual, sigma, lipschitz, radius, moved, seconds, ...
        fix: empty, or what would prove it.
        find: "width", "scale" or "lr" where a search looked for the smallest (largest rate) that is certified; the
            value is in `numbers`.
        certified: the `value` of the trial that the search ended with, None where nothing was certified.
        trials: what the search tried, by value.
    """

    statement: str = ""
    content: Content | None = None
    checked: Checked | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    fix: str = ""
    find: str | None = None
    certified: float | None = None
    trials: tuple[TriedNetwork, ...] = ()

    @property
    def status(self) -> str:
        """ "proved" if the checker found every inequality to hold, else "not proved"."""
        if self.checked is not None and self.checked.valid:
            return PROVED
        return NOT_PROVED

    def facts(self) -> CertificateFacts:
        """The certificate for a report, with both numbers of each inequality."""
        margins = []
        if self.checked is not None:
            margins = [_margin(line) for line in self.checked.lines]
        if self.statement in ("minimum", "descent") and "h" in self.numbers:
            margins.insert(0, self._of_all())
        return replace(super().facts(), statement=self.statement, margins=margins)

    def _of_all(self) -> MarginFacts:
        r"""Of all of it: $2 L R / \sigma^2$ below the share c (1 of "minimum") lets a radius exist."""
        assert self.checked is not None
        share = next((line.right for line in self.checked.lines if line.name == "share"), 1.0)
        says = "h = 2 L R / σ^2, residual R against singular value σ and Lipschitz constant L: below it a radius exists"
        h = self.numbers["h"]
        return _margin(Line("h", says, h, "<", share, h < share))

    def save(self, path: str | Path) -> None:
        """Write the certificate, with weights and data, for `gramian check` and `gramian.prove.check`.

        Raises:
            BadArgument: nothing is proved, or the file cannot be written.
        """
        if self.content is None or self.status != PROVED:
            raise BadArgument(
                "There is no certificate to save: the statement is not proved.",
                where="Proof.save",
                why=self.summary,
                fix=self.fix,
            )
        write(path, self.content)

    def save_picture(self, path: str | Path) -> None:
        """Write the picture "certified against learned" of a search with `find`, as SVG.

        Raises:
            BadArgument: nothing was looked for, or the file cannot be written.
        """
        if self.find is None:
            raise BadArgument(
                "There is no search to show.",
                where="Proof.save_picture",
                why=f"the statement {self.statement!r} was proved, or not, of one network",
                fix="gramian.prove(..., 'before', find='width'), or find='scale', or find='lr'",
            )
        text = tradeoff_svg([vars(trial) for trial in self.trials], self.find, self.certified)
        replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _margin(line: Line) -> MarginFacts:
    """A line for a report; None for a number that is none."""
    left, right = (number if math.isfinite(number) else None for number in (line.left, line.right))
    return MarginFacts(name=line.name, says=line.says, left=left, sense=line.sense, right=right, holds=line.holds)


def condition_of(line: Line) -> Condition:
    """A line of the checker as a certificate's condition."""
    if line.right != line.right:  # a bound that could not be proved: there is no number to show
        return Condition(line.says, needs=line.left, has=None, sense=">=")
    return Condition(line.says, needs=line.right, has=line.left, sense=line.sense)


def proof(
    statement: str,
    title: str,
    content: Content,
    checked: Checked,
    numbers: Mapping[str, float],
    fixes: Mapping[str, str],
) -> Proof:
    """The proof as the checker judged it."""
    # in the order in which the fixes help: what stands first there must hold before the others can
    order = list(fixes)
    failing = sorted(checked.failing, key=lambda line: order.index(line.name) if line.name in order else len(order))
    summary, fix = content.says, ""
    if failing:
        tightest = failing[0]
        numbers_of_it = f"{tightest.left:.3g} {tightest.sense} {tightest.right:.3g} fails"
        if math.isnan(tightest.right):
            numbers_of_it = f"{tightest.left:.3g} could not be shown"
        summary = f"Not proved: {tightest.says} ({numbers_of_it})."
        fix = fixes.get(tightest.name, "a wider network, or fewer rows that lie further apart")
    return Proof(
        theorem=title,
        reference=REFERENCE,
        premises=tuple(condition_of(line) for line in checked.lines),
        conclusion=(),
        summary=summary,
        about=TRAINING,
        statement=statement,
        content=content,
        checked=checked,
        numbers=numbers,
        fix=fix,
    )


def too_few_weights(statement: str, weights: int, outputs: int) -> Proof:
    """No Jacobian of so few columns has the rank that the proof needs."""
    premise = Condition("trained weights, at least as many as outputs of all samples", outputs, weights, ">=")
    return Proof(
        theorem="An exact global minimum exists here",
        reference=REFERENCE,
        premises=(premise,),
        conclusion=(),
        summary=f"Not proved: {weights:,} trained weights cannot be moved so that {outputs:,} outputs move freely.",
        about=TRAINING,
        statement=statement,
        numbers={"parameters": weights, "outputs": outputs},
        fix="a wider network, or fewer rows",
    )


def rank_in_doubt(statement: str, numbers: Mapping[str, float], eigenvalue: float, hidden: float) -> Proof:
    """The Gram matrix may be singular, for all that float64 can tell."""
    says = "smallest eigenvalue of the Gram matrix, above what rounding can hide"
    stuck = ""
    if numbers.get("residual_left", 0) > RESIDUAL_OF_A_MINIMUM:
        stuck = f" Polishing stopped at a residual of {numbers['residual_left']:.2g}."
    return Proof(
        theorem="An exact global minimum exists here",
        reference=REFERENCE,
        premises=(Condition(says, hidden, eigenvalue, ">"),),
        conclusion=(),
        summary=f"Not proved: the smallest eigenvalue of the Gram matrix is about {eigenvalue:.2g}; rounding can hide "
        f"{hidden:.2g}.{stuck}",
        about=TRAINING,
        statement=statement,
        numbers={**numbers, "eigenvalue": eigenvalue},
        fix="a wider network, or fewer rows that lie further apart",
    )
