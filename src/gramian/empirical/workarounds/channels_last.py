"""Gradients in the memory order of what they belong to: channels last, where the convolutions keep it.

A pool or a flatten sends back channels first, and torch reads one order beside the other at a tenth of the speed. Of
the kernel of four convolutions (bench/empirical_cnn.py) it saves 7 to 8 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gramian.empirical.workarounds.switch import has_faster_way

ACTIVATIONS = frozenset(
    getattr(place, name)
    for name in ("relu", "relu_", "tanh", "sigmoid", "erf", "sin", "cos", "gelu", "silu", "leaky_relu", "elu", "mish")
    for place in (torch, Tensor, F)
    if hasattr(place, name)
)


def in_the_order_of_the_value(func: Callable, args: Any, kwargs: dict[str, Any]) -> Any:
    """An activation, whose gradient comes in the order of its value."""
    out = func(*args, **kwargs)
    if isinstance(out, Tensor) and out.ndim in (3, 4) and has_faster_way(out):
        return _Follow.apply(out)
    return out


def _is_last(x: Tensor) -> bool:
    return x.ndim > 3 and x.shape[-3] > 1 and x.stride()[-3] == 1 and x.stride()[-1] > 1


def _last(g: Tensor) -> Tensor:
    """The same numbers in the order channels last: image by image, for which torch has a fast transposition."""
    c, h, w = g.shape[-3:]
    if _is_last(g) or not g.is_contiguous():
        return g
    out = g.new_empty(*g.shape[:-3], h, w, c)
    for to, image in zip(out.view(-1, h * w, c), g.view(-1, c, h * w), strict=True):
        to.copy_(image.mT)
    return out.movedim(-1, -3)


class _Follow(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.last = _is_last(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if ctx.last:
            return _Lay.apply(grad)
        return grad

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor) -> tuple[Tensor, int]:
        return _Follow.apply(x.movedim(in_dims[0], 0)), 0


class _Lay(torch.autograd.Function):
    """The identity, which moves the numbers."""

    @staticmethod
    def forward(g: Tensor) -> Tensor:
        if g.ndim > 3:
            return _last(g)
        return g.view_as(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad

    @staticmethod
    def vmap(info: Any, in_dims: tuple, g: Tensor) -> tuple[Tensor, int]:
        return _Lay.apply(g.movedim(in_dims[0], 0)), 0
