"""The limit NTK of plain ReLU networks, written out by hand: what a reader of the papers would type.

He weights (sigma_w^2 = 2) without biases, readout sigma_w = 1; Jacot et al. 2018 (arXiv:1806.07572), and for
convolutions Arora et al. 2019 (arXiv:1904.11955). Whole matrices at once, no tiles, symmetry not used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def mlp(x: Tensor, hidden: int) -> Tensor:
    """Fully connected, `hidden` ReLU layers; x (n, d) -> (n, n)."""
    k = 2 * x @ x.mT / x.shape[1]
    s = k.diagonal().sqrt()[:, None] * k.diagonal().sqrt()
    theta = k
    for layer in range(hidden):
        k, kdot = relu(k, s)
        gain = 1 if layer == hidden - 1 else 2
        k, theta = gain * k, gain * (theta * kdot + k)
    return theta


def cnn_flat(x: Tensor, hidden: int) -> Tensor:
    """3x3 convolutions with zero padding, flattened; only equal positions matter. x (n, c, h, w) -> (n, n)."""
    k = 2 * _box(torch.einsum("ichw,jchw->ijhw", x, x) / x.shape[1])
    theta = k
    for layer in range(hidden):
        q = torch.diagonal(k).movedim(-1, 0).sqrt()
        k, kdot = relu(k, q[:, None] * q)
        theta = theta * kdot
        if layer < hidden - 1:
            k, theta = 2 * _box(k), 2 * _box(theta + k)
    return (theta + k).mean((2, 3))


def cnn_pooled(x: Tensor, hidden: int) -> Tensor:
    """3x3 convolutions with zero padding, averaged over space; all pairs of positions. x (n, c, h, w) -> (n, n)."""
    k = 2 * _box_pairs(torch.einsum("ichw,jcuv->ijhwuv", x, x) / x.shape[1])
    theta = k
    for layer in range(hidden):
        own = torch.diagonal(k).movedim(-1, 0).flatten(3).flatten(1, 2)  # (n, h*w, h*w)
        q = torch.diagonal(own, dim1=1, dim2=2).reshape(len(x), *x.shape[2:]).sqrt()
        s = torch.einsum("ihw,juv->ijhwuv", q, q)
        k, kdot = relu(k, s)
        theta = theta * kdot
        if layer < hidden - 1:
            k, theta = 2 * _box_pairs(k), 2 * _box_pairs(theta + k)
    return (theta + k).mean((2, 3, 4, 5))


def relu(k: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """E relu(u) relu(v) and E 1[u > 0] 1[v > 0] at covariance k and s = sqrt(q1 q2)."""
    angle = (k / s).clamp(-1, 1).acos()
    half = (math.pi - angle) / (2 * math.pi)
    return s * angle.sin() / (2 * math.pi) + half * k, half


def _box(field: Tensor) -> Tensor:
    return functional.avg_pool2d(field, 3, stride=1, padding=1)


def _box_pairs(field: Tensor) -> Tensor:
    """Mean over the window, both positions moving together."""
    h, w = field.shape[-2:]
    p = functional.pad(field, (1,) * 8)
    return sum(p[:, :, a : a + h, b : b + w, a : a + h, b : b + w] for a in range(3) for b in range(3)) / 9  # type: ignore[return-value]
