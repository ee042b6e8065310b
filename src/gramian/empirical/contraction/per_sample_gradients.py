"""Gradients of each sample of a weight that is used at many positions: sums of outer products.

Behind a mean over positions all outputs send back the same pattern, times a number for each output and channel: then
one product serves all outputs. Whether it is so is looked up in the numbers, to their last digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.empirical.modules.structured_calls import ConvCall, EmbeddingCall, NormScaleCall, Sizes
from gramian.empirical.modules.structured_parameters import StructuredCall
from gramian.empirical.workarounds.convolution_gradients import by_winograd
from gramian.empirical.workarounds.gemm import gemm, worth_it

LARGE_SAMPLE = 2**22  # multiplications of one sample from which on its products are made on their own


def formed(call: StructuredCall, x: Tensor, b: Tensor, sizes: Sizes) -> Tensor:
    """Gradients sum_p b_p a_p^T, or with `flip` a_p b_p^T, of inputs x and cotangents (n, k, G, P, b): (n, k, p)."""
    assert not isinstance(call.how, NormScaleCall)
    n, k, groups, p, wide = b.shape
    if isinstance(call.how, EmbeddingCall):
        return _rows(call.how.inputs(x, call.weight_shape), b, sizes.a)
    if k * p * sizes.a * wide < LARGE_SAMPLE:
        return _together(call.how.inputs(x, call.weight_shape).to(b.dtype), b, sizes.flip)
    if k > 1:
        first = common_pattern(b[0, :, 0])
    else:
        first = None
    if first is None and isinstance(call.how, ConvCall):
        grad = by_winograd(call, x, b)
        if grad is not None:
            return grad
    shared = first is not None
    out = b.new_empty(n, k, groups, *((sizes.a, wide) if sizes.flip else (wide, sizes.a)))
    for i in range(n):  # all samples' windows at once would leave the cache before they are used
        a = call.how.inputs(x[i : i + 1], call.weight_shape)[0].to(b.dtype)
        for g in range(groups):
            if sizes.flip:
                place = out[i, :, g].mT
            else:
                place = out[i, :, g]
            pattern = first
            if i > 0 or g > 0:
                if shared:
                    pattern = common_pattern(b[i, :, g])
                else:
                    pattern = None
            if pattern is None:
                shared = False
                _products(place, b[i, :, g], a[g])
            else:
                times, once = pattern
                # b_p = times once_p for each output: sum_p b_p a_p' is times the one product of once and a
                torch.mul(times[:, :, None], gemm(once.mT, a[g].mT), out=place)
    return out.flatten(2)


def _rows(tokens: Tensor, b: Tensor, vocabulary: int) -> Tensor:
    """Gradients of an embedding: b_p in the row of its token."""
    n, k, _, p, wide = b.shape
    grad = b.new_zeros(n, k, vocabulary, wide)
    rows = tokens.clamp(min=0).view(n, 1, p, 1).expand(n, k, p, wide)
    kept = torch.where(tokens.view(n, 1, p, 1) < 0, 0, b[:, :, 0])  # padding has no gradient
    return grad.scatter_add_(2, rows, kept).flatten(2)


def _together(a: Tensor, b: Tensor, flip: bool) -> Tensor:
    """Gradients of many samples with little work each, in one call."""
    n, k, g, p, wide = b.shape
    left, right = b.permute(0, 2, 1, 4, 3).reshape(n * g, k * wide, p), a.reshape(n * g, p, -1)
    grad = torch.bmm(left, right).view(n, g, k, wide, -1)  # (n, G, k, b, a)
    return (grad.mT if flip else grad).transpose(1, 2).reshape(n, k, -1)


def _products(place: Tensor, b: Tensor, a: Tensor) -> None:
    """sum_p b_p a_p^T of each output, (k, P, b) and (P, a), into (k, b, a)."""
    (k, p, wide), high = b.shape, a.shape[1]
    if worth_it(b[0].mT, a.mT):
        for to, each in zip(place, b, strict=True):
            to.copy_(gemm(each.mT, a.mT))
    elif worth_it(b.reshape(-1, p), a.mT):
        place.copy_(gemm(b.mT.reshape(k * wide, p), a.mT).view(k, wide, high))
    else:
        place.copy_(torch.bmm(b.mT, a.expand(k, p, high)))


def common_pattern(b: Tensor) -> tuple[Tensor, Tensor] | None:
    """Numbers (k, b) and a pattern (P, b) whose products are the cotangents (k, P, b) to rounding; None if none are."""
    once = b[0]
    at = once.abs().argmax(0, keepdim=True)
    pivot = once.gather(0, at)
    # each channel's ratio is read where its pattern is largest: there it is 0 only if all of it is
    times = torch.where(pivot == 0, 0, b.gather(1, at.expand(len(b), 1, -1))[:, 0] / pivot)
    tolerance = 4 * torch.finfo(b.dtype).eps
    for few in (slice(1, 2), slice(2, None)):  # nearly always the second output tells already
        if not bool(((b[few] - times[few, None] * once).abs() <= tolerance * b[few].abs()).all()):
            return None
    return times, once
