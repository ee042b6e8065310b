"""Gradient descent of a two-layer network replayed in float64, with a proved distance to the exact run.

`Replay` bounds the distance E_k between computed and exact iterate at every step, and `tail` decides whether the exact
run, at most E_k away, converges to an exact global minimum. Numbers in brackets are those of docs/proofs/run.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
from gramian.checker.taylor_table import LONGEST_SUM, PAD, SMALLEST, TaylorTable
from gramian.checker.two_layer import InputNorms, Point, Task, TwoLayerWeights, evaluate, norm, upper_eigenvalues
from gramian.checker.two_layer_balls import BallSteps

KAPPA_SLACK = 0.05  # eigenvalues are computed anew once the blocks' change adds this share to kappa
JACOBIAN_SLACK = 0.1  # the same for ||J||, while lr ||J||^2 <= CALM; above it the bound itself is a growth factor
JACOBIAN_SLACK_AT_EDGE = 0.002
CALM = 1.9


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


class Replay:
    """The run from `start`; iterating gives (Point, Bounds) of step 0, 1, ... without an end.

    The first `precise_steps` are in ball arithmetic of `bits` bits; all bounds are those of their iterates rounded to
    float64, on balls that are larger by that rounding. The steps after them are in float64.
    """

    def __init__(self, task: Task, start: TwoLayerWeights, precise_steps: int = 0, bits: int = 128):
        (n, d), (outputs, m) = task.x.shape, start.a.shape
        longest = max((n * outputs) ** 2, n * m * (outputs + 1), m * (d + outputs), (d + outputs) ** 2, n * d)
        if longest > LONGEST_SUM:
            raise ArithmeticError(f"sums of {longest:,} terms are longer than the bounds of rounding cover")
        self.task, self.start, self.geometry = task, start, InputNorms(task.x)
        self.precise_steps, self.bits = precise_steps, bits
        self.phi = TaylorTable(task.activation, 2 * float(np.abs(task.x @ start.w.T).max()) + 4)

    def __iter__(self) -> Iterator[tuple[Point, StepBounds]]:
        task, lr = self.task, self.task.lr
        expansion, jacobian = NegativeCurvature(self), JacobianNorm(self)
        weights, step = self.start, 0
        carried, rounded = 0.0, 0.0  # exact iterate to kept iterate, and kept iterate to its float64 numbers
        steps = None
        if self.precise_steps > 0:
            steps = BallSteps(task, self.start, self.bits)
        while True:
            point = evaluate(task, self.geometry, self.phi, step, weights)
            distance = (carried + rounded) * PAD
            self.require_reach(point, distance)
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

    def moved(self, point: Point) -> tuple[TwoLayerWeights, float]:
        """Weights after the step in float64, and a bound of its two roundings an entry."""
        old, slope, lr = point.weights, point.gradient, self.task.lr
        new = TwoLayerWeights(old.w - lr * slope.w, old.a, old.beta)
        rounding = norm(new.w) + 2 * lr * norm(slope.w)
        if self.task.readout_trained:
            new = TwoLayerWeights(new.w, old.a - lr * slope.a, old.beta - lr * slope.beta)
            rounding += norm(new.a) + norm(new.beta) + 2 * lr * (norm(slope.a) + norm(slope.beta))
        return new, UNIT * rounding * PAD

    def reaches(self, point: Point, radius: float) -> bool:
        """Whether the activation's bounds hold for all weights within this radius."""
        return (point.largest_z + self.geometry.largest * radius) * PAD <= self.phi.reach

    def require_reach(self, point: Point, radius: float) -> None:
        """The same, or an error."""
        if not self.reaches(point, radius):
            size = point.largest_z + self.geometry.largest * radius
            raise ArithmeticError(f"a preactivation may reach {size:.3g}; bounds were computed up to {self.phi.reach}")

    def readout_norm(self, weights: TwoLayerWeights, radius: float) -> float:
        """Bound of the largest norm of one neuron's readout weights on a ball."""
        moves = radius if self.task.readout_trained else 0.0
        return (float(np.sqrt(np.sum(np.square(weights.a), axis=0)).max()) + moves) * PAD

    def lipschitz(self, readout_norm: float) -> float:
        """(5): L with ||J(t) - J(t')|| <= L ||t - t'||, each neuron's readout weights having at most this norm."""
        p = readout_norm * self.phi.bound[2] * self.geometry.tau
        q = self.phi.bound[1] * self.geometry.operator if self.task.readout_trained else 0.0
        return self.task.scale * (p + np.sqrt(p * p + 4 * q * q)) / 2 * PAD

    def block_norms(self, curvature: NDArray, cross: NDArray) -> NDArray:
        """Bounds of the neurons' blocks of M in Frobenius norm."""
        squares = np.square(self.geometry.frobenius_norms(curvature)) + 2 * np.sum(np.square(cross), axis=(1, 2))
        return np.sqrt(squares) * PAD

    def blocks(self, point: Point) -> NDArray:
        """The neurons' blocks of M = sum r_ic Hess f_ic: (m, d + C, d + C), or (m, d, d) with a fixed readout."""
        x, (m, d, outputs) = self.task.x, point.cross.shape
        first = (point.curvature.T[:, None, :] * x.T) @ x
        blocks = np.zeros((m, d + outputs, d + outputs))
        blocks[:, :d, :d] = (first + first.transpose(0, 2, 1)) / 2
        blocks[:, :d, d:], blocks[:, d:, :d] = point.cross, point.cross.transpose(0, 2, 1)
        return blocks

    def block_drift(self, point: Point, residual: float, jacobian: float, radius: float) -> float:
        """(8): how far M may be from the computed blocks on the ball of this radius."""
        geometry, bound, largest = self.geometry, self.phi.bound, self.geometry.largest
        readout = self.readout_norm(point.weights, radius)
        change = jacobian * radius + point.residual_error  # of the residual
        back = change * readout
        if self.task.readout_trained:
            back += residual * radius
        drift = geometry.tau * (bound[2] * back + bound[3] * largest * radius * residual * readout)
        if self.task.readout_trained:
            drift += geometry.operator * (bound[1] * change + bound[2] * largest * radius * residual)
        return (self.task.scale * drift + point.blocks_error) * PAD

    def gram(self, point: Point) -> tuple[NDArray, float, float]:
        """H = J J^T from the computed factors of J, a bound of its rounding, and one of the factors' error in J."""
        task, a = self.task, point.weights.a
        (n, d), (outputs, m) = task.x.shape, a.shape
        h = np.empty((outputs, n, outputs, n))
        for c in range(outputs):
            left = point.slopes * (task.scale * a[c])
            for e in range(c + 1):
                block = (left @ (point.slopes * (task.scale * a[e])).T) * self.geometry.gram
                h[c, :, e, :], h[e, :, c, :] = block, block.T
        error = task.scale * norm(a) * self.geometry.frobenius * point.slope_error
        if task.readout_trained:
            features = task.scale**2 * (point.features @ point.features.T) + task.bias_scale**2
            for c in range(outputs):
                h[c, :, c, :] += features
            error += task.scale * np.sqrt(n * m * outputs) * point.feature_error
        square = h.reshape(outputs * n, outputs * n)
        square = (square + square.T) / 2
        return square, gamma(m + d + 14) * float(np.trace(square)) * PAD, error * PAD

    def jacobian_bound(self, point: Point) -> float:
        h, rounding, error = self.gram(point)
        return (float(np.sqrt(upper_eigenvalues(h) + rounding)) + error) * PAD


