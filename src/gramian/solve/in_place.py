"""Kernel regression within the kernel's own memory, for matrices that fill most of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.errors import BadArgument, named_in_errors
from gramian.gram.positive import equal_rows, not_positive, rounding_floor
from gramian.solve.cholesky import Solution, check_ridge, targets

Progress = Callable[[float], object]


@dataclass(frozen=True)
class Blocks:
    """The pieces of a factorization.

    Args:
        panel: columns that are factorized at a time.
        tile: rows and columns of one product: of 2048, a tenth of a second, and the matrix product's best speed.
    """

    panel: int = 512
    tile: int = 2048


@named_in_errors
def solve_in_place(
    k: Tensor, y: Tensor, ridge: float = 0.0, *, progress: Progress | None = None, blocks: Blocks | None = None
) -> Solution:
    r"""As `solve`, by a blocked Cholesky factorization that overwrites the lower triangle of `k`.

    Below the diagonal `k` becomes the factor $L$ of $K + \rho I = L L^\top$; above it stays $K$, which the residual is
    measured with. So the peak is one matrix of n x n float64, where `solve` takes three. The work is cut into pieces
    of a tenth of a second, between which Python sees Ctrl-C.

    Args:
        k: kernel on the training inputs, symmetric; shape (n, n), float64, on a CPU. Overwritten.
        y: targets, real numbers; shape (n, C) or (n,).
        ridge: $\rho \ge 0$, in the units of `k`.
        progress: called with the finished share of the work, 0 to 1.
        blocks: the pieces that the matrix is cut into.

    Raises:
        NotPositive: `k + ridge` is not positive definite. `k` is then whole again.
        BadArgument: another dtype, or shapes that do not fit.

    Example:
        >>> k = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> [round(a, 6) for a in solve_in_place(k, torch.tensor([3.0, 0.0])).alpha.tolist()]
        [2.0, -1.0]
    """
    if k.dtype != torch.float64 or k.ndim != 2 or len(k) != k.shape[1] or not k.is_contiguous():
        raise BadArgument(
            f"a matrix of shape {tuple(k.shape)} and dtype {k.dtype}",
            why="a square float64 matrix, stored row by row, can be factorized in its own memory",
            fix="solve(k, y, ridge)",
        )
    ridge = check_ridge(ridge)
    blocks = blocks if blocks is not None else Blocks()
    n = len(k)
    given = targets(y, n).to(k)
    columns = given.reshape(n, -1)
    diagonal = k.diagonal().clone()
    k.diagonal().add_(ridge)
    positive = _factorize(k, progress, blocks)
    # the rule of `positive_factor`: a factor is believed if the smallest eigenvalue stands clear of rounding
    highest = _power(lambda v: _times(k, diagonal + ridge, v, blocks.tile), n)
    if positive:
        lowest = 1 / _power(lambda v: _substituted(k, v, blocks.panel), n)
    else:
        # without a factor no inverse iteration: the smallest eigenvalue is s less the largest one of s - A
        shift = 1.1 * highest
        lowest = shift - _power(lambda v: shift * v - _times(k, diagonal + ridge, v, blocks.tile), n, rounds=30)
    if not positive or lowest <= rounding_floor(n, k.dtype, highest, float(diagonal.max())):
        _restore(k, diagonal, blocks.tile)
        equal = equal_rows(k, k.dtype)
        raise not_positive("gram", n, k.dtype, lowest, highest, ridge, diagonal=float(diagonal.max()), equal=equal)
    alpha = _substituted(k, columns, blocks.panel)
    size = float(columns.norm())
    if size:
        residual = float((_times(k, diagonal + ridge, alpha, blocks.tile) - columns).norm()) / size
    else:
        residual = 0.0
    if progress:
        progress(1.0)
    return Solution(alpha.reshape(given.shape), float(ridge), residual)


def _factorize(k: Tensor, progress: Progress | None, blocks: Blocks) -> bool:
    """L in the lower triangle of `k`, panel by panel; False if a pivot is not positive."""
    n, tile_rows = len(k), blocks.tile
    for start in range(0, n, blocks.panel):
        end = min(start + blocks.panel, n)
        corner, failed = torch.linalg.cholesky_ex(k[start:end, start:end])  # reads the lower triangle alone
        if bool(failed):
            return False
        k[start:end, start:end] = corner + k[start:end, start:end].triu(1)
        for at in range(end, n, tile_rows):
            rows = slice(at, min(at + tile_rows, n))
            # L_ij = A_ij L_jj^-T
            k[rows, start:end] = torch.linalg.solve_triangular(corner.mT, k[rows, start:end], upper=True, left=False)
        # A_ij -= L_ip L_jp' for the panel p, on and below the diagonal: what is left is factorized next
        for i in range(end, n, tile_rows):
            rows = slice(i, min(i + tile_rows, n))
            for j in range(end, i + 1, tile_rows):
                tile = slice(j, min(j + tile_rows, n))
                if i == j:  # the upper half of a diagonal tile must stay K
                    product = k[rows, start:end] @ k[tile, start:end].mT
                    k[rows, tile] -= product.tril_()
                else:
                    k[rows, tile].addmm_(k[rows, start:end], k[tile, start:end].mT, alpha=-1)
        if progress:
            # what is left is a factorization of n - end rows, and that costs their cube
            progress(1 - ((n - end) / n) ** 3)
    return True


def _power(product: Callable[[Tensor], Tensor], n: int, rounds: int = 6) -> float:
    """A lower bound of the largest eigenvalue of a symmetric matrix, by power iteration."""
    v = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bound = 0.0
    for _ in range(rounds):
        v = v / v.norm()
        w = product(v)
        # for a unit v and a positive A both v'A v and |A v| are at most the largest eigenvalue
        bound = max(bound, float((v * w).sum()), float(w.norm()))
        v = w
    return bound


def _restore(k: Tensor, diagonal: Tensor, tile_rows: int) -> None:
    """The lower triangle from the upper one."""
    n = len(k)
    for i in range(0, n, tile_rows):
        rows = slice(i, min(i + tile_rows, n))
        for j in range(0, i, tile_rows):
            tile = slice(j, min(j + tile_rows, n))
            k[rows, tile] = k[tile, rows].mT
        upper = k[rows, rows].triu(1)
        k[rows, rows] = upper + upper.mT
    k.diagonal().copy_(diagonal)


def _substituted(factor: Tensor, y: Tensor, panel: int) -> Tensor:
    """L^-T L^-1 y, with L in the lower triangle."""
    n, out = len(factor), y.clone()
    starts = range(0, n, panel)
    for start in starts:
        rows = slice(start, min(start + panel, n))
        out[rows] -= factor[rows, :start] @ out[:start]
        out[rows] = torch.linalg.solve_triangular(factor[rows, rows].tril(), out[rows], upper=False)
    for start in reversed(starts):
        rows = slice(start, min(start + panel, n))
        out[rows] -= factor[rows.stop :, rows].mT @ out[rows.stop :]
        out[rows] = torch.linalg.solve_triangular(factor[rows, rows].tril().mT, out[rows], upper=True)
    return out


def _times(k: Tensor, diagonal: Tensor, alpha: Tensor, tile_rows: int) -> Tensor:
    """(K + ridge) alpha from the strict upper triangle of `k` and the diagonal."""
    n, out = len(k), diagonal[:, None] * alpha
    for i in range(0, n, tile_rows):
        rows = slice(i, min(i + tile_rows, n))
        upper = k[rows, rows].triu(1)
        out[rows] += upper @ alpha[rows] + upper.mT @ alpha[rows]
        for j in range(rows.stop, n, tile_rows):
            tile = slice(j, min(j + tile_rows, n))
            out[rows] += k[rows, tile] @ alpha[tile]
            out[tile] += k[rows, tile].mT @ alpha[rows]
    return out
