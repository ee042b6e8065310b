"""The ends of a spectrum by products alone: Lanczos (ARPACK), in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from gramian.errors import BadArgument, GramianError, named_in_errors
from gramian.gram.operator import Operator, check_operator, device_of

FEWEST_ROWS_FOR_LANCZOS = 64  # below this many rows LAPACK is faster than Lanczos
MAX_BYTES = 2**31  # for the vectors that Lanczos keeps
FIRST_VECTORS = 20  # of them at first
Times = Callable[[np.ndarray], np.ndarray]


@named_in_errors
def largest_eigenpairs(
    operator: Operator, k: int = 1, *, tol: float = 1e-8, max_products: int = 5000
) -> tuple[Tensor, Tensor]:
    r"""The `k` largest eigenvalues of a symmetric operator and their eigenvectors, by Lanczos with restarts (ARPACK).

    Args:
        operator: symmetric; shape (n, n).
        k: how many.
        tol: relative accuracy; not below ten times the rounding of the operator's own precision.
        max_products: products with the operator that may be made.

    Returns:
        Eigenvalues, ascending, shape (k,), and eigenvectors in the columns, (n, k); float64, on the CPU.

    Raises:
        BadArgument: `k` is not in 1..n, or the operator is not square.
        GramianError: Lanczos did not converge in `max_products`.

    Example:
        >>> from gramian.gram import largest_eigenpairs
        >>> theta = EmpiricalNTK(torch.nn.Linear(2, 1, bias=False), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        >>> values, vectors = largest_eigenpairs(theta)
        >>> round(values.item(), 6), vectors.abs()[:, 0].round(decimals=6).tolist()
        (25.0, [1.0, 0.0])
    """
    n = check_operator(operator, "largest_eigenpairs(operator)")
    if not 1 <= k <= n:
        raise BadArgument(f"k={k} eigenvalues of a {n} x {n} matrix", why=f"there are {n}", fix=f"k in 1..{n}")
    if n < max(FEWEST_ROWS_FOR_LANCZOS, 3 * k):
        lam, u = torch.linalg.eigh(_by_unit_vectors(operator, n))
        return lam[-k:], u[:, -k:]
    lam, u = top(_times(operator), n, k, _reachable(operator, tol), max_products, vectors=True)
    assert u is not None
    return torch.from_numpy(lam), torch.from_numpy(u)


def extremes_by_products(operator: Operator, k: int, tol: float, max_products: int) -> tuple[Tensor, Tensor]:
    """The `k` smallest and largest eigenvalues, ascending; float64, accurate to `tol` times the largest."""
    n, tol = operator.shape[0], _reachable(operator, tol)
    if n < max(FEWEST_ROWS_FOR_LANCZOS, 3 * k):
        lam = torch.linalg.eigvalsh(_by_unit_vectors(operator, n))
        return lam[:k], lam[-k:]
    times = _times(operator)
    largest, _ = top(times, n, k, tol, max_products)
    if n - getattr(operator, "rank_bound", n) >= k:  # so many are zero, and Lanczos sees a multiple eigenvalue once
        return torch.zeros(k, dtype=torch.float64), torch.from_numpy(largest)
    shift = largest[-1] + abs(largest[-1])  # so that what converges does so relative to the largest
    flipped, _ = top(lambda v: shift * v - times(v), n, k, tol, max_products)
    return torch.from_numpy(np.sort(shift - flipped)), torch.from_numpy(largest)


@named_in_errors
def condition_number(operator: Operator, ridge: float = 0.0, *, tol: float = 1e-10, max_products: int = 5000) -> float:
    r"""$(\lambda_{max} + \rho) / (\lambda_{min} + \rho)$ of a positive semidefinite operator.

    From Ritz values, which lie inside the spectrum: it is not above the true one, but for rounding. `math.inf` where
    $\lambda_{min} + \rho$ is within the rounding of the operator's precision, or `tol`, of zero.

    Args:
        operator: symmetric positive semidefinite.
        ridge: $\rho$, in the units of the kernel matrix.
        tol, max_products: as for `extreme_eigenvalues`.

    Example:
        >>> from gramian.gram import condition_number
        >>> condition_number(torch.diag(torch.tensor([1.0, 3.0])), ridge=1.0)
        2.0
    """
    check_operator(operator, "condition_number(operator)")
    (low, *_), (*_, high) = (lam.tolist() for lam in extremes_by_products(operator, 1, tol, max_products))
    rounding = max(operator.shape[0] * torch.finfo(torch.float64).eps, _reachable(operator, tol)) * abs(high)
    if low + ridge <= rounding:
        return float("inf")
    return (high + ridge) / (low + ridge)


def _reachable(operator: Operator, tol: float) -> float:
    return max(tol, 10 * torch.finfo(operator.dtype).eps)


def top(
    times: Times,
    n: int,
    k: int,
    tol: float,
    max_products: int,
    vectors: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The largest, in a Krylov space that grows while restarts in it do not converge."""
    start = np.random.default_rng(0).standard_normal(n)
    kept = min(n, max(2 * k + 1, FIRST_VECTORS))
    most = min(n, max(max_products, 2 * k + 1), max(20, MAX_BYTES // (8 * n)))
    left, done = max_products, 0
    while True:
        last = kept >= most
        # after a restart ARPACK makes at most kept - k new vectors, a product each
        if last:
            restarts = max(1, left // (kept - k))
        else:
            restarts = 4
        counted, calls = _counted(times)
        operator = LinearOperator((n, n), matvec=counted, dtype=np.float64)
        try:
            ritz = eigsh(
                operator, k, which="LA", v0=start, tol=tol, ncv=kept, maxiter=restarts, return_eigenvectors=vectors
            )
            break
        except ArpackNoConvergence as error:
            left, done = left - calls[0], done + calls[0]
            if last or left <= kept:
                raise GramianError(
                    f"Lanczos found {len(error.eigenvalues)} of {k} extreme eigenvalues of a {n} x {n} operator "
                    f"to {tol:.0e} in {done} products",
                    why="eigenvalues at that end of the spectrum lie close together",
                    fix=f"max_products={10 * max_products}, or tol={1e3 * tol:.0e}",
                ) from None
            kept = min(4 * kept, most)
    if vectors:
        lam, u = ritz
    else:
        lam, u = (ritz, None)
    order = np.argsort(lam)
    return lam[order], None if u is None else u[:, order]


def _counted(times: Times) -> tuple[Times, list[int]]:
    calls = [0]

    def counted(v: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return times(v)

    return counted, calls


def _times(operator: Operator) -> Times:
    device = device_of(operator)
    matrix: Operator | Tensor
    if isinstance(operator, Tensor):
        matrix = operator.double()
    else:
        matrix = operator
    return lambda v: (matrix @ torch.from_numpy(np.ascontiguousarray(v).reshape(-1)).to(device)).double().cpu().numpy()


def _by_unit_vectors(operator: Operator, n: int) -> Tensor:
    matrix: Operator | Tensor
    if isinstance(operator, Tensor):
        matrix = operator.double()
    else:
        matrix = operator
    dense = (matrix @ torch.eye(n, dtype=torch.float64, device=device_of(operator))).double().cpu()
    return (dense + dense.mT) / 2
