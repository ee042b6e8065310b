r"""Gauss-Newton steps of minimum norm, $\theta \leftarrow \theta - J^\top (J J^\top)^{-1} r$, until rounding stops.

The factorization of $J J^\top$ is kept while it lowers the residual tenfold a step, and made anew where it does not.
Above what memory holds, conjugate gradients with products $J J^\top v$ take its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.empirical import EmpiricalNTK, empirical_ntk
from gramian.empirical.jacobian_products.pullback import pulled_back

MOST_STEPS = 40
ENOUGH = 0.1  # a step that leaves less of the residual than this keeps the factorization
SHORTEST_STEP = 2.0**-12
CG_STEPS = 2_000
NEWS = Callable[[str], None]


@dataclass(frozen=True)
class Polished:
    """Where the steps came to.

    Attributes:
        residuals: norm of outputs minus targets before the first step and after each.
        moved: distance of the weights from where they were.
        why: empty, or why no step was possible.
    """

    residuals: tuple[float, ...]
    moved: float
    why: str = ""


def polish(module: nn.Module, x: Tensor, y: Tensor, *, max_bytes: int, news: NEWS = lambda text: None) -> Polished:
    """Move a float64 module's trained weights, in place, towards an exact minimum of the squared loss.

    Args:
        module: in evaluation mode.
        x: inputs (n, ...), float64.
        y: targets (n, C), float64.
        max_bytes: what J J^T and its factor may take.
        news: told after each step.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters]
    size = y.numel()
    floor = 4 * torch.finfo(torch.float64).eps * max(float(y.norm()), 1.0)
    dense = 3 * 8 * size**2 <= max_bytes
    factor: Tensor | None = None
    residual = _residual(module, x, y)
    norms, why = [float(residual.norm())], ""
    for number in range(1, MOST_STEPS + 1):
        if norms[-1] <= floor or not math.isfinite(norms[-1]):
            break
        fresh = False
        if dense and factor is None:
            factor, why = _factor(module, x)
            fresh = True
            if factor is None:
                break
        step = _step(module, x, residual, factor, parameters)
        share, after = _backtracked(module, x, y, parameters, step, norms[-1])
        if share == 0:
            if dense and not fresh:
                factor = None  # an old factorization: try with a new one
                continue
            break
        residual = after
        norms.append(float(residual.norm()))
        news(f"polishing: step {number}, residual {norms[-1]:.1e}")
        if norms[-1] > ENOUGH * norms[-2]:
            if norms[-1] > 0.5 * norms[-2] and norms[-1] < 1e3 * floor:
                break  # rounding is all that is left
            factor = None
    moved = math.sqrt(sum(float((p.detach() - s).square().sum()) for p, s in zip(parameters, start, strict=True)))
    return Polished(tuple(norms), moved, why)


def _residual(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x).reshape(y.shape) - y


def _factor(module: nn.Module, x: Tensor) -> tuple[Tensor | None, str]:
    kernel = empirical_ntk(module, x, outputs="full").detach()
    n, _, c, _ = kernel.shape
    matrix = kernel.permute(0, 2, 1, 3).reshape(n * c, n * c)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        return (
            None,
            f"the Gram matrix of the gradients is not of full rank: row {int(failed)} of {n * c}",
        )
    return factor, ""


def _step(
    module: nn.Module, x: Tensor, residual: Tensor, factor: Tensor | None, parameters: list[nn.Parameter]
) -> list[Tensor]:
    if factor is None:
        weights = _conjugate_gradients(EmpiricalNTK(module, x, outputs="full"), residual.reshape(-1))
    else:
        weights = torch.cholesky_solve(residual.reshape(-1, 1), factor)[:, 0]
    return pulled_back(lambda: module(x), weights.reshape(residual.shape), parameters)


def _conjugate_gradients(operator: EmpiricalNTK, b: Tensor) -> Tensor:
    """About (J J^T)^-1 b; a step that is only near the Gauss-Newton step lowers the residual as well."""
    solution, r = torch.zeros_like(b), b.clone()
    direction, square = r.clone(), float(r @ r)
    for _ in range(CG_STEPS):
        image = operator @ direction
        length = square / float(direction @ image)
        solution += length * direction
        r -= length * image
        following = float(r @ r)
        if following <= 1e-12 * float(b @ b) or not math.isfinite(following):
            break
        direction = r + (following / square) * direction
        square = following
    return solution


def _backtracked(
    module: nn.Module, x: Tensor, y: Tensor, parameters: list[nn.Parameter], step: list[Tensor], norm: float
) -> tuple[float, Tensor]:
    """The share of a step that lowers the residual, taken; 0 where none does, and the weights are as before."""
    before = [p.detach().clone() for p in parameters]
    share = 1.0
    while share >= SHORTEST_STEP:
        with torch.no_grad():
            for p, b, s in zip(parameters, before, step, strict=True):
                p.copy_(b - share * s)
        residual = _residual(module, x, y)
        if float(residual.norm()) < (1 - 0.1 * share) * norm:
            return share, residual
        share /= 2
    with torch.no_grad():
        for p, b in zip(parameters, before, strict=True):
            p.copy_(b)
    return 0.0, residual
