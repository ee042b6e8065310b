"""Gradient descent of a two-layer network enclosed without running it: statement `before`.

Over an interval of steps the exact run is compared with a path that is known in closed form, the descent of the
linearization at the interval's start. Numbers in brackets are those of docs/proofs/before.md.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import flint
import numpy as np
from flint import arb
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
from gramian.checker.replay import StepBounds, require_reach
from gramian.checker.taylor_table import PAD, SMALLEST
from gramian.checker.two_layer import Point, Task, TwoLayerWeights, adjoint, norm, upper_eigenvalues
from gramian.checker.two_layer_run import NegativeCurvature, Replay

PARTS = 8  # of an interval: each has its own bound of the defect
CAPS = (1.5, 4.0, 20.0)  # growth of the distance over an interval that is assumed, then verified
BITS, FLOAT_BITS = 160, 60


class Modes:
    """Eigenvectors V and eigenvalues mu of the computed H, taken as exact numbers, and how nearly they are its own."""

    def __init__(self, h: NDArray, rounding: float, task: Task):
        count, self.lr = len(h), task.lr
        if not np.isfinite(h).all():
            raise ArithmeticError("the Gram matrix has entries that are not finite")
        self.values, self.vectors = np.linalg.eigh(h)
        if not (self.values[0] > 0 and self.lr * self.values[-1] < 2):
            raise ArithmeticError(
                f"the Gram matrix has eigenvalues from {self.values[0]:.3g} to {self.values[-1]:.3g}; they are needed "
                f"between 0 and 2 / lr = {2 / self.lr:.4g}"
            )
        sizes = gamma(count + 2) * count
        self.defect = (norm(self.vectors.T @ self.vectors - np.eye(count)) + sizes) * PAD  # of V^T V from I
        self.norm = float(np.sqrt(1 + self.defect)) * PAD
        left = h @ self.vectors - self.vectors * self.values
        # ||H V - V mu||; `rounding` is that of h
        self.error = (norm(left) + sizes * (norm(h) + norm(self.values)) + rounding * self.norm) * PAD
        with flint.ctx.workprec(BITS):
            self.exact = [arb(v) for v in self.values.tolist()]
            self.factors = [1 - arb(self.lr) * v for v in self.exact]

    def sums(self, steps: int) -> NDArray:
        """(1 - q^steps) / mu with q = 1 - lr mu, to float64's precision: lr times the sum of q^0, q^1, ..."""
        with flint.ctx.workprec(BITS):
            exact = [(1 - q**steps) / v for q, v in zip(self.factors, self.exact, strict=True)]
        if min(s.rel_accuracy_bits() for s in exact) < FLOAT_BITS and steps > 0:
            raise ArithmeticError("the learning rate is too small for the Gram matrix's smallest eigenvalue")
        return np.array([float(s) for s in exact])

    def largest_sums(self, steps: int) -> NDArray:
        """Bounds of the size of those sums for every number of steps up to this one."""
        if steps == 0:
            return np.zeros(len(self.values))
        sums = self.sums(steps)
        # q < 0: the sums alternate between 0 and (1 + |q|) / mu
        alternating = self.lr * self.values > 1
        sums[alternating] = self.lr
        return sums * PAD

    def way(self, coefficients: NDArray) -> tuple[float, float, float]:
        """For z = V u, |u| at most these: bounds of ||J^T z||, ||H z|| and ||u||, (4)."""
        size, image = norm(coefficients), norm(self.values * coefficients)
        square = float(np.sum(self.values * np.square(coefficients))) * PAD
        square += self.defect * size * image + self.norm * self.error * size**2
        return float(np.sqrt(square)) * PAD, (self.norm * image + self.error * size) * PAD, size


@dataclass(frozen=True)
class Interval:
    """An interval of steps.

    Attributes:
        steps: of descent.
        defect: sum over them of lr times the difference between the true gradient and the path's, at most.
        stretch: the factor by which one step may stretch distances on the ball that holds all of it.
        distance: between the exact run and the path at the interval's end, at most; infinite where none is proved.
    """

    steps: int
    defect: float
    stretch: float
    distance: float


