r"""Arrays of real numbers known up to a radius, computed in float64 with bounds on every rounding error.

A `Ball` stands for every array of real numbers within `radius` of `middle`, entry by entry. An operation returns a ball
that holds all results of the operation on numbers in the given balls. Sizes where python-flint is fast enough are
multiplied by its ball arithmetic; larger ones by the machine's matrix product, whose error in any order of summation,
with or without fused multiply-add, is at most $\gamma_k |A||B|$ for inner length $k$, $\gamma_k = ku/(1-ku)$,
$u = 2^{-53}$ (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3; Strassen's method is excluded).
"""

from __future__ import annotations

from dataclasses import dataclass

import flint
import numpy as np
from scipy import sparse

UNIT = 2.0**-53
LONGEST_SUM = 2**21
SMALLEST = 1e-300  # above all that underflow can lose in LONGEST_SUM products
FLINT_PRODUCTS = 20_000  # multiplications up to which a matrix product goes through python-flint


def outward(bound):
    r"""A computed bound that holds although computing it rounded.

    A sum of at most $2^{21}$ non-negative terms, and a few products around it, is computed with relative error below
    $2^{22} u < 2^{-30}$, and its underflow is below SMALLEST.
    """
    return bound * (1 + 2.0**-30) + SMALLEST


def gamma(length: int) -> float:
    r"""$\gamma_k$, rounded outward."""
    if length > LONGEST_SUM:
        raise ValueError(f"sums of {length} terms are longer than these error bounds cover ({LONGEST_SUM})")
    return outward(length * UNIT / (1 - length * UNIT))


@dataclass(frozen=True, eq=False)
class Ball:
    """All arrays within `radius` of `middle`, entry by entry."""

    middle: np.ndarray
    radius: np.ndarray

    @staticmethod
    def exact(values: np.ndarray) -> Ball:
        """Numbers that are known exactly."""
        values = np.asarray(values, dtype=np.float64)
        return Ball(values, np.zeros_like(values))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.middle.shape

    def reshape(self, *shape: int) -> Ball:
        return Ball(self.middle.reshape(shape), self.radius.reshape(shape))

    def size(self) -> np.ndarray:
        """Upper bounds of the absolute values."""
        return outward(np.abs(self.middle) + self.radius)

    def __add__(self, other: Ball) -> Ball:
        middle = self.middle + other.middle
        return Ball(middle, outward(self.radius + other.radius + UNIT * np.abs(middle)))

    def __mul__(self, other: Ball) -> Ball:
        middle = self.middle * other.middle
        spread = np.abs(self.middle) * other.radius + self.radius * (np.abs(other.middle) + other.radius)
        return Ball(middle, outward(spread + UNIT * np.abs(middle)))

    def scaled(self, factor: float) -> Ball:
        """The product with one exact number."""
        middle = factor * self.middle
        return Ball(middle, outward(abs(factor) * self.radius + UNIT * np.abs(middle)))

    def norms(self) -> np.ndarray:
        """Upper bounds of the Euclidean norms along the last axis."""
        return root_of_squares(self.size())

    def norm(self) -> float:
        """An upper bound of the Euclidean norm of all entries (Frobenius, for a matrix)."""
        return float(root_of_squares(root_of_squares(self.size()).reshape(-1)))


def root_of_squares(sizes: np.ndarray) -> np.ndarray:
    r"""Upper bounds of $(\sum_j s_j^2)^{1/2}$ along the last axis, of non-negative numbers.

    What the squares lose by underflow is at most SMALLEST, added under the root. Sizes whose root that would outweigh,
    or whose squares would overflow, are divided by a power of two first.
    """
    peak = float(sizes.max(initial=0.0))
    unit = 1.0
    if 0 < peak < 1e-120 or 1e120 < peak < np.inf:
        unit = float(np.ldexp(1.0, int(np.frexp(peak)[1])))
    return outward(unit * outward(np.sqrt(outward(np.sum((sizes / unit) ** 2, axis=-1)))))


def product(left: Ball, right: Ball, *, split: bool = False, by_flint: int = FLINT_PRODUCTS) -> Ball:
    """Matrix product over the last axis of `left` and the first axis of `right`.

    With `split` the middles are multiplied as if with twice the digits, at three times the cost. Up to `by_flint`
    multiplications python-flint does them.
    """
    length = right.shape[0]
    finite = np.isfinite(left.middle).all() and np.isfinite(right.middle).all()
    if left.middle.size * right.shape[1] <= by_flint and finite:
        return _flint_product(left, right)
    if split and finite:
        middle, rounding = _split_product(left.middle, right.middle)
        spread = np.abs(left.middle) @ right.radius + left.radius @ right.size()
        return Ball(middle, outward(spread + rounding))
    middle = left.middle @ right.middle
    # `outward`: the product with gamma may underflow, and is multiplied by a large number afterwards
    spread = np.abs(left.middle) @ (right.radius + outward(gamma(length) * np.abs(right.middle)))
    if left.radius.any():
        spread += left.radius @ right.size()
    return Ball(middle, outward(spread))


