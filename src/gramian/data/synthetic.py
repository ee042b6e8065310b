"""Synthetic inputs on the unit sphere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gramian.errors import BadArgument


def correlated_sphere(
    n: int, d: int, correlation: float = 0.0, *, generator: torch.Generator | None = None, dtype=torch.float64
) -> Tensor:
    r"""Unit vectors around a common random direction c: $x_i \propto \sqrt{1-\rho}\,g_i + \sqrt\rho\,c$.

    $g_i$ are uniform on the sphere. The closer $\rho$ is to 1, the more parallel the rows, and the larger the condition
    number of every kernel of them.

    Args:
        n, d: rows and columns.
        correlation: $\rho$, from 0 up to, not including, 1.
        generator: random numbers.
        dtype: of the rows.

    Returns:
        Shape (n, d).

    Raises:
        BadArgument: another correlation.

    Example:
        >>> x = correlated_sphere(4, 3, 0.5)
        >>> bool(torch.allclose(x.norm(dim=1), torch.ones(4)))
        True
    """
    if not 0 <= correlation < 1:
        raise BadArgument(
            f"correlation={correlation} is not from 0 up to 1.",
            where="correlated_sphere",
            why="at 1 all rows would be equal",
            fix="correlation=0.5",
        )
    common = torch.nn.functional.normalize(torch.randn(d, generator=generator, dtype=dtype), dim=0)
    rows = torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=dtype), dim=1)
    mixed = math.sqrt(1 - correlation) * rows + math.sqrt(correlation) * common
    return torch.nn.functional.normalize(mixed, dim=1)


def random_signs(*shape: int, generator: torch.Generator | None = None, dtype=torch.float64) -> Tensor:
    """Labels 1 and -1, each with probability 1/2.

    Example:
        >>> random_signs(1000).abs().unique().tolist()
        [1.0]
    """
    return 2.0 * torch.randint(0, 2, shape, generator=generator).to(dtype) - 1


def with_label_noise(y: Tensor, share: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Labels 1 and -1 of which a share, drawn at random, is replaced by random signs; half of these stay as they were.

    Args:
        y: 1 and -1; shape (n,).
        share: from 0 (none) to 1 (all labels are random).
        generator: random numbers. The same state takes the same rows first, so that a larger share only adds rows.

    Example:
        >>> with_label_noise(torch.ones(1000), 0.0).sum().item()
        1000.0
    """
    order = torch.randperm(len(y), generator=generator)
    signs = random_signs(len(y), generator=generator, dtype=y.dtype)
    noisy = y.clone()
    replaced = order[: round(share * len(y))]
    noisy[replaced] = signs[replaced]
    return noisy
