r"""Derivatives of $E\,f(u)g(v)$ of any order, by Price's theorem, also where u and v are equal or opposite.

With $(u, v) \sim N(0, [[q_1, k], [k, q_2]])$, $s = \sqrt{q_1 q_2}$, and the gaps $g = s - k$, $o = s + k$ (Price 1958,
'A useful theorem for nonlinear devices having Gaussian inputs'):

    dM/dk = E f'(u) g'(v),   2 q1 dM/dq1 = E u f'(u) g(v) - k E f'(u) g'(v)   at fixed q1 or k.

A function with a kink makes M a function of the root of the gap, whose derivatives by k and by the variances are
infinite one by one where g is zero. At fixed *gap* they are not:

    dM/dg = -E f'g',   2 q1 dM/dq1 = E u f'(u) g(v) + g E f'g'   at fixed g;   the same of o with the other signs.

So acute pairs are differentiated in (q1, q2, g), obtuse ones in (q1, q2, o). As g has no slope where inputs are equal,
what is infinite there (the derivative by g of a kernel whose functions jump) counts first in a second derivative, and
that one is infinite in truth: $E\,\phi'(u)\phi'(v)$ of a ReLU falls like the distance of the inputs. It is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.quadrature import FARTHEST_NODE, nodes_between, rule
from gramian.errors import NoLimit

PAIRS_AT_ONCE = 2**14  # pairs whose edges are integrated at once
ROOT_2_PI = math.sqrt(2 * math.pi)
STEP_BESIDE_A_KINK = 1e-7  # its limits are extrapolated from one, two and three of these
Slopes = tuple[Tensor, Tensor, Tensor]  # E f'g', E u f'(u) g(v), E f(u) v g'(v)


class PairCovariances(NamedTuple):
    """Pairs, in float64; the fields broadcast."""

    q1: Tensor
    k: Tensor
    q2: Tensor
    gap: Tensor
    opposite: Tensor

    @property
    def acute(self) -> Tensor:
        """Which pairs are differentiated at fixed gap, the others at fixed `opposite`."""
        return self.k >= 0

    @property
    def area(self) -> Tensor:
        """Root of q1 q2 - k^2, as a function of the variances and one of the gaps."""
        # q1 q2 - k^2 = (s - k)(s + k) = g (2 s - g), and the same of o
        s = safe_sqrt(self.q1) * safe_sqrt(self.q2)
        small = torch.where(self.acute, self.gap, self.opposite)
        return safe_sqrt(small * (2 * s - small))

    @property
    def touching(self) -> Tensor:
        """Where u and v are multiples of each other."""
        return (torch.where(self.acute, self.gap, self.opposite) == 0) & (self.q1 > 0) & (self.q2 > 0)


class Kernel(Protocol):
    """An expectation of two functions."""

    def value(self, at: PairCovariances) -> Tensor:
        """Its numbers."""

    def slopes(self, at: PairCovariances) -> Slopes:
        """What its gradient is made of, differentiable in turn."""

    def infinite(self, at: PairCovariances) -> Tensor | None:
        """Where its slope by the gap is; None for nowhere."""


def slope(phi: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The derivative of an elementwise function, differentiable where `x` is."""
    with torch.enable_grad():
        if x.requires_grad:
            at = x
        else:
            at = x.detach().requires_grad_()
        y = phi(at)
        if not y.requires_grad:
            return torch.zeros_like(x)
        (d,) = torch.autograd.grad(y.sum(), at, create_graph=x.requires_grad, allow_unused=True)
    return torch.zeros_like(x) if d is None else d


