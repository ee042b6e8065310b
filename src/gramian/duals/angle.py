"""The angle between two Gaussian values, and the area that they span, without the cancellation of `arccos`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gramian.duals.covariance_gap import safe_sqrt


def area_and_angle(
    q1: Tensor,
    k: Tensor,
    q2: Tensor,
    gap: Tensor | None = None,
    few: float | None = None,
    opposite: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""$\sqrt{q_1 q_2 - k^2}$ and the angle between u and v, without the cancellation of `arccos`.

    $q_1 q_2 - k^2 = (s - k)(s + k)$ with $s = \sqrt{q_1 q_2}$. `gap` is s - k and
    `opposite` s + k, if known. Where one is subtracted, what rounding alone can make of it (`few` of s, by default
    units in the last place) is zero, or equal inputs would get an angle of 1e-8.
    """
    # the first is exact at equal variances
    if gap is None:
        s = safe_sqrt(q1 * q2)
    else:
        s = safe_sqrt(q1) * safe_sqrt(q2)
    rounding = (8 * torch.finfo(k.dtype).eps if few is None else few) * s
    if opposite is None:
        opposite = s + k
        opposite = torch.where(opposite > rounding, opposite, torch.zeros_like(opposite))
    if gap is None:
        apart = s - k
        area = safe_sqrt(torch.where(apart > rounding, apart, torch.zeros_like(apart)) * opposite)
    else:
        area = safe_sqrt(gap) * safe_sqrt(opposite)
    return area, _Angle.apply(area, k)


class _Angle(torch.autograd.Function):
    """atan2, whose own gradient overflows in float32 at variances of 1e16."""

    @staticmethod
    def forward(ctx: Any, area: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(area, k)
        return torch.atan2(area, k + 0.0)  # no negative zero

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor]:
        area, k = ctx.saved_tensors
        # divided twice by the size: its square is what would overflow
        size = torch.hypot(area, k)
        size = torch.where(size > 0, size, torch.ones_like(size))
        return grad[0] / size * (k / size), -grad[0] / size * (area / size)


class _Determinant(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        ctx.save_for_backward(q1, k, q2)
        s = (q1 * q2).sqrt()
        # q1 q2 - k^2 = (s - k)(s + k): a factor that rounding alone can have made is zero
        apart, opposite = s - k, s + k
        few = 8 * torch.finfo(k.dtype).eps * s
        zero = torch.zeros_like(apart)
        return torch.where(apart > few, apart, zero) * torch.where(opposite > few, opposite, zero)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, ...]:
        q1, k, q2 = ctx.saved_tensors
        return (
            (grad[0] * q2).sum_to_size(q1.shape),
            (-2 * grad[0] * k).sum_to_size(k.shape),
            (grad[0] * q1).sum_to_size(q2.shape),
        )


def determinant(q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
    """`q1 q2 - k^2` without cancellation; exactly 0 where k is a few units in the last place from its bounds."""
    return _Determinant.apply(q1, k, q2)
