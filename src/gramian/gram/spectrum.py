"""Eigenvalues of Gram matrices: all of them by LAPACK, the extreme ones by Lanczos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, aslinearoperator, eigsh
from torch import Tensor

from gramian.errors import BadArgument, BadData, GramianError, named_in_errors
from gramian.gram.extreme import FEWEST_ROWS_FOR_LANCZOS, extremes_by_products
from gramian.gram.gram import Gram
from gramian.gram.operator import Operator, check_operator


@dataclass(frozen=True, eq=False)
class Eigensystem:
    r"""$K = U \Lambda U^\top$, to be shared by everything that needs it.

    Attributes:
        values: eigenvalues, ascending; shape (n,), float64.
        vectors: eigenvectors in the columns; shape (n, n), float64.
        dtype: that `K` was given in; it says how far down the eigenvalues can be trusted.
        entries: the least precise dtype that holds every entry of `K` exactly. A kernel that was made in float32 and
            then cast keeps the rounding of float32, which `dtype` no longer tells. None: not looked at.
    """

    values: Tensor
    vectors: Tensor
    dtype: torch.dtype = torch.float64
    entries: torch.dtype | None = None


def symmetric_dense(matrix: Gram | Tensor, name: str = "gram") -> Tensor:
    """A symmetric matrix whole and in float64; shape (n, n). Gradients pass through it.

    Raises:
        BadArgument: not square or not symmetric.
        BadData: an entry is NaN or infinite.
    """
    if isinstance(matrix, Gram):
        dense = matrix.dense()
    else:
        dense = real_matrix(matrix, name)
    if dense.ndim != 2 or dense.shape[0] != dense.shape[1]:
        raise BadArgument(
            f"`{name}` has shape {tuple(dense.shape)}",
            why="it must be square, one row and one column for each training sample",
            fix="kernel(x) or Gram(kernel, x), with one set of inputs",
        )
    if not len(dense):
        raise BadData(f"`{name}` has no rows", why="there are no samples", fix="kernel(x) of at least one row")
    if not bool(dense.isfinite().all()):
        row, column = (~dense.isfinite()).nonzero()[0].tolist()
        raise BadData(
            f"`{name}` is {float(dense[row, column].detach())} in row {row}, column {column}",
            why="an input is not finite, or the kernel overflowed on it",
            fix=f"look at x[{row}] and x[{column}], and scale the inputs to unit norm",
        )
    plain = dense.detach()
    gap, top = float((plain - plain.mT).abs().max()), float(plain.abs().max())
    if gap > torch.finfo(dense.dtype).eps ** 0.5 * top:
        raise BadArgument(
            f"`{name}` is not symmetric: entries differ from their mirror images by {gap:.1e} (largest {top:.1e})",
            why="its rows and columns are different samples, or the kernel is not a kernel",
            fix="kernel(x) or Gram(kernel, x), with one set of inputs",
        )
    return dense.double()


@named_in_errors
def eigensystem(matrix: Gram | Tensor, name: str = "gram") -> Eigensystem:
    """Eigenvalues and eigenvectors of a symmetric matrix by LAPACK in float64. Cost: O(n^3).

    Raises:
        BadArgument: not square, not symmetric, or a gradient of it is asked for.
        BadData: an entry is not finite.
    """
    if isinstance(matrix, Gram):
        dtype = matrix.dtype
    else:
        dtype = real_matrix(matrix, name).dtype
    dense = symmetric_dense(matrix, name)
    refuse_gradient(name, dense)
    values, vectors = torch.linalg.eigh(dense)
    return Eigensystem(values, vectors, dtype, precision_of_entries(dense))


def refuse_gradient(name: str, matrix: Tensor) -> None:
    """Refuse a matrix whose gradient would be lost without a word.

    Eigenvectors have no derivative where eigenvalues meet, so nothing that is computed through them passes one on.
    """
    if matrix.requires_grad and torch.is_grad_enabled():
        raise BadArgument(
            f"`{name}` requires a gradient, and its eigenvectors do not pass one on",
            why="an eigenvector has no derivative where two eigenvalues meet",
            fix=f"`{name}.detach()`, or `gramian.solve`, which is differentiable in kernel, targets and ridge",
        )


def precision_of_entries(dense: Tensor) -> torch.dtype:
    """float32 if each entry of a float64 matrix is a float32 number, else the matrix's own dtype."""
    if dense.dtype == torch.float64 and bool((dense.float().double() == dense).all()):
        return torch.float32
    return dense.dtype


def as_tensor(values: Any) -> Tensor:
    """A tensor of a tensor, an array, a table (pandas) or nested lists; memory is shared where that is possible."""
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise _no_numbers(values) from error
    if array.dtype.kind not in "biufc":
        raise _no_numbers(values)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch takes neither read-only memory nor negative strides
    if array.ndim:
        return torch.from_numpy(array)
    return torch.tensor(array.item())


def _no_numbers(values: Any) -> BadData:
    return BadData(
        f"a {type(values).__name__} where numbers are expected",
        why="it holds text, missing values or rows of different lengths",
        fix="a tensor, an array, a table or nested lists of numbers",
    )


def real_matrix(values: Any, name: str) -> Tensor:
    """A dense tensor of real numbers in floating point; of whole numbers in float64."""
    dense = as_tensor(values)
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    if dense.is_complex():
        raise BadArgument(
            f"`{name}` is complex ({dense.dtype})",
            why="kernels here are real: the imaginary parts would be lost",
            fix=f"{name}.real, if its imaginary part is zero",
        )
    if dense.is_floating_point():
        return dense
    return dense.double()


@named_in_errors
def eigenvalues(matrix: Gram | Tensor) -> Tensor:
    """All eigenvalues of a symmetric matrix, ascending; shape (n,), float64. Cost: O(n^3).

    Example:
        >>> eigenvalues(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).tolist()
        [1.0, 3.0]
    """
    return torch.linalg.eigvalsh(symmetric_dense(matrix))


@named_in_errors
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
    if n < max(FEWEST_ROWS_FOR_LANCZOS, 3 * k):
        lam = eigenvalues(operator)
        return lam[:k], lam[-k:]
    if 2 * 8 * n * n <= max_bytes:
        dense = symmetric_dense(operator).cpu().numpy()
    else:
        dense = None
    start = np.random.default_rng(0).standard_normal(n)
    if dense is not None:
        plain = aslinearoperator(dense)
    else:
        plain = LinearOperator((n, n), matvec=_product(operator), dtype=np.float64)
    try:
        largest = eigsh(plain, k, which="LA", v0=start, tol=tol, return_eigenvectors=False)
        if dense is None:
            smallest = eigsh(plain, k, which="SA", v0=start, tol=tol, return_eigenvectors=False)
        else:
            factor, shift = _shifted_cholesky(dense, n * np.finfo(float).eps * abs(largest).max())
            inverse = LinearOperator((n, n), matvec=lambda v: cho_solve(factor, v), dtype=np.float64)
            # 1 / (lam + s) spreads out the eigenvalues next to zero, and makes the smallest the largest
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
