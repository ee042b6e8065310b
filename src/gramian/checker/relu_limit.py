r"""The limit Gram matrix of a two-layer ReLU network whose first layer trains, with bounds of all rounding errors.

$H^\infty_{ij} = x_i\cdot x_j\,(\pi - \theta_{ij})/2\pi$, $\theta_{ij}$ the angle between two inputs: the matrix
of Du et al. 2019, arXiv:1810.02054.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from gramian.checker.balls import UNIT, Ball, outward, spectral_norm
from gramian.checker.eigenvalues import smallest_is_at_least, smallest_provable
from gramian.checker.program import JacobianGram
from gramian.errors import BadData

# an entry's error in units of |x_i||x_j|u: unit rows, differences and sums of d terms, atan2, the product
ERROR_PER_INPUT, ERROR_BESIDE = 12, 96


@dataclass(frozen=True, eq=False)
class ReluLimit:
    r"""$H^\infty$ and what the theorems ask of the inputs.

    Attributes:
        matrix: $H^\infty$ (n, n) as computed.
        error: $\|\cdot\|_2$ of what rounding did to it, at most.
        smallest: a proved lower bound of its smallest eigenvalue; 0 where none is proved.
        norm: an upper bound of $\|X\|_2$.
        frobenius: an upper bound of $\|X\|_F$.
    """

    matrix: np.ndarray
    error: float
    smallest: float
    norm: float
    frobenius: float

    def complexity(self, y: np.ndarray) -> float:
        r"""An upper bound of $y^\top (H^\infty)^{-1} y$; infinite where no eigenvalue bound is proved.

        For any v, with $\varrho = y - Hv$: $y^\top H^{-1} y = y^\top v + v^\top\varrho + \varrho^\top
        H^{-1}\varrho$.
        """
        if self.smallest <= 0:
            return math.inf
        v = np.linalg.solve(self.matrix, y)
        size = float(np.linalg.norm(v))
        rest = y - self.matrix @ v
        rounding = 4 * (len(y) + 2) * UNIT * float(np.linalg.norm(np.abs(self.matrix) @ np.abs(v) + np.abs(y)))
        left = float(np.linalg.norm(rest)) + rounding + self.error * size
        inner = float(y @ v) + 2 * (len(y) + 2) * UNIT * float(np.abs(y) @ np.abs(v))
        return float(outward(inner + size * left + left**2 / self.smallest))


def relu_limit(x: np.ndarray) -> ReluLimit:
    r"""$H^\infty$ of inputs (n, d), none of them 0.

    The angle is $2\,\mathrm{atan2}(|u - v|, |u + v|)$ of unit vectors (Kahan): near 0 and $\pi$ it keeps all digits,
    where arccos of the inner product keeps half.

    Raises:
        BadData: an input is 0 or not finite.
    """
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    lengths = np.sqrt((x**2).sum(1))
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadData(
            f"Row {int(np.argmin(np.nan_to_num(lengths, nan=0.0)))} of x is 0 or not finite.",
            where="relu_limit",
            why="a network without biases gives 0 for the input 0, and its Gram matrix has no inverse",
            fix="leave the row out, or append a constant column",
        )
    unit = x / lengths[:, None]
    angle = 2 * np.arctan2(cdist(unit, unit), cdist(unit, -unit))
    np.fill_diagonal(angle, 0.0)
    matrix = (x @ x.T) * (math.pi - angle) / (2 * math.pi)
    matrix = (matrix + matrix.T) / 2
    total = outward(float((lengths**2).sum()))
    # an error matrix with entries of at most c |x_i||x_j| has norm at most c sum |x_i|^2
    error = float(outward((ERROR_PER_INPUT * x.shape[1] + ERROR_BESIDE) * UNIT * total))
    gram = JacobianGram(matrix, error, 0.0)
    sigma = smallest_provable(gram, float(np.linalg.eigvalsh(matrix)[0])) * (1 - 1e-6)
    smallest = 0.0
    if sigma > 0 and smallest_is_at_least(gram, sigma):
        smallest = sigma**2 * (1 - 1e-12)
    return ReluLimit(matrix, error, smallest, spectral_norm(Ball.exact(x)), math.sqrt(total) * (1 + 1e-12))
