"""Kernel regression by one Cholesky factorization."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData, named_in_errors
from gramian.gram import Gram, as_tensor, not_positive, real_matrix, symmetric_dense
from gramian.gram.positive import (
    equal_rows,
    largest_eigenvalue_at_least,
    rounding_floor,
    smallest_eigenvalue_at_most,
)


@dataclass(frozen=True, eq=False)
class Solution:
    r"""The kernel predictor $f(x) = k(x, X)\, \alpha$, $\alpha = (K + \rho I)^{-1} y$.

    Attributes:
        alpha: dual coefficients; shape (n, C) or (n,) as the targets, float64.
        ridge: $\rho$, as the caller gave it; in the units of `K`.
        residual: $\|(K + \rho I)\alpha - y\|_F / \|y\|_F$, what the solve left over (0 if y = 0).
        leave_one_out: $y_i - f_{-i}(x_i)$, the error at sample i of the predictor fitted without it,
            $\alpha_i / [(K + \rho I)^{-1}]_{ii}$; shape of `alpha`. None unless it was asked for.
    """

    alpha: Tensor
    ridge: float
    residual: float
    leave_one_out: Tensor | None = None

    @named_in_errors
    def predict(self, k_test_train: Gram | Tensor) -> Tensor:
        """Predictions from the kernel between test and training inputs, (m, n) -> (m, C) or (m,), float64."""
        if not isinstance(k_test_train, Gram):
            k_test_train = real_matrix(k_test_train, "k_test_train")
        if len(k_test_train.shape) != 2 or k_test_train.shape[1] != len(self.alpha):
            raise BadArgument(
                f"a test kernel of shape {tuple(k_test_train.shape)} for {len(self.alpha)} training samples",
                why="its columns must be the training samples, in their order",
                fix="solution.predict(kernel(x_test, x))",
            )
        if isinstance(k_test_train, Gram):
            return k_test_train @ self.alpha
        if not bool(k_test_train.isfinite().all()):
            row = int((~k_test_train.isfinite()).any(1).nonzero()[0])
            raise BadData(
                f"the test kernel has NaN or infinite entries, first in row {row}",
                why="an input is not finite, or the kernel overflowed on it",
                fix=f"look at x_test[{row}], and scale the inputs to unit norm",
            )
        return k_test_train.to(self.alpha) @ self.alpha

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Solution):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return all(_same(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Solution(alpha {tuple(self.alpha.shape)}, ridge={self.ridge:.3g}, residual={self.residual:.1e})"


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return a is b or bool(a == b)


@named_in_errors
def solve(gram: Gram | Tensor, y: Tensor, ridge: float | Tensor = 0.0, *, leave_one_out: bool = False) -> Solution:
    r"""Kernel (ridge) regression: $\alpha = (K + \rho I)^{-1} y$ by LAPACK's Cholesky factorization in float64.

    The limit of gradient flow on an infinitely wide network that starts at zero is the case $\rho = 0$ with its NTK.
    The ridge is added as given: nothing is ever added silently. The coefficients are differentiable in the kernel, the
    targets and the ridge: a gradient goes through `solve(...).predict(...)` to whatever these were made of.

    Args:
        gram: kernel on the training inputs, symmetric positive definite (with the ridge); shape (n, n).
        y: targets, real numbers; shape (n, C) or (n,). For classes: centered one-hot.
        ridge: $\rho \ge 0$, in the units of `gram`; a number or a tensor.
        leave_one_out: also compute the leave-one-out residuals in closed form; about doubles the time.

    Raises:
        NotPositive: `gram + ridge` is not positive definite to working precision; the message names equal rows and
            gives a ridge that is enough.
        BadArgument: shapes that do not fit, a negative ridge, or class labels in place of targets.
        BadData: a target is not finite.

    References:
        Jacot et al. 2018, arXiv:1806.07572.

    Example:
        >>> solution = solve(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([3.0, 0.0]))
        >>> [round(a, 6) for a in solution.alpha.tolist()]
        [2.0, -1.0]
        >>> round(float(solution.predict(torch.tensor([[2.0, 1.0]]))), 6)
        3.0
    """
    k = symmetric_dense(gram)
    if isinstance(gram, Gram):
        dtype = gram.dtype
    else:
        dtype = real_matrix(gram, "gram").dtype
    y = targets(y, len(k)).to(k)
    plain = check_ridge(ridge)
    regular, factor = positive_factor(k, ridge, "gram", dtype)
    columns = y.reshape(len(y), -1)
    alpha = torch.cholesky_solve(columns, factor)
    with torch.no_grad():
        size = float(columns.norm())
        if size:
            residual = float((regular @ alpha - columns).norm()) / size
        else:
            residual = 0.0
    errors = None
    if leave_one_out:
        errors = (alpha / torch.cholesky_inverse(factor).diagonal()[:, None]).reshape(y.shape)
    return Solution(alpha.reshape(y.shape), plain, residual, errors)


def positive_factor(k: Tensor, ridge: float | Tensor, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    r"""$K + \rho I$ and its Cholesky factor; a matrix that is singular to working precision is refused.

    Of a singular matrix rounding decides whether LAPACK's factorization passes: half of them do, with coefficients of
    1e15. So a factor is believed only if the smallest eigenvalue of what it factors stands clear of rounding.

    Args:
        k: symmetric, finite, float64; shape (n, n).
        ridge: $\rho \ge 0$, in the units of `k`.
        name: of the matrix, for the errors.
        dtype: in which its entries were made.

    Raises:
        NotPositive: with the rows that are equal, if any are, and a ridge that is enough.
        BadArgument: a negative or infinite ridge.
    """
    plain = check_ridge(ridge)
    regular = k + ridge * torch.eye(len(k), dtype=k.dtype, device=k.device)
    factor, failed = torch.linalg.cholesky_ex(regular)
    with torch.no_grad():
        if bool(failed):
            lam = torch.linalg.eigvalsh(regular)
            lo, hi = float(lam[0]), float(lam[-1])
        else:
            lo, hi = smallest_eigenvalue_at_most(factor), largest_eigenvalue_at_least(regular)
        diagonal = float(k.diagonal().max())
        if bool(failed) or lo <= rounding_floor(len(k), dtype, hi, diagonal):
            equal = equal_rows(k, dtype)
            raise not_positive(name, len(k), dtype, lo, hi, plain, diagonal=diagonal, equal=equal)
    return regular, factor


def check_ridge(ridge: float | Tensor) -> float:
    """The one number that a ridge is, not negative and finite."""
    try:
        if isinstance(ridge, Tensor):
            plain = float(ridge.detach())
        else:
            plain = float(ridge)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(ridge, Tensor):
            said = f"a tensor of shape {tuple(ridge.shape)}"
        else:
            said = repr(ridge)
        raise BadArgument(
            f"ridge={said}", why="it is one number, added to every eigenvalue", fix="ridge=0.0"
        ) from error
    if not 0 <= plain < math.inf:
        raise BadArgument(f"ridge={plain}", why="it is added to every eigenvalue", fix="ridge=0.0")
    return plain


def targets(y: Tensor, n: int) -> Tensor:
    """Real, finite targets with a row for each of n samples, or the error that says what is wrong with them."""
    y = as_tensor(y)
    if y.is_complex():
        raise BadArgument(
            f"targets of type {y.dtype}",
            why="targets are real: the imaginary parts would be lost",
            fix="torch.view_as_real(y).flatten(1), two outputs for one",
        )
    if not y.is_floating_point():
        raise BadArgument(
            f"targets of type {y.dtype}",
            why="integers are class labels here, and a class number is no quantity to regress on",
            fix="Dataset.targets (centered one-hot), or y.double() if these are numbers",
        )
    if y.ndim not in (1, 2) or len(y) != n:
        raise BadArgument(
            f"targets of shape {tuple(y.shape)} for {n} training samples",
            why="each training sample has one row of targets",
            fix=f"targets of shape ({n}, C) or ({n},)",
        )
    if not bool(y.isfinite().all()):
        row = int((~y.reshape(n, -1).isfinite()).any(1).nonzero()[0])
        raise BadData(f"the target in row {row} is not finite", why="NaN or infinity in y", fix=f"drop row {row}")
    return y
