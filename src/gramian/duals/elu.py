r"""The exact dual of ELU, CELU and SELU: one smooth integral over the angle, of scaled error functions.

In $U = \beta u$, with variances $s_i^2$, covariance k, angle $\vartheta$, and $f(x) = e^x 1[x < 0]$, the function is
$A\,\max(U, 0) + B\,(f(U) - 1[U < 0])$. Its moments are bivariate normal probabilities with shifted means times
exponentials (Tsuchida et al. 2021, arXiv:2002.08517), which overflow and cancel. By Price's theorem
$G = E f(U) f(V)$ has $\partial_k G = G - g$ with $g = E f(U)\delta(V) + E \delta(U) f(V) - E \delta(U)\delta(V)$, so

$G(\vartheta) = e^{k - k_0} G(\vartheta_0) - \int_{\vartheta_0}^\vartheta e^{k - \kappa}\, w\,d\tau$

at $\kappa = s_1 s_2 \cos\tau$, $w = (1 - \pi R_1 - \pi R_2) / 2\pi$ and
$R_i = s_i \sin\tau\ \mathrm{erfcx}(s_i \sin\tau / \sqrt 2) / \sqrt{2\pi}$,
from $\vartheta_0$ = 0 or a right angle, whose G is known. Nothing overflows, and the integrand is analytic at every
angle, also where inputs are equal, so that Gauss's rule converges exponentially.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.duals.angle import area_and_angle
from gramian.duals.closed_form import Slope
from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.quadrature import legendre

INTEGRAND_VALUES_HELD = 2**16  # integrand's values held at once
ROOT_2_PI = math.sqrt(2 * math.pi)
# (largest standard deviation, nodes)
NODES_BY_DEVIATION = ((0.5, 12), (2.0, 20), (8.0, 32), (16.0, 64), (32.0, 128), (64.0, 256))


@dataclass(frozen=True)
class Bent:
    """`right` max(U, 0) + `left` (e^U - 1) below 0, of U = `rate` u."""

    right: float
    left: float
    rate: float

    def values(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Kernel and slope's kernel at `(q1, k, q2)` and its gaps; None at standard deviations above 64."""
        p, dtype = _parts(self.rate, q1, k, q2, gap, opposite), k.dtype
        if p is None:
            return None
        return (self._kernel(p).to(dtype), self.rate**2 * self._slopes(p).to(dtype))

    def mean(self, q: Tensor) -> Tensor:
        """E of the function."""
        s = self.rate * safe_sqrt(q)
        # E max(U, 0) = s / sqrt(2 pi), and E f(U) - P(U < 0) = E f(U) - 1/2
        return self.right * s / ROOT_2_PI + self.left * half_less(s)

    def mean_slope(self, q: Tensor) -> Tensor:
        """E of its slope."""
        slope = self.right / 2 + self.left * half(self.rate * safe_sqrt(q))
        return self.rate * torch.where(q > 0, slope, self.left)

    def _kernel(self, p: EluExpectations) -> Tensor:
        a, b = self.right, self.left
        # (A ramp(U) + B bend(U)) (A ramp(V) + B bend(V)), multiplied out; bend(U) = f(U) - 1[U < 0].
        ramps = (p.area + (math.pi - p.theta) * p.k) / (2 * math.pi)
        mixed = _ramp_with_bend(p.s1, p.s2, p.k, p.sine, p.on_f) + _ramp_with_bend(p.s2, p.s1, p.k, p.sine, p.f_on)
        kernel = a * a * ramps + a * b * mixed + b * b * p.below
        return torch.where((p.s1 > 0) & (p.s2 > 0), kernel, torch.zeros_like(kernel))

    def _slopes(self, p: EluExpectations) -> Tensor:
        a, b = self.right, self.left
        # f' = f - delta, and -1[U < 0] has the slope delta: the masses cancel, and the function's slope is A 1[U > 0] +
        # B f(U).
        on = (math.pi - p.theta) / (2 * math.pi)
        slopes = a * a * on + a * b * (p.on_f + p.f_on) + b * b * p.f_f
        one, two = (torch.where(s > 0, a / 2 + b * half(s), b) for s in (p.s1, p.s2))
        return torch.where((p.s1 > 0) & (p.s2 > 0), slopes, one * two)  # at 0 torch's slope is that below

    def slopes(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Slope, Slope]:
        r"""From $\phi'' = (A - B)\,\delta + B f$ by Stein's lemma and Price's theorem."""
        p = _parts(self.rate, q1, k, q2, gap, opposite)
        assert p is not None
        a, b, rate = self.right, self.left, self.rate
        q1, q2 = p.s1 * p.s1, p.s2 * p.s2  # of U and V
        at1, at2 = (torch.where(s > 0, 1 / (ROOT_2_PI * s), torch.zeros_like(s)) for s in (p.s1, p.s2))  # E delta
        m1, m2 = half(p.s1), half(p.s2)
        d_f, f_d = at1 * half(p.s2 * p.sine), at2 * half(p.s1 * p.sine)  # E delta(U) f(V), E f(U) delta(V)
        density = torch.where(p.area > 0, 1 / (2 * math.pi * p.area), torch.zeros_like(p.area))
        slope = self._slopes(p)

        def steep(q: Tensor, s: Tensor, at_0: Tensor, m: Tensor, f_on: Tensor, ramp: Tensor, image: Tensor) -> Tensor:
            """E U phi'(U) phi(V)."""
            # Stein: q E phi''(U) phi(V) + k E phi'(U) phi'(V). `with_f` is E f(U) phi(V), where the part of max(V, 0)
            # over U < 0 is gap E delta(U) / 2.
            with_f = a * (ramp + p.gap * at_0 / 2) + b * (p.f_f - m + f_on)
            return q * ((a - b) * at_0 * image + b * with_f) + p.k * slope

        ramp1, ramp2 = (
            _ramp_with_bend(*t) for t in ((p.s2, p.s1, p.k, p.sine, p.f_on), (p.s1, p.s2, p.k, p.sine, p.on_f))
        )
        image1, image2 = (a * s * p.sine / ROOT_2_PI + b * half_less(s * p.sine) for s in (p.s2, p.s1))
        kernel = Slope(
            rate**2 * slope,
            steep(q1, p.s1, at1, m1, p.f_on, ramp1, image1),
            steep(q2, p.s2, at2, m2, p.on_f, ramp2, image2),
        )
        # U delta(U) = 0, so that of U phi''(U) only B U f(U) is left; Stein's lemma with f' = f - delta does the rest.
        bend = (a - b) ** 2 * density + (a - b) * b * (d_f + f_d) + b * b * p.f_f
        steep1 = b * (a * (q1 * (p.f_on - at1 / 2) + p.k * f_d) + b * (q1 * (p.f_f - d_f) + p.k * (p.f_f - f_d)))
        steep2 = b * (a * (q2 * (p.on_f - at2 / 2) + p.k * d_f) + b * (q2 * (p.f_f - f_d) + p.k * (p.f_f - d_f)))
        return kernel, Slope(rate**4 * bend, rate**2 * steep1, rate**2 * steep2)


