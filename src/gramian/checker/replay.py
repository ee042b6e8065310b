"""Gradient descent replayed in float64, with a proved distance to the exact run: what all networks have in common.

A `ReplayedRun` bounds the distance E_k between computed and exact iterate at every step, and `tail` decides whether the
exact run, at most E_k away, converges to an exact global minimum. What a kind of network adds are bounds of its
Jacobian and of its second derivatives. Numbers in brackets are those of docs/proofs/run.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT
from gramian.checker.taylor_table import PAD, SMALLEST
from gramian.checker.two_layer import norm, upper_eigenvalues

JACOBIAN_SLACK = 0.1  # ||J|| is computed anew once the way since then adds this share to it, while lr ||J||^2 <= CALM
JACOBIAN_SLACK_AT_EDGE = 0.002  # above it the bound itself is a growth factor
CALM = 1.9
LARGEST = 1e30  # and the inverse of the smallest: of inputs, weights, multipliers and rates


class CurvatureBound(Protocol):
    """What bounds lambda_max(-M) and ||M|| at one iterate after another."""

    def bound(self, point: Any) -> tuple[float, float]: ...


class PreciseSteps(Protocol):
    """Steps in more bits."""

    def advance(self) -> tuple[Any, float, float]: ...


@dataclass(frozen=True)
class StepBounds:
    """What is known at one step of the exact run.

    Attributes:
        distance: E, between the computed and the exact iterate.
        residual: of the exact iterate, at most.
        jacobian: ||J|| at the computed iterate, at most.
        lipschitz: of J on the ball of radius E and back to where ||J|| was bounded.
        expansion: -M <= expansion, on the ball.
        size: ||M|| on the ball, at most.
        stretch: (4), the factor by which this step may stretch distances on the ball.
    """

    distance: float
    residual: float
    jacobian: float
    lipschitz: float
    expansion: float
    size: float
    stretch: float


class ReplayedRun:
    """The run from `start`; iterating gives (point, bounds) of step 0, 1, ... without an end.

    The first `precise_steps` are in ball arithmetic of `bits` bits; all bounds are those of their iterates rounded to
    float64, on balls that are larger by that rounding. The steps after them are in float64. A kind of network says
    what stands below as not implemented.
    """

    task: Any
    start: Any
    precise_steps: int
    bits: int

    def at(self, step: int, weights: Any) -> Any:
        """One iterate: its `residual`, gradient, and bounds of their rounding errors."""
        raise NotImplementedError

    def moved(self, point: Any) -> tuple[Any, float]:
        """Weights after the step in float64, and a bound of its two roundings an entry."""
        raise NotImplementedError

    def beyond_reach(self, point: Any, radius: float) -> str:
        """Why the activation's bounds do not hold for all weights within this radius; "" where they do."""
        raise NotImplementedError

    def lipschitz_within(self, point: Any, radius: float) -> float:
        """L with ||J(t) - J(t')|| <= L ||t - t'|| on this ball."""
        raise NotImplementedError

    def lipschitz_between(self, anchor: Any, point: Any, radius: float) -> float:
        """The same for the way from `anchor` to `point` and the ball around it."""
        raise NotImplementedError

    def gram(self, point: Any) -> tuple[NDArray, float, float]:
        """H = J J^T from the computed factors of J, a bound of its rounding, and one of the factors' error in J."""
        raise NotImplementedError

    def curvature(self) -> CurvatureBound:
        """Bounds of M at the computed iterates, for this run."""
        raise NotImplementedError

    def anchors(self, steps: int) -> int:
        """So many steps may cost as much as the first one; the others cost less."""
        return 1

    def block_drift(self, point: Any, residual: float, jacobian: float, radius: float) -> float:
        """How far M may be from the computed one on the ball of this radius."""
        raise NotImplementedError

    def ball_steps(self) -> PreciseSteps:
        """The first steps in more bits."""
        raise NotImplementedError

    def jacobian_bound(self, point: Any) -> float:
        h, rounding, error = self.gram(point)
        return (float(np.sqrt(upper_eigenvalues(h) + rounding)) + error) * PAD

    def __iter__(self) -> Iterator[tuple[Any, StepBounds]]:
        lr = self.task.lr
        expansion, jacobian = self.curvature(), JacobianNorm(self)
        weights, step = self.start, 0
        carried, rounded = 0.0, 0.0  # exact iterate to kept iterate, and kept iterate to its float64 numbers
        steps = None
        if self.precise_steps > 0:
            steps = self.ball_steps()
        while True:
            point = self.at(step, weights)
            distance = (carried + rounded) * PAD
            require_reach(self, point, distance)
            norm_here, lipschitz = jacobian.bound(point, distance)
            # r moves by at most ||J|| E + L E^2 / 2 from the computed to the exact iterate
            computed = norm(point.residual) + point.residual_error
            residual = (computed + norm_here * distance + lipschitz * distance**2) * PAD
            drift = self.block_drift(point, computed, norm_here + lipschitz * distance, distance)
            negative, size = ((bound + drift) * PAD for bound in expansion.bound(point))
            highest = lr * ((norm_here + lipschitz * distance) ** 2 + size) * PAD
            stretch = float(np.maximum((1 + lr * negative) * PAD, highest - 1))
            if not np.isfinite([distance, residual, norm_here, lipschitz, negative, size, stretch]).all():
                raise ArithmeticError("the run's numbers, or their bounds, overflow")
            yield point, StepBounds(distance, residual, norm_here, lipschitz, negative, size, stretch)
            if step == self.precise_steps:
                steps, carried, rounded = None, distance, 0.0
            if steps is not None:
                weights, rounded, error = steps.advance()
            else:
                weights, rounding = self.moved(point)
                error = lr * (point.gradient_error + norm_here * point.residual_error) + rounding
            carried = (stretch * carried + error) * PAD + SMALLEST
            step += 1