def wanted(*tensors: Tensor | None) -> bool:
    """Whether a gradient will be asked for."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def pairs(
    q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None = None, opposite: Tensor | None = None
) -> PairCovariances:
    """The gaps that are not given are subtracted, and zero where rounding alone can have made them."""
    few = 8 * torch.finfo(k.dtype).eps
    q1, k, q2 = (t.double() for t in (q1, k, q2))
    s = safe_sqrt(q1) * safe_sqrt(q2)

    def known(given: Tensor | None, difference: Tensor) -> Tensor:
        if given is not None:
            return given.double()
        # the value is rounded to zero, the derivatives stay those of the difference
        value = torch.where(difference > few * s, difference, torch.zeros_like(difference))
        return difference + (value - difference).detach()

    return PairCovariances(q1, k, q2, known(gap, s - k), known(opposite, s + k))


def expectation_of(kernel: Kernel, at: PairCovariances) -> Tensor:
    """The kernel at these pairs, differentiable as often as one likes."""
    return _Price.apply(*at, kernel)


class _Price(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor, kernel: Kernel) -> Tensor:
        ctx.save_for_backward(q1, k, q2, gap, opposite)
        ctx.kernel = kernel
        return kernel.value(PairCovariances(q1, k, q2, gap, opposite))

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        at = PairCovariances(*ctx.saved_tensors)
        return *gradient(at, [(grad[0], ctx.kernel.slopes(at), ctx.kernel)]), None


def gradient(at: PairCovariances, parts: list[tuple[Tensor, Slopes, Kernel | None]]) -> tuple[Tensor, ...]:
    """By each field of `at`, of sums of kernels with these cotangents."""
    acute, zero = at.acute, torch.zeros_like(at.gap)
    # 2 q1 dM/dq1 is E u f'(u) g(v) + g E f'g' at fixed gap, and - o E f'g' at fixed opposite
    beside = torch.where(acute, at.gap, -at.opposite)
    total: list[Tensor] = [zero, zero, zero, zero]
    for cotangent, (d, steep1, steep2), kernel in parts:
        c = cotangent.double()
        # dM/dg = -E f'g' where k = s - g, dM/do = E f'g' where k = o - s
        to_gap, to_opposite = torch.where(acute, -c * d, zero), torch.where(acute, zero, c * d)
        if kernel is not None and torch.is_grad_enabled():
            # this gradient is finite, but its own derivative by the gap is not: a second backward pass refuses there
            infinite = kernel.infinite(at)
            if infinite is not None:
                infinite = infinite & (c != 0)
                to_gap = _Infinite.apply(to_gap, infinite & acute)
                to_opposite = _Infinite.apply(to_opposite, infinite & ~acute)
        steep = (_half_over(s + beside * d, q) for s, q in ((steep1, at.q1), (steep2, at.q2)))
        terms = (*(c * t for t in steep), to_gap, to_opposite)
        total = [before + more for before, more in zip(total, terms, strict=True)]
    by1, by2, by_gap, by_opposite = total
    gradients = (by1, torch.zeros_like(at.k), by2, by_gap, by_opposite)
    return tuple(t.sum_to_size(field.shape) for t, field in zip(gradients, at, strict=True))


def _half_over(numerator: Tensor, q: Tensor) -> Tensor:
    return torch.where(q > 0, numerator / (2 * torch.where(q > 0, q, torch.ones_like(q))), torch.zeros_like(numerator))


class _Infinite(torch.autograd.Function):
    """Numbers whose own derivative is infinite at some pairs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, infinite: Tensor) -> Tensor:
        ctx.count = int(infinite.sum())
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.count:
            raise NoLimit(
                f"A second derivative of this kernel is infinite at {ctx.count} pairs of inputs that are equal, or "
                "opposite, up to a factor.",
                why="below an activation with a kink the NTK, and below one with a jump the NNGP, falls like the "
                "distance of the inputs: at distance zero it has a corner",
                fix="arch.nngp, whose second derivatives are finite for activations without jumps; pairs that are "
                "apart; or a smooth activation, such as nn.GELU or nn.Softplus",
            )
        return grad[0], None


def density(at: PairCovariances) -> Tensor:
    """E delta(u) delta(v); zero where it is infinite."""
    area = at.area
    some = area > 0
    return torch.where(some, 1 / (2 * math.pi * torch.where(some, area, torch.ones_like(area))), torch.zeros_like(area))


