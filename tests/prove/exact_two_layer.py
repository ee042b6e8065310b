"""Gradient descent of a two-layer network with 400 bits: what the checker's bounds are tested against.

Ball arithmetic would lose a factor at every step; midpoints are kept instead, whose error stays below 2^-300 here.
"""

import flint
import numpy as np
from flint import arb, arb_mat

from gramian.checker.taylor_table import ACTIVATIONS
from gramian.checker.two_layer import Task, TwoLayerWeights

BITS = 400


def matrix(values: np.ndarray) -> arb_mat:
    return arb_mat(*values.shape, [arb(v) for v in values.ravel().tolist()])


def product(a: arb_mat, b: arb_mat) -> arb_mat:
    return arb_mat(a.nrows(), a.ncols(), [p * q for p, q in zip(a.entries(), b.entries(), strict=True)])


def middle(a: arb_mat) -> arb_mat:
    return arb_mat(a.nrows(), a.ncols(), [e.mid() for e in a.entries()])


def size(*matrices: arb_mat) -> arb:
    """Norm, rounded up: a sum of squares below the working precision is a ball that holds negative numbers."""
    return sum((e * e for m in matrices for e in m.entries()), arb(0)).abs_upper().sqrt()


class ExactRun:
    """`w`, `a`, `beta`, `residual` of the exact run; `step()` moves on."""

    def __init__(self, task: Task, start: TwoLayerWeights):
        self.task = task
        self.bits, flint.ctx.prec = flint.ctx.prec, BITS
        self.x, self.y, self.ones = matrix(task.x), matrix(task.y), matrix(np.ones((len(task.x), 1)))
        if task.exact_x is not None:
            self.x = product(matrix(task.exact_x[0]), matrix(np.broadcast_to(task.exact_x[1], task.x.shape)))
        self.w, self.a, self.beta = matrix(start.w), matrix(start.a), matrix(start.beta[None])
        self.forward()
        flint.ctx.prec = self.bits

    def derivative(self, z: arb_mat, k: int) -> arb_mat:
        phi, cap = ACTIVATIONS[self.task.activation], flint.ctx.cap
        flint.ctx.cap = 3
        values = [phi(flint.arb_series([e, 1]))[k] * max(k, 1) for e in z.entries()]
        flint.ctx.cap = cap
        return arb_mat(z.nrows(), z.ncols(), values)

    def forward(self) -> None:
        z = self.x * self.w.transpose()
        self.features, self.slopes = self.derivative(z, 0), self.derivative(z, 1)
        bias = self.ones * self.beta * arb(self.task.bias_scale)
        self.residual = self.features * self.a.transpose() * arb(self.task.scale) + bias - self.y

    def gradient(self) -> tuple[arb_mat, arb_mat, arb_mat]:
        scale, back = arb(self.task.scale), self.residual.transpose()
        w = product(self.residual * self.a, self.slopes).transpose() * self.x * scale
        return w, back * self.features * scale, (back * self.ones).transpose() * arb(self.task.bias_scale)

    def step(self) -> None:
        flint.ctx.prec = BITS
        w, a, beta = self.gradient()
        lr = arb(self.task.lr)
        self.w = middle(self.w - w * lr)
        if self.task.readout_trained:
            self.a, self.beta = middle(self.a - a * lr), middle(self.beta - beta * lr)
        self.forward()
        flint.ctx.prec = self.bits

    def weights(self) -> TwoLayerWeights:
        def rounded(m: arb_mat) -> np.ndarray:
            return np.array([float(e.mid()) for e in m.entries()]).reshape(m.nrows(), m.ncols())

        return TwoLayerWeights(rounded(self.w), rounded(self.a), rounded(self.beta)[0])

    def distance(self, weights: TwoLayerWeights) -> float:
        """Rounded up."""
        flint.ctx.prec = BITS
        gaps = size(self.w - matrix(weights.w), self.a - matrix(weights.a), self.beta - matrix(weights.beta[None]))
        flint.ctx.prec = self.bits
        return float(gaps.mid()) * (1 + 1e-15)

    def parameters(self) -> list[arb_mat]:
        return [self.w, self.a, self.beta]

    def way_from(self, other: list[arb_mat]) -> float:
        return float(size(*(a - b for a, b in zip(self.parameters(), other, strict=True))).mid())

    def loss_root(self) -> float:
        return float(size(self.residual).mid())


def random_problem(rng: np.random.Generator) -> tuple[Task, TwoLayerWeights]:
    """Data, activation, widths and scales at random; the rate up to the edge of stability."""
    from gramian.prove.run import largest_eigenvalue

    n, d, m, outputs = (int(rng.integers(*r)) for r in ((1, 5), (2, 5), (4, 24), (1, 3)))
    bias = float(rng.choice([0.0, 1.0, 0.5]))
    x = rng.standard_normal((n, d)) * 10 ** rng.uniform(-0.5, 0.4)
    if rng.integers(2):
        x[:, -1] = 1
    y = rng.standard_normal((n, outputs)) * 10 ** rng.uniform(-2, 0.5)
    beta = rng.standard_normal(outputs) * (bias > 0)
    w = rng.standard_normal((m, d)) * 10 ** rng.uniform(-0.5, 0.5)
    start = TwoLayerWeights(w, rng.standard_normal((outputs, m)), beta)
    activation, scale = str(rng.choice(list(ACTIVATIONS))), float(rng.choice([1.0, 1 / np.sqrt(m)]))
    task = Task(x, y, activation, scale, bias, bool(rng.integers(2)), 1.0)
    rate = float(rng.choice([0.3, 0.7, 1.0, 1.3, 1.7, 1.95, 2.05, 3.0]))
    return Task(x, y, activation, scale, bias, task.readout_trained, rate / largest_eigenvalue(task, start)), start