@dataclass(frozen=True)
class EluExpectations:
    """Expectations of U > 0, f and delta at each pair; the second letter is of V."""

    s1: Tensor
    s2: Tensor
    k: Tensor
    gap: Tensor  # s1 s2 - k
    theta: Tensor
    area: Tensor  # s1 s2 sin(theta)
    sine: Tensor
    f_f: Tensor  # E f(U) f(V)
    below: Tensor  # E (f(U) - 1)(f(V) - 1) where both are below 0
    on_f: Tensor  # E 1[U > 0] f(V)
    f_on: Tensor


def half(s: Tensor) -> Tensor:
    """E f(V)."""
    return torch.special.erfcx(s / math.sqrt(2)) / 2


def half_less(s: Tensor) -> Tensor:
    """E f(V) - 1/2, with all digits at small s."""
    t = s / math.sqrt(2)
    # erfcx(t) - 1 cancels at small t; it is e^(t^2) erfc(t) - 1 = expm1(t^2) erfc(t) - erf(t)
    near = torch.expm1(t.clamp(max=1).square()) * torch.erfc(t) - torch.erf(t)
    return torch.where(t < 0.5, near, torch.special.erfcx(t) - 1) / 2


def _ramp_with_bend(s1: Tensor, s2: Tensor, k: Tensor, sine: Tensor, on_f: Tensor) -> Tensor:
    """E max(U, 0) (f(V) - 1[V < 0]), by Stein's lemma."""
    # E U g = s1^2 E dg/dU + k E dg/dV of g = 1[U > 0] bend(V). Given U = 0, V has the deviation s2 sin(theta).
    return s1 * half_less(s2 * sine) / ROOT_2_PI + k * on_f