@dataclass(frozen=True)
class Angle:
    """Between u and v: -2 pi times E 1[u > 0] 1[v > 0], but for a constant."""

    def value(self, at: PairCovariances) -> Tensor:
        return torch.atan2(safe_sqrt(at.gap) * safe_sqrt(at.opposite), at.k + 0.0)

    def slopes(self, at: PairCovariances) -> Slopes:
        # theta = pi - 2 pi E 1[u > 0] 1[v > 0], the slope of the step is delta, and u delta(u) = 0
        return -2 * math.pi * density(at), torch.zeros_like(at.gap), torch.zeros_like(at.gap)

    def infinite(self, at: PairCovariances) -> Tensor | None:
        return at.touching


@dataclass(frozen=True)
class Excess:
    """By how much E relu(u) relu(v) is more than k / 2."""

    def value(self, at: PairCovariances) -> Tensor:
        area = safe_sqrt(at.gap) * safe_sqrt(at.opposite)
        theta = torch.atan2(area, at.k + 0.0)
        return torch.addcmul(area / (2 * math.pi), theta / (2 * math.pi), at.k, value=-1)

    def slopes(self, at: PairCovariances) -> Slopes:
        # u relu'(u) = relu(u), and k / 2 is its own steep part as well; in k the slope is E 1[u > 0] 1[v > 0] - 1/2
        own = expectation_of(self, at)
        return -expectation_of(Angle(), at) / (2 * math.pi), own, own

    def infinite(self, at: PairCovariances) -> Tensor | None:
        return None


@dataclass(frozen=True, eq=False)
class Broken:
    """A function that is smooth between its kinks, and point masses there.

    Args:
        f: the function; differentiable between the kinks.
        kinks: in increasing order.
        masses: one for each kink.
    """

    f: Callable[[Tensor], Tensor]
    kinks: tuple[float, ...]
    masses: tuple[float, ...]

    @cached_property
    def slope(self) -> Broken:
        """Of the function without its masses, whose jumps become masses."""
        return Broken(partial(slope, self.f), self.kinks, tuple(map(self._jump, self.kinks)))

    @cached_property
    def times_x(self) -> Broken:
        return Broken(
            # x delta(x - a) = a delta(x - a)
            lambda x: x * self.f(x),
            self.kinks,
            tuple(a * m for a, m in zip(self.kinks, self.masses, strict=True)),
        )

    @cached_property
    def plain(self) -> Broken:
        """Without its masses."""
        return Broken(self.f, self.kinks, (0.0,) * len(self.kinks))

    def _jump(self, a: float) -> float:
        h = STEP_BESIDE_A_KINK * (1 + abs(a))
        at = torch.tensor([a + sign * n * h for sign in (1, -1) for n in (1, 2, 3)], dtype=torch.float64)
        with torch.no_grad():
            y = self.f(at).detach()
        # both limits at the kink, from the parabola through three points on each side
        above, below = (3 * side[0] - 3 * side[1] + side[2] for side in (y[:3], y[3:]))
        jump = float(above - below)
        if abs(jump) < 1e-9 * (1 + float(y.abs().max())):
            return 0.0
        return jump


