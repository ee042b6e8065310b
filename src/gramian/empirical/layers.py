"""The layers whose parameter gradients are sums of outer products: linear and convolutional ones.

One call of such a layer on one sample gives the weight's gradient as sum_p b_p a_p^T over positions p (places of an
image, tokens of a sequence) and the bias's as sum_p b_p. Everything downstream sees only these numbers, in one shape:
`a` is (n, G, P, a) and `b` is (n, k, G, P, b), for n samples, k outputs, G groups, P positions.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Sizes(NamedTuple):
    """Counts of one call on one sample: groups, positions, and the two lengths of its outer products."""

    groups: int
    positions: int
    a: int
    b: int


def sizes(layer: nn.Module, out_shape: tuple[int, ...]) -> Sizes:
    """Sizes of a call whose output on one sample has this shape."""
    if isinstance(layer, nn.Linear):
        return Sizes(1, prod(out_shape[:-1]), layer.in_features, layer.out_features)
    assert isinstance(layer, nn.modules.conv._ConvNd)
    groups, channels = layer.groups, layer.out_channels
    window = layer.in_channels // groups * prod(layer.kernel_size)
    return Sizes(groups, prod(out_shape) // channels, window, channels // groups)


def apply(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer's own formula gives on `x`, without any hook."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight, layer.bias)
    return layer._conv_forward(x, layer.weight, layer.bias)  # type: ignore[operator]


def inputs(layer: nn.Module, x: Tensor) -> Tensor:
    """The vectors a_p of n calls: (n, *input of one sample) -> (n, G, P, a)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(x.shape[0], 1, -1, x.shape[-1])
    return _windows(layer, x)  # type: ignore[arg-type]


def cotangents(layer: nn.Module, b: Tensor) -> Tensor:
    """The vectors b_p of n calls: (n, k, *output of one sample) -> (n, k, G, P, b)."""
    n, k = b.shape[:2]
    if isinstance(layer, nn.Linear):
        return b.reshape(n, k, 1, -1, b.shape[-1])
    assert isinstance(layer, nn.modules.conv._ConvNd)
    channels, groups = layer.out_channels, layer.groups
    places = prod(b.shape[b.ndim - len(layer.kernel_size) :])
    b = b.reshape(n, k, -1, groups, channels // groups, places)  # (n, k, images in a sample, G, b, places)
    return b.permute(0, 1, 3, 2, 5, 4).reshape(n, k, groups, -1, channels // groups)


def _windows(layer: nn.modules.conv._ConvNd, x: Tensor) -> Tensor:
    """What the convolution's window sees at each place: (n, *(c, *space)) -> (n, G, P, a)."""
    n, rank = x.shape[0], len(layer.kernel_size)
    x = x.reshape(-1, *x.shape[x.ndim - rank - 1 :])  # a sample may hold several images
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, _padding(layer), mode=mode)
    for axis, (size, step, hole) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        x = x.unfold(2 + axis, hole * (size - 1) + 1, step)[..., ::hole]
    space = range(2, 2 + rank)
    x = x.permute(0, 1, *range(2 + rank, 2 + 2 * rank), *space)  # (images, c, *window, *places)
    places = prod(x.shape[2 + rank :])
    x = x.reshape(n, x.shape[0] // n, layer.groups, -1, places)  # (n, images in a sample, G, a, places)
    return x.permute(0, 2, 1, 4, 3).reshape(n, layer.groups, -1, x.shape[3])


def _padding(layer: nn.modules.conv._ConvNd) -> list[int]:
    """Padding as `F.pad` wants it, last axis first."""
    if layer.padding_mode != "zeros":
        return list(layer._reversed_padding_repeated_twice)  # what the layer itself pads with
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        total = [hole * (size - 1) for size, hole in zip(layer.kernel_size, layer.dilation, strict=True)]
        return [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    assert not isinstance(layer.padding, str)
    return [side for p in reversed(layer.padding) for side in (p, p)]
