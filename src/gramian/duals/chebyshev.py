"""Chebyshev polynomials, their nodes, and the way from values at the nodes to coefficients."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def chebyshev_polynomials(x: Tensor, terms: int) -> Tensor:
    """Chebyshev polynomials; shape (terms, *x.shape)."""
    order = torch.arange(terms, dtype=x.dtype).reshape(-1, *(1,) * x.ndim)
    # T_r(cos t) = cos(r t)
    return torch.cos(order * torch.acos(x.clamp(-1, 1)))


@lru_cache(maxsize=32)
def chebyshev_nodes(count: int) -> tuple[Tensor, Tensor]:
    """Chebyshev's nodes, and the matrix from values there to coefficients."""
    angle = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    # at these angles the cosines are orthogonal: a_r = 2/n sum_i f(x_i) cos(r angle_i), half of that for r = 0
    matrix = torch.cos(torch.arange(count, dtype=torch.float64)[:, None] * angle) * (2 / count)
    matrix[0] /= 2
    return torch.cos(angle), matrix
