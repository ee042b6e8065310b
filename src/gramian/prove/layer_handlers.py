"""Layers in the checker's steps: affine maps, convolutions, pooling, attention, normalization."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from gramian.checker.program import ProgramStep
from gramian.errors import Unsupported
from gramian.prove.elementwise_handlers import added_values
from gramian.prove.handler_table import handles
from gramian.prove.reading import ProgramReading, StepValue, Weight


@handles("linear")
def linear(reading: ProgramReading, x: Any, weight: Any, bias: Any = None) -> StepValue | None:
    if not (isinstance(x, StepValue) and isinstance(weight, Weight)):
        return None
    return _affine(reading, x, weight, weight.tensor, bias, (*x.shape[:-1], weight.tensor.shape[0]))


@handles("matmul", "mm", "bmm")
def matmul(reading: ProgramReading, x: Any, other: Any) -> StepValue | None:
    if isinstance(x, StepValue) and isinstance(other, Weight) and other.tensor.dim() == 2:
        return _affine(reading, x, other, other.tensor.T, None, (*x.shape[:-1], other.tensor.shape[1]))
    if isinstance(x, Tensor) or isinstance(other, Tensor):
        return None
    return _bilinear(reading, reading.value(x), reading.value(other))


def _bilinear(reading: ProgramReading, a: StepValue, b: StepValue) -> StepValue:
    """Matrix product of two values (..., t, k) and (..., k, s): all products, then their sums over k."""
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    t, k, s = a.shape[-2], a.shape[-1], b.shape[-1]
    left = reading.gathered(a, lambda v: v.unsqueeze(-2).expand(*batch, t, s, k))
    right = reading.gathered(b, lambda v: v.mT.unsqueeze(-3).expand(*batch, t, s, k))
    products = reading.product(left, right)
    rows = np.repeat(np.arange(products.size // k), k)
    ones = sparse.csr_matrix((np.ones(products.size), (rows, np.arange(products.size))))
    return reading.linear(products, ones, (*batch, t, s))


def _affine(
    reading: ProgramReading, x: StepValue, weight: Weight, matrix: Tensor, bias: Any, shape: tuple[int, ...]
) -> StepValue:
    positions = x.size // matrix.shape[1]
    name = reading.weight(weight, matrix)
    step = ProgramStep("affine", (x.step,), weight=name, positions=positions, weight_scale=weight.scale)
    own_bias = isinstance(bias, Weight)
    if own_bias:
        at = reading.weight(bias, bias.tensor[None])
        reading.arrays[at] = reading.arrays[at].reshape(-1)
        step = replace(step, bias=at, bias_scale=bias.scale)
    z = reading.add(step, shape)
    if bias is None or own_bias:
        return z
    return added_values(reading, z, bias)


@handles("conv1d", "conv2d")
def convolution(reading: ProgramReading, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
                dilation: Any = 1, groups: int = 1) -> StepValue | None:  # fmt: skip
    """Patches are gathered, and each goes through the same affine map."""
    if not (isinstance(x, StepValue) and isinstance(weight, Weight)):
        return None
    if groups != 1:
        raise Unsupported("a convolution of several groups has no rule")
    axes = weight.tensor.dim() - 2
    if len(x.shape) != axes + 2:
        raise Unsupported("a convolution of a tensor without channels has no rule: it may run over the samples")
    kernel = weight.tensor.shape[2:]

    def pairs(given: Any) -> list[int]:
        many = list(given) if isinstance(given, list | tuple) else [given]
        return (many * axes)[:axes]

    if isinstance(padding, str):
        total = [d * (k - 1) * (padding == "same") for d, k in zip(pairs(dilation), kernel, strict=True)]
        around = [(p // 2, p - p // 2) for p in total]
    else:
        around = [(p, p) for p in pairs(padding)]

    def flat(sizes: Any) -> tuple[int, ...]:
        return (*(1,) * (2 - axes), *sizes)

    def patches(image: Tensor) -> Tensor:
        image = F.pad(image, [p for pair in reversed(around) for p in pair])
        if axes == 1:
            image = image[:, :, None]
        columns = F.unfold(image, flat(kernel), flat(pairs(dilation)), 0, flat(pairs(stride)))
        return columns[0].T  # (positions, channels x window)

    gathered = reading.gathered(x, patches)
    out, matrix = weight.tensor.shape[0], weight.tensor.reshape(weight.tensor.shape[0], -1)
    z = _affine(reading, gathered, weight, matrix, bias, (gathered.shape[0], out))
    spatial = [
        (size + sum(p) - d * (k - 1) - 1) // s + 1
        for size, p, k, s, d in zip(x.shape[2:], around, kernel, pairs(stride), pairs(dilation), strict=True)
    ]
    return reading.gathered(z, lambda t: t.T.reshape(1, out, *spatial))


@handles("max_pool1d", "max_pool2d")
def max_pool(reading: ProgramReading, x: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False) -> StepValue:  # fmt: skip
    z = reading.value(x)
    axes = len(z.shape) - 2
    if axes < 1:
        raise Unsupported("pooling of a tensor without channels has no rule: it may run over the samples")
    if ceil_mode:
        raise Unsupported("max pooling with ceil_mode has no rule")
    step = reading.steps[z.step]
    rectified = step.kind == "function" and step.function == "relu"
    if rectified:  # max(relu(z)) = relu(max(z)): of values that are 0 none is ahead
        z = StepValue(step.inputs[0], z.shape)
    sizes = [_pairs(given, axes) for given in (kernel, stride or kernel, padding, dilation)]

    def windows(image: Tensor) -> Tensor:
        return _windows(image, *sizes)

    gathered = reading.gathered(z, windows)  # (channels, positions, window)
    inside = windows(torch.ones(z.shape, dtype=torch.float64)).reshape(-1).numpy()
    mask = reading.array(f"mask{len(reading.steps)}", inside) if not inside.all() else ""
    spatial = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in zip(z.shape[2:], *sizes, strict=True)]
    groups = math.prod(gathered.shape[:-1])
    pooled = reading.add(
        ProgramStep("maximum", (gathered.step,), positions=groups, offset=mask), (1, z.shape[1], *spatial)
    )
    return reading.function("relu", pooled) if rectified else pooled


def _pairs(given: Any, axes: int) -> list[int]:
    many = list(given) if isinstance(given, list | tuple) else [given]
    return (many * axes)[:axes]


def _windows(image: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    """Patches of each channel (channels, positions, window) of one image (1, channels, ...), zeros outside."""
    channels = image.shape[1]
    image = F.pad(image, [p for size in reversed(padding) for p in (size, size)])
    if image.dim() == 3:
        image, kernel, stride, dilation = image[:, :, None], [1, *kernel], [1, *stride], [1, *dilation]
    columns = F.unfold(image, tuple(kernel), tuple(dilation), 0, tuple(stride))[0]
    return columns.reshape(channels, -1, columns.shape[-1]).mT


@handles("softmax", "_softmax")
def softmax(reading: ProgramReading, x: Any, dim: int, *_: Any) -> StepValue:
    return _softmax(reading, reading.value(x), dim)


def _softmax(reading: ProgramReading, z: StepValue, dim: int, allowed: Tensor | None = None) -> StepValue:
    """Over one axis, which is brought to the end, among the positions that are allowed."""
    last = reading.gathered(z, lambda t: t.movedim(dim, -1)) if dim % len(z.shape) != len(z.shape) - 1 else z
    mask = ""
    if allowed is not None:
        if not bool(allowed.any(-1).all()):
            raise Unsupported("attention to no position at all has no rule")
        mask = reading.array(f"mask{len(reading.steps)}", allowed.expand(z.shape).reshape(-1).double().numpy())
    step = ProgramStep("softmax", (last.step,), positions=last.size // last.shape[-1], offset=mask)
    value = reading.add(step, last.shape)
    return value if last is z else reading.gathered(value, lambda t: t.movedim(-1, dim))


@handles("scaled_dot_product_attention")
def attention(reading: ProgramReading, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> StepValue:  # fmt: skip
    if enable_gqa:
        raise Unsupported("attention with grouped queries has no rule")
    queries, keys = reading.value(q), reading.value(k)
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = _bilinear(reading, reading.scaled(queries, factor), reading.gathered(keys, lambda t: t.mT))
    allowed = None
    if is_causal:
        allowed = torch.ones(scores.shape[-2:]).tril()
    elif isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool:
        allowed = attn_mask
    elif isinstance(attn_mask, Tensor):
        allowed = attn_mask > -math.inf
        if attn_mask[allowed].any():
            raise Unsupported("an attention mask of other numbers than 0 and minus infinity has no rule")
    elif attn_mask is not None:
        raise Unsupported("an attention mask that is computed has no rule")
    return _bilinear(reading, _softmax(reading, scores, -1, allowed), reading.value(v))


@handles("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(reading: ProgramReading, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> StepValue:
    if rest[0] is True or mean is None:
        raise Unsupported("batch normalization by the batch's own statistics has no rule: samples depend on each other")
    eps = rest[2] if isinstance(rest[0], bool) else rest[1]
    z = reading.value(x)
    across = (1, -1, *(1,) * (len(z.shape) - 2))
    factor = (var + eps).rsqrt()
    diagonal, offset = (
        t.double().reshape(across).expand(z.shape).reshape(-1).numpy() for t in (factor, -mean * factor)
    )
    normed = reading.linear(z, sparse.diags(diagonal), z.shape, offset)
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t.reshape(across))


@handles("layer_norm")
def layer_norm(reading: ProgramReading, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               *_: Any) -> StepValue:  # fmt: skip
    z = reading.value(x)
    normed = _normalized(reading, z, z.size // math.prod(shape), eps)
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t)


@handles("group_norm")
def group_norm(reading: ProgramReading, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               *_: Any) -> StepValue:  # fmt: skip
    z = reading.value(x)
    normed = _normalized(reading, z, groups, eps)
    across = (1, -1, *(1,) * (len(z.shape) - 2))
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t.reshape(across))


def _normalized(reading: ProgramReading, z: StepValue, groups: int, eps: float) -> StepValue:
    return reading.add(ProgramStep("normalize", (z.step,), positions=groups, eps=eps), z.shape)


def _scale_and_shift(
    reading: ProgramReading, z: StepValue, weight: Any, bias: Any, move: Callable[[Tensor], Tensor]
) -> StepValue:
    for given, combine in ((weight, reading.product), (bias, reading.sum)):
        if given is None:
            continue
        if isinstance(given, Tensor):
            raise Unsupported("a normalization with constant scale has no rule")
        placed = reading.gathered(reading.value(given), move)
        z = combine(z, reading.expanded(placed, z.shape))
    return z
