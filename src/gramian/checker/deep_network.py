"""A fully connected network of any depth in float64: residual, gradient, and proved bounds of their rounding errors.

z_l = c_l W_l h_{l-1} + d_l b_l, h_l = phi_l(z_l), h_0 = x, f = z_D; the loss is 1/2 ||f - y||^2, summed over samples and
outputs. `inputs[l]` is what the gradient of (W_l, b_l) multiplies: g_l = (c_l h_{l-1}, d_l). Numbers in brackets are
those of docs/proofs/deep-run.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
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
        relative: each factor of J and M is computed with at most this error, relative to the bound of its size, (R).
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


@dataclass
class _Forward:
    """Layer by layer; `rows` bound the error of each sample's h_{l-1}, `slope_rows` that of its phi'(z_l)."""

    inputs: list[NDArray]
    sizes: list[NDArray]
    rows: list[float]
    slopes: list[NDArray]
    bends: list[NDArray]
    slope_rows: list[float]
    reaches: list[float]
    relative: float
    output: NDArray
    output_row: float


def evaluate_deep(task: DeepTask, tables: Mapping[str, TaylorTable], step: int, weights: DeepWeights) -> DeepPoint:
    """Outputs, residual, gradient and the factors of second derivatives at these weights."""
    forward = _forward(task, tables, weights)
    n = len(task.x)
    residual = forward.output - task.y
    residual_error = (np.sqrt(n) * forward.output_row + 2 * UNIT * norm(residual)) * PAD + SMALLEST
    slope_errors = [float(np.sqrt(n)) * row * PAD for row in forward.slope_rows]
    bounds = [tables[name].bound[1] for name in task.activations]
    backs, pulled, errors = backward(task, weights, residual, forward.slopes, slope_errors, bounds)
    matrices, biases, squares = [], [], 0.0
    for l, (g, back, error) in enumerate(zip(forward.inputs, backs, errors, strict=True)):
        slope = back.T @ g
        matrices.append(slope[:, :-1])
        biases.append(slope[:, -1])
        # (3): the errors of beta and of g, then the product's rounding
        size, off = norm(g), abs(task.scales[l]) * np.sqrt(n) * forward.rows[l] + 2 * UNIT * norm(g)
        squares += (norm(back) * off + error * (size + off) + gamma(n + 1) * norm(back) * size) ** 2 * PAD
    return DeepPoint(
        step=step,
        weights=weights,
        residual=residual,
        residual_error=float(residual_error),
        inputs=tuple(forward.inputs),
        sizes=tuple(forward.sizes),
        slopes=tuple(forward.slopes),
        bends=tuple(forward.bends),
        backs=tuple(backs),
        pulled=tuple(pulled),
        reaches=tuple(forward.reaches),
        relative=forward.relative,
        gradient=DeepWeights(tuple(matrices), tuple(biases)),
        gradient_error=float(np.sqrt(squares)) * PAD + SMALLEST,
    )


def _forward(task: DeepTask, tables: Mapping[str, TaylorTable], weights: DeepWeights) -> _Forward:
    n, h, row = len(task.x), task.x, 0.0  # row: bound of the error of one sample's h
    done = _Forward([], [], [], [], [], [], [], 0.0, h, 0.0)
    for l, (w, b) in enumerate(zip(weights.matrices, weights.biases, strict=True)):
        scale, bias_scale, (m, k) = task.scales[l], task.bias_scales[l], w.shape
        lengths = np.sqrt(np.sum(np.square(h), axis=1)) * PAD
        g = np.hstack([scale * h, np.full((n, 1), bias_scale)])
        done.inputs.append(g)
        done.sizes.append((lengths + row) * PAD + SMALLEST)
        done.rows.append(row)
        done.relative = max(done.relative, abs(scale) * np.sqrt(n) * row / (norm(g) + SMALLEST))
        # (1): the error of h through W, then the rounding of the product and of its sum with the bias
        z = scale * (h @ w.T) + bias_scale * b
        rounding = gamma(k + 4) * (abs(scale) * lengths.max() * norm(w) + abs(bias_scale) * norm(b))
        error = (abs(scale) * norm(w) * row + rounding) * PAD + SMALLEST
        if l == len(weights.matrices) - 1:
            done.output, done.output_row = z, float(error)
            break
        phi = tables[task.activations[l]]
        reach = (float(np.abs(z).max()) + error) * PAD
        if not reach <= phi.reach:
            raise ArithmeticError(f"a preactivation may reach {reach:.3g}; bounds were computed up to {phi.reach}")
        h = phi(z)
        done.slopes.append(phi(z, 1))
        done.bends.append(phi(z, 2))
        done.reaches.append(reach)
        row = (phi.bound[1] * error + np.sqrt(m) * phi.error[0]) * PAD
        done.slope_rows.append((phi.bound[2] * error + np.sqrt(m) * phi.error[1]) * PAD)
        entries = [(phi.bound[j + 1] * error + phi.error[j]) / (phi.bound[j] + SMALLEST) for j in (1, 2)]
        done.relative = max(done.relative, *entries)
    longest = max(max(w.shape) for w in weights.matrices)
    done.relative = float((done.relative + gamma(longest + 8)) * PAD)
    return done


def backward(
    task: DeepTask,
    weights: DeepWeights,
    top: NDArray,
    slopes: Sequence[NDArray],
    slope_errors: Sequence[float],
    bounds: Sequence[float],
) -> tuple[list[NDArray], list[NDArray], list[float]]:
    """beta_l of each layer, d/dh_l of each hidden layer, and (2): bounds of the errors of beta_l (Frobenius norm), for
    the exact `top` = beta_D."""
    backs, pulled, errors = [top], [], [0.0]
    for l in range(len(weights.matrices) - 1, 0, -1):
        w, scale, back = weights.matrices[l], task.scales[l], backs[0]
        through = scale * (back @ w)
        error = abs(scale) * norm(w) * (errors[0] + gamma(len(w) + 2) * norm(back))
        below = through * slopes[l - 1]
        error = bounds[l - 1] * error + np.abs(through).max() * slope_errors[l - 1] + 2 * UNIT * norm(below)
        pulled.insert(0, through)
        backs.insert(0, below)
        errors.insert(0, float(error) * PAD + SMALLEST)
    return backs, pulled, errors
