"""ReLU and its kin: the arc-cosine kernels, with the angle computed so that nearly equal inputs keep their digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Parameter, Value, reads, value
from gramian.duals import derivatives as dual_derivatives
from gramian.duals.angle import area_and_angle
from gramian.duals.covariance_gap import not_below_zero, safe_sqrt
from gramian.errors import NoLimit


@reads("aten.leaky_relu.default", "aten.leaky_relu_.default")
@dataclass(frozen=True)
class LeakyReLU(Activation):
    r"""$\max(x, 0) + a \min(x, 0)$, which is $a x + (1 - a)\,\mathrm{relu}(x)$.

    The arc-cosine kernels of degrees 0 and 1 (Cho and Saul 2009, 'Kernel methods for deep learning'): with angle
    $\vartheta$ between u and v, $E\,\mathrm{relu}(u)\,\mathrm{relu}(v) = (\sqrt{q_1 q_2 - k^2} + (\pi - \vartheta) k)
    / 2\pi$ and $E\,1[u > 0]\,1[v > 0] = (\pi - \vartheta) / 2\pi$. The derivative at 0 is torch's: a.
    """

    slope: float = 0.01

    @property
    def bend(self) -> float:
        """The growth of the slope at 0."""
        return 1 - self.slope

    @classmethod
    def settings(cls, *args: Any) -> tuple[Any, ...]:
        return (float(args[0]),)

    def phi(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.slope)

    nonsmooth: ClassVar[bool] = True

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        return self._dual(q1, k, q2, None, None)[:2]

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        kernel, kdot, excess = self._dual(q1, k, q2, gap, opposite)
        a, b = self.slope, self.bend
        # The variances are multiplied by m = a^2 + a b + b^2 / 2, and K = m k + b^2 excess: so m s - K = m g - b^2
        # excess, with no large numbers subtracted.
        return kernel, kdot, not_below_zero((a * a + a * b + b * b / 2) * gap - b * b * excess)

    def _dual(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""The dual, and by how much $E\,\mathrm{relu}(u)\,\mathrm{relu}(v)$ is more than k / 2."""
        if dual_derivatives.wanted(q1, k, q2, gap, opposite):
            at = dual_derivatives.pairs(q1, k, q2, gap, opposite)
            excess = dual_derivatives.expectation_of(dual_derivatives.Excess(), at).to(k.dtype)
            half = (0.5 - dual_derivatives.expectation_of(dual_derivatives.Angle(), at) / (2 * math.pi)).to(k.dtype)
        else:
            area, theta = area_and_angle(q1, k, q2, gap, opposite=opposite)
            turn = theta / (2 * math.pi)
            half = 0.5 - turn
            excess = torch.addcmul(area / (2 * math.pi), turn, k, value=-1)
        relu_kernel = torch.add(excess, k, alpha=0.5)  # E relu(u) relu(v)
        on1, on2 = (q1 > 0).to(k.dtype) / 2, (q2 > 0).to(k.dtype) / 2  # E 1[u > 0], and at variance 0 torch's relu'(0)
        some = bool((q1 > 0).all() & (q2 > 0).all())
        if some:
            on_both = half
        else:
            on_both = torch.where((q1 > 0) & (q2 > 0), half, torch.zeros_like(half))
        a, b = self.slope, self.bend
        if a == 0 and b == 1:
            return relu_kernel, on_both, excess
        # phi(x) = a x + b relu(x), and E u relu(v) = k / 2: the mixed products give a b k
        return a * a * k + a * b * k + b * b * relu_kernel, a * a + a * b * (on1 + on2) + b * b * on_both, excess

    def scale_dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        return self.dual(q1, k, q2)[0]  # x phi'(x) = phi(x)

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.slope, self.bend
        # E (a u + b relu(u))^2 = (a^2 + a b + b^2 / 2) q, and of the slope the same factor
        size = a * a + a * b + b * b / 2
        return size * q, torch.where(q > 0, size, a * a).to(q.dtype)

    def mean_slope(self, q: Tensor) -> Tensor:
        return self.slope + self.bend * torch.where(q > 0, 0.5, 0.0).to(q.dtype)

    def mean(self, q: Tensor) -> Tensor | None:
        # E relu(u) = sqrt(q / 2 pi), and E u = 0
        return self.bend * safe_sqrt(q) / math.sqrt(2 * math.pi)

    def describe(self) -> str:
        return f"slope {self.slope:g}"


@reads("aten.relu.default", "aten.relu_.default")
@dataclass(frozen=True)
class ReLU(LeakyReLU):
    """max(x, 0)."""

    slope: float = 0.0

    @classmethod
    def settings(cls, *args: Any) -> tuple[Any, ...]:
        return ()

    def phi(self, x: Tensor) -> Tensor:
        return functional.relu(x)

    def describe(self) -> str:
        return ""


@dataclass(frozen=True)
class TwoSlopes(LeakyReLU):
    """`right` times x above 0, `slope` times x below: what sums and multiples of ReLUs of one value are."""

    right: float = 1.0

    @property
    def bend(self) -> float:
        return self.right - self.slope

    def phi(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, self.right * x, self.slope * x)

    def describe(self) -> str:
        return f"slopes {self.slope:g}, {self.right:g}"


@reads("aten.abs.default", "aten.abs_.default")
@dataclass(frozen=True)
class Abs(LeakyReLU):
    """The absolute value: LeakyReLU of slope -1."""

    slope: float = -1.0

    @classmethod
    def settings(cls, *args: Any) -> tuple[Any, ...]:
        return ()

    def phi(self, x: Tensor) -> Tensor:
        return torch.abs(x)

    def describe(self) -> str:
        return ""


@reads("aten.prelu.default")
@dataclass(frozen=True)
class PReLU(LeakyReLU):
    """LeakyReLU of the slope that the module holds, which must be frozen and the same in all channels."""

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, weight = value(call.args[0], "the input of PReLU"), call.args[1]
        if isinstance(weight, Parameter):
            slopes = weight.tensor
        else:
            slopes = weight
        if isinstance(weight, Parameter) and weight.trains:
            raise NoLimit(
                f"The slope of PReLU, `{weight.name}`, is trained.",
                why="one number that all channels share stays random in the NTK, however wide the network is",
                fix="freeze it, module.requires_grad_(False) on the PReLU, or use nn.LeakyReLU",
            )
        if not isinstance(slopes, Tensor) or not torch.all(slopes == slopes.flatten()[0]):
            raise NoLimit(
                "The slopes of PReLU differ between the channels.",
                why="the limit is over channels that are alike",
                fix="one slope: nn.PReLU() as it starts, or nn.LeakyReLU",
            )
        return LeakyReLU(float(slopes.flatten()[0])), (x,)


@reads("aten.rrelu.default", "aten.rrelu_.default")
@dataclass(frozen=True)
class RReLU(LeakyReLU):
    """LeakyReLU of the mean slope in eval mode; refused in training mode."""

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, lower, upper, training, *_ = call.args
        if training:
            raise NoLimit(
                "RReLU in training mode draws a slope for each value.",
                why="each call has slopes of its own, and a kernel is of one function",
                fix="call .eval() on the module first",
            )
        return LeakyReLU((float(lower) + float(upper)) / 2), (value(x, "the input of RReLU"),)
