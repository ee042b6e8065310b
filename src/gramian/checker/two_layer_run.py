"""Gradient descent of a two-layer network replayed in float64, with a proved distance to the exact run.

The bounds of its Jacobian and of its second derivatives, which `ReplayedRun` asks for. Numbers in brackets are those of
docs/proofs/run.md.
"""

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
from gramian.checker.replay import ReplayedRun, require_sizes
from gramian.checker.taylor_table import LONGEST_SUM, PAD, SMALLEST, TaylorTable
from gramian.checker.two_layer import InputNorms, Point, Task, TwoLayerWeights, evaluate, norm, upper_eigenvalues
from gramian.checker.two_layer_balls import BallSteps

KAPPA_SLACK = 0.05  # eigenvalues are computed anew once the blocks' change adds this share to kappa


class Replay(ReplayedRun):
    """The run from `start`; iterating gives (Point, StepBounds) of step 0, 1, ... without an end."""

    def __init__(self, task: Task, start: TwoLayerWeights, precise_steps: int = 0, bits: int = 128):
        (n, d), (outputs, m) = task.x.shape, start.a.shape
        longest = max((n * outputs) ** 2, n * m * (outputs + 1), m * (d + outputs), (d + outputs) ** 2, n * d)
        if longest > LONGEST_SUM:
            raise ArithmeticError(f"sums of {longest:,} terms are longer than the bounds of rounding cover")
        _require_sizes(task, start)
        self.task, self.start, self.geometry = task, start, InputNorms(task.x)
        self.precise_steps, self.bits = precise_steps, bits
        self.phi = TaylorTable(task.activation, 2 * float(np.abs(task.x @ start.w.T).max()) + 4)

    def at(self, step: int, weights: TwoLayerWeights) -> Point:
        return evaluate(self.task, self.geometry, self.phi, step, weights)

    def curvature(self) -> "NegativeCurvature":
        return NegativeCurvature(self)

    def ball_steps(self) -> BallSteps:
        return BallSteps(self.task, self.start, self.bits)

    def lipschitz_within(self, point: Point, radius: float) -> float:
        return self.lipschitz(self.readout_norm(point.weights, radius))

    def lipschitz_between(self, anchor: Point, point: Point, radius: float) -> float:
        """The readout's norms are convex along the way: the larger of its ends bounds them."""
        return self.lipschitz(max(self.readout_norm(anchor.weights, radius), self.readout_norm(point.weights, radius)))

    def moved(self, point: Point) -> tuple[TwoLayerWeights, float]:
        """Weights after the step in float64, and a bound of its two roundings an entry."""
        old, slope, lr = point.weights, point.gradient, self.task.lr
        new = TwoLayerWeights(old.w - lr * slope.w, old.a, old.beta)
        rounding = norm(new.w) + 2 * lr * norm(slope.w)
        if self.task.readout_trained:
            new = TwoLayerWeights(new.w, old.a - lr * slope.a, old.beta - lr * slope.beta)
            rounding += norm(new.a) + norm(new.beta) + 2 * lr * (norm(slope.a) + norm(slope.beta))
        return new, UNIT * rounding * PAD

    def beyond_reach(self, point: Point, radius: float) -> str:
        size = (point.largest_z + self.geometry.largest * radius) * PAD
        if size <= self.phi.reach:
            return ""
        return f"a preactivation may reach {size:.3g}; bounds were computed up to {self.phi.reach}"

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


def _require_sizes(task: Task, start: TwoLayerWeights) -> None:
    """Else squares would underflow, and with them the Lipschitz constant."""
    sizes = {"inputs": norm(task.x), "readout's multiplier": task.scale, "learning rate": task.lr}
    if start.a.any():
        sizes["readout's weights"] = norm(start.a)
    require_sizes(sizes)
