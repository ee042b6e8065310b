r"""The Polyak-Lojasiewicz condition on a ball of weights, and gradient descent that never leaves it.

On the ball of radius $\varrho$: $\|J^\top r\| \ge \mu\|r\|$, $\|J\| \le \nu$, J Lipschitz with $\beta$; $\|r\| \le R$
at the centre. With $c = 1 - \frac\eta2(\nu^2 + \beta R) > 0$ and $R < c\,\mu\varrho$, gradient descent with step
$\eta$ stays in the ball and $\|r_k\| \le (1 - \eta c\mu^2)^k R$: docs/proofs/other-theorems.md has the proof.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gramian.checker.line import Line, positive, rational

POLYAK = "polyak-lojasiewicz"
CLAIMS = ("residual", "sigma", "lipschitz", "radius", "largest", "step")


@dataclass(frozen=True)
class PolyakBall:
    """The numbers of the condition on one ball, exactly as they are claimed."""

    mu: Fraction
    nu: Fraction
    beta: Fraction
    residual: Fraction
    radius: Fraction
    step: Fraction

    @property
    def share(self) -> Fraction:
        """c."""
        return 1 - self.step / 2 * (self.nu**2 + self.beta * self.residual)

    @property
    def allowed(self) -> Fraction:
        """The residual must be below this."""
        return self.share * self.mu * self.radius

    @property
    def contraction(self) -> float:
        """p of (1 - p)^k, rounded down; 0 where nothing is proved."""
        if self.share <= 0 or self.mu <= 0:
            return 0.0
        return float(self.step * self.share * self.mu**2) * (1 - 2.0**-50)

    def lines(self) -> list[Line]:
        return [
            rational("mu", "the condition holds on the ball with a positive constant", Fraction(0), "<", self.mu),
            rational("share", "a step lowers the residual", Fraction(0), "<", self.share),
            rational("path", "residual below c mu rho: no step leaves the ball", self.residual, "<", self.allowed),
        ]


def polyak_ball(had: Mapping[str, float]) -> PolyakBall:
    """From the centre's singular values: mu falls, and nu grows, by beta times the radius."""
    residual, sigma, beta, radius, largest, step = (Fraction(had[name]) for name in CLAIMS)
    return PolyakBall(sigma - beta * radius, largest + beta * radius, beta, residual, radius, step)


def polyak_lines(had: Mapping[str, float]) -> list[Line]:
    """The inequalities between the claimed bounds alone, in rational arithmetic."""
    sizes = positive({name: had[name] for name in CLAIMS})
    if not sizes.holds:
        return [sizes]
    return [sizes, *polyak_ball(had).lines()]


def polyak_contraction(had: Mapping[str, float]) -> float:
    """The proved rate of a certificate's claims; 0 where they are no numbers."""
    if not all(math.isfinite(had[name]) for name in CLAIMS):
        return 0.0
    return polyak_ball(had).contraction
