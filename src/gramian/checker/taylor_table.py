"""An activation and its derivatives on an interval, as Taylor polynomials with proved errors.

No library function is trusted to some number of ulps: the coefficients and the remainders come from ball arithmetic
(python-flint), and the evaluation uses additions and multiplications of float64 only, whose rounding is bounded here.
"""

import math

import flint
import numpy as np
from numpy.typing import NDArray

from gramian.checker.balls import UNIT

SPACING = 2.0**-5  # of the grid points; a power of two, so that z - grid is exact
ORDER = 10  # terms of each polynomial: (1/64)^10 is below 1e-18
PAD = 1 + 2.0**-27  # the rounding of a bound that is a sum of at most LONGEST_SUM positive floats, times a few factors
LONGEST_SUM = 2**25
LARGEST_REACH = 2.0**11
SMALLEST = 1e-290  # above what underflow can lose in such sums


def _sigmoid(z):
    return 1 / (1 + (-z).exp())


def _normal_cdf(z):
    return (1 + (z / flint.arb(2).sqrt()).erf()) / 2


ACTIVATIONS = {
    "tanh": lambda z: 2 * _sigmoid(2 * z) - 1,
    "erf": lambda z: z.erf(),
    "sin": lambda z: z.sin(),
    "cos": lambda z: z.cos(),
    "sigmoid": _sigmoid,
    "softplus": lambda z: (1 + z.exp()).log(),
    "silu": lambda z: z * _sigmoid(z),
    "gelu": lambda z: z * _normal_cdf(z),
}


class TaylorTable:
    """phi, phi', phi'' at float64 arguments of size at most `reach`, and bounds of |phi'|, |phi''|, |phi'''| there.

    Attributes:
        error: absolute errors of `self(z, k)` for k = 0, 1, 2.
        bound: `bound[k]` >= |phi^(k)| on [-reach, reach], k = 0 to 3.
    """

    def __init__(self, name: str, reach: float):
        if not reach <= LARGEST_REACH:
            raise ArithmeticError(f"preactivations of size {reach:.3g} are beyond the bounds of activations")
        points = int(np.ceil(reach / SPACING)) + 1
        self.reach, self.offset = points * SPACING, points
        center, around, inexact = _taylor_coefficients(ACTIVATIONS[name], points)
        self.bound = [_derivative_bound(center, around, k) for k in range(4)]
        self.polynomials, self.error = [], []
        for k in range(3):
            # the k-th derivative of sum_j c_j t^j has the coefficients (j + k)! / j! c_{j + k}
            ratio = np.array([float(math.perm(j + k, k)) for j in range(ORDER + 1)])
            polynomial = ratio[:ORDER, None] * center[k : k + ORDER]
            remainder = ratio[ORDER] * around[k + ORDER].max() * (SPACING / 2) ** ORDER
            self.polynomials.append(polynomial)
            # sum_j ratio_j t^j is below 2 ratio_ORDER
            self.error.append((remainder + _horner_rounding(polynomial) + 2 * ratio[ORDER] * inexact) * PAD)

    def __call__(self, z: NDArray, derivative: int = 0) -> NDArray:
        if not np.abs(z).max() <= self.reach:
            raise ArithmeticError(f"a preactivation of size {np.abs(z).max():.3g} lies outside +-{self.reach:.3g}")
        grid = np.rint(z / SPACING)
        t = z - grid * SPACING  # exact: Sterbenz for grid != 0, trivial for grid = 0
        index = grid.astype(np.int64) + self.offset
        coefficients = self.polynomials[derivative]
        value = coefficients[-1][index]
        for row in coefficients[-2::-1]:
            value = row[index] + t * value
        return value


def _taylor_coefficients(phi, points: int) -> tuple[NDArray, NDArray, float]:
    """Coefficients at the grid points, bounds of their sizes over the cells around them, both (ORDER + 3, cells), and
    the largest radius of a coefficient, which is far below float64's rounding."""
    precision, flint.ctx.prec = flint.ctx.prec, 160
    cap, flint.ctx.cap = flint.ctx.cap, ORDER + 3
    try:
        center = np.empty((ORDER + 3, 2 * points + 1))
        around, inexact = np.empty_like(center), 0.0
        for cell in range(-points, points + 1):
            at = flint.arb(cell) * flint.arb(SPACING)
            series = phi(flint.arb_series([at, 1]))
            balls = phi(flint.arb_series([flint.arb(at.mid(), SPACING / 2), 1]))
            for k in range(ORDER + 3):
                center[k, cell + points] = float(series[k].mid())
                around[k, cell + points] = float(balls[k].abs_upper())
                inexact = max(inexact, float(series[k].rad()) * PAD)
        if not (np.isfinite(around).all() and inexact < 1e-30):
            raise ArithmeticError("the activation's derivatives could not be bounded")
    finally:
        flint.ctx.prec, flint.ctx.cap = precision, cap
    return center, around * PAD, inexact


def _derivative_bound(center: NDArray, around: NDArray, k: int) -> float:
    """sup |phi^(k)|: in each cell the derivative's own Taylor polynomial, the top coefficient bounded over the cell."""
    top = ORDER + 2
    coefficients = np.abs(center)
    coefficients[top] = around[top]
    bound = sum(math.perm(j, k) * coefficients[j] * (SPACING / 2) ** (j - k) for j in range(k, top + 1))
    return float(np.max(bound)) * PAD


def _horner_rounding(polynomial: NDArray) -> float:
    """Bound of the rounding in v_j = c_j + t v_{j+1}, |t| <= SPACING / 2, the coefficients' own rounding included."""
    t = SPACING / 2
    size = np.zeros(polynomial.shape[1])
    error = np.zeros(polynomial.shape[1])
    for row in np.abs(polynomial[::-1]):
        product = t * (size + error)
        size = row + product
        # 4 u |c_j|: the ball's middle, the factor (j + k)! / j! and the conversion to float64
        error = t * error + UNIT * (4 * row + product + size)
    return float(error.max())