@dataclass(frozen=True, eq=False)
class Pair:
    """E f(u) g(v) of two functions without masses, by quadrature with so many nodes between the splits."""

    f: Broken
    g: Broken
    splits: tuple[float, ...]
    nodes: int

    def value(self, at: PairCovariances) -> Tensor:
        with torch.no_grad():
            given = {"gap": at.gap, "opposite": at.opposite}
            expected = rule(self.f.kinks)
            return expected(self.f.f, self.g.f, at.q1, at.k, at.q2, self.splits, self.nodes, **given)

    def slopes(self, at: PairCovariances) -> Slopes:
        f, g = self.f.slope, self.g.slope
        return (
            self._of(f, g, at),
            self._of(f.times_x, self.g, at),
            self._of(self.f, g.times_x, at),
        )

    def infinite(self, at: PairCovariances) -> Tensor | None:
        f, g = self.f.slope, self.g.slope
        places = None
        for a, m in zip(f.kinks, f.masses, strict=True):
            for b, n in zip(g.kinks, g.masses, strict=True):
                if m and n:
                    # here v = (k / q1) u, so that u reaches a where v reaches b
                    meet = (b * at.q1 - a * at.k).abs() <= 1e-9 * (abs(a) + abs(b)) * at.q1
                    if places is None:
                        places = at.touching & meet
                    else:
                        places = places | (at.touching & meet)
        return places

    def _of(self, f: Broken, g: Broken, at: PairCovariances) -> Tensor:
        """Of functions with masses."""
        # (function + masses)(function + masses), multiplied out: smooth parts, each mass with the other function, and
        # mass with mass
        total = expectation_of(Pair(f.plain, g.plain, self.splits, self.nodes), at)
        other = PairCovariances(at.q2, at.k, at.q1, at.gap, at.opposite)
        for here, there, where in ((f, g, at), (g, f, other)):
            for a, m in zip(here.kinks, here.masses, strict=True):
                if m:
                    total = total + m * _edge(a, there.plain, where, self.splits, self.nodes)
        for a, m in zip(f.kinks, f.masses, strict=True):
            for b, n in zip(g.kinks, g.masses, strict=True):
                if m and n:
                    total = total + m * n * _density_at(a, b, at)
        return total


def _given(a: float, at: PairCovariances) -> tuple[Tensor, Tensor, Tensor]:
    """Density of u at a, and mean and standard deviation of v there."""
    # k as a function of the variances and of the gap by which the derivatives are taken
    s = safe_sqrt(at.q1) * safe_sqrt(at.q2)
    k = torch.where(at.acute, s - at.gap, at.opposite - s)
    q = torch.where(at.q1 > 0, at.q1, torch.ones_like(at.q1))
    here = torch.where(at.q1 > 0, torch.exp(-a * a / (2 * q)) / torch.sqrt(2 * math.pi * q), torch.zeros_like(q))
    return here, a * k / q, at.area / q.sqrt()


def _edge(a: float, g: Broken, at: PairCovariances, splits: tuple[float, ...], nodes: int) -> Tensor:
    """E delta(u - a) g(v), as an explicit function of the pair; where v is given by u, the mean of both sides."""
    here, mean, spread = _given(a, at)
    most = max((abs(t) for t in splits), default=0.0)  # so wide that nodes beside a kink are not rounded onto it
    least = (1e-10 * (safe_sqrt(at.q2) + most)).detach().clamp_min(1e-300)
    spread = torch.where(spread > least, spread, least)
    for b in splits:  # where u gives v, rounding must not decide on which side of a kink v is
        off = (b - mean).detach()
        mean = mean + torch.where((spread <= least) & (off.abs() <= 1e-11 * (abs(a) + abs(b))), off, 0.0)
    mean, spread = torch.broadcast_tensors(mean, spread)
    places, parts = mean.new_tensor(splits), []
    for m, t in zip(mean.reshape(-1).split(PAIRS_AT_ONCE), spread.reshape(-1).split(PAIRS_AT_ONCE), strict=True):
        z, weight = nodes_between((places - m[:, None]) / t[:, None], nodes, FARTHEST_NODE)
        parts.append((g.f(m[:, None, None] + t[:, None, None] * z) * weight).sum((-1, -2)))
    return here * torch.cat(parts).reshape(mean.shape)


def _density_at(a: float, b: float, at: PairCovariances) -> Tensor:
    """E delta(u - a) delta(v - b); zero where u gives v."""
    here, mean, spread = _given(a, at)
    some = spread > 0
    t = torch.where(some, spread, torch.ones_like(spread))
    return torch.where(some, here * torch.exp(-(((b - mean) / t) ** 2) / 2) / (ROOT_2_PI * t), torch.zeros_like(t))
