"""How near to each other an activation leaves nearly equal values: the gap of its kernel, from that of its input."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from gramian.duals.covariance_gap import rest, safe_sqrt

Dual = tuple[Tensor, Tensor]
NEAR_GAP = {torch.float64: 1e-6}  # of the variance: gaps below are not found by subtraction
NEAR_GAP_IN_LOW_PRECISION = 1e-2  # the same in lower precisions
SMALL_DIFFERENCE = 1e-4  # relative difference of standard deviations up to which they are expanded
# nodes and weights of Gauss's rule for 2 y dy on [0, 1]: a kernel's slope is smooth in the root of the gap
GAUSS_RULE = tuple(((6 + sign * math.sqrt(6)) / 10, 0.5 + sign * math.sqrt(6) / 18) for sign in (-1, 1))


class Elementwise(Protocol):
    """What is asked of an activation."""

    @property
    def jumps(self) -> bool: ...

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Dual: ...

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]: ...

    def own_scale(self, q: Tensor) -> Tensor: ...


def gap_of_image(
    op: Elementwise, below: tuple[Tensor, Tensor, Tensor], kernel: Tensor, after: tuple[Tensor, Tensor]
) -> Tensor:
    r"""$\sqrt{q_1' q_2'} - k'$ of a function's values.

    Far from zero it is subtracted. Near zero it is the half of $E(\phi(u) - \phi(v))^2 - (r' - t')^2$, r' and t' the
    roots of the variances, and with r and t those below
    $E(\phi(u) - \phi(v))^2 = 2 \int_0^g \dot K(r t - x)\,dx + (r - t)^2 E z^2 \phi'(\rho z)^2$, $\rho$ between r and t.

    Args:
        op: the function.
        below: variances, gap, variances; they broadcast.
        kernel: what its dual gives there.
        after: the variances of the values; they broadcast against `kernel`.
    """
    q1, gap, q2 = below
    root1, root2 = (safe_sqrt(q) for q in after)
    difference = root1 * root2 - kernel
    image_gap = difference.clamp_min(0)
    s = safe_sqrt(q1) * safe_sqrt(q2)
    equal = (gap == 0) & (q1 == q2)
    near = ((gap < NEAR_GAP.get(kernel.dtype, NEAR_GAP_IN_LOW_PRECISION) * s) & ~equal).detach()
    image_gap = torch.where(equal, torch.zeros_like(image_gap), image_gap)
    if difference.requires_grad:  # the derivatives of the difference, whose own value rounding spoils
        image_gap = difference + (image_gap - difference).detach()
    index = torch.nonzero(near, as_tuple=True)
    if len(index[0]) == 0 or op.jumps:  # where it jumps, the gap is as large as the root of that below
        return image_gap
    listed = [t.expand(kernel.shape)[index].double() for t in (q1, gap, q2, root1, root2)]
    return image_gap.index_put(index, _near(op, *listed).to(image_gap.dtype))


def _near(op: Elementwise, q1: Tensor, gap: Tensor, q2: Tensor, root1: Tensor, root2: Tensor) -> Tensor:
    """The gaps of a list of near pairs, in float64."""
    r, t = safe_sqrt(q1), safe_sqrt(q2)
    s = r * t
    # the integral over x = g y^2 from 0 to g, divided by g, is one over y with the weight 2 y
    slope = sum(weight * op.dual_at_gap(q1, s - gap * y * y, q2, gap * y * y)[1] for y, weight in GAUSS_RULE)
    apart = 2 * gap * slope
    other = (q1 != q2).detach()
    if bool(other.any()):
        # the deviations differ too: (r - t)^2 E z^2 phi'(rho z)^2, at the mean of both variances
        q = ((q1 + q2) / 2)[other]
        stretch = op.own_scale(q) / q
        apart = apart.index_put(torch.nonzero(other, as_tuple=True), apart[other] + (r - t).square()[other] * stretch)
    near = rest(apart, root1, root2)
    far = ((r - t).abs() > SMALL_DIFFERENCE * (r + t)) | (gap > NEAR_GAP[torch.float64] * s)
    if not bool(far.any()):
        return near
    own1, own2 = (op.dual(q, q, q)[0] for q in (q1[far], q2[far]))
    direct = safe_sqrt(own1) * safe_sqrt(own2) - op.dual(q1[far], (s - gap)[far], q2[far])[0]
    return near.index_put(torch.nonzero(far, as_tuple=True), direct.clamp_min(0))
