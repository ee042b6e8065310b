r"""How wide a two-layer ReLU network must be, with no constant left open: after the proof of Du et al. 2019.

$f(x) = \frac{1}{\sqrt m}\sum_r a_r\,\mathrm{relu}(w_r\cdot x)$, $w_r \sim N(0, \kappa^2 I)$ trained, $a_r = \pm 1$ at
random and fixed. Three events fail with probability at most $\delta$ in all: the Gram matrix keeps $(1 - \epsilon)$ of
its limit's smallest eigenvalue (matrix Chernoff), no more neurons than counted by $q^2$ lie near their kink (Chernoff),
and the first outputs are small (Markov). Then no neuron moves far and descent converges at its rate at every step.
docs/proofs/other-theorems.md has the proof. The inequalities are those of numbers, in ball arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flint
import numpy as np

from gramian.checker.balls import Ball, spectral_norm
from gramian.checker.eigenvalues import smallest_is_at_least
from gramian.checker.line import Line, compared, positive, shown
from gramian.checker.program import JacobianGram
from gramian.checker.relu_limit import ReluLimit, relu_limit
from gramian.checker.well_formed import require

DU2019 = "du2019"
CLAIMS = (
    "width", "kappa", "step", "failure", "sigma", "inputs", "frobenius", "labels", "lost", "flips", "excess", "reach",
)  # fmt: skip
LARGEST_WIDTH = 1e300
BITS = 120


def du2019_lines(x: np.ndarray, y: np.ndarray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of the statement, for inputs (n, d) and targets (n, 1).

    Args:
        numbers: width m, kappa, step, failure (delta), antisymmetric (1 or 0); bounds of the data: sigma (the root of
            the limit's smallest eigenvalue), inputs and frobenius (norms of X), labels (norm of y); choices of the
            proof: lost (epsilon), flips (q), excess (t), reach (of a neuron, over kappa).

    Raises:
        NotWellFormed, BadData: the data are not what the statement can be about.
    """
    require_rows(x, y)
    had = {name: float(numbers[name]) for name in CLAIMS}
    antisymmetric = float(numbers["antisymmetric"])
    sizes = positive(had)
    if not sizes.holds:
        return [sizes]
    lines = width_lines(x, y, had, antisymmetric, relu_limit(x))
    return [sizes, *lines, *_between_numbers(had, len(x), bool(antisymmetric))]


def require_rows(x: np.ndarray, y: np.ndarray) -> None:
    """One target for each row, all of them numbers."""
    require(x.dtype == y.dtype == np.float64 and x.ndim == 2 and y.shape == (len(x), 1), "x (n, d), y (n, 1), float64")
    require(len(x) > 0 and bool(np.isfinite(x).all() and np.isfinite(y).all()), "data are finite numbers")


def width_lines(
    x: np.ndarray, y: np.ndarray, had: Mapping[str, float], antisymmetric: float, limit: ReluLimit
) -> list[Line]:
    """What is claimed of the data, of the law of the weights and of the probabilities."""
    inputs, copies = Ball.exact(x), 1.0 + antisymmetric
    gram = JacobianGram(limit.matrix, limit.error, 0.0)
    return [
        compared("pairs", "neurons are drawn one by one, or in pairs", abs(antisymmetric * (1 - antisymmetric)), "<=",
                 0.0),
        compared("whole", "the width is a whole number of them", (had["width"] / copies) % 1, "<=", 0.0),
        compared("widest", "the width is one that can be computed with", had["width"], "<=", LARGEST_WIDTH),
        shown("sigma", "the root of the limit Gram matrix's smallest eigenvalue is at least as claimed", had["sigma"],
              smallest_is_at_least(gram, had["sigma"])),
        compared("inputs", "the norm of the inputs is at most as claimed", spectral_norm(inputs), "<=", had["inputs"]),
        compared("frobenius", "so is their Frobenius norm", inputs.norm(), "<=", had["frobenius"]),
        compared("labels", "the norm of the targets is at most as claimed", Ball.exact(y).norm(), "<=", had["labels"]),
        compared("failure", "the statement fails with a probability below 1", had["failure"], "<", 1.0),
        compared("lost", "a share of the eigenvalue is kept", had["lost"], "<", 1.0),
    ]  # fmt: skip


def _between_numbers(had: Mapping[str, float], n: int, antisymmetric: bool) -> list[Line]:
    """The inequalities between the claims alone; left and right are shown as floats, judged as balls."""
    if not (had["lost"] < 1 and had["failure"] < 1):
        return []
    with flint.ctx.workprec(BITS):
        number = {name: flint.arb(value) for name, value in had.items()}
        m, lam, epsilon, t = number["width"], number["sigma"] ** 2, number["lost"], number["excess"]
        independent, delta, residual = m, 2 * number["failure"] / 3, number["labels"]
        if antisymmetric:
            independent, delta = m / 2, number["failure"]
        else:  # Markov: E ||f_0||^2 = kappa^2 ||X||_F^2 / 2
            residual += number["kappa"] * number["frobenius"] * (flint.arb(3) / (2 * number["failure"])).sqrt()
        each = delta / 2
        room = lam * (epsilon + (1 - epsilon) * (1 - epsilon).log())
        near = number["flips"] ** 2 / ((1 + t) * number["frobenius"] ** 2)
        result = [
            ball_line("kernel", "neurons enough for the Gram matrix at the start",
                       number["inputs"] ** 2 * (n / each).log(), independent * room),
            ball_line("flips", "neurons enough for the count of those near their kink",
                       (1 / each).log(), independent * near * ((1 + t) * (1 + t).log() - t)),
            ball_line("reach", "a neuron is that near to its kink with no more than the probability counted",
                       (number["reach"] / flint.arb(2).sqrt()).erf(), near),
        ]  # fmt: skip
        s = number["sigma"] * (1 - epsilon).sqrt() - number["flips"]
        result.append(ball_line("rank", "the Jacobian keeps its rank", flint.arb(0), s))
        if not s > 0:
            return result
        share = _share(number, s)
        moved = number["inputs"] * residual / (m.sqrt() * s**2)
        result.append(ball_line("share", "a step lowers the residual", flint.arb(0), share))
        result.append(
            ball_line("width", "no neuron leaves its reach", moved, share * number["kappa"] * number["reach"])
        )
    return result


def _share(number: Mapping[str, flint.arb], s: flint.arb) -> flint.arb:
    return 1 - number["flips"] / s - number["step"] * number["inputs"] ** 2 / 2


def ball_line(name: str, says: str, left: flint.arb, right: flint.arb) -> Line:
    """Left < right, of balls."""
    return Line(name, says, float(left.mid()), "<", float(right.mid()), bool(left < right))


def du2019_rate(had: Mapping[str, float]) -> float:
    """p of (1 - step p)^k, rounded down; 0 where nothing is proved."""
    if not all(math.isfinite(had[name]) for name in CLAIMS) or not 0 < had["lost"] < 1:
        return 0.0
    with flint.ctx.workprec(BITS):
        number = {name: flint.arb(had[name]) for name in CLAIMS}
        s = number["sigma"] * (1 - number["lost"]).sqrt() - number["flips"]
        if not s > 0:
            return 0.0
        rate = s**2 * _share(number, s)
        return max(float(rate.mid()) * (1 - 1e-12) - float(rate.rad()), 0.0)
