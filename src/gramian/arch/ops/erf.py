"""erf and the exact GELU: closed forms through Gaussian integrals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Value, reads
from gramian.arch.ops.smooth import Smooth
from gramian.duals.angle import determinant
from gramian.duals.hermite_coefficients import of_erf


@reads("aten.erf.default", "aten.erf_.default")
@dataclass(frozen=True)
class Erf(Activation):
    """erf; the arcsine kernel of Williams 1996, 'Computing with infinite networks'."""

    def phi(self, x: Tensor) -> Tensor:
        return torch.erf(x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        # arcsin(2 k / sqrt((1 + 2 q1)(1 + 2 q2))) as an angle, whose other leg is (1 + 2 q1)(1 + 2 q2) - 4 k^2 = 1 + 2
        # (q1 + q2) + 4 (q1 q2 - k^2): no digits are lost near correlation 1
        root = (1 + 2 * (q1 + q2) + 4 * determinant(q1, k, q2)).sqrt()
        return 2 / math.pi * torch.atan2(2 * k, root), 4 / math.pi / root

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_erf(q)

    def mean_slope(self, q: Tensor) -> Tensor:
        # E exp(-u^2) = (1 + 2 q)^(-1/2)
        return 2 / math.sqrt(math.pi) / (1 + 2 * q).sqrt()

    def mean(self, q: Tensor) -> Tensor | None:
        return None


@reads("aten.gelu.default", "aten.gelu_.default")
@dataclass(frozen=True)
class GELU(Activation):
    r"""$x\,\Phi(x)$ with the normal distribution function $\Phi$ (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    By Stein's lemma, with $A = E\,\Phi(u)\Phi(v) = 1/4 + \arcsin(k / \sqrt{(1+q_1)(1+q_2)}) / 2\pi$,
    $D = (1 + q_1)(1 + q_2) - k^2$, the density $B = 1 / (2\pi\sqrt D)$ and
    $P = q_1 q_2 + k^2 (1/(1+q_1) + 1/(1+q_2) - 1)$: $E\,\phi(u)\phi(v) = k A + B P$; $\dot K$ is its derivative in k
    (Price 1958).
    """

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        if call.args[1] == "tanh":
            return Smooth("gelu_tanh"), (call.args[0],)
        return super().read(call)

    @classmethod
    def settings(cls, *args: Any) -> tuple[Any, ...]:
        return ()

    def phi(self, x: Tensor) -> Tensor:
        return functional.gelu(x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        gap = determinant(q1, k, q2)
        # D and P of the docstring, with q1 q2 - k^2 taken out as `gap`
        d = 1 + q1 + q2 + gap
        a = 0.25 + torch.atan2(k, d.sqrt()) / (2 * math.pi)  # the arcsine, as an angle
        b = 1 / (2 * math.pi * d.sqrt())
        r = 1 / (1 + q1) + 1 / (1 + q2)
        p = gap + k * k * r
        excess = (q1 * q2 - (1 + q1 + q2) ** 2) / ((1 + q1) * (1 + q2))  # (p / d - 1) d + gap r, which would cancel
        return k * a + b * p, a + k * b * (excess / d + r * (2 - gap / d))

    def mean_slope(self, q: Tensor) -> Tensor:
        return torch.full_like(q, 0.5)

    def mean(self, q: Tensor) -> Tensor | None:
        # Stein: E u Phi(u) = q E of the density, which is (2 pi (1 + q))^(-1/2)
        return q / (math.sqrt(2 * math.pi) * (1 + q).sqrt())
