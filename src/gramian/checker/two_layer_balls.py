"""Steps of gradient descent in ball arithmetic, for runs that amplify the rounding of float64 too much.

Each step starts from exact numbers of `bits` bits and ends in balls; their radii bound the step's error, and their
middles are the exact numbers of the next one. So a radius is never carried on: that is done by `Replay`, far tighter.
"""

from __future__ import annotations

import flint
import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from gramian.checker.taylor_table import ACTIVATIONS, PAD
from gramian.checker.two_layer import Task, TwoLayerWeights


def as_balls(values: NDArray) -> arb_mat:
    rows, columns = values.shape
    return arb_mat(rows, columns, [arb(v) for v in values.ravel().tolist()])


def as_floats(values: arb_mat) -> NDArray:
    return np.array([float(e) for e in values.entries()]).reshape(values.nrows(), values.ncols())


def entrywise(function, *matrices: arb_mat) -> arb_mat:
    entries = zip(*(m.entries() for m in matrices), strict=True)
    return arb_mat(matrices[0].nrows(), matrices[0].ncols(), [function(*e) for e in entries])


class BallSteps:
    """The run from `start`; its iterates are exact numbers, its steps have a proved error."""

    def __init__(self, task: Task, start: TwoLayerWeights, bits: int):
        self.task, self.bits = task, bits
        self.y, self.ones = as_balls(task.y), as_balls(np.ones((len(task.x), 1)))
        self.x = as_balls(task.x)
        if task.exact_x is not None:
            inputs, multipliers = task.exact_x
            with flint.ctx.workprec(max(bits, 4 * 53)):  # the product of two float64 numbers is exact
                self.x = entrywise(
                    lambda p, q: p * q, as_balls(inputs), as_balls(np.broadcast_to(multipliers, inputs.shape))
                )
        self.parameters = [as_balls(start.w), as_balls(start.a), as_balls(start.beta[None])]

    def advance(self) -> tuple[TwoLayerWeights, float, float]:
        """The next iterate in float64, its distance to the exact numbers kept here, and the error of this step."""
        with flint.ctx.workprec(self.bits):
            self.parameters, error = descended(self.parameters, self._gradient(), self.task.lr)
            (w, a, beta), gap = rounded(self.parameters)
        return TwoLayerWeights(w, a, beta[0]), gap, error

    def _gradient(self) -> list[arb_mat]:
        task, (w, a, beta) = self.task, self.parameters
        scale, bias_scale = arb(task.scale), arb(task.bias_scale)
        features, slopes = activated(task.activation, self.x * w.transpose())
        residual = features * a.transpose() * scale + self.ones * beta * bias_scale - self.y
        weighted = entrywise(lambda r, s: r * s * scale, residual * a, slopes)
        gradient = [weighted.transpose() * self.x]
        if task.readout_trained:
            back = residual.transpose()
            return [*gradient, back * features * scale, (back * self.ones * bias_scale).transpose()]
        return [*gradient, a * arb(0), beta * arb(0)]


def descended(parameters: list[arb_mat], gradient: list[arb_mat], lr: float) -> tuple[list[arb_mat], float]:
    """The middles of the next parameters, and the norm of the balls' radii around them."""
    balls = [p - g * arb(lr) for p, g in zip(parameters, gradient, strict=True)]
    error = sum((e.rad() ** 2 for b in balls for e in b.entries()), arb(0)).sqrt()
    return [entrywise(lambda e: e.mid(), b) for b in balls], float(error.abs_upper()) * PAD


def rounded(parameters: list[arb_mat]) -> tuple[list[NDArray], float]:
    """Exact numbers in float64, and the distance between the two."""
    floats = [as_floats(p) for p in parameters]
    pairs = zip(parameters, floats, strict=True)
    gap = sum((e**2 for p, f in pairs for e in (p - as_balls(f)).entries()), arb(0)).sqrt()
    return floats, float(gap.abs_upper()) * PAD


def activated(name: str, z: arb_mat) -> tuple[arb_mat, arb_mat]:
    """phi(z) and phi'(z)."""
    phi, cap = ACTIVATIONS[name], flint.ctx.cap
    flint.ctx.cap = 2
    try:
        series = [phi(flint.arb_series([e, 1])) for e in z.entries()]
    finally:
        flint.ctx.cap = cap
    return tuple(arb_mat(z.nrows(), z.ncols(), [s[k] for s in series]) for k in (0, 1))  # type: ignore[return-value]
