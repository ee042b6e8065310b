"""Sums and maps over positions, on any axes of a field: windows, pools, padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def window_average(
    field: Tensor,
    axes: tuple[tuple[int, ...], ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Mean over a zero-padded window, one spatial axis after the other (a box is separable).

    `axes` has, for each spatial axis, the field's axes that the window moves together.
    """
    for moved, w, s, p, d in zip(axes, window, stride, padding, dilation, strict=True):
        field = _slide(field, moved, w, s, p, d)
    return field / math.prod(window)


def _slide(field: Tensor, axes: tuple[int, ...], w: int, s: int, p: tuple[int, int], d: int) -> Tensor:
    size = field.shape[axes[0]]
    # the window spans d (w - 1) + 1 positions, and starts at every s-th
    out = (size + p[0] + p[1] - d * (w - 1) - 1) // s + 1
    if w == 1 and s == 1 and p == (0, 0):
        return field
    if p != (0, 0):
        field = pad(field, axes, p)
    total = None
    # All axes take the same tap: with shared weights only equal places of both windows are correlated.
    for tap in range(w):
        term = field
        for axis in axes:
            term = _strided(term, axis, tap * d, out, s)
        if total is None:
            total = term
        else:
            total = total + term
    assert total is not None
    return total


def _strided(field: Tensor, axis: int, start: int, count: int, step: int) -> Tensor:
    index = [slice(None)] * field.ndim
    index[axis] = slice(start, start + step * (count - 1) + 1, step)
    return field[tuple(index)]


def pad(field: Tensor, axes: tuple[int, ...], p: tuple[int, int]) -> Tensor:
    """The field with `p` zeros before and after on each of these axes."""
    sizes = [0, 0] * field.ndim
    for axis in axes:
        # torch wants the sizes from the last axis backwards
        at = 2 * (field.ndim - 1 - axis % field.ndim)
        sizes[at : at + 2] = p
    return functional.pad(field, sizes)


def take(field: Tensor, axis: int, index: tuple[int, ...]) -> Tensor:
    """Positions by number along one axis; -1 is a zero."""
    chosen = torch.tensor(index, device=field.device)
    taken = field.index_select(axis, chosen.clamp_min(0))
    if min(index) >= 0:
        return taken
    shape = [1] * field.ndim
    shape[axis] = len(index)
    # the zeros were taken from position 0
    return taken * (chosen >= 0).to(field.dtype).reshape(shape)
