"""A two-layer network in float64: outputs, residual, gradient, and proved bounds of their rounding errors.

f(x_i) = scale A phi(W x_i) + bias_scale beta, loss 1/2 ||f - y||^2 summed over samples and outputs. The error bounds
are (1) and (2) of docs/proofs/run.md; they hold for sums in any order, with or without fused multiply-add.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT, gamma
from gramian.checker.taylor_table import PAD, SMALLEST, TaylorTable

SQUARES_UNDERFLOW = 1e-120  # norms below it are replaced by sums of absolute values, which are no smaller


def norm(a: NDArray) -> float:
    """Upper bound of the root of the sum of squares of all entries."""
    size = float(np.sqrt(np.sum(np.square(a)))) * PAD + SMALLEST
    if size < SQUARES_UNDERFLOW:
        return float(np.sum(np.abs(a))) * PAD + SMALLEST
    return size


@dataclass(frozen=True)
class Task:
    """The network's fixed numbers, the data and the step.

    Attributes:
        x: inputs (n, d), multiplied by the first layer's multiplier (rounded once, which the bounds cover); a first
            layer's bias is a constant column.
        y: targets (n, C).
        activation: a name of `taylor_table.ACTIVATIONS`.
        scale: multiplier of the readout's weights, positive.
        bias_scale: multiplier of the readout's bias; 0 without one.
        readout_trained: whether A and beta train; W always does.
        exact_x: where x is rounded: the inputs (n, d) and the multipliers (d,) whose product it stands for.
        lr: step on the loss 1/2 ||f - y||^2. A mean over samples or entries divides its own step by their number.
    """

    x: NDArray
    y: NDArray
    activation: str
    scale: float
    bias_scale: float
    readout_trained: bool
    lr: float
    exact_x: tuple[NDArray, NDArray] | None = None


@dataclass(frozen=True)
class TwoLayerWeights:
    """W (m, d), A (C, m), beta (C)."""

    w: NDArray
    a: NDArray
    beta: NDArray

    def distance(self, other: "TwoLayerWeights") -> float:
        return norm(np.array([norm(self.w - other.w), norm(self.a - other.a), norm(self.beta - other.beta)]))


class InputNorms:
    """Numbers of the inputs alone: the Gram matrix, and norms of X and of sum_i c_i x_i x_i^T."""

    def __init__(self, x: NDArray):
        n, d = x.shape
        self.gram = x @ x.T
        self.squared = self.gram * self.gram
        self.frobenius = norm(x)
        self.largest = float(np.sqrt(np.sum(np.square(x), axis=1)).max()) * PAD
        entry = gamma(d + 2) * self.largest**2  # error of one entry of the Gram matrix, that of x included
        self.operator = float(np.sqrt(upper_eigenvalues(self.gram) + n * entry)) * PAD  # ||X||
        # (3): sum_i c_i (v . x_i)^2 <= ||c|| tau for unit v
        self.tau = float(np.sqrt(upper_eigenvalues(self.squared) + 4 * n * entry * self.largest**2)) * PAD
        self.absolute = float(np.sqrt(np.abs(x).sum(0).max() * np.abs(x).sum(1).max())) * PAD  # of the matrix |X|
        self.form_error = (gamma(2 * n + 8) + 4 * gamma(d + 2)) * self.largest**4

    def frobenius_norms(self, q: NDArray) -> NDArray:
        """Bounds of ||sum_i q_ir x_i x_i^T||_F for each column r, by the quadratic form of (x_i . x_j)^2."""
        form = np.sum(q * (self.squared @ q), axis=0)
        return np.sqrt(np.maximum(form, 0) + self.form_error * np.square(np.abs(q).sum(0))) * PAD


def upper_eigenvalues(a: NDArray) -> NDArray:
    """Upper bounds of the largest eigenvalue of each exactly symmetric matrix of a stack: (..., n, n) -> (...)."""
    n = a.shape[-1]
    if not np.isfinite(a).all():
        raise ArithmeticError("a matrix has entries that are not finite")
    guess = np.linalg.eigvalsh(a)
    size = np.abs(guess).max(axis=-1)
    shift = guess[..., -1] + 1e-12 * n * size + SMALLEST
    for _ in range(40):
        try:
            defect = definite_defect(shift[..., None, None] * np.eye(n) - a)
        except np.linalg.LinAlgError:
            shift = shift + 1e-11 * n * size
        else:
            diagonal = np.abs(np.diagonal(a, axis1=-2, axis2=-1)).max(axis=-1)
            return shift + (defect + 3 * UNIT * (np.abs(shift) + diagonal)) * PAD
    raise ArithmeticError("no Cholesky factor of a matrix that is shifted above its largest eigenvalue")


def definite_defect(a: NDArray) -> NDArray:
    """e with lambda_min(a) >= -e for each matrix of a stack; LinAlgError where there is no factor.

    a = L L^T + (a - L L^T) for whatever L: only the rounding of one product and one difference counts, (6).
    """
    factor = np.linalg.cholesky(a)
    rest = a - factor @ np.swapaxes(factor, -1, -2)
    size = np.sum(np.square(factor), axis=(-2, -1))
    return (np.sqrt(np.sum(np.square(rest), axis=(-2, -1))) + gamma(a.shape[-1] + 1) * size) * PAD


@dataclass(frozen=True)
class Point:
    """One computed iterate. A quantity named `..._error` bounds the error of its computation at these weights.

    Attributes:
        residual: f - y, (n, C).
        features, slopes: phi(z) and phi'(z), (n, m); their errors are per entry.
        curvature: q_ir = scale (R A)_ir phi''(z_ir), (n, m).
        cross: per neuron, scale sum_i phi'(z_ir) x_i R_ic: (m, d, C), or (m, d, 0) with a fixed readout.
        blocks_error: of each neuron's second-derivative block, spectral norm, the residual taken as computed.
        gradient_error: likewise, of the whole gradient.
    """

    step: int
    weights: TwoLayerWeights
    largest_z: float
    residual: NDArray
    residual_error: float
    features: NDArray
    feature_error: float
    slopes: NDArray
    slope_error: float
    curvature: NDArray
    cross: NDArray
    blocks_error: float
    gradient: TwoLayerWeights
    gradient_error: float


def evaluate(task: Task, geometry: InputNorms, phi: TaylorTable, step: int, weights: TwoLayerWeights) -> Point:
    """Outputs, residual, gradient and second-derivative factors at these weights."""
    w, a, beta = weights.w, weights.a, weights.beta
    (n, d), (outputs, m), scale = task.x.shape, a.shape, task.scale
    z = task.x @ w.T
    z_error = gamma(d + 1) * geometry.largest * float(np.sqrt(np.sum(w * w, axis=1)).max()) * PAD + SMALLEST
    features, slopes, bends = phi(z), phi(z, 1), phi(z, 2)
    errors = [(phi.error[k] + phi.bound[k + 1] * z_error) * PAD for k in range(3)]

    # (1): the features' errors through A, then the product's rounding, then those of the two sums
    residual = scale * (features @ a.T) + task.bias_scale * beta - task.y
    bias_size = np.sqrt(n) * abs(task.bias_scale)
    residual_error = scale * (
        np.sqrt(n) * norm(np.abs(a).sum(1)) * errors[0] + gamma(m + 1) * norm(np.abs(features) @ np.abs(a).T)
    )
    residual_error += 2 * UNIT * (2 * norm(residual) + norm(task.y) + bias_size * norm(beta))

    # (2): the product with the slopes and features as computed, and what their errors add
    back, back_size = residual @ a, np.abs(residual) @ np.abs(a)
    gradient, gradient_error = adjoint(task, geometry, a, features, slopes, residual)
    gradient_error += geometry.operator * scale * norm(back_size) * errors[1]
    cross, cross_error = np.zeros((m, d, 0)), 0.0
    if task.readout_trained:
        gradient_error += norm(residual) * scale * np.sqrt(n * m) * errors[0]
        products = (slopes[:, :, None] * residual[:, None, :]).reshape(n, m * outputs)
        cross = scale * (task.x.T @ products).reshape(d, m, outputs).transpose(1, 0, 2)
        rounding = gamma(n + 5) * geometry.absolute * (phi.bound[1] + errors[1])
        cross_error = scale * norm(residual) * (geometry.operator * errors[1] + rounding)
    entry_error = back_size.max() * (errors[2] + gamma(outputs + 3) * (phi.bound[2] + errors[2]))
    return Point(
        step=step,
        weights=weights,
        largest_z=(float(np.abs(z).max()) + z_error) * PAD,
        residual=residual,
        residual_error=residual_error * PAD + SMALLEST,
        features=features,
        feature_error=errors[0],
        slopes=slopes,
        slope_error=errors[1],
        curvature=scale * back * bends,
        cross=cross,
        blocks_error=(scale * geometry.operator**2 * entry_error + cross_error) * PAD + SMALLEST,
        gradient=gradient,
        gradient_error=gradient_error * PAD + SMALLEST,
    )


def adjoint(
    task: Task, geometry: InputNorms, a: NDArray, features: NDArray, slopes: NDArray, rows: NDArray
) -> tuple[TwoLayerWeights, float]:
    """J^T applied to `rows` (n, C), J of these features and slopes, taken as exact; and the rounding of it."""
    (n, _), outputs, scale = task.x.shape, len(a), task.scale
    weighted = scale * (rows @ a) * slopes
    error = scale * geometry.operator * gamma(outputs + 3) * norm((np.abs(rows) @ np.abs(a)) * slopes)
    error += gamma(n + 1) * geometry.absolute * norm(weighted)
    if not task.readout_trained:
        return TwoLayerWeights(weighted.T @ task.x, np.zeros_like(a), np.zeros(outputs)), error
    error += norm(rows) * gamma(n + 2) * (scale * norm(features) + np.sqrt(n) * abs(task.bias_scale))
    return TwoLayerWeights(weighted.T @ task.x, scale * (rows.T @ features), task.bias_scale * rows.sum(0)), error
