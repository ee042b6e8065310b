r"""Tables of a dual: Chebyshev polynomials in the angle and the standard deviations, checked against the quadrature.

Between its kinks' meeting points a kernel of $(\sqrt{q_1}, \vartheta, \sqrt{q_2})$, $\cos\vartheta$ the correlation, is
smooth up to $\vartheta = 0$ and $\pi$, where in the covariance it has a square root. The kinks of u and v meet at no
angle inside where all are at zero, or all variances are equal: only there is a table made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gramian.duals.chebyshev import chebyshev_nodes
from gramian.duals.covariance_gap import safe_sqrt

Dual = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
LEAST_PAIRS = 2**12  # at one variance; for fewer a table is not worth its making
LEAST_PAIRS_OF_MANY_VARIANCES = 2**14
WIDEST_RATIO = 8.0  # ratio of standard deviations in one table
DEVIATION_ORDERS = (8, 12, 16, 24)  # in a standard deviation
ANGLE_ORDERS = (24, 32, 48, 64, 96, 128, 192, 256)
TABLE_TOLERANCE = 8e-12  # of the diagonal


@dataclass(frozen=True)
class DualTable:
    """Coefficients (2, P, P, R) of kernel and slope's kernel for standard deviations from `low` to `high`."""

    low: float
    high: float
    coefficients: Tensor

    def __call__(self, q1: Tensor, theta: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel and slope's kernel at angles `theta`; the variances broadcast against it."""
        c = self.coefficients.to(theta)
        p, r = c.shape[2:]
        of_x = torch.einsum("...a,zabr->z...br", self._basis(q1, p), c)
        of_y = self._basis(q2, p)
        # the angles from 0 to pi onto the polynomials' interval
        y = theta * (2 / math.pi) - 1
        return self._clenshaw(of_x[0], of_y, y, r), self._clenshaw(of_x[1], of_y, y, r)

    def _clenshaw(self, of_x: Tensor, of_y: Tensor, y: Tensor, terms: int) -> Tensor:
        # Clenshaw's recurrence for sum_r c_r T_r(y); each pair's c_r is a sum over the polynomials of both deviations.
        one = two = torch.zeros_like(y)
        for r in range(terms - 1, -1, -1):
            factor = of_x[..., 0, r] * of_y[..., 0] - two
            for b in range(1, of_y.shape[-1]):
                factor = torch.addcmul(factor, of_x[..., b, r], of_y[..., b])
            if r:
                value = 2.0
            else:
                value = 1.0
            one, two = torch.addcmul(factor, y, one, value=value), one
        return one

    def _basis(self, q: Tensor, terms: int) -> Tensor:
        """Chebyshev polynomials of the standard deviation; shape (*q.shape, terms)."""
        if terms == 1:
            return torch.ones_like(q)[..., None]
        x = ((2 * safe_sqrt(q) - self.low - self.high) / (self.high - self.low)).clamp(-1, 1)
        # T_n(x) = cos(n arccos x)
        return torch.cos(torch.arange(terms, dtype=x.dtype, device=x.device) * torch.acos(x)[..., None])


def table_for(dual: Dual, key: object, q1: Tensor, q2: Tensor, pairs: int, *, kinks_at_zero: bool) -> DualTable | None:
    """A table that covers these variances, kept for the next tile; None where the quadrature must do.

    Args:
        dual: the quadrature of `(q1, k, q2, gap)`, which the table is made of and checked against.
        key: names it.
        q1: variances.
        q2: variances.
        pairs: how many are asked for.
        kinks_at_zero: whether the function has no kink elsewhere.
    """
    if pairs < LEAST_PAIRS:
        return None
    ends = [t.detach().double().aminmax() for t in (q1, q2)]
    low, high = min(float(e[0]) for e in ends) ** 0.5, max(float(e[1]) for e in ends) ** 0.5
    if not 0 < low <= high < math.inf:
        return None
    few = 8 * torch.finfo(q1.dtype).eps
    if high - low <= few * high:  # as many digits of it as are sure, that the next tile finds the table
        only = float(f"{high:.{int(-math.log10(few)) - 1}e}")
        return _checked_table(_Named(key, dual), only, only)
    if not kinks_at_zero or high > WIDEST_RATIO * low or pairs < LEAST_PAIRS_OF_MANY_VARIANCES:
        return None
    return _checked_table(
        # ends moved outwards to powers of sqrt 2, so that tiles of nearby variances share a table
        _Named(key, dual),
        2 ** (math.floor(2 * math.log2(low)) / 2),
        2 ** (math.ceil(2 * math.log2(high)) / 2),
    )


@dataclass(frozen=True, eq=False)
class _Named:
    """A dual that is looked up by its name."""

    key: object
    dual: Dual

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _checked_table(named: _Named, low: float, high: float) -> DualTable | None:
    """A table with as many terms as its check asks for; None if none of the orders passes it."""
    # The number of angles is found at one variance, where a table is cheap; then the orders are tried with that number.
    angles: tuple[int, ...] = ANGLE_ORDERS
    orders: tuple[int, ...] = (1,)
    if low < high:
        narrow = _checked_table(named, high, high)
        if narrow is None:
            return None
        angles, orders = (narrow.coefficients.shape[-1],), DEVIATION_ORDERS
    with torch.no_grad():
        s1, theta, s2 = _points(low, high)
        checks = _values(named.dual, s1, theta, s2)
        # the scale of the error is the smallest diagonal, of which there are the first four points
        size = checks[:, :4].abs().amax(1)
        for a in angles:
            for order in orders:
                table = DualTable(low, high, _coefficients(named.dual, low, high, order, a))
                values = torch.stack(table(s1**2, theta, s2**2))
                if bool(((values - checks).abs().amax(1) <= TABLE_TOLERANCE * size).all()):
                    return table
    return None


def _points(low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations and angles to check at: the first four have the smallest diagonal."""
    generator = torch.Generator().manual_seed(0)
    s1, s2 = (low + (high - low) * torch.rand(60, generator=generator, dtype=torch.float64) for _ in range(2))
    theta = math.pi * torch.rand(60, generator=generator, dtype=torch.float64)
    theta[:20] = 10.0 ** torch.linspace(-7, 0, 20, dtype=torch.float64)
    theta[20:40] = math.pi - 10.0 ** torch.linspace(-3, 0, 20, dtype=torch.float64)  # nearer, the reference is worse
    s1[:4], s2[:4], theta[:4] = low, low, 0.0
    return s1, theta, s2


def _values(dual: Dual, s1: Tensor, theta: Tensor, s2: Tensor) -> Tensor:
    s = s1 * s2
    return torch.stack(dual(s1**2, s * torch.cos(theta), s2**2, 2 * s * torch.sin(theta / 2) ** 2))


def _coefficients(dual: Dual, low: float, high: float, order: int, angles: int) -> Tensor:
    """Coefficients of the interpolation at Chebyshev's nodes; symmetry saves half of the pairs."""
    x, to_x = chebyshev_nodes(order)
    y, to_y = chebyshev_nodes(angles)
    s = (low + high) / 2 + (high - low) / 2 * x
    i, j = torch.triu_indices(order, order)
    s1, s2, theta = torch.broadcast_tensors(s[i, None], s[j, None], (y + 1) * math.pi / 2)
    half = _values(dual, s1, theta, s2)
    values = half.new_zeros(2, order, order, angles)
    values[:, i, j] = values[:, j, i] = half
    # values to coefficients, along each of the three variables by itself
    return torch.einsum("ai,bj,rk,zijk->zabr", to_x, to_x, to_y, values)
