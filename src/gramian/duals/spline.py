r"""The exact dual of a function that is a polynomial between its kinks: moments of the truncated bivariate normal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gramian.duals.angle import area_and_angle
from gramian.duals.closed_form import Slope
from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.orthant import density, orthant, tail

HIGHEST_DEGREE = 3  # the highest
PAIRS_AT_ONCE = 2**14  # pairs at once
FARTHEST_KINK = 13.0  # standard deviations; the normal density is 8e-38 there
Polynomial = tuple[float, ...]  # coefficients, that of 1 first


@dataclass(frozen=True)
class Cut:
    """`base` everywhere, more beyond each kink as seen from zero, and point masses at kinks."""

    kinks: tuple[float, ...]
    base: Polynomial
    more: tuple[Polynomial, ...]
    masses: tuple[float, ...]

    def times_x(self) -> Cut:
        """x times the function."""
        # x delta(x - a) = a delta(x - a)
        masses = tuple(a * m for a, m in zip(self.kinks, self.masses, strict=True))
        return Cut(self.kinks, (0.0, *self.base), tuple((0.0, *p) for p in self.more), masses)

    def slope(self, *, masses: bool) -> Cut:
        """The derivative, with or without the point masses that jumps leave in it."""
        jumps = (0.0,) * len(self.kinks)
        if masses:
            # what begins at a kink jumps from 0 to its value there; below zero it begins on the left, and jumps the
            # other way
            jumps = tuple(_side(a) * _at(p, a) for p, a in zip(self.more, self.kinks, strict=True))
        return Cut(self.kinks, _derivative(self.base), tuple(_derivative(p) for p in self.more), jumps)

    def at(self, place: int | None) -> tuple[Polynomial, float]:
        """What begins at a kink: polynomial and point mass; the whole line's at None."""
        if place is None:
            return (self.base, 0.0)
        return (self.more[place], self.masses[place])

    def parts(self) -> list[tuple[int | None, Polynomial]]:
        """(kink beyond which, polynomial)."""
        listed: list[tuple[int | None, Polynomial]] = [(None, self.base), *enumerate(self.more)]
        return [part for part in listed if any(part[1])]


def _side(kink: float) -> float:
    """The direction away from zero: what begins at a kink acts beyond it on that side."""
    if kink >= 0:
        return 1.0
    return -1.0


def _at(p: Polynomial, x: float) -> float:
    return sum(c * x**m for m, c in enumerate(p))


def _derivative(p: Polynomial) -> Polynomial:
    return tuple(m * c for m, c in enumerate(p))[1:]


def cut(phi: Callable[[Tensor], Tensor], kinks: tuple[float, ...]) -> Cut | None:
    """The function's polynomials, found from its values; None if it has others between its kinks."""
    reach = 4.0 + 2 * max((abs(t) for t in kinks), default=0.0)
    pieces = [_fitted(phi, low, high, reach) for low, high in pairwise((-math.inf, *kinks, math.inf))]
    if any(p is None for p in pieces):
        return None
    polynomials = [np.array(p) for p in pieces]
    below = sum(t < 0 for t in kinks)  # the piece of zero, where it is no kink
    # beyond a kink the function is what it was before, plus what begins there
    more = []
    for t, (left, right) in zip(kinks, pairwise(polynomials), strict=True):
        if t >= 0:
            more.append(right - left)
        else:
            more.append(left - right)
    return Cut(kinks, tuple(polynomials[below].tolist()), tuple(tuple(p.tolist()) for p in more), (0.0,) * len(kinks))


