"""A fully connected network of any depth in float64: residual, gradient, and proved bounds of their rounding errors.

z_l = c_l W_l h_{l-1} + d_l b_l, h_l = phi_l(z_l), h_0 = x, f = z_D; the loss is 1/2 ||f - y||^2, summed over samples
and outputs. What the gradient of (W_l, b_l) multiplies is g_l = (c_l h_{l-1}, d_l). Numbers in brackets are those of
docs/proofs/deep-run.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import Ball, gamma, outward, product
from gramian.checker.taylor_table import PAD, SMALLEST, TaylorTable
from gramian.checker.two_layer import norm


@dataclass(frozen=True)
class DeepTask:
    """The network's fixed numbers, the data and the step.

    Attributes:
        x: inputs (n, d).
        y: targets (n, C).
        activations: names in `taylor_table.ACTIVATIONS`, one for each hidden layer.
        scales, bias_scales: c_l and d_l of each layer; d_l is 0 where there is no bias.
        lr: step on the loss 1/2 ||f - y||^2.
    """

    x: NDArray
    y: NDArray
    activations: tuple[str, ...]
    scales: tuple[float, ...]
    bias_scales: tuple[float, ...]
    lr: float


@dataclass(frozen=True)
class DeepWeights:
    """W_l (m_l, m_{l-1}) and b_l (m_l,) of each layer; all of them train."""

    matrices: tuple[NDArray, ...]
    biases: tuple[NDArray, ...]

    @property
    def count(self) -> int:
        return sum(a.size for a in (*self.matrices, *self.biases))

    def distance(self, other: DeepWeights) -> float:
        pairs = zip((*self.matrices, *self.biases), (*other.matrices, *other.biases), strict=True)
        return norm(np.array([norm(a - b) for a, b in pairs]))


@dataclass(frozen=True)
class DeepPoint:
    """One computed iterate. A quantity named `..._error` bounds the error of its computation at these weights.

    Attributes:
        residual: f - y, (n, C).
        inputs: g_l, (n, m_{l-1} + 1).
        sizes: bounds of each sample's ||h_{l-1}||, of the exact h, (n,).
        slopes, bends: phi'(z) and phi''(z) of each hidden layer, (n, m_l).
        backs: beta_l = d<r, f>/d z_l at fixed r, the residual as computed, (n, m_l).
        pulled: d<r, f>/d h_l of each hidden layer, (n, m_l).
        reaches: bound of the preactivations of each hidden layer.
        relative: each factor of J and M is computed with at most this error, relative to the bound of its size, (4).
        gradient_error: of the whole gradient, the residual taken as computed.
    """

    step: int
    weights: DeepWeights
    residual: NDArray
    residual_error: float
    inputs: tuple[NDArray, ...]
    sizes: tuple[NDArray, ...]
    slopes: tuple[NDArray, ...]
    bends: tuple[NDArray, ...]
    backs: tuple[NDArray, ...]
    pulled: tuple[NDArray, ...]
    reaches: tuple[float, ...]
    relative: float
    gradient: DeepWeights
    gradient_error: float


def evaluate_deep(task: DeepTask, tables: Mapping[str, TaylorTable], step: int, weights: DeepWeights) -> DeepPoint:
    """Outputs, residual, gradient and the factors of second derivatives at these weights."""
    layers, output = _forward(task, tables, weights)
    residual = output + Ball.exact(-task.y)
    backs, pulled = _backward(task, weights, Ball.exact(residual.middle), [layer.slopes for layer in layers[:-1]])
    gradients = [accurate(back, layer.inputs, flipped=True) for back, layer in zip(backs, layers, strict=True)]
    longest = max(max(w.shape) for w in weights.matrices)
    relative = gamma(longest + 8) + max(
        error
        for layer in layers
        for error in (
            _error(layer.inputs) / (norm(layer.inputs.middle) + SMALLEST),
            _largest(layer.slopes) / (layer.bound[1] + SMALLEST),
            _largest(layer.bends) / (layer.bound[2] + SMALLEST),
        )
    )
    return DeepPoint(
        step=step,
        weights=weights,
        residual=residual.middle,
        residual_error=_error(residual),
        inputs=tuple(layer.inputs.middle for layer in layers),
        sizes=tuple(layer.given.norms() for layer in layers),
        slopes=tuple(layer.slopes.middle for layer in layers[:-1]),
        bends=tuple(layer.bends.middle for layer in layers[:-1]),
        backs=tuple(back.middle for back in backs),
        pulled=tuple(pulled),
        reaches=tuple(layer.reach for layer in layers[:-1]),
        relative=float(relative * PAD),
        gradient=DeepWeights(tuple(g.middle[:, :-1] for g in gradients), tuple(g.middle[:, -1] for g in gradients)),
        gradient_error=norm(np.array([_error(g) for g in gradients])),
    )


@dataclass
class _Layer:
    """h_{l-1}, g_l, and of a hidden layer phi', phi'', their bounds, and that of its preactivations."""

    given: Ball
    inputs: Ball
    slopes: Ball
    bends: Ball
    bound: Sequence[float]
    reach: float


