r"""The Polyak-Lojasiewicz condition with the constants of Song et al. 2021 (arXiv:2111.01875): two smooth layers.

$f = sA\phi(XW^\top)$ with both layers trained. On the ball of radius $\varrho$, with $\chi = \|A\| + \varrho$:
$\mu = s(\sigma_{\min}(\phi(XW^\top)) - \phi'_{\max}\|X\|\varrho)$, by the readout alone;
$\nu$ and $\beta$ as docs/proofs/other-theorems.md derives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from gramian.checker.balls import Ball, product, root_of_squares, spectral_norm
from gramian.checker.eigenvalues import largest_is_at_most, smallest_is_at_least
from gramian.checker.functions import bounds as slope_bounds
from gramian.checker.line import Line, compared, positive, shown
from gramian.checker.polyak import PolyakBall
from gramian.checker.program import JacobianGram, NetworkProgram, Values
from gramian.checker.statements import evaluated, residual_norm
from gramian.checker.two_layer_program import two_layer
from gramian.checker.well_formed import require

SONG2021 = "song2021"
CLAIMS = ("residual", "sigma", "norm", "mu", "nu", "lipschitz", "radius", "step")
EVERYWHERE = 1e300  # the suprema of slopes are over all arguments up to this
ROOM = 1 + 1e-9  # above what a few roundings can do to a product of bounds


@dataclass(frozen=True)
class TwoLayerConstants:
    """Norms of a two-layer network, each rounded to the side where the bounds stay true.

    Attributes:
        features: the Gram matrix of the hidden layer's outputs.
        scale: of the readout, s.
        inputs, longest: the norm of X, and the largest of its rows.
        readout: the norm of A.
        bias: the readout's bias scale times the root of n.
        steepest, bend: suprema of the activation's slope and second derivative.
    """

    features: JacobianGram
    scale: float
    inputs: float
    longest: float
    readout: float
    bias: float
    steepest: float
    bend: float

    def smallest(self, sigma: float, radius: float) -> float:
        """mu on the ball, at least; `sigma` is a lower bound of the features' smallest singular value."""
        return max(self.scale * (sigma / ROOM - self.steepest * self.inputs * radius * ROOM), 0.0) / ROOM

    def largest(self, norm: float, radius: float) -> float:
        """nu on the ball, at most; `norm` is an upper bound of the features' norm."""
        slope = self.scale * self.steepest * self.inputs
        hidden, readout = slope * (self.readout + radius), self.scale * norm + slope * radius
        return math.sqrt(hidden**2 + readout**2 + self.bias**2) * ROOM

    def lipschitz(self, radius: float) -> float:
        """beta on the ball, at most: the larger eigenvalue of a 2 x 2 form in the changes of both layers."""
        curve = (self.readout + radius) * self.bend * self.longest / 2
        return self.scale * self.inputs * (curve + math.sqrt(curve**2 + self.steepest**2)) * ROOM


def two_layer_constants(program: NetworkProgram, values: Values, x: np.ndarray, y: np.ndarray) -> TwoLayerConstants:
    """Of a program with these values.

    Raises:
        NotTwoLayer, NotWellFormed: another network, or one of which only a layer trains.
    """
    task, weights = two_layer(program, x, y, 1.0)
    require(task.readout_trained, "the paper's constants are those of a network whose layers both train")
    features = values.values[-2]
    matrix = product(features, Ball(features.middle.T, features.radius.T))
    # the lower triangle is factorized: mirrored, its radii have at most root 2 times their norm
    lower, rounding = np.tril(matrix.middle), 1.5 * root_of_squares(root_of_squares(matrix.radius))
    steepest, bend = (float(bound) for bound in slope_bounds(task.activation, -EVERYWHERE, EVERYWHERE))
    inputs = Ball.exact(task.x)
    return TwoLayerConstants(
        JacobianGram(lower + np.tril(lower, -1).T, float(rounding), 0.0),
        abs(task.scale),
        spectral_norm(inputs),
        float(inputs.norms().max()),
        spectral_norm(Ball.exact(weights.a)),
        abs(task.bias_scale) * math.sqrt(len(task.x)),
        steepest,
        bend,
    )


def song2021_lines(program: NetworkProgram, x: np.ndarray, y: np.ndarray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of statement "song2021".

    Args:
        numbers: residual; sigma and norm, of the features; mu, nu and lipschitz, on the ball; radius, step.
    """
    had = {name: float(numbers[name]) for name in CLAIMS}
    values = evaluated(program, x)
    constants = two_layer_constants(program, values, x, y)
    sizes = positive(had)
    if not sizes.holds:
        return [sizes]
    radius = had["radius"]
    smallest, largest = constants.smallest(had["sigma"], radius), constants.largest(had["norm"], radius)
    features, sigma, norm = constants.features, had["sigma"], had["norm"]
    return [
        sizes,
        compared("residual", "the residual is at most as claimed", residual_norm(values, y), "<=", had["residual"]),
        shown("sigma", "the hidden features have this singular value or more", sigma,
              smallest_is_at_least(features, sigma)),
        shown("largest", "the hidden features have this norm or less", norm, largest_is_at_most(features, norm)),
        compared("condition", "the condition's constant is at least as claimed", had["mu"], "<=", smallest),
        compared("norm", "the Jacobian's norm on the ball", largest, "<=", had["nu"]),
        compared("lipschitz", "the Jacobian's Lipschitz constant on the ball", constants.lipschitz(radius), "<=",
                 had["lipschitz"]),
        *claimed_ball(had).lines(),
    ]  # fmt: skip


def claimed_ball(had: Mapping[str, float]) -> PolyakBall:
    """The claims as they stand."""
    names = ("mu", "nu", "lipschitz", "residual", "radius", "step")
    return PolyakBall(*(Fraction(had[name]) for name in names))


def song2021_contraction(had: Mapping[str, float]) -> float:
    """The proved rate of a certificate's claims; 0 where they are no numbers."""
    if not all(math.isfinite(had[name]) for name in CLAIMS):
        return 0.0
    return claimed_ball(had).contraction
