"""Gradient descent of a two-layer network replayed with a proved distance to the exact run.

The network is f(x_i) = scale A phi(W x_i) + bias_scale beta, the loss 1/2 ||f - y||^2, the step theta - lr gradient.
`replay` runs it in float64 and bounds the distance E_k between computed and exact iterate; `tail` decides whether the
exact run, at most E_k away, converges to an exact global minimum. Derivations: docs/proofs/run.md; its equation
numbers are the ones in the comments. A hat (computed in float64) is dropped from names: all arrays are computed ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.checker.taylor_table import PAD, UNIT, TaylorTable

KAPPA_SLACK = 0.05  # a new anchor once the change since the last one adds this share to kappa
S_SLACK = 0.02  # the same for ||J||


@dataclass(frozen=True)
class TwoLayer:
    """Data and fixed numbers. x: (n, d), multiplied by the input multiplier, with a constant column for a bias; y: (n, C)."""

    x: NDArray
    y: NDArray
    activation: str
    scale: float
    bias_scale: float
    readout_trained: bool
    lr: float


def gamma(n: int) -> float:
    """Relative error bound of n roundings in any order."""
    return n * UNIT / (1 - n * UNIT)


def norm(a: NDArray) -> float:
    return float(np.sqrt(np.sum(np.square(a)))) * PAD


def definite_defect(a: NDArray) -> NDArray:
    """e with lambda_min(a) >= -e, per matrix of a stack; LinAlgError if the factorization fails.

    a = L L^T + (a - L L^T) whatever L is; so only the rounding of one product and one difference counts.
    """
    factor = np.linalg.cholesky(a)
    rest = a - factor @ np.swapaxes(factor, -1, -2)
    size = np.sum(np.square(factor), axis=(-2, -1))
    return (np.sqrt(np.sum(np.square(rest), axis=(-2, -1))) + gamma(a.shape[-1] + 1) * size) * PAD


def upper_eigenvalues(a: NDArray) -> NDArray:
    """Upper bounds of the largest eigenvalue of each symmetric matrix of a stack: (..., n, n) -> (...)."""
    n = a.shape[-1]
    guess = np.linalg.eigvalsh(a)
    shift = guess[..., -1] + 1e-12 * n * np.abs(guess).max(axis=-1) + 1e-290
    for _ in range(40):
        try:
            defect = definite_defect(shift[..., None, None] * np.eye(n) - a)
        except np.linalg.LinAlgError:
            shift = shift + 1e-11 * n * np.abs(guess).max(axis=-1)
        else:
            rounding = UNIT * (np.abs(shift) + np.abs(np.diagonal(a, axis1=-2, axis2=-1)).max(axis=-1))
            return shift + (defect + rounding) * PAD + 2 * UNIT * np.abs(shift)
    raise ArithmeticError("no Cholesky factor of a matrix shifted above its largest eigenvalue")


def lower_eigenvalue(a: NDArray) -> float:
    return -float(upper_eigenvalues(-a))


class Geometry:
    """Numbers of the inputs alone: norms of X and of sum_i c_i x_i x_i^T."""

    def __init__(self, x: NDArray):
        n, d = x.shape
        self.gram = x @ x.T
        self.squared = self.gram * self.gram
        self.largest = float(np.sqrt(np.sum(np.square(x), axis=1)).max()) * PAD
        error = gamma(d) * self.largest**2 * PAD  # of an entry of the Gram matrix
        self.operator = float(np.sqrt(upper_eigenvalues(self.gram) + n * error)) * PAD  # ||X||
        # (6): sum_i c_i (v . x_i)^2 <= ||c|| tau for unit v
        self.tau = float(np.sqrt(upper_eigenvalues(self.squared) + 4 * n * error * self.largest**2)) * PAD
        self.absolute = float(np.sqrt(np.abs(x).sum(0).max() * np.abs(x).sum(1).max())) * PAD  # || |X| || <= this
        self.quadratic_error = (gamma(2 * n + 8) + 4 * gamma(d)) * self.largest**4 * PAD

    def quadratic_norms(self, q: NDArray) -> NDArray:
        """Bounds of ||sum_i q_ir x_i x_i^T||_F for each column r."""
        form = np.sum(q * (self.squared @ q), axis=0)
        return np.sqrt(np.maximum(form, 0) + self.quadratic_error * np.square(np.abs(q).sum(0))) * PAD


@dataclass
class Point:
    """One computed iterate with what its step needs."""

    step: int
    w: NDArray
    a: NDArray
    beta: NDArray
    residual: NDArray
    slopes: NDArray  # phi'(z)
    features: NDArray  # phi(z)
    curvature: NDArray  # q_ir = scale (R A)_ir phi''(z_ir)
    cross: NDArray  # per neuron, scale sum_i phi'(z_ir) R_ic x_i; (m, d, C), C = 0 with a fixed readout
    residual_error: float
    slope_error: float
    gradient_error: float  # of the gradient's float64 evaluation, the residual taken as computed
    curvature_error: float
    gradient: tuple[NDArray, NDArray, NDArray]
    distance: float = 0.0  # E: to the exact iterate
    jacobian: float = 0.0  # S >= ||J|| here
    kappa: float = 0.0  # over the ball of radius E
    lipschitz: float = 0.0  # L over the ball


class Replay:
    """The rigorous replay; `points()` yields a Point per step, its bounds filled in."""

    def __init__(self, net: TwoLayer, w: NDArray, a: NDArray, beta: NDArray):
        self.net, self.geometry = net, Geometry(net.x)
        reach = float(np.abs(net.x @ w.T).max())
        self.phi = TaylorTable(net.activation, 2 * reach + 4)
        self.start = (w, a, beta)

    def evaluate(self, step: int, w: NDArray, a: NDArray, beta: NDArray) -> Point:
        net, geo, phi = self.net, self.geometry, self.phi
        (n, d), (outputs, m) = net.x.shape, a.shape
        z = net.x @ w.T
        z_error = gamma(d) * geo.largest * float(np.sqrt(np.sum(w * w, axis=1)).max()) * PAD
        errors = [(phi.error[k] + phi.bound[k + 1] * z_error) * PAD for k in range(3)]
        features, slopes, bends = phi(z), phi(z, 1), phi(z, 2)
        residual = net.scale * (features @ a.T) + net.bias_scale * beta - net.y
        # (1): the features' errors through A, then the product's rounding, then the sum's
        column_sums = norm(np.abs(a).sum(1))
        residual_error = net.scale * (
            np.sqrt(n) * column_sums * errors[0] + gamma(m + 1) * norm(np.abs(features) @ np.abs(a).T)
        )
        residual_error += 2 * UNIT * (2 * norm(residual) + norm(net.y) + np.sqrt(n) * abs(net.bias_scale) * norm(beta))
        back = residual @ a
        back_size = np.abs(residual) @ np.abs(a)
        weighted = net.scale * back * slopes
        weighted_error = net.scale * (norm(back) * errors[1] + gamma(outputs + 3) * norm(back_size * slopes))
        gradient_w = weighted.T @ net.x
        gradient_error = geo.operator * weighted_error + gamma(n) * geo.absolute * norm(weighted)
        if net.readout_trained:
            gradient_a = net.scale * (residual.T @ features)
            gradient_beta = net.bias_scale * residual.sum(0)
            rounding = norm(features) * net.scale + np.sqrt(n) * abs(net.bias_scale)
            gradient_error += norm(residual) * (net.scale * np.sqrt(n * m) * errors[0] + gamma(n + 2) * rounding)
            cross = net.scale * np.einsum("ir,ic,id->rdc", slopes, residual, net.x, optimize=True)
            cross_error = net.scale * geo.operator * (norm(residual) * errors[1] * np.sqrt(m))
            cross_error += net.scale * gamma(n + 4) * geo.absolute * norm(residual) * phi.bound[1]
        else:
            gradient_a, gradient_beta = np.zeros_like(a), np.zeros_like(beta)
            cross, cross_error = np.zeros((m, d, 0)), 0.0
        curvature = net.scale * back * bends
        entry_error = back_size.max() * (errors[2] + gamma(outputs + 3) * (phi.bound[2] + errors[2]))
        return Point(
            step, w, a, beta, residual, slopes, features, curvature, cross,
            residual_error=residual_error * PAD, slope_error=errors[1], gradient_error=gradient_error * PAD,
            curvature_error=(net.scale * geo.operator**2 * entry_error + cross_error) * PAD,
            gradient=(gradient_w, gradient_a, gradient_beta),
        )  # fmt: skip

    def lipschitz(self, readout_norm: float) -> float:
        """(7): L with ||J(t) - J(t')|| <= L ||t - t'|| where each neuron's readout weights have at most this norm."""
        p = readout_norm * self.phi.bound[2] * self.geometry.tau
        q = self.phi.bound[1] * self.geometry.operator if self.net.readout_trained else 0.0
        return self.net.scale * (p + np.sqrt(p * p + 4 * q * q)) / 2 * PAD

    def readout_norm(self, a: NDArray, radius: float) -> float:
        trained = radius if self.net.readout_trained else 0.0
        return (float(np.sqrt(np.sum(a * a, axis=0)).max()) + trained) * PAD

    def jacobian_gram(self, point: Point) -> tuple[NDArray, float, float]:
        """H = J J^T of the computed factors, a bound of its rounding, and of ||J - computed J||."""
        net, geo = self.net, self.geometry
        (n, d), (outputs, m) = net.x.shape, point.a.shape
        h = np.empty((outputs, n, outputs, n))
        for c in range(outputs):
            left = point.slopes * (net.scale * point.a[c])
            for e in range(c + 1):
                block = (left @ (point.slopes * (net.scale * point.a[e])).T) * geo.gram
                h[c, :, e, :], h[e, :, c, :] = block, block.T
        factor_error = net.scale * norm(point.a) * norm(net.x) * point.slope_error
        if net.readout_trained:
            features = net.scale**2 * (point.features @ point.features.T) + net.bias_scale**2
            for c in range(outputs):
                h[c, :, c, :] += features
            e0 = self.phi.error[0] + self.phi.bound[1] * point.slope_error  # slope_error exceeds the error of z
            factor_error += net.scale * np.sqrt(n * m * outputs) * e0
        h = h.reshape(outputs * n, outputs * n)
        trace = float(np.trace(h))
        return h, gamma(m + d + 12) * trace * PAD, (factor_error + 4 * UNIT * np.sqrt(trace)) * PAD

    def neuron_blocks(self, point: Point) -> NDArray:
        """M_r of each neuron: second derivatives of the residual-weighted output; (m, d + C, d + C)."""
        x = self.net.x
        (m, d, outputs), n = point.cross.shape, len(x)
        blocks = np.zeros((m, d + outputs, d + outputs))
        blocks[:, :d, :d] = (x.T @ (point.curvature.T[:, :, None] * x).transpose(1, 0, 2).reshape(n, m * d)).reshape(d, m, d).transpose(1, 0, 2)
        blocks[:, :d, :d] = (blocks[:, :d, :d] + blocks[:, :d, :d].transpose(0, 2, 1)) / 2
        blocks[:, :d, d:], blocks[:, d:, :d] = point.cross, point.cross.transpose(0, 2, 1)
        return blocks

    def block_norms(self, curvature: NDArray, cross: NDArray) -> NDArray:
        return np.sqrt(self.geometry.quadratic_norms(curvature) ** 2 + 2 * np.sum(np.square(cross), axis=(1, 2))) * PAD

    def points(self) -> Iterator[Point]:
        net, geo, lr = self.net, self.geometry, self.net.lr
        point = self.evaluate(0, *self.start)
        anchor = top = s_anchor = None
        s_top = 0.0
        distance = 0.0
        while True:
            radius = distance
            # (4): kappa by homogeneity from the last anchor, or by a new one
            for attempt in range(2):
                if attempt or anchor is None:
                    anchor = point
                    top = np.maximum(upper_eigenvalues(-self.neuron_blocks(point)), 0)
                    top = top + gamma(len(net.x) + 6) * geo.absolute**2 * np.abs(point.curvature).max() * PAD
                share = np.sum(point.curvature * anchor.curvature, 0) / (np.sum(np.square(anchor.curvature), 0) + 1e-290)
                share = np.maximum(share, 0)
                change = self.block_norms(
                    point.curvature - share * anchor.curvature, point.cross - share[:, None, None] * anchor.cross
                )
                change = change + 4 * UNIT * (self.block_norms(np.abs(point.curvature), point.cross))
                bounds = share * top + change
                if bounds.max() <= (1 + KAPPA_SLACK) * float((share * top).max()):
                    break
            kappa = float(bounds.max()) * PAD
            for attempt in range(2):
                if attempt or s_anchor is None:
                    s_anchor = point
                    h, rounding, factor = self.jacobian_gram(point)
                    s_top = float(np.sqrt(upper_eigenvalues(h) + rounding) + factor) * PAD
                moved = self.moved(point, s_anchor)
                readout = max(self.readout_norm(point.a, radius), self.readout_norm(s_anchor.a, radius))
                lipschitz = self.lipschitz(readout)
                jacobian = (s_top + lipschitz * moved) * PAD
                if jacobian <= (1 + S_SLACK) * s_top:
                    break
            point.distance, point.jacobian, point.lipschitz = distance, jacobian, lipschitz
            over_ball = jacobian + lipschitz * radius
            residual = norm(point.residual) + point.residual_error
            drift = self.curvature_drift(point, residual, readout, over_ball, radius)
            point.kappa = (kappa + drift) * PAD
            size = float(self.block_norms(point.curvature, point.cross).max()) + drift
            yield point
            # (3): ||I - lr (J^T J + M)|| on the ball
            growth = max(1 + lr * point.kappa, lr * (over_ball**2 + size) * PAD - 1)
            gradient_error = point.gradient_error + jacobian * point.residual_error
            moved_to = [old - lr * g for old, g in zip((point.w, point.a, point.beta), point.gradient, strict=True)]
            rounding = UNIT * (sum(norm(new) for new in moved_to) + 2 * lr * sum(norm(g) for g in point.gradient))
            distance = (growth * distance + lr * gradient_error + rounding) * PAD + 1e-290
            point = self.evaluate(point.step + 1, *moved_to)

    def curvature_drift(self, point: Point, residual: float, readout: float, jacobian: float, radius: float) -> float:
        """(5): how much M may differ from the computed blocks on the ball of this radius, in spectral norm."""
        net, geo, phi = self.net, self.geometry, self.phi
        change = jacobian * radius + point.residual_error  # of the residual
        back = change * readout + (residual * radius if net.readout_trained else 0.0)
        drift = geo.tau * (phi.bound[2] * back + phi.bound[3] * geo.largest * radius * residual * readout)
        if net.readout_trained:
            drift += geo.operator * (phi.bound[1] * change + phi.bound[2] * geo.largest * radius * residual)
        return (net.scale * drift + point.curvature_error) * PAD

    def moved(self, point: Point, other: Point) -> float:
        pairs = ((point.w, other.w), (point.a, other.a), (point.beta, other.beta))
        return float(np.sqrt(sum(norm(p - o) ** 2 for p, o in pairs))) * PAD


@dataclass(frozen=True)
class Tail:
    """The inequality 2 L R < c sigma^2 at one step, and what follows from it."""

    step: int
    distance: float
    residual: float
    sigma: float
    jacobian: float
    lipschitz: float
    c: float
    radius: float

    @property
    def left(self) -> float:
        return 2 * self.lipschitz * self.residual * PAD

    @property
    def right(self) -> float:
        return self.c * self.sigma**2 / PAD

    @property
    def proved(self) -> bool:
        return self.c > 0 and self.sigma > 0 and self.left < self.right


def tail(replay: Replay, point: Point) -> Tail:
    """(8)-(10): the numbers of the tail condition at the exact iterate, at most point.distance from the computed one."""
    h, rounding, factor = replay.jacobian_gram(point)
    e, lr = point.distance, replay.net.lr
    lowest = (lower_eigenvalue(h) - rounding) / PAD
    largest = float(np.sqrt(upper_eigenvalues(h) + rounding) + factor) * PAD
    residual = (norm(point.residual) + point.residual_error + largest * e + point.lipschitz * e * e) * PAD
    sigma = (np.sqrt(max(lowest, 0.0)) / PAD - factor - point.lipschitz * e) / PAD
    if sigma <= 0:
        return Tail(point.step, e, residual, 0.0, largest, point.lipschitz, 0.0, np.inf)
    # c depends on the ball and the ball on c: c of the ball of radius 4 R / sigma is a lower bound if c >= 1/2
    c, radius, lipschitz, jacobian = 0.0, 0.0, point.lipschitz, largest
    for assumed in (0.9, 0.5, 0.25, 0.1, 0.03, 0.01):
        radius = 2 * residual / (assumed * sigma) * PAD
        lipschitz = replay.lipschitz(replay.readout_norm(point.a, radius + e))
        jacobian = (largest + lipschitz * (radius + e)) * PAD
        c = 1 - (lr * jacobian**2 / 2 + lr * lipschitz * residual / 2) * PAD
        if c >= assumed:
            break
    else:
        c = min(c, 0.0)
    return Tail(point.step, e, residual, sigma, jacobian, lipschitz, c, radius)