def _parts(
    rate: float, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None
) -> EluExpectations | None:
    """The parts for pairs of shapes that broadcast, in float64; None where standard deviations are too large."""
    few = 8 * torch.finfo(k.dtype).eps
    q1, k, q2 = torch.broadcast_tensors(*(rate**2 * t.detach().double() for t in (q1, k, q2)))
    s1, s2 = safe_sqrt(q1), safe_sqrt(q2)
    if k.numel():
        largest = float(torch.maximum(s1.amax(), s2.amax()))
    else:
        largest = 0.0
    nodes = next((count for reach, count in NODES_BY_DEVIATION if largest <= reach), None)
    if nodes is None:
        return None
    known, other = (None if t is None else rate**2 * t.detach().double() for t in (gap, opposite))
    area, theta = area_and_angle(q1, k, q2, known, few, other)
    s = s1 * s2
    sine = area / torch.where(s > 0, s, torch.ones_like(s))
    # s - k = s (1 - cos theta), without the subtraction
    gap = 2 * s * torch.sin(theta / 2).square()
    flat = [t.reshape(-1) for t in (s1, s2, theta)]
    chunks = zip(*(t.split(max(1, INTEGRAND_VALUES_HELD // nodes)) for t in flat), strict=True)
    by_chunk = [_integrals(one, two, angle, nodes) for one, two, angle in chunks]
    integrals = (torch.cat(t).reshape(k.shape) for t in zip(*by_chunk, strict=True))
    return EluExpectations(s1, s2, k, gap, theta, area, sine, *integrals)


def _integrals(s1: Tensor, s2: Tensor, theta: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`f_f`, `below`, `on_f`, `f_on` of a list of pairs."""
    s = s1 * s2
    right_angle = (s <= 1) | (theta > math.pi / 2)  # from there exponentials neither grow nor cancel
    start = torch.where(right_angle, math.pi / 2, 0.0)
    x, weight = legendre(nodes, s.device)
    span = ((theta - start) / 2)[:, None]
    tau = start[:, None] + span * (1 + x)
    r1, r2 = (_reduced(t[:, None] * torch.sin(tau)) for t in (s1, s2))
    w = (1 / (2 * math.pi) - (r1 + r2) / 2) * weight
    # e^(k - kappa) - 1, with cos(theta) - cos(tau) as a product of sines
    lower = torch.expm1(-2 * s[:, None] * torch.sin((theta[:, None] + tau) / 2) * torch.sin((theta[:, None] - tau) / 2))
    with_expm1, alone = (span[:, 0] * t for t in ((lower * w).sum(1), w.sum(1)))
    i1, i2 = (span[:, 0] * (r @ weight) for r in (r1, r2))
    m1, m2, l1, l2 = half(s1), half(s2), half_less(s1), half_less(s2)
    # G at the start: of independent values at a right angle; at angle 0 both are one z, with e^((s1 + s2) z).
    first = torch.where(right_angle, m1 * m2, half(s1 + s2))
    first_below = torch.where(right_angle, l1 * l2, half_less(s1 + s2) - l1 - l2)
    k_less = torch.expm1(torch.where(right_angle, s * torch.cos(theta), -2 * s * torch.sin(theta / 2).square()))
    f_f = first + k_less * first - with_expm1 - alone
    # The integral of w alone is missing here: it cancels what the angle changes in E f(U) 1[V < 0], E 1[U < 0] f(V) and
    # E 1[U < 0] 1[V < 0].
    below = first_below + k_less * first - with_expm1
    turn = (theta - start) / (2 * math.pi)
    # E 1[U > 0] f(V): at a right angle a product, at angle 0 zero; its slope in the angle is 1 / 2 pi - R_2 / 2
    on_f = torch.where(right_angle, m2 / 2, 0.0) + turn - i2 / 2
    f_on = torch.where(right_angle, m1 / 2, 0.0) + turn - i1 / 2
    return f_f, below, on_f, f_on


def _reduced(t: Tensor) -> Tensor:
    return t * torch.special.erfcx(t / math.sqrt(2)) / ROOT_2_PI
