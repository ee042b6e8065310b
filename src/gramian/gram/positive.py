"""Whether a matrix is positive, as far as its precision tells, and what to say where it is not."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from gramian.errors import NotPositive

# rows that the rounding bound counts at least: the constant of a bound n eps matters for tiny matrices
FEWEST_ROWS = 10
CLEAR_OF_FLOOR = 100  # times the floor of float64: an advised ridge then leaves a residual below 1e-3
PAIRS_NAMED = 3  # of equal rows, in an error


def rounding_floor(n: int, dtype: torch.dtype, largest: float, diagonal: float) -> float:
    r"""Eigenvalues up to this can't be told from zero.

    LAPACK's backward error in float64 is below $n \epsilon \lambda_{max}$. A matrix whose *entries* were rounded to a
    lower precision is off by a random symmetric matrix of entries up to $\epsilon_{32} K_{ii}$, whose norm is about
    $\sqrt n$ times that.

    Args:
        n: rows.
        dtype: in which the entries were made.
        largest: eigenvalue.
        diagonal: largest entry of the diagonal.
    """
    floor = max(n, FEWEST_ROWS) * torch.finfo(torch.float64).eps * abs(largest)
    if torch.finfo(dtype).eps > torch.finfo(torch.float64).eps:
        floor = max(floor, math.sqrt(n) * torch.finfo(dtype).eps * abs(diagonal))
    return floor


def check_psd(lam: Tensor, name: str, dtype: torch.dtype | None = None, entries: torch.dtype | None = None) -> None:
    """Refuse a matrix whose smallest eigenvalue is negative beyond rounding: below `-n * eps * largest`.

    Args:
        lam: eigenvalues, ascending; shape (n,).
        name: of the matrix, for the error.
        dtype: in which the matrix is, which decides `eps`; None: that of `lam`.
        entries: the least precise dtype that holds all entries. Where only *its* rounding explains a negative
            eigenvalue, a warning says that the eigenvalue counts as zero.

    Raises:
        NotPositive: with the smallest eigenvalue and the ridge that would lift it.
    """
    n, lo, hi, dtype = len(lam), float(lam[0]), float(lam[-1]), dtype or lam.dtype
    top = max(abs(hi), abs(lo))
    if lo >= -n * torch.finfo(dtype).eps * top:
        return
    if entries is not None and lo >= -n * torch.finfo(entries).eps * top:
        warnings.warn(
            f"`{name}` ({n} x {n}) has smallest eigenvalue {lo:.2e} of {hi:.2e}: its entries are {entries} numbers, "
            "whose rounding explains that; eigenvalues below zero count as zero.",
            RuntimeWarning,
            stacklevel=4,
        )
        return
    raise not_positive(name, n, dtype, lo, hi)


def smallest_eigenvalue_at_most(factor: Tensor, rounds: int = 6) -> float:
    r"""An upper bound of the smallest eigenvalue of $L L^\top$, by inverse iteration.

    Each round multiplies what the vector has of the smallest eigenvector by $\lambda_2 / \lambda_1$ against the rest:
    of a singular matrix, where that is 1e10 or more, the first round finds it.
    """
    v = torch.randn(len(factor), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(factor)
    v /= v.norm()
    bound = math.inf
    for _ in range(rounds):
        w = torch.cholesky_solve(v, factor)
        size = float(w.norm())
        if not 0 < size < math.inf:
            return 0.0  # the inverse overflowed
        # for a unit v both v'A^-1 v and |A^-1 v| are at most 1 / lambda_min
        bound, form = min(bound, 1 / size), float((v * w).sum())
        if form > 0:
            bound = min(bound, form**-1)
        v = w / size
    return bound


def largest_eigenvalue_at_least(matrix: Tensor, rounds: int = 6) -> float:
    """A lower bound of the largest eigenvalue of a positive matrix, by power iteration from its row sums."""
    v = matrix.sum(1)
    # a diagonal entry and every Rayleigh quotient are at most the largest eigenvalue
    bound = float(matrix.diagonal().max())
    for _ in range(rounds):
        size = float(v.norm())
        if not 0 < size < math.inf:
            break
        v = v / size
        w = matrix @ v
        bound, v = max(bound, float(v @ w)), w
    return bound


def equal_rows(matrix: Tensor, dtype: torch.dtype, rows: int = 512) -> list[tuple[int, int]]:
    r"""Pairs i < j that a kernel can't tell apart: $K_{ii} + K_{jj} - 2 K_{ij}$, their squared distance in its feature
    space, is zero up to the rounding of the three entries."""
    diagonal, eps = matrix.diagonal(), torch.finfo(dtype).eps
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(matrix), rows):
        part = slice(start, start + rows)
        size = diagonal[part, None] + diagonal
        near = (size - 2 * matrix[part]) <= 4 * eps * size
        near &= (
            torch.arange(len(matrix), device=matrix.device)
            > torch.arange(start, start + len(near), device=matrix.device)[:, None]
        )
        pairs += [(start + i, j) for i, j in near.nonzero().tolist()]
    return pairs


def _rounded_up(number: float) -> float:
    """Two digits, not rounded down: a unit of the second is at most a tenth of the number."""
    rounded = float(f"{number:.1e}")
    if rounded >= number:
        return rounded
    return rounded * 1.1


def not_positive(
    name: str,
    n: int,
    dtype: torch.dtype,
    lo: float,
    hi: float,
    ridge: float = 0.0,
    *,
    diagonal: float | None = None,
    equal: list[tuple[int, int]] | None = None,
) -> NotPositive:
    """The error, with a ridge that is enough (rounded up to two digits), which it also carries as `enough`.

    Args:
        name: of the matrix.
        n, dtype: its rows, and the precision in which it was made.
        lo, hi: extreme eigenvalues, of the matrix with its ridge.
        ridge: that was there, in the units of the matrix.
        diagonal: largest entry of the diagonal; None: `hi` serves as its bound.
        equal: pairs of rows that are the same to the kernel.
    """
    floor = rounding_floor(n, dtype, hi, hi if diagonal is None else diagonal)
    solvable = CLEAR_OF_FLOOR * rounding_floor(n, torch.float64, hi, hi)
    # twice a negative eigenvalue lifts it to its mirror image; 2 floors leave one that is told from zero
    enough = ridge + max(-2 * lo, 2 * floor, solvable, torch.finfo(torch.float64).tiny)
    enough = _rounded_up(enough)
    lower = torch.finfo(dtype).eps > torch.finfo(torch.float64).eps
    fixes = [f"`ridge={enough:.1e}`"]
    if equal:
        named = ", ".join(f"{i} and {j}" for i, j in equal[:PAIRS_NAMED])
        if len(equal) > PAIRS_NAMED:
            named += f" and {len(equal) - PAIRS_NAMED} more pairs"
        why = f"two inputs are equal to the kernel: rows {named}"
        fixes = ["drop one row of each pair", *fixes]
    elif lo < -floor:
        why = "it is not the matrix of a kernel, or was computed in a lower precision than it is in now"
    else:
        why = "inputs so close, or a kernel so smooth, that rounding hides its smallest eigenvalues"
    if lower:
        why += f"; its entries are {dtype}, and have that rounding"
        fixes = ["`dtype=torch.float64` where the Gram matrix is made", *fixes]
    fault, where = "it is singular to working precision", f"the Gram matrix `{name}`"
    if lo < -floor:
        fault = "it is not positive"
    if ridge:
        where += f" with ridge={ridge:.1e}"
    error = NotPositive(
        f"`{name}` ({n} x {n}, {dtype}) has smallest eigenvalue {lo:.2e}, largest {hi:.2e}: {fault}",
        where=where,
        why=why,
        fix=", or ".join(fixes),
    )
    error.enough = enough
    return error
