r"""Bounds of the eigenvalues of J J^T that hold although floating-point arithmetic found them.

If Cholesky's factorization of a symmetric A (N, N) runs to its end in floating point, then
$\lambda_{\min}(A) \ge -\frac{\gamma_{N+1}}{1 - \gamma_{N+1}} \mathrm{tr} A$ (Demmel; Rump, BIT 2006; derived in
docs/proofs.md). So $A = H - sI$ shows that $\lambda_{\min}(H)$ is at least s less that term.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from gramian.checker.balls import UNIT, gamma, outward
from gramian.checker.program import JacobianGram


def smallest_is_at_least(gram: JacobianGram, bound: float) -> bool:
    r"""Whether $\sigma_{\min}(J) \ge$ `bound` is proved."""
    return factorizes(gram.matrix, _shift(gram, bound))


def smallest_provable(gram: JacobianGram, eigenvalue: float) -> float:
    """About the largest bound that `smallest_is_at_least` can prove where the smallest eigenvalue is `eigenvalue`."""
    spare = eigenvalue - 2 * hidden_by_rounding(gram)
    return max(float(np.sqrt(max(spare, 0.0))) * (1 - 1e-9) - 2 * gram.jacobian_error, 0.0)


def largest_is_at_most(gram: JacobianGram, bound: float) -> bool:
    r"""Whether $\|J\|_2 \le$ `bound` is proved: the factorization of $tI - H$ runs to its end."""
    room = bound - gram.jacobian_error
    size = len(gram.matrix)
    total = size * room * room  # the trace of tI - H is below this
    shift = room * room - gram.rounding - outward(2 * gamma(size + 1) * total + 4 * UNIT * room * room)
    if not (room > 0 and shift > 0):
        return False
    return factorizes(-gram.matrix, -shift * (1 - 4 * UNIT))


def largest_provable(gram: JacobianGram, eigenvalue: float) -> float:
    """About the smallest bound that `largest_is_at_most` can prove where the largest eigenvalue is `eigenvalue`."""
    return float(np.sqrt(eigenvalue * (1 + 1e-6 + 8 * gamma(2 * len(gram.matrix))) + 4 * gram.rounding)) + 2 * (
        gram.jacobian_error
    )


def hidden_by_rounding(gram: JacobianGram) -> float:
    """What the rounding of H and of the factorization takes from an eigenvalue."""
    trace = outward(abs(float(np.trace(gram.matrix))))
    return float(outward(gram.rounding + 2 * gamma(len(gram.matrix) + 1) * trace))


def _shift(gram: JacobianGram, bound: float) -> float:
    r"""The s of which H - sI is to factorize, as $\sigma(J) \ge \sigma(\tilde J) - \|J - \tilde J\|$."""
    needed = (bound + gram.jacobian_error) ** 2
    return float(outward(needed + hidden_by_rounding(gram)))


def factorizes(matrix: np.ndarray, shift: float) -> bool:
    """Whether Cholesky's factorization of matrix - shift I runs to its end."""
    if not (np.isfinite(matrix).all() and np.isfinite(shift)):
        return False
    shifted = matrix.copy()
    diagonal = np.einsum("ii->i", shifted)
    # each diagonal entry is rounded once: a little more is taken off
    diagonal -= shift
    diagonal -= 2 * UNIT * (np.abs(diagonal) + abs(shift))
    try:
        linalg.cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        return False
    return True
