"""Eigenvalues of Gram matrices: all of them by LAPACK, the extreme ones by Lanczos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from gramian.errors import BadArgument, BadData, GramianError, NotPositive
from gramian.gram.extreme import SMALL, extremes_by_products
from gramian.gram.gram import Gram
from gramian.gram.operator import Operator, check_operator


@dataclass(frozen=True, eq=False)
class Eigensystem:
    r"""$K = U \Lambda U^\top$, to be shared by everything that needs it.

    Attributes:
        values: eigenvalues, ascending; shape (n,), float64.
        vectors: eigenvectors in the columns; shape (n, n), float64.
        dtype: that `K` was given in; it says how far down the eigenvalues can be trusted.
    """

    values: Tensor
    vectors: Tensor
    dtype: torch.dtype = torch.float64


def symmetric_dense(matrix: Gram | Tensor, name: str = "gram") -> Tensor:
    """A symmetric matrix whole and in float64; shape (n, n).

    Raises:
        BadArgument: not square or not symmetric.
        BadData: an entry is NaN or infinite.
    """
    dense = matrix.dense() if isinstance(matrix, Gram) else torch.as_tensor(matrix).detach()
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1]:
        raise BadArgument(
            f"`{name}` has shape {tuple(dense.shape)}",
            why="it must be square, one row and one column for each training sample",
            fix="kernel(x) or Gram(kernel, x), with one set of inputs",
        )
    if not bool(dense.isfinite().all()):
        row, column = (~dense.isfinite()).nonzero()[0].tolist()
        raise BadData(
            f"`{name}` is {float(dense[row, column])} in row {row}, column {column}",
            why="an input is not finite, or the kernel overflowed on it",
            fix=f"look at x[{row}] and x[{column}], and scale the inputs to unit norm",
        )
    gap, top = float((dense - dense.mT).abs().max()), float(dense.abs().max())
    if gap > torch.finfo(dense.dtype).eps ** 0.5 * top:
        raise BadArgument(
            f"`{name}` is not symmetric: entries differ from their mirror images by {gap:.1e} (largest {top:.1e})",
            why="its rows and columns are different samples, or the kernel is not a kernel",
            fix="kernel(x) or Gram(kernel, x), with one set of inputs",
        )
    return dense.double()


def eigensystem(matrix: Gram | Tensor, name: str = "gram") -> Eigensystem:
    """Eigenvalues and eigenvectors of a symmetric matrix by LAPACK in float64. Cost: O(n^3)."""
    dtype = matrix.dtype if isinstance(matrix, Gram) else torch.as_tensor(matrix).dtype
    values, vectors = torch.linalg.eigh(symmetric_dense(matrix, name))
    return Eigensystem(values, vectors, dtype)


def eigenvalues(matrix: Gram | Tensor) -> Tensor:
    """All eigenvalues of a symmetric matrix, ascending; shape (n,), float64. Cost: O(n^3).

    Example:
        >>> eigenvalues(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).tolist()
        [1.0, 3.0]
    """
    return torch.linalg.eigvalsh(symmetric_dense(matrix))


def extreme_eigenvalues(
    operator: Gram | Tensor | Operator,
    k: int = 1,
    *,
    tol: float = 1e-10,
    max_bytes: int = 2**32,
    max_products: int = 5000,
) -> tuple[Tensor, Tensor]:
    r"""The `k` smallest and the `k` largest eigenvalues of a symmetric matrix, by Lanczos (ARPACK), in float64.

    The largest need only products with the matrix. The smallest eigenvalues of a kernel matrix lie close together at
    zero, where plain Lanczos hardly converges; while two dense copies fit into `max_bytes` they are found by Lanczos on
    $(K + sI)^{-1}$ through one Cholesky factor instead, $s = n \epsilon \lambda_{max}$ (more if `K` is not positive
    semidefinite). Above that size: plain Lanczos, which raises when it does not converge.

    Of an operator (`EmpiricalNTK`, `GaussNewton`) no entry is ever formed: the smallest are found as the largest of
    $\lambda_{max} I - K$, to an accuracy that is relative to $\lambda_{max}$. Ritz values lie inside the spectrum: the
    largest is never above the true one, the smallest never below, but for rounding.

    Args:
        operator: symmetric; shape (n, n).
        k: how many of each.
        tol: relative accuracy; of the smallest ones it is at best `n * eps * largest`.
        max_bytes: for the two dense copies.
        max_products: with an operator, for each end of the spectrum.

    Returns:
        Smallest and largest, each ascending; shapes (k,), (k,), float64.

    Raises:
        BadArgument: `k` is not in 1..n, or the matrix is not square or not symmetric.
        GramianError: Lanczos did not converge.
    """
    if isinstance(operator, Gram | Tensor) and (len(operator.shape) != 2 or operator.shape[0] != operator.shape[1]):
        symmetric_dense(operator)
    n = operator.shape[0]
    if not 1 <= k <= n:
        raise BadArgument(f"k={k} eigenvalues of a {n} x {n} matrix", why=f"there are {n}", fix=f"k in 1..{n}")
    if not isinstance(operator, Gram | Tensor):
        check_operator(operator, "extreme_eigenvalues(operator)")
        return extremes_by_products(operator, k, tol, max_products)
    if n < max(SMALL, 3 * k):
        lam = eigenvalues(operator)
        return lam[:k], lam[-k:]
    dense = symmetric_dense(operator).cpu().numpy() if 2 * 8 * n * n <= max_bytes else None
    start = np.random.default_rng(0).standard_normal(n)
    times = (lambda v: dense @ v) if dense is not None else _product(operator)
    plain = LinearOperator((n, n), matvec=times, dtype=np.float64)
    try:
        largest = eigsh(plain, k, which="LA", v0=start, tol=tol, return_eigenvectors=False)
        if dense is None:
            smallest = eigsh(plain, k, which="SA", v0=start, tol=tol, return_eigenvectors=False)
        else:
            factor, shift = _shifted_cholesky(dense, n * np.finfo(float).eps * abs(largest).max())
            inverse = LinearOperator((n, n), matvec=lambda v: cho_solve(factor, v), dtype=np.float64)
            smallest = eigsh(plain, k, sigma=-shift, OPinv=inverse, v0=start, tol=tol, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise GramianError(
            f"Lanczos found {len(error.eigenvalues)} of {k} extreme eigenvalues of a {n} x {n} matrix to {tol:.0e}",
            why="the smallest eigenvalues lie too close together for plain products with the matrix",
            fix=f"max_bytes={2 * 8 * n * n} (a Cholesky factor), or tol={1e3 * tol:.0e}",
        ) from None
    return torch.from_numpy(np.sort(smallest)), torch.from_numpy(np.sort(largest))


def _product(operator: Gram | Tensor):
    like = operator.diagonal()
    return lambda v: (operator @ torch.from_numpy(v).to(like.device)).cpu().numpy()


def _shifted_cholesky(dense: np.ndarray, shift: float):
    """Cholesky factor of `dense + shift`, with the shift raised until there is one."""
    shift = max(shift, np.finfo(float).tiny)
    while True:
        try:
            return cho_factor(dense + shift * np.eye(len(dense)), check_finite=False), shift
        except LinAlgError:
            shift *= 8


def check_psd(lam: Tensor, name: str, dtype: torch.dtype | None = None) -> None:
    """Refuse a matrix whose smallest eigenvalue is negative beyond rounding: below `-n * eps * largest`.

    Args:
        lam: eigenvalues, ascending; shape (n,).
        name: of the matrix, for the error.
        dtype: in which the matrix was made, which decides `eps`; None: that of `lam`.

    Raises:
        NotPositive: with the smallest eigenvalue and the ridge that would lift it.
    """
    lo, hi, dtype = float(lam[0]), float(lam[-1]), dtype or lam.dtype
    if lo < -len(lam) * torch.finfo(dtype).eps * max(abs(hi), abs(lo)):
        raise not_positive(name, len(lam), dtype, lo, hi)


def not_positive(name: str, n: int, dtype: torch.dtype, lo: float, hi: float, ridge: float = 0.0) -> NotPositive:
    """The error, with a ridge that is enough (rounded up to two digits)."""
    enough = ridge + max(-2 * lo, n * torch.finfo(torch.float64).eps * abs(hi), torch.finfo(torch.float64).tiny)
    digits = f"{enough:.1e}"
    enough = float(digits) if float(digits) >= enough else float(digits) * 1.1
    return NotPositive(
        f"`{name}` ({n} x {n}, {dtype}) has smallest eigenvalue {lo:.2e}, largest {hi:.2e}",
        where=f"the Gram matrix `{name}`" + (f" with ridge={ridge:.1e}" if ridge else ""),
        why="it was computed in a lower precision than it is solved in, or two inputs are equal",
        fix=f"`dtype=torch.float64` where the Gram matrix is made, or `ridge={enough:.1e}`",
    )