def require_sizes(sizes: Mapping[str, float]) -> None:
    """Norms and numbers, by name, whose squares can neither overflow nor underflow; else an error."""
    for name, value in sizes.items():
        if not 1 / LARGEST <= value <= LARGEST:
            raise ArithmeticError(f"the {name} {value:.3g} is beyond the sizes that are bounded")


def require_reach(replay: ReplayedRun, point: Any, radius: float) -> None:
    """Else an error."""
    reason = replay.beyond_reach(point, radius)
    if reason:
        raise ArithmeticError(reason)


class JacobianNorm:
    """Bounds of ||J||: eigenvalues of H at some steps, L times the way since then between them."""

    def __init__(self, replay: ReplayedRun):
        self.replay = replay
        self.anchor: Any = None
        self.top = 0.0

    def bound(self, point: Any, radius: float) -> tuple[float, float]:
        """(||J|| at most, L on the ball of this radius around the point and on the way to the anchor)."""
        if self.anchor is not None:
            bound, lipschitz = self._from_anchor(self.anchor, point, radius)
            slack = JACOBIAN_SLACK
            if self.replay.task.lr * bound**2 > CALM:
                slack = JACOBIAN_SLACK_AT_EDGE
            if bound <= (1 + slack) * self.top:
                return bound, lipschitz
        self.anchor, self.top = point, self.replay.jacobian_bound(point)
        return self._from_anchor(point, point, radius)

    def _from_anchor(self, anchor: Any, point: Any, radius: float) -> tuple[float, float]:
        lipschitz = self.replay.lipschitz_between(anchor, point, radius)
        return (self.top + lipschitz * point.weights.distance(anchor.weights)) * PAD, lipschitz


@dataclass(frozen=True)
class Tail:
    """The tail condition 2 L R < c sigma^2 at one step; proved, the exact run converges to an exact global minimum.

    Attributes:
        step, distance: where, and how far the computed iterate is from the exact one.
        residual: R, of the exact iterate, at most.
        sigma: smallest singular value of J at the exact iterate, at least.
        jacobian, lipschitz: S and L on the ball of `radius` around the exact iterate.
        share: c = 1 - lr S^2 / 2 - lr L R / 2.
        radius: the rest of the exact run is no longer than this.
        jacobian_here, lipschitz_here: S and L at the computed iterate.
    """

    step: int
    distance: float
    residual: float
    sigma: float
    jacobian: float
    lipschitz: float
    share: float
    radius: float
    lr: float
    jacobian_here: float
    lipschitz_here: float

    @property
    def left(self) -> float:
        return float(2 * self.lipschitz * self.residual * PAD)

    @property
    def right(self) -> float:
        return float(self.share * self.sigma**2 / PAD)

    @property
    def proved(self) -> bool:
        return self.share > 0 and self.sigma > 0 and self.left < self.right

    @property
    def rate(self) -> float:
        """q with ||r_{k+1}|| <= q ||r_k|| for all later steps of the exact run, (11)."""
        return float(1 - self.decay + 4 * UNIT)

    @property
    def decay(self) -> float:
        """At most 1 - q."""
        last = self.right - self.left  # c times the square of the smallest sigma that the path can meet
        return float(self.lr * last / PAD)


def tail(replay: ReplayedRun, point: Any, bounds: StepBounds) -> Tail:
    """(9), (10): the numbers of the tail condition at the exact iterate."""
    h, rounding, error = replay.gram(point)
    lowest = -float(upper_eigenvalues(-h)) - rounding * PAD
    largest = (float(np.sqrt(upper_eigenvalues(h) + rounding)) + error) * PAD
    lost = (error + bounds.lipschitz * bounds.distance) * PAD
    sigma = max((np.sqrt(max(lowest, 0.0)) / PAD - lost) / PAD, 0.0)
    share, radius, lipschitz, jacobian, lr = -1.0, np.inf, bounds.lipschitz, largest, replay.task.lr
    if sigma > 0:
        # the ball of radius 2 R / (c sigma) depends on c, and c on the ball: assume a c, then verify that c is no less
        for assumed in (1 - lr * largest**2 / 2) * np.array([0.99, 0.97, 0.94, 0.9, 0.8, 0.65, 0.5, 0.3, 0.1]):
            radius = 2 * bounds.residual / (abs(assumed) * sigma) * PAD
            reach = (radius + bounds.distance) * PAD
            lipschitz = replay.lipschitz_within(point, reach)
            jacobian = (largest + lipschitz * reach) * PAD
            share = 1 - lr * (jacobian**2 + lipschitz * bounds.residual) / 2 * PAD
            if 0 < assumed <= share and not replay.beyond_reach(point, reach):
                break
        else:
            share = min(share, 0.0)
    numbers = (bounds.residual, float(sigma), jacobian, lipschitz, float(share), float(radius), lr)
    return Tail(point.step, bounds.distance, *numbers, largest, bounds.lipschitz)


def proved_time(end: Tail, last_above: int, accuracy: float) -> float:
    """(13): first step from which on the loss is at most `accuracy`; `last_above` is the last step up to end.step whose
    bound exceeds it, -1 if none. The tail must be proved. Infinite where the rate underflows."""
    if last_above < end.step:
        return last_above + 1
    if not end.decay > 0:
        return np.inf
    # of a small step 1 - q is far below the rounding of q
    rounds = float(np.log(end.residual / np.sqrt(2 * accuracy)) / -np.log1p(-end.decay))
    return end.step + int(np.ceil(max(rounds, 0.0) * PAD)) + 1