def _fitted(phi: Callable[[Tensor], Tensor], low: float, high: float, reach: float) -> Polynomial | None:
    left, right = max(low, -reach), min(high, reach)
    if high <= -reach:
        left = max(low, high - reach)
    inside = torch.linspace(left, right, 67, dtype=torch.float64)[1:-1]
    outside = torch.tensor([t for t in (-1e4, -1e3, -30.0, 30.0, 1e3, 1e4) if low < t < high], dtype=torch.float64)
    x = torch.cat([inside, outside])
    y = phi(x).detach().numpy()
    for degree in range(HIGHEST_DEGREE + 1):
        # powers of multiples of 1/8 are exact in binary, so simple coefficients come out exact
        if right - left > 1:
            at = np.round(8 * np.linspace(left, right, degree + 3)[1:-1]) / 8
        else:
            at = None
        if at is None or len(set(at)) <= degree:
            at = np.linspace(left, right, degree + 3)[1:-1]
        values = phi(torch.from_numpy(at)).detach().numpy()
        if not np.isfinite(values).all():
            return None
        p = np.linalg.solve(np.vander(at, increasing=True), values)
        p[np.abs(p) < 1e-14 * np.abs(p).max()] = 0.0
        terms = np.vander(x.numpy(), degree + 1, increasing=True) * p
        if (np.abs(terms.sum(1) - y) <= 1e-14 * (np.abs(terms).sum(1) + np.abs(values).max())).all():
            return tuple(np.pad(p, (0, HIGHEST_DEGREE - degree)).tolist())
    return None


