"""Covariances between two embeddings of one table, where values of a network share weights."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.arch.cross_covariances import Cross
from gramian.arch.ops import Tokens


def token_cross(
    op: Tokens, x_h: Tensor, x_g: Tensor, y_h: Tensor, y_g: Tensor, *, ntk: bool, dtype: torch.dtype
) -> Cross:
    """Covariances of the one-hot vectors of tokens h and g; shapes (n, *S), (n, *T) and (m, ...)."""
    position_axes, ends = x_h.ndim - 1, (*x_h.shape[1:], *x_g.shape[1:])
    xh, xg, yh, yg = (v.reshape(len(v), -1) for v in (x_h, x_g, y_h, y_g))

    def of(a: Tensor, b: Tensor) -> Tensor:
        products = op.product(a[..., :, None], b[..., None, :], dtype)
        return products.reshape(*products.shape[:-2], *ends)

    xx, yy, xy, yx = of(xh, xg), of(yh, yg), of(xh[:, None], yg[None]), of(yh[None], xg[:, None])
    if ntk:
        zero = torch.zeros_like(xy)
    else:
        zero = None
    return Cross(xx, yy, xy, yx, zero, zero, position_axes)