def _forward(task: DeepTask, tables: Mapping[str, TaylorTable], weights: DeepWeights) -> tuple[list[_Layer], Ball]:
    h, nothing = Ball.exact(task.x), Ball.exact(np.zeros((1, 1)))
    layers: list[_Layer] = []
    for layer, (w, b) in enumerate(zip(weights.matrices, weights.biases, strict=True)):
        scaled = h.scaled(task.scales[layer])
        column = np.full((len(task.x), 1), task.bias_scales[layer])
        g = Ball(np.hstack([scaled.middle, column]), np.hstack([scaled.radius, np.zeros_like(column)]))
        z = accurate(h, Ball.exact(w.T)).scaled(task.scales[layer])
        if task.bias_scales[layer] != 0:
            z = z + Ball.exact(b).scaled(task.bias_scales[layer])
        if layer == len(weights.matrices) - 1:
            return [*layers, _Layer(h, g, nothing, nothing, (1.0, 1.0, 1.0, 1.0), 0.0)], z
        phi = tables[task.activations[layer]]
        reach = float(z.size().max())
        if not reach <= phi.reach:
            raise ArithmeticError(f"a preactivation may reach {reach:.3g}; bounds were computed up to {phi.reach}")
        values = [Ball(phi(z.middle, k), outward(phi.bound[k + 1] * z.radius + phi.error[k])) for k in range(3)]
        layers.append(_Layer(h, g, values[1], values[2], phi.bound, reach))
        h = values[0]
    raise ValueError("a network has at least one layer")


def _backward(
    task: DeepTask, weights: DeepWeights, top: Ball, slopes: Sequence[Ball]
) -> tuple[list[Ball], list[NDArray]]:
    """beta_l of each layer for beta_D = `top`, and d/dh_l of each hidden layer."""
    backs: list[Ball] = [top]
    pulled: list[NDArray] = []
    for layer in range(len(weights.matrices) - 1, 0, -1):
        through = accurate(backs[0], Ball.exact(weights.matrices[layer])).scaled(task.scales[layer])
        pulled.insert(0, through.middle)
        backs.insert(0, through * slopes[layer - 1])
    return backs, pulled


def accurate(left: Ball, right: Ball, *, flipped: bool = False) -> Ball:
    """A matrix product as if with twice the digits; of `left` transposed, if it is to be flipped."""
    if not (np.isfinite(left.middle).all() and np.isfinite(right.middle).all()):
        raise ArithmeticError("the run's numbers overflow")
    if flipped:
        left = Ball(left.middle.T, left.radius.T)
    return product(left, right, split=True, by_flint=0)


def _error(ball: Ball) -> float:
    return norm(ball.radius)


def _largest(ball: Ball) -> float:
    return float(ball.radius.max())