@dataclass(frozen=True)
class Spline:
    """The function, and what torch says of it and its derivative at zero."""

    function: Cut
    value_at_0: float
    slope_at_0: float

    def values(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Kernel and slope's kernel at `(q1, k, q2)` and its gaps."""
        f = self.function
        slope = f.slope(masses=False)
        kernel, kdot = _expectations(((f, f), (slope, slope)), q1, k, q2, gap, opposite)
        some1, some2 = q1 > 0, q2 > 0
        if not bool(some1.all() & some2.all()):
            kernel = self._where_zero(kernel, f, self.value_at_0, q1, q2)
            kdot = self._where_zero(kdot, slope, self.slope_at_0, q1, q2)
        return kernel.to(k.dtype), kdot.to(k.dtype)

    def _where_zero(self, apart: Tensor, f: Cut, at_0: float, q1: Tensor, q2: Tensor) -> Tensor:
        one, two = (torch.where(q > 0, mean(f, q.double()), at_0) for q in (q1, q2))
        return torch.where((q1 > 0) & (q2 > 0), apart, one * two)

    def slopes(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Slope, Slope]:
        """Of both, with the point masses that are the derivatives of jumps."""
        f = self.function
        plain, full = f.slope(masses=False), f.slope(masses=True)
        bend = plain.slope(masses=True)
        steep, steeper = full.times_x(), bend.times_x()
        wanted = ((full, full), (steep, f), (f, steep), (bend, bend), (steeper, plain), (plain, steeper))
        a, b, c, d, e, g = _expectations(wanted, q1, k, q2, gap, opposite)
        return Slope(a, b, c), Slope(d, e, g)


def mean(f: Cut, q: Tensor) -> Tensor:
    """E f(u)."""
    s = safe_sqrt(q)
    total = torch.zeros_like(s)
    for place, p in f.parts():
        if place is None:
            sign, h = (1.0, None)
        else:
            sign, h = _place(f.kinks[place], s)
        moments = _Line(torch.zeros_like(s), torch.ones_like(s), h).moments(len(p))
        for m, c in enumerate(p):
            if c:
                total = total + c * (sign * s) ** m * moments[m]
    return total


def _place(kink: float, s: Tensor) -> tuple[float, Tensor]:
    """The side that is beyond the kink, and how far the kink is in standard deviations."""
    return _side(kink), (abs(kink) / s.clamp_min(1e-300)).clamp(max=FARTHEST_KINK)


@dataclass(frozen=True)
class _Line:
    """A normal variable of this mean and standard deviation, beyond `h` or everywhere; `z` is (h - centre) / spread."""

    centre: Tensor
    spread: Tensor
    h: Tensor | None
    z: Tensor | None = None

    def moments(self, count: int) -> list[Tensor]:
        """E x^m over the part beyond h."""
        # By parts: E x^m = centre E x^(m-1) + spread^2 ((m - 1) E x^(m-2) + h^(m-1) density of x at h), over x > h.
        if self.h is None:
            moments, edge, h = [torch.ones_like(self.spread)], torch.zeros_like(self.spread), self.spread
        else:
            h = self.h
            z = (h - self.centre) / self.spread if self.z is None else self.z
            moments, edge = [tail(z)], self.spread * density(z)
        for m in range(1, count):
            term = self.centre * moments[-1] + edge * h ** (m - 1)
            if m > 1:
                term = term + (m - 1) * self.spread.square() * moments[-2]
            moments.append(term)
        return moments


def _expectations(
    wanted: tuple[tuple[Cut, Cut], ...],
    q1: Tensor,
    k: Tensor,
    q2: Tensor,
    gap: Tensor | None,
    opposite: Tensor | None = None,
) -> list[Tensor]:
    """E f(u) g(v) for each pair of functions, in float64."""
    few = 8 * torch.finfo(k.dtype).eps
    q1, k, q2 = torch.broadcast_tensors(*(t.detach().double() for t in (q1, k, q2)))
    known, other = (None if t is None else t.detach().double() for t in (gap, opposite))
    area, theta = area_and_angle(q1, k, q2, known, few, other)
    s1, s2 = safe_sqrt(q1), safe_sqrt(q2)
    sine = area / torch.where(s1 * s2 > 0, s1 * s2, torch.ones_like(area))
    flat = [t.reshape(-1).split(PAIRS_AT_ONCE) for t in (s1, s2, theta, sine)]
    by_chunk = [_Pairs(wanted[0][0].kinks, *chunk).expectations(wanted) for chunk in zip(*flat, strict=True)]
    return [torch.cat(parts).reshape(k.shape) for parts in zip(*by_chunk, strict=True)]


@dataclass(frozen=True)
class _Pairs:
    """A list of pairs of standard deviations, with their angle and its sine."""

    kinks: tuple[float, ...]
    s1: Tensor
    s2: Tensor
    theta: Tensor
    sine: Tensor

    def expectations(self, wanted: tuple[tuple[Cut, Cut], ...]) -> list[Tensor]:
        """E f(u) g(v) of each pair of functions."""
        totals = [torch.zeros_like(self.theta) for _ in wanted]
        places: list[int | None] = [None, *range(len(self.kinks))]
        # f and g are sums of parts that begin at a kink each, so E f g is a sum over pairs of kinks
        for i in places:
            for j in places:
                corner = self._corner(i, j)
                for number, (f, g) in enumerate(wanted):
                    totals[number] = totals[number] + corner.of(*f.at(i), *g.at(j))
        return totals

    def _corner(self, i: int | None, j: int | None) -> _Corner:
        if i is None:
            sign1, h = (1.0, None)
        else:
            sign1, h = _place(self.kinks[i], self.s1)
        if j is None:
            sign2, k = (1.0, None)
        else:
            sign2, k = _place(self.kinks[j], self.s2)
        # Beyond a kink below zero -x is above its size: the variable is reflected, and of one reflection the angle is
        # pi - theta.
        if sign1 == sign2:
            theta = self.theta
        else:
            theta = math.pi - self.theta
        return _Corner(h, k, theta, self.sine, sign1 * self.s1, sign2 * self.s2)


class _Corner:
    """Where x > h and y > k, x and y of the standard normal law at an angle, u = s1 x, v = s2 y."""

    def __init__(self, h: Tensor | None, k: Tensor | None, theta: Tensor, sine: Tensor, s1: Tensor, s2: Tensor) -> None:
        self.h, self.k, self.s1, self.s2, self.sine = h, k, s1, s2, sine
        self.r = torch.cos(theta)
        self.less = 2 * torch.sin(theta / 2).square()  # 1 - r
        count = HIGHEST_DEGREE + 3  # of moments: x times a function has a degree more
        none = [torch.zeros_like(theta)] * count
        if h is None:
            self.y_at_h = none
        else:
            self.y_at_h = self._given(h, k).moments(count)
        if k is None:
            self.x_at_k = none
        else:
            self.x_at_k = self._given(k, h).moments(count)
        self.at_h = self.at_k = none[0]
        if h is not None:
            self.at_h = density(h)
        if k is not None:
            self.at_k = density(k)
        if h is not None and k is not None:
            first = orthant(h, k, theta)
        elif h is not None:
            first = tail(h)
        elif k is not None:
            first = tail(k)
        else:
            first = torch.ones_like(theta)
        self._moments: dict[tuple[int, int], Tensor] = {(0, 0): first}

    def _given(self, here: Tensor, beyond: Tensor | None) -> _Line:
        """One variable at `here`, the law of the other."""
        if beyond is None:
            return _Line(self.r * here, self.sine, None)
        # k - r h = k - h + (1 - r) h: near correlation 1 the rounding of r h would be as large as the difference
        ahead = torch.where(self.r > 0, beyond - here + self.less * here, beyond - self.r * here)
        return _Line(self.r * here, self.sine, beyond, ahead / self.sine.clamp_min(1e-300))

    def moment(self, m: int, n: int) -> Tensor:
        """E x^m y^n over the corner, by Stein's lemma."""
        if (m, n) not in self._moments:
            self._moments[m, n] = self._stein(m, n)
        return self._moments[m, n]

    def _stein(self, m: int, n: int) -> Tensor:
        # E x F = E dF/dx + r E dF/dy with F = x^(m-1) y^n on the corner: the derivatives of the powers, and on the
        # edges x = h and y = k the density there times a moment of the other variable. At m = 0 the same of y.
        if m:
            along_h = self.at_h * self.y_at_h[n]
        else:
            along_h = self.at_h * self.y_at_h[n - 1]
        if m == 0:
            total = self.r * along_h
            if self.k is not None:
                total = total + self.k ** (n - 1) * self.at_k * self.x_at_k[0]
            if n > 1:
                return total + (n - 1) * self.moment(0, n - 2)
            return total
        if self.h is None:
            total = torch.zeros_like(self.r)
        else:
            total = self.h ** (m - 1) * along_h
        if m > 1:
            total = total + (m - 1) * self.moment(m - 2, n)
        if n:
            total = total + self.r * n * self.moment(m - 1, n - 1)
        if self.k is not None:
            total = total + self.r * self.k**n * self.at_k * self.x_at_k[m - 1]
        return total

    def of(self, f: Polynomial, mass1: float, g: Polynomial, mass2: float) -> Tensor:
        """E of two polynomials over the corner, and of point masses at its edges."""
        total = torch.zeros_like(self.r)
        for m, a in enumerate(f):
            for n, b in enumerate(g):
                if a and b:
                    total = total + a * b * self.s1**m * self.s2**n * self.moment(m, n)
        if mass1:
            total = total + mass1 * self._on_edge(g, self.s1, self.s2, self.at_h, self.y_at_h)
        if mass2:
            total = total + mass2 * self._on_edge(f, self.s2, self.s1, self.at_k, self.x_at_k)
        if mass1 and mass2 and self.h is not None and self.k is not None:
            spread = (self.s1 * self.s2).abs() * self.sine
            z = self._given(self.h, self.k).z
            assert z is not None
            # the joint density at the corner: of u at its kink, times that of v given u
            at_both = self.at_h * density(z) / torch.where(spread > 0, spread, torch.ones_like(spread))
            total = total + mass1 * mass2 * torch.where(spread > 0, at_both, torch.zeros_like(spread))
        return total

    def _on_edge(self, p: Polynomial, here: Tensor, other: Tensor, at: Tensor, moments: list[Tensor]) -> Tensor:
        sums = sum((c * other**n * moments[n] for n, c in enumerate(p) if c), torch.zeros_like(other))
        return torch.where(here != 0, at / torch.where(here != 0, here.abs(), torch.ones_like(here)), here) * sums
