"""Linear maps of the positions as one matrix along each of two axes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.axes import Aggregate, AxisMaps, Take
from gramian.arch.ops.pool import Average, AveragePool


def matrices(op: object, size: tuple[int, int]) -> list[Tensor] | None:
    """What an op does along height and width, as (new, old) matrices in float64; None where it is no such map.

    Positions along one axis have height 1.
    """
    eyes = [torch.eye(s, dtype=torch.float64) for s in size]
    if isinstance(op, AveragePool):
        window, stride, padding = two(op.window, 1), two(op.stride, 1), two(op.padding, 0)
        # a linear map's matrix is what it does to the unit vectors
        pooled = zip(eyes, window, stride, padding, strict=True)
        return [functional.avg_pool1d(eye[None], w, s, p)[0].T for eye, w, s, p in pooled]
    if isinstance(op, AxisMaps):
        return [eye if m is None else m for eye, m in zip(eyes, _last(op.matrices), strict=True)]
    if isinstance(op, Take):
        return [eye if i is None else _rows(eye, i) for eye, i in zip(eyes, _last(op.index[1:]), strict=True)]
    if isinstance(op, Average) and len(op.axes) == 1 and size[0] > 1:
        eyes[op.axes[0] - 2] = eyes[op.axes[0] - 2].mean(0, keepdim=True) * op.factor
        return eyes
    if isinstance(op, Aggregate) and size[0] == 1 and op.matrix.shape[1] == size[1]:
        return [eyes[0], op.matrix.double()]
    return None


def _last(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes of one or two axes, as height and width."""
    return (None,) * (2 - len(given)) + given


def _rows(eye: Tensor, index: tuple[int, ...]) -> Tensor:
    return torch.cat([eye, torch.zeros_like(eye[:1])])[list(index)]  # -1 is a zero


def two(numbers: tuple[int, ...], missing: int) -> tuple[int, int]:
    """A setting of each axis of one or two, as of height and width."""
    if len(numbers) == 1:
        return (missing, numbers[0])
    return (numbers[0], numbers[1])
