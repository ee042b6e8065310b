"""Convolutions of images, back to their inputs and to their weights, by the fastest way that is at hand.

oneDNN has its fastest in the order channels last. Windows of 3x3 with stride 1, of channels that fill registers, go
through Winograd's minimal filtering (Lavin & Gray 2015, arXiv:1509.09308; native/src/winograd.h): a quarter of the
multiplications, for errors of 8e-7 of the result's size where the plain sums have 2e-7.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gramian.empirical.modules.structured_calls import ConvCall
from gramian.empirical.modules.structured_parameters import StructuredCall
from gramian.empirical.workarounds.switch import has_faster_way
from gramian.library import library

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)  # as in native/src/winograd_tiles.cpp; and infinity
LANES = 16  # channels are a multiple of it
VECTORS = ("AVX-512", "AVX2", "NEON")  # without them oneDNN's plain sums are faster
LEAST_TILES = 128  # tiles of 4x4 from which on bringing the weights into the domain, once a call, is paid back


def convolved(how: ConvCall, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """The convolution with a faster way back to `x`; the parameters get no gradient. None where there is none."""
    if not has_faster_way(weight) or weight.ndim != 4 or x.dtype != weight.dtype or torch.is_autocast_enabled("cpu"):
        return None
    if any(before != after for before, after in how.padding):
        return None
    weight = weight.detach().contiguous(memory_format=torch.channels_last)
    return _Conv.apply(x, weight, None if bias is None else bias.detach(), how)


def by_winograd(call: StructuredCall, x: Tensor, b: Tensor) -> Tensor | None:
    """Gradients (n, k, p) of a weight from inputs x (n, *in_shape) and cotangents b (n, k, 1, P, d); else None."""
    places = b.shape[3]
    assert isinstance(call.how, ConvCall)
    high, wide = call.out_shape[-2:]
    if not (
        _fits(call.how, call.weight_shape, high, wide)
        and has_faster_way(b)
        and x.dtype is b.dtype
        and places == high * wide
    ):
        return None
    images = x.reshape(len(x), *call.in_shape[-3:])
    return winograd_gradients(images, b[:, :, 0].unflatten(2, (high, wide)), call.how.padding[0][0])


def winograd_gradients(x: Tensor, b: Tensor, pad: int) -> Tensor:
    """Gradients (n, k, p) of weights d x c x 3 x 3 from images (n, c, h, w) and cotangents (n, k, high, wide, d)."""
    n, k, _, wide, d = b.shape
    if b.stride()[2:] != (wide * d, d, 1):
        b = b.contiguous()
    out = b.new_empty(n, k, d, 9, x.shape[1])
    _native().winograd_weight(_last(x), b.numpy(), pad, out.numpy(), torch.get_num_threads())
    return out.flatten(2)


def _fits(how: ConvCall, weight: tuple[int, ...], high: int, wide: int) -> bool:
    """Whether Winograd's way is there, and is worth it, for results of high x wide places."""
    return (
        tuple(weight[2:]) == (3, 3)
        and how.stride == how.dilation == (1, 1)
        and how.groups == 1
        and how.padding in (((0, 0),) * 2, ((1, 1),) * 2, ((2, 2),) * 2)
        and weight[0] % LANES == weight[1] % LANES == 0
        and _worth_it(high, wide)
        and library().isa in VECTORS
    )


def _worth_it(high: int, wide: int) -> bool:
    """Whether 36 multiplications for each tile are half of 9 for each place, or less."""
    return 8 * _tiles(high, wide) <= high * wide


def _tiles(high: int, wide: int) -> int:
    """Tiles of 4x4 that cover high x wide places."""
    return -(-high // 4) * -(-wide // 4)


def _native() -> Any:
    return library().module


def _last(x: Tensor) -> Any:
    """(n, c, h, w) as an array (n, h, w, c) without gaps."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


@cache
def _domain() -> Tensor:
    """G x G, (36, 9): of weights into Winograd's domain."""
    rows = []
    for a in POINTS:
        # Lagrange: the weights, as a polynomial, at the point, over its distances to the others; its last number at
        # infinity
        apart = prod(a - other for other in POINTS if other != a)
        rows.append([1 / apart, a / apart, a * a / apart])
    g = torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64, device="cpu")
    # the same along both axes
    return torch.kron(g, g).float()


class _Conv(torch.autograd.Function):
    """`F.conv2d` of any number of leading axes."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, how: ConvCall) -> Tensor:
        padding = [before for before, _ in how.padding]
        out = F.conv2d(x.reshape(-1, *x.shape[-3:]), weight, bias, how.stride, padding, how.dilation, how.groups)
        return out.view(*x.shape[:-3], *out.shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _, ctx.how = inputs
        ctx.save_for_backward(weight)
        ctx.size = x.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _ConvBack.apply(grad, *ctx.saved_tensors, ctx.how, ctx.size), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        return _Conv.apply(x.movedim(in_dims[0], 0), *rest), 0


class _ConvBack(torch.autograd.Function):
    """The transposed map, of any number of leading axes, to images of the given size."""

    @staticmethod
    def forward(g: Tensor, weight: Tensor, how: ConvCall, size: tuple[int, int]) -> Tensor:
        images = g.reshape(-1, *g.shape[-3:])
        if len(images) * _tiles(*size) >= LEAST_TILES and _fits(how, weight.shape, *size):
            out = winograd_back(images, weight, 2 - how.padding[0][0], size)
        else:
            before = [p for p, _ in how.padding]
            axes = zip(g.shape[-2:], weight.shape[2:], how.stride, before, how.dilation, size, strict=True)
            # a strided window may not reach the last places of an image: what is missing of its size
            more = [n - ((m - 1) * step - 2 * p + hole * (k - 1) + 1) for m, k, step, p, hole, n in axes]
            out = F.conv_transpose2d(images, weight, None, how.stride, before, more, how.groups, how.dilation)
        return out.view(*g.shape[:-3], *out.shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.how = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Conv.apply(grad, *ctx.saved_tensors, None, ctx.how), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, g: Tensor, *rest: Any) -> tuple[Tensor, int]:
        return _ConvBack.apply(g.movedim(in_dims[0], 0), *rest), 0


def winograd_back(g: Tensor, weight: Tensor, pad: int, size: tuple[int, int]) -> Tensor:
    """Images (n, d, high, wide) back through the weights (d, c, 3, 3): (n, c, h, w), channels last."""
    d, c = weight.shape[:2]
    # back through a convolution is a convolution with the weights turned by half a turn, and padding 2 - p
    turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(9, d * c)
    u = (_domain() @ turned).view(36, d, c)
    out = g.new_empty(len(g), *size, c)
    _native().winograd_filter(_last(g), u.numpy(), pad, out.numpy(), torch.get_num_threads())
    return out.permute(0, 3, 1, 2)