class IntervalStart:
    """A point of the path, at most `distance` from the exact iterate, and bounds of what may follow."""

    def __init__(self, replay: Replay, point: Point, distance: float, expansion: NegativeCurvature):
        self.replay, self.point, self.distance = replay, point, distance
        h, rounding, self.jacobian_error = replay.gram(point)
        self.modes = Modes(h, rounding, replay.task)
        self.jacobian = (float(np.sqrt(upper_eigenvalues(h) + rounding)) + self.jacobian_error) * PAD
        self.negative, self.size = expansion.bound(point)
        self.residual = (norm(point.residual) + point.residual_error) * PAD
        # (3): the path's gradient at its start is J^T V w, the true one J^T r
        rows = point.residual.T.ravel()
        self.coefficients = self.modes.vectors.T @ rows
        count = len(rows)
        rest = norm(rows - self.modes.vectors @ self.coefficients)
        rest += gamma(count + 2) * (np.sqrt(count) * norm(self.coefficients) + self.residual)
        self.first_defect = self.jacobian * (point.residual_error + rest) + self.jacobian_error * self.residual

    def bounds(self) -> StepBounds:
        """As at a step of a run; its stretch is that of no step."""
        lipschitz = self.lipschitz(self.distance)
        residual = (self.residual + self.jacobian * self.distance + lipschitz * self.distance**2) * PAD
        return StepBounds(self.distance, residual, self.jacobian, lipschitz, self.negative, self.size, 1.0)

    def lipschitz(self, radius: float) -> float:
        return self.replay.lipschitz_within(self.point, radius)

    def enclosed(self, steps: int) -> Interval:
        """So many steps at once, (6)."""
        defect, before, farthest = 0.0, 0, 0.0
        for mark in sorted({-(-steps * part // PARTS) for part in range(1, PARTS + 1)}):
            farthest, each = self.defect_within(mark - 1)
            defect += self.replay.task.lr * each * (mark - before) * PAD
            before = mark
        stretch = np.inf
        for cap in CAPS:
            assumed = (cap * (self.distance + defect) + SMALLEST) * PAD
            stretch = self.stretch(farthest + assumed)
            distance = stretch**steps * (self.distance + defect) * (1 + 2 * steps * UNIT) * PAD
            if distance <= assumed:
                return Interval(steps, defect, stretch, distance)
        return Interval(steps, defect, stretch, np.inf)

    def defect_within(self, steps: int) -> tuple[float, float]:
        """Up to so many steps: the path's distance from its start, and the gradients' difference there, (5)."""
        way, image, size = self.modes.way(self.modes.largest_sums(steps) * np.abs(self.coefficients))
        lipschitz = self.lipschitz(way)
        jacobian = (self.jacobian + lipschitz * way) * PAD
        changed = self.jacobian_error + lipschitz * way / 2
        blocks = self.size + self.replay.block_drift(self.point, self.residual, jacobian, way)
        defect = self.first_defect + self.jacobian * self.modes.error * size
        return way, (defect + changed * (jacobian * way + image) + blocks * way) * PAD

    def stretch(self, radius: float) -> float:
        """(4) of docs/proofs/run.md on the ball of this radius."""
        if self.replay.beyond_reach(self.point, radius):
            return np.inf
        lr = self.replay.task.lr
        jacobian = (self.jacobian + self.lipschitz(radius) * radius) * PAD
        drift = self.replay.block_drift(self.point, self.residual, jacobian, radius)
        negative, size = (self.negative + drift) * PAD, (self.size + drift) * PAD
        return float(np.maximum((1 + lr * negative) * PAD, lr * (jacobian**2 + size) * PAD - 1))

    def end(self, steps: int) -> tuple[TwoLayerWeights, float]:
        """Where the path ends, rounded to float64, and how far that is from its true end, (7)."""
        task, old = self.replay.task, self.point.weights
        sums = self.modes.sums(steps) * self.coefficients
        rows = (self.modes.vectors @ sums).reshape(task.y.T.shape).T
        way, error = adjoint(task, self.replay.geometry, old.a, self.point.features, self.point.slopes, rows)
        error += self.jacobian * gamma(len(sums) + 4) * np.sqrt(len(sums)) * norm(sums)
        new = TwoLayerWeights(old.w - way.w, old.a - way.a, old.beta - way.beta)
        rounding = UNIT * (norm(new.w) + norm(new.a) + norm(new.beta))
        return new, (error + rounding) * PAD + SMALLEST


def tube(
    replay: Replay, chosen: Callable[[IntervalStart], Interval | None]
) -> Iterator[tuple[IntervalStart, Interval | None]]:
    """The intervals from the run's start on, each as `chosen` from `IntervalStart.enclosed`; None ends them."""
    expansion = NegativeCurvature(replay)
    weights, step, distance = replay.start, 0, 0.0
    while True:
        point = replay.at(step, weights)
        require_reach(replay, point, distance)
        here = IntervalStart(replay, point, distance, expansion)
        interval = chosen(here)
        if interval is None:
            yield here, None
            return
        if not np.isfinite(interval.distance):
            raise ArithmeticError(
                f"the enclosure of {interval.steps:,} steps from step {step:,} on grows beyond bounds"
            )
        yield here, interval
        weights, rounding = here.end(interval.steps)
        distance, step = (interval.distance + rounding) * PAD + SMALLEST, step + interval.steps


def intervals_of(lengths: Iterable[int]) -> Callable[[IntervalStart], Interval | None]:
    """Intervals of these lengths, one after another."""
    rest = iter(lengths)

    def chosen(here: IntervalStart) -> Interval | None:
        steps = next(rest, 0)
        if steps == 0:
            return None
        return here.enclosed(steps)

    return chosen
