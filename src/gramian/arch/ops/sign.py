"""Sign and step: functions with a jump, whose NTK ends below them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Value, reads, value
from gramian.duals import derivatives as dual_derivatives
from gramian.duals.angle import area_and_angle
from gramian.duals.covariance_gap import safe_sqrt
from gramian.errors import NoLimit


@reads("aten.sign.default", "aten.sign_.default", "aten.sgn.default")
@dataclass(frozen=True)
class Sign(Activation):
    r"""The sign: $K = (2/\pi) \arcsin c$ at correlation c (Cho and Saul 2009, arXiv:1112.3712).

    Its derivative as torch computes it is zero, so $\dot K = 0$: layers below it add nothing to the NTK.
    """

    def phi(self, x: Tensor) -> Tensor:
        return torch.sign(x)

    nonsmooth: ClassVar[bool] = True

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        return self._dual(q1, k, q2, None, None)[:2]

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return self._dual(q1, k, q2, gap, opposite)

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        return (q > 0).to(q.dtype), torch.zeros_like(q)

    def _dual(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if dual_derivatives.wanted(q1, k, q2, gap, opposite):
            theta = dual_derivatives.expectation_of(
                dual_derivatives.Angle(), dual_derivatives.pairs(q1, k, q2, gap, opposite)
            ).to(k.dtype)
            zero, positive = torch.zeros_like(theta), (q1 > 0) & (q2 > 0)
            return (
                torch.where(positive, 1 - 2 / math.pi * theta, zero),
                zero,
                torch.where(positive, 2 / math.pi * theta, zero),
            )
        area, theta = area_and_angle(q1, k, q2, gap, opposite=opposite)
        zero = torch.zeros_like(k)
        positive = (q1 > 0) & (q2 > 0)
        angle = torch.atan2(torch.where(positive, k, zero), torch.where(positive, area, torch.ones_like(area)))
        # K = 1 - 2 theta / pi at variance 1, so that the gap is 2 theta / pi
        return 2 / math.pi * angle, zero, torch.where(positive, 2 / math.pi * theta, zero)

    def mean(self, q: Tensor) -> Tensor | None:
        return None

    def scale_dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        return torch.zeros_like(k + q1 + q2)  # the slope as torch computes it is zero


@reads("aten.heaviside.default", "aten.heaviside_.default")
@dataclass(frozen=True)
class Heaviside(Activation):
    r"""1 above 0, 0 below, `at_zero` at 0: $K = 1/4 + \arcsin(c) / 2\pi$, the arc-cosine kernel of degree 0.

    Its derivative as torch computes it is zero, so $\dot K = 0$: layers below it add nothing to the NTK.
    """

    at_zero: float = 0.0

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, at_zero = call.args[:2]
        if not isinstance(at_zero, Tensor) or at_zero.numel() != 1:
            raise NoLimit(
                "The second argument of heaviside is not one constant.",
                why="there is a rule for a step with one value at zero",
                fix="torch.heaviside(h, torch.tensor(0.5))",
            )
        return cls(float(at_zero)), (value(x, "the input of heaviside"),)

    def phi(self, x: Tensor) -> Tensor:
        return torch.heaviside(x.detach(), x.new_tensor(self.at_zero))

    nonsmooth: ClassVar[bool] = True

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        sign, zero = Sign().dual(q1, k, q2)
        m1, m2 = self.mean(q1), self.mean(q2)
        # 1[u > 0] = (1 + sign(u)) / 2
        return m1 * m2 + sign / 4, zero

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(q > 0, 0.5, self.at_zero**2).to(q.dtype), torch.zeros_like(q)

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        sign, zero, below = Sign().dual_at_gap(q1, k, q2, gap, opposite)
        m1, m2 = self.mean(q1), self.mean(q2)
        s1, s2 = (torch.where(q > 0, 0.5, m * m).to(k.dtype) for q, m in ((q1, m1), (q2, m2)))  # E phi^2
        kernel = m1 * m2 + sign / 4
        positive = (q1 > 0) & (q2 > 0)
        assert below is not None
        return kernel, zero, torch.where(positive, below / 4, (safe_sqrt(s1) * safe_sqrt(s2) - kernel).clamp_min(0))

    def scale_dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        return torch.zeros_like(k + q1 + q2)

    def mean(self, q: Tensor) -> Tensor:
        return torch.where(q > 0, 0.5, self.at_zero).to(q.dtype)

    def describe(self) -> str:
        return f"{self.at_zero:g} at 0"
