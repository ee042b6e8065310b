"""Inputs in coordinates of the space that they span: fewer columns, the same inner products."""

from __future__ import annotations

import torch
from torch import Tensor


def span_coordinates(x: Tensor) -> Tensor:
    r"""Rows with the same inner products in at most n columns, $X = R^\top Q^\top$, $R^\top$ of a QR factorization.

    A fully connected network whose first weights are Gaussian without biases has the same law on these rows as on x,
    and training moves these weights within the span of the rows only: nothing changes but the cost.

    Args:
        x: inputs (n, ...).

    Returns:
        Shape (n, min(n, d)), in the dtype of x.

    Example:
        >>> x = torch.randn(3, 100)
        >>> rows = span_coordinates(x)
        >>> rows.shape, bool(torch.allclose(rows @ rows.mT, x @ x.mT))
        (torch.Size([3, 3]), True)
    """
    return torch.linalg.qr(x.flatten(1).mT).R.mT.contiguous()