def _split_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""A B of exact matrices with the bound of its error (Ozaki et al. 2012).

    A = A1 + A2 + A3 and B = B1 + B2 + B3 exactly, where A1 and A2 are rounded to so few bits of each row's (B's: each
    column's) largest entry that A1 B1, A1 B2 and A2 B1 are computed without any error in whatever order. The rest is
    $2^{-2\beta}$ times smaller and goes through one plain product.
    """
    length = len(b)
    bits = (52 - int(np.ceil(np.log2(length)))) // 2
    a1, a2, a3 = _slices(a, bits, axis=-1)
    b1, b2, b3 = _slices(b, bits, axis=0)
    rest = [(a1, b3), (a2, b2 + b3), (a3, b)]
    total = a1 @ b1
    error = np.zeros_like(total)
    for part in (a1 @ b2, a2 @ b1, *(left @ right for left, right in rest)):
        total = total + part
        error += UNIT * np.abs(total)
    # b2 + b3 is rounded as well: |a2||b2 + b3| (gamma_k + u)
    error += gamma(length + 2) * sum(np.abs(left) @ np.abs(right) for left, right in rest)
    return total, outward(error)


def _slices(matrix: np.ndarray, bits: int, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    largest = np.abs(matrix).max(axis=axis, keepdims=True)
    # ldexp is exact; a power 2.0 ** k need not be
    unit = np.ldexp(1.0, np.ceil(np.log2(np.maximum(largest, 1e-200))).astype(int) - bits)
    first = np.rint(matrix / unit) * unit
    left = matrix - first  # exact: at most half a unit, in multiples of the entry's own last place
    finer = unit * 2.0**-bits
    second = np.rint(left / finer) * finer
    return first, second, left - second


def _flint_product(left: Ball, right: Ball) -> Ball:
    rows = left.reshape(-1, left.shape[-1])
    result = _as_flint(rows) * _as_flint(right)
    entries = [(float(e.mid()), float(e.rad())) for e in result.entries()]
    middle, radius = np.array(entries).reshape(-1, 2).T.reshape(2, *left.shape[:-1], right.shape[1])
    # both were rounded to float64 on the way out of python-flint
    return Ball(middle, outward(radius + UNIT * np.abs(middle)))


def _as_flint(ball: Ball) -> flint.arb_mat:
    middle, radius = ball.middle.ravel().tolist(), ball.radius.ravel().tolist()
    rows, columns = ball.shape
    return flint.arb_mat(rows, columns, [flint.arb(m, r) for m, r in zip(middle, radius, strict=True)])


def mapped(matrix: sparse.csr_matrix, values: Ball) -> Ball:
    """An exact sparse matrix (k, m) applied to the last axis of (..., m)."""
    flat = values.reshape(-1, values.shape[-1])
    length = int(np.diff(matrix.indptr).max(initial=0))
    rounding = gamma(max(length, 1))
    if length <= 1 and np.all(np.abs(matrix.data) == 1):
        rounding = 0.0  # numbers are moved, none is computed
    middle = (matrix @ flat.middle.T).T
    errors = flat.radius
    if rounding:
        errors = errors + outward(rounding * np.abs(flat.middle))
    spread = (abs(matrix) @ errors.T).T
    return Ball(middle, outward(spread)).reshape(*values.shape[:-1], matrix.shape[0])


def spectral_norm(matrix: Ball) -> float:
    r"""An upper bound of the largest singular value: $\|W\|_2 = \|(WW^T)^4\|_2^{1/8} \le \|(WW^T)^4\|_F^{1/8}$.

    It is above the largest singular value by a factor of at most $k^{1/16}$ for the smaller side $k$.
    """
    size = matrix.norm()
    if size <= SMALLEST * 1e10 or not np.isfinite(size):
        return size
    scale = np.ldexp(1.0, int(np.round(np.log2(size))))  # an exact factor that keeps the powers from overflow
    small = Ball(matrix.middle / scale, matrix.radius / scale)
    if small.shape[0] > small.shape[1]:
        small = Ball(small.middle.T, small.radius.T)
    power = product(small, Ball(small.middle.T, small.radius.T))
    for _ in range(2):
        power = product(power, power)
    return float(min(size, outward(scale * outward(outward(power.norm()) ** 0.125))))
