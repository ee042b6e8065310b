"""Gradient descent of a fully connected network of any depth replayed in float64: what `ReplayedRun` asks for.

Numbers in brackets are those of docs/proofs/deep-run.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
from gramian.checker.deep_balls import DeepBallSteps
from gramian.checker.deep_curvature import FREE_ANCHORS, MOST_WEIGHTS, STEPS_FOR_ONE, Curvature, DeepCurvature
from gramian.checker.deep_network import DeepPoint, DeepTask, DeepWeights, evaluate_deep
from gramian.checker.replay import ReplayedRun, require_sizes
from gramian.checker.taylor_table import LONGEST_SUM, PAD, SMALLEST, TaylorTable
from gramian.checker.two_layer import norm, upper_eigenvalues

HOLD_SLACK = 1.0  # M is looked at anew once its change may add this share to the bound of its negative part
NORM_SLACK = 0.02  # ||W|| is computed anew once the way since then adds this share to it
LONGEST_PRODUCT = 2**20  # entries of a matrix that an inner product of M runs over
CUBIC = 1.1548  # above 2 / sqrt(3), three times the largest u v^2 with u^2 + v^2 = 1


@dataclass(frozen=True)
class BallBounds:
    """(5): on a ball of weights, ||J(t) - J(t')|| <= lipschitz ||t - t'||, and likewise of the second derivative.

    `filled` is the largest preactivation there, of those for which the activations were bounded: it must be at most 1.
    """

    lipschitz: float
    third: float
    filled: float


class DeepReplay(ReplayedRun):
    """The run from `start`; iterating gives (DeepPoint, StepBounds) of step 0, 1, ... without an end."""

    def __init__(self, task: DeepTask, start: DeepWeights, precise_steps: int = 0, bits: int = 128):
        _require_sizes(task, start)
        self.task, self.start = task, start
        self.precise_steps, self.bits = precise_steps, bits
        self.tables = self._tables()
        self.norms_at, self.norms = start, [_operator_norm(w) for w in start.matrices]

    def _tables(self) -> dict[str, TaylorTable]:
        """Tables that hold all preactivations of the start, with room for the run."""
        sizes, h = dict.fromkeys(self.task.activations, 0.0), self.task.x
        for layer, name in enumerate(self.task.activations):
            z = (
                self.task.scales[layer] * (h @ self.start.matrices[layer].T)
                + self.task.bias_scales[layer] * self.start.biases[layer]
            )
            sizes[name] = max(sizes[name], float(np.abs(z).max()))
            h = TaylorTable(name, float(np.abs(z).max()) + 1)(z)
        return {name: TaylorTable(name, 2 * size + 4) for name, size in sizes.items()}

    def at(self, step: int, weights: DeepWeights) -> DeepPoint:
        return evaluate_deep(self.task, self.tables, step, weights)

    def curvature(self) -> HeldCurvature:
        return HeldCurvature(self)

    def anchors(self, steps: int) -> int:
        if self.start.count > MOST_WEIGHTS:
            return 1
        return FREE_ANCHORS + steps // STEPS_FOR_ONE

    def ball_steps(self) -> DeepBallSteps:
        return DeepBallSteps(self.task, self.start, self.bits)

    def moved(self, point: DeepPoint) -> tuple[DeepWeights, float]:
        """Weights after the step in float64, and a bound of its two roundings an entry."""
        old, slope, lr = point.weights, point.gradient, self.task.lr
        new = DeepWeights(
            tuple(w - lr * g for w, g in zip(old.matrices, slope.matrices, strict=True)),
            tuple(b - lr * g for b, g in zip(old.biases, slope.biases, strict=True)),
        )
        rounding = sum(norm(a) for a in (*new.matrices, *new.biases))
        rounding += 2 * lr * sum(norm(a) for a in (*slope.matrices, *slope.biases))
        return new, UNIT * rounding * PAD + SMALLEST

    def within(self, point: DeepPoint, radius: float) -> BallBounds:
        """(5); it holds only if `filled` is at most 1."""
        task, weights, norms = self.task, point.weights, self._operator_norms(point.weights)
        # of one sample's h on the ball: ||Dh||, one entry's ||Dh_j||, ||D^2 h|| and ||D^3 h||
        zero = np.zeros(len(task.x))
        whole, second, third, filled = zero, zero, zero, 0.0
        for layer, w in enumerate(weights.matrices):
            scale = abs(task.scales[layer])
            own = np.square(scale * (point.sizes[layer] + whole * radius) * PAD) + task.bias_scales[layer] ** 2
            row = float(np.sqrt(np.sum(np.square(w), axis=1)).max()) * PAD
            through, to_entry = scale * (norms[layer] + radius) * PAD, scale * (row + radius) * PAD
            entry = np.sqrt(own + np.square(to_entry * whole)) * PAD
            q, p = through * second, scale * whole
            third = (CUBIC * scale * second + through * third) * PAD
            second = (q + np.sqrt(np.square(q) + 4 * np.square(p))) / 2 * PAD
            whole = np.sqrt(own + np.square(through * whole)) * PAD
            if layer == len(task.activations):
                break
            phi = self.tables[task.activations[layer]]
            filled = max(filled, (point.reaches[layer] + float(entry.max()) * radius) / phi.reach * PAD)
            _, one, two, three = phi.bound
            cubes = three * np.square(entry) * whole + 3 * two * entry * second
            third = (cubes + one * third) * PAD
            second = (two * entry * whole + one * second) * PAD
            whole = one * whole * PAD
        return BallBounds(norm(second) + SMALLEST, norm(third) + SMALLEST, filled)

    def _operator_norms(self, weights: DeepWeights) -> list[float]:
        """Bounds of ||W_l||: eigenvalues at some steps, the way since then between them."""
        pairs = list(zip(weights.matrices, self.norms_at.matrices, strict=True))
        ways = [norm(w - old) for w, old in pairs]
        if any(way > NORM_SLACK * top for way, top in zip(ways, self.norms, strict=True)):
            self.norms_at, self.norms = weights, [_operator_norm(w) for w in weights.matrices]
            return self.norms
        return [(top + way) * PAD for way, top in zip(ways, self.norms, strict=True)]

    def beyond_reach(self, point: DeepPoint, radius: float) -> str:
        filled = self.within(point, radius).filled
        if filled <= 1:
            return ""
        return f"a preactivation may be {filled:.3g} times as large as was bounded"

    def lipschitz_within(self, point: DeepPoint, radius: float) -> float:
        return self.within(point, radius).lipschitz

    def lipschitz_between(self, anchor: DeepPoint, point: DeepPoint, radius: float) -> float:
        ball = self.within(point, (point.weights.distance(anchor.weights) + radius) * PAD)
        if not ball.filled <= 1:
            return np.inf  # nothing is known there
        return ball.lipschitz

    def block_drift(self, point: DeepPoint, residual: float, jacobian: float, radius: float) -> float:
        """(7): M is linear in r, which moves by at most `change`; its second derivatives move by `third` times the
        radius; and M is known up to the rounding of its factors."""
        ball = self.within(point, radius)
        change = jacobian * radius + point.residual_error
        rounding = Curvature.rounding(self.task, self.tables, point)
        return (ball.lipschitz * change + ball.third * radius * residual + rounding) * PAD

    def gram(self, point: DeepPoint) -> tuple[NDArray, float, float]:
        """(8): H, row i C + c, from the gradients of all outputs."""
        task, (n, outputs) = self.task, self.task.y.shape
        samples, back = np.repeat(np.arange(n), outputs), np.tile(np.eye(outputs), (n, 1))
        h = np.zeros((n * outputs, n * outputs))
        longest, squares, size = 1, 0.0, 1.0
        for layer in range(len(task.scales) - 1, -1, -1):
            g, w = point.inputs[layer], point.weights.matrices[layer]
            h += (back @ back.T) * (g @ g.T)[np.ix_(samples, samples)]
            longest = max(longest, back.shape[1] + g.shape[1])
            # ||beta_l|| of one output is at most `size`, by norms alone: what the relative error is relative to
            squares += outputs * (size * norm(g)) ** 2 * PAD
            if layer > 0:
                back = task.scales[layer] * (back @ w) * point.slopes[layer - 1][samples]
                size *= abs(task.scales[layer]) * norm(w) * self.tables[task.activations[layer - 1]].bound[1] * PAD
        h = (h + h.T) / 2
        rounding = gamma(longest + len(task.scales) + 6) * float(np.trace(h)) * PAD
        error = Curvature.spread(task, point.relative) * float(np.sqrt(squares)) * PAD
        return h, rounding + SMALLEST, error + SMALLEST


class HeldCurvature:
    """(9): bounds of lambda_max(-M) and ||M||, kept for as long as r hardly turns and the weights hardly move."""

    def __init__(self, replay: DeepReplay):
        self.replay, self.computed = replay, DeepCurvature(replay.task)
        self.since: DeepPoint | None = None
        self.bounds, self.rounding = (0.0, 0.0), 0.0

    def bound(self, point: DeepPoint) -> tuple[float, float]:
        if self.since is not None:
            share, change = self._change(self.since, point)
            if change <= HOLD_SLACK * share * self.bounds[0]:
                negative, size = self.bounds
                return (share * negative + change) * PAD, (share * size + change) * PAD
        self.since, self.bounds = point, self.computed.bound(point)
        self.rounding = Curvature.rounding(self.replay.task, self.replay.tables, point)
        return self.bounds

    def _change(self, since: DeepPoint, point: DeepPoint) -> tuple[float, float]:
        """t >= 0, and a bound of ||M - t M_since||."""
        old, new = since.residual, point.residual
        share = max(float(np.sum(old * new)) / (float(np.sum(old * old)) + SMALLEST), 0.0)
        way = point.weights.distance(since.weights)
        ball = self.replay.within(point, way)
        if not ball.filled <= 1:
            return share, np.inf
        turned = norm(new - share * old) + 4 * UNIT * (norm(new) + share * norm(old))
        moved = share * (ball.third * way * norm(old) + self.rounding)
        return share, (ball.lipschitz * turned + moved) * PAD


def _require_sizes(task: DeepTask, start: DeepWeights) -> None:
    """Sums as short as the bounds of rounding cover, arrays that fit, and squares that cannot underflow."""
    n, outputs = task.y.shape
    widest = max(max(w.shape) for w in start.matrices) + 1
    if (n * outputs) ** 2 > LONGEST_SUM or widest**2 > LONGEST_PRODUCT or n * widest**2 > LONGEST_SUM:
        raise ArithmeticError(
            f"{n:,} rows, {outputs:,} outputs and a width of {widest - 1:,} are more than is replayed of deep networks"
        )
    sizes = {"inputs": norm(task.x), "learning rate": task.lr}
    for number, (w, scale) in enumerate(zip(start.matrices, task.scales, strict=True)):
        sizes |= {f"weights of layer {number + 1}": norm(w), f"multiplier of layer {number + 1}": abs(scale)}
    require_sizes(sizes)


def _operator_norm(w: NDArray) -> float:
    small = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    small = (small + small.T) / 2
    error = gamma(max(w.shape) + 2) * norm(w) ** 2
    return float(np.sqrt(upper_eigenvalues(small) + error)) * PAD
