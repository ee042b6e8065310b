"""Polynomials and powers of ReLU: finite closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Value, reads, value
from gramian.duals import derivatives as dual_derivatives
from gramian.duals.angle import area_and_angle
from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.hermite_coefficients import of_derivative_means
from gramian.errors import NoLimit


@reads("aten.pow.Tensor_Scalar", "aten.pow_.Scalar", "aten.square.default", "aten.square_.default")
@dataclass(frozen=True)
class Polynomial(Activation):
    r"""$P(x) = \sum_i c_i x^i$: $K = \sum_r E P^{(r)}(u)\, E P^{(r)}(v)\, k^r / r!$, a finite sum (Mehler)."""

    coefficients: tuple[float, ...] = (0.0, 0.0, 1.0)

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        if "square" in call.target:
            power = 2.0
        else:
            power = float(call.args[1])
        if power != int(power) or power < 1:
            raise NoLimit(
                f"A power with exponent {power:g} has no rule.",
                why="it is not smooth at zero, or infinite there",
                fix="a whole exponent of 1 or more",
            )
        x = value(call.args[0], "the base of this power")
        return cls((0.0,) * int(power) + (1.0,)), (x,)

    def phi(self, x: Tensor) -> Tensor:
        return _horner(self.coefficients, x)

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        means1, means2 = self._means(q1), self._means(q2)
        kernel = kdot = torch.zeros_like(k)
        power = torch.ones_like(k)
        # the slope has the same derivatives one order up, so its series takes the means one place further
        for r, (m1, m2) in enumerate(zip(means1, means2, strict=True)):
            kernel = kernel + m1 * m2 * power / math.factorial(r)
            if r + 1 < len(means1):
                kdot = kdot + means1[r + 1] * means2[r + 1] * power / math.factorial(r)
            power = power * k
        return kernel, kdot

    def mean(self, q: Tensor) -> Tensor | None:
        if any(self.coefficients[::2]):
            return self._means(q)[0]
        return None

    def closed_coefficients(self, q: Tensor) -> Tensor:
        return of_derivative_means(self._means(q), q)

    def _means(self, q: Tensor) -> list[Tensor]:
        """Mean of each derivative: a polynomial in q, since E u^(2j) = (2j - 1)!! q^j."""
        means, c = [], list(self.coefficients)
        while c:
            even = [a * math.prod(range(1, 2 * j, 2)) for j, a in enumerate(c[::2])]
            means.append(_horner(even, q))
            c = [i * a for i, a in enumerate(c)][1:]
        return means

    def describe(self) -> str:
        powers = ("", " x", *(f" x^{i}" for i in range(2, len(self.coefficients))))
        terms = [f"{c:g}{power}" for power, c in zip(powers, self.coefficients, strict=False) if c]
        return " + ".join(terms)


def _horner(coefficients: tuple[float, ...] | list[float], x: Tensor) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


@dataclass(frozen=True)
class RectifiedPower(Activation):
    r"""$\mathrm{relu}(x)^n$: the arc-cosine kernel of degree n (Cho and Saul 2009, arXiv:1112.3712).

    By Stein's lemma $E\,u_+^n v_+^n = A_n H + B_n a / 2\pi$ with $H = E\,1[u > 0]\,1[v > 0]$,
    $a = \sqrt{q_1 q_2 - k^2}$ and polynomials $A_n$, $B_n$ in $q_1 q_2$ and k. Written as `torch.relu(x) ** n` it is
    recognized.
    """

    power: int = 2

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(x) ** self.power

    nonsmooth: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        return self._dual(q1, k, q2, None, None)

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return *self._dual(q1, k, q2, gap, opposite), None

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        n = self.power
        # E u_+^(2m) = (2m - 1)!! q^m / 2: half of the moment of the whole line
        one, two = (math.prod(range(1, 2 * m, 2)) / 2 for m in (n, n - 1))
        return one * q**n, two * n * n * q ** (n - 1)

    def _dual(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if dual_derivatives.wanted(q1, k, q2, gap, opposite):
            at = dual_derivatives.pairs(q1, k, q2, gap, opposite)
            kernel, slope = (ramp_power(n, at).to(k.dtype) for n in (self.power, self.power - 1))
            return kernel, self.power**2 * slope
        return self._closed(q1, k, q2, *area_and_angle(q1, k, q2, gap, opposite=opposite))

    def _closed(self, q1: Tensor, k: Tensor, q2: Tensor, area: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        # H = E 1[u > 0] 1[v > 0]
        half = (math.pi - angle) / (2 * math.pi)
        product = q1 * q2

        def moment(n: int) -> Tensor:
            on, edge = _moments(n, n)
            return _homogeneous(on, n, product, k) * half + _homogeneous(edge, n - 1, product, k) * area / (2 * math.pi)

        return moment(self.power), self.power**2 * moment(self.power - 1)

    def mean(self, q: Tensor) -> Tensor | None:
        n = self.power
        # E u_+^n = 2^(n/2 - 1) Gamma((n + 1) / 2) / sqrt(pi) q^(n/2), with no root where n is even
        factor = 2 ** (n / 2 - 1) * math.gamma((n + 1) / 2) / math.sqrt(math.pi)
        if n % 2:
            return factor * q ** (n // 2) * safe_sqrt(q)
        return factor * q ** (n // 2)

    def describe(self) -> str:
        return f"relu^{self.power}"


@dataclass(frozen=True)
class Ramps:
    """E u_+^n v_+^n for n of 2 or more, with all its derivatives."""

    power: int

    def value(self, at: dual_derivatives.PairCovariances) -> Tensor:
        area = safe_sqrt(at.gap) * safe_sqrt(at.opposite)
        return RectifiedPower(self.power)._closed(at.q1, at.k, at.q2, area, torch.atan2(area, at.k + 0.0))[0]

    def slopes(self, at: dual_derivatives.PairCovariances) -> dual_derivatives.Slopes:
        own = self.power * ramp_power(self.power, at)
        return self.power**2 * ramp_power(self.power - 1, at), own, own

    def infinite(self, at: dual_derivatives.PairCovariances) -> Tensor | None:
        return None


def ramp_power(n: int, at: dual_derivatives.PairCovariances) -> Tensor:
    """E u_+^n v_+^n, differentiable as often as one likes."""
    if n == 0:
        return 0.5 - dual_derivatives.expectation_of(dual_derivatives.Angle(), at) / (2 * math.pi)
    if n == 1:
        return dual_derivatives.expectation_of(dual_derivatives.Excess(), at) + at.k / 2
    return dual_derivatives.expectation_of(Ramps(n), at)


@lru_cache(maxsize=128)
def _moments(i: int, j: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    r"""$E\,u_+^i v_+^j$ at unit variances, i - j even, as polynomials in c that multiply H and $\sqrt{1-c^2}/2\pi$."""
    if i < j:
        i, j = j, i
    known = {(0, 0): ((1,), (0,)), (1, 1): ((0, 1), (1,)), (2, 0): ((1,), (0, 1))}
    if (i, j) in known:
        return known[i, j]
    # Stein at unit variances: E u u_+^(i-1) v_+^j = (i - 1) E u_+^(i-2) v_+^j + c j E u_+^(i-1) v_+^(j-1). From i = j
    # this ends in the three known ones.
    above = _moments(i - 2, j)
    beside: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (0,))
    if j:
        beside = _moments(i - 1, j - 1)
    parts = []
    for a, b in zip(above, beside, strict=True):
        total = [0] * max(len(a), len(b) + 1)
        for d, c in enumerate(a):
            total[d] += (i - 1) * c
        for d, c in enumerate(b):
            total[d + 1] += j * c
        parts.append(tuple(total))
    return parts[0], parts[1]


def _homogeneous(coefficients: tuple[int, ...], degree: int, product: Tensor, k: Tensor) -> Tensor:
    r"""$\sum_d c_d k^d (q_1 q_2)^{(n - d)/2}$, where only even n - d occur."""
    total = torch.zeros_like(k)
    for d, c in enumerate(coefficients):
        if c:
            total = total + c * k**d * product ** ((degree - d) // 2)
    return total