class NegativeCurvature:
    """(7): bounds of lambda_max(-M); eigenvalues at some steps, homogeneity and the change's norm between them."""

    def __init__(self, replay: Replay):
        self.replay = replay
        self.anchor: Point | None = None
        self.tops = self.norms = np.zeros(0)

    def bound(self, point: Point) -> tuple[float, float]:
        """(lambda_max(-M) at most, ||M|| at most), for the blocks as computed."""
        if self.anchor is not None:
            # M = t M_anchor + change with t >= 0, hence lambda_max(-M) <= t lambda_max(-M_anchor) + ||change||
            share, change = self._change(self.anchor, point)
            scaled, total = float((share * self.tops).max()), float((share * self.tops + change).max()) * PAD
            if total <= (1 + KAPPA_SLACK) * scaled:
                return total, float((share * self.norms + change).max()) * PAD
        replay = self.replay
        rounding = gamma(len(replay.task.x) + 6) * replay.geometry.absolute**2 * np.abs(point.curvature).max() * PAD
        self.anchor, self.norms = point, replay.block_norms(point.curvature, point.cross)
        self.tops = np.maximum(upper_eigenvalues(-replay.blocks(point)) + rounding, 0)
        return float(self.tops.max()), float(self.norms.max())

    def _change(self, anchor: Point, point: Point) -> tuple[NDArray, NDArray]:
        replay, q, old = self.replay, point.curvature, anchor.curvature
        share = np.maximum(np.sum(q * old, axis=0) / (np.sum(np.square(old), axis=0) + SMALLEST), 0)
        change = replay.block_norms(q - share * old, point.cross - share[:, None, None] * anchor.cross)
        # the differences are rounded: ||sum_i e_i x_i x_i^T||_F <= tau ||e||
        size = replay.geometry.tau * np.sqrt(np.sum(np.square(q), axis=0)) + 2 * np.sqrt(
            np.sum(np.square(point.cross), axis=(1, 2))
        )
        return share, (change * (1 + 4 * UNIT) + 4 * UNIT * size) * PAD


class JacobianNorm:
    """Bounds of ||J||: eigenvalues of H at some steps, L times the way since then between them."""

    def __init__(self, replay: Replay):
        self.replay = replay
        self.anchor: Point | None = None
        self.top = 0.0

    def bound(self, point: Point, radius: float) -> tuple[float, float]:
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

    def _from_anchor(self, anchor: Point, point: Point, radius: float) -> tuple[float, float]:
        replay = self.replay
        ends = max(replay.readout_norm(anchor.weights, radius), replay.readout_norm(point.weights, radius))
        lipschitz = replay.lipschitz(ends)
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
        last = self.right - self.left  # c times the square of the smallest sigma that the path can meet
        return float(1 - self.lr * last / PAD + 4 * UNIT)


def tail(replay: Replay, point: Point, bounds: StepBounds) -> Tail:
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
            lipschitz = replay.lipschitz(replay.readout_norm(point.weights, reach))
            jacobian = (largest + lipschitz * reach) * PAD
            share = 1 - lr * (jacobian**2 + lipschitz * bounds.residual) / 2 * PAD
            if 0 < assumed <= share and replay.reaches(point, reach):
                break
        else:
            share = min(share, 0.0)
    numbers = (bounds.residual, float(sigma), jacobian, lipschitz, float(share), float(radius), lr)
    return Tail(point.step, bounds.distance, *numbers, largest, bounds.lipschitz)


def proved_time(end: Tail, last_above: int, accuracy: float) -> int:
    """(13): first step from which on the loss is at most `accuracy`; `last_above` is the last step up to end.step whose
    bound exceeds it, -1 if none. The tail must be proved."""
    if last_above < end.step:
        return last_above + 1
    rounds = float(np.log(end.residual / np.sqrt(2 * accuracy)) / -np.log(end.rate))
    return end.step + int(np.ceil(max(rounds, 0.0) * PAD)) + 1
