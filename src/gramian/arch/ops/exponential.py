"""sin, cos, exp and Gaussian bumps: closed forms through the Gaussian's characteristic function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import reads
from gramian.duals.angle import determinant
from gramian.duals.hermite_coefficients import of_exp, of_gaussian, of_sine


@reads("aten.sin.default", "aten.sin_.default")
@dataclass(frozen=True)
class Sin(Activation):
    r"""sin: $K = e^{-(q_1 + q_2)/2} \sinh k$, from $E\,e^{iu} = e^{-q/2}$ (Rahimi and Recht 2007)."""

    def phi(self, x: Tensor) -> Tensor:
        return torch.sin(x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        # sin u sin v = (cos(u - v) - cos(u + v)) / 2, and u - v, u + v have the variances q1 + q2 - 2 k, q1 + q2 + 2 k
        return _hyperbolic(q1, k, q2)

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_sine(q, odd=True)

    def mean(self, q: Tensor) -> Tensor | None:
        return None


@reads("aten.cos.default", "aten.cos_.default")
@dataclass(frozen=True)
class Cos(Activation):
    r"""cos: $K = e^{-(q_1 + q_2)/2} \cosh k$."""

    def phi(self, x: Tensor) -> Tensor:
        return torch.cos(x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        sinh, cosh = _hyperbolic(q1, k, q2)
        return cosh, sinh

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_sine(q, odd=False)

    def mean(self, q: Tensor) -> Tensor | None:
        return torch.exp(-q / 2)


def _hyperbolic(q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
    """sinh(k) and cosh(k) times exp(-(q1 + q2) / 2), without overflow, and with all digits at small k."""
    middle = (q1 + q2) / 2
    plus, minus = torch.exp(k - middle), torch.exp(-k - middle)
    small = torch.sinh(k.clamp(-1, 1)) * torch.exp(-middle)
    return torch.where(k.abs() < 1, small, (plus - minus) / 2), (plus + minus) / 2


@reads("aten.exp.default", "aten.exp_.default")
@dataclass(frozen=True)
class Exp(Activation):
    r"""exp: $K = \dot K = e^{(q_1 + q_2)/2 + k}$."""

    def phi(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        kernel = torch.exp((q1 + q2) / 2 + k)
        return kernel, kernel

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_exp(q)

    def mean(self, q: Tensor) -> Tensor | None:
        return torch.exp(q / 2)


@dataclass(frozen=True)
class Gaussian(Activation):
    r"""$b\,e^{-a x^2}$: $K = b^2 D^{-1/2}$, $\dot K = 4 a^2 b^2 k D^{-3/2}$ (Williams 1996).

    $D = 1 + 2a(q_1 + q_2) + 4a^2(q_1 q_2 - k^2)$. Written as `torch.exp(-x**2)` it is recognized.
    """

    rate: float = 1.0
    height: float = 1.0

    def phi(self, x: Tensor) -> Tensor:
        return self.height * torch.exp(-self.rate * x * x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.rate, self.height
        # the determinant of 1 + 2 a times the covariance matrix
        d = 1 + 2 * a * (q1 + q2) + 4 * a * a * determinant(q1, k, q2)
        root = d.sqrt()
        return b * b / root, 4 * (a * b) ** 2 * k / (d * root)

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_gaussian(q, self.rate, self.height)

    def mean(self, q: Tensor) -> Tensor | None:
        return self.height / (1 + 2 * self.rate * q).sqrt()

    def describe(self) -> str:
        return f"{self.height:g} exp(-{self.rate:g} x^2)"
