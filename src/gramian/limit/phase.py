"""Order and chaos: what depth does to variances and correlations when one activation and one affine law repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from scipy.optimize import brentq

from gramian.arch import ops
from gramian.arch.law import plain
from gramian.arch.ops import Activation, Affine
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.structure import Structure

ON_POSITIONS = (ops.AdaptivePool, ops.Aggregate, ops.Average, ops.AveragePool, ops.AxisMaps, ops.Permute, ops.Reshape,
                ops.Resize, ops.Single, ops.Take)  # fmt: skip
CRITICAL = 1e-8  # |chi_1 - 1| below which the phase is called critical: roots are found to about 1e-10
VARIANCES = [1e-12 * 4.0**k for k in range(31)]  # 1e-12 to 1.2e6: where fixed points are looked for


@dataclass(frozen=True)
class Phase:
    r"""The phase of a deep network of one activation and one affine law.

    Args:
        activation: its name.
        sigma_w: of the affine layers above this activation.
        sigma_b: of the same.
        variance: the smallest stable fixed point q*; inf where variances grow without bound, nan where every one is a
            fixed point.
        chi_1: by how much a layer stretches the squared distance of close inputs, and a squared gradient on its way
            back: $\sigma_w^2 E\,\phi'(\sqrt{q^*} z)^2$.
        correlation: the fixed point c* that the correlation of two inputs approaches; nan where it depends on them,
            because their variance dies out and the activation acts as a linear map.
        variance_length: xi_q, layers in which $|q - q^*|$ shrinks by e; inf where it does not, or by a power.
        correlation_length: xi_c, the same of $|c - c^*|$.
        phase: "ordered" (chi_1 < 1: gradients vanish), "critical", or "chaotic" (chi_1 > 1: they explode).
        critical_sigma_w: the sigma_w at which chi_1 = 1 with this sigma_b; nan if none was found.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    variance: float
    chi_1: float
    correlation: float
    variance_length: float
    correlation_length: float
    phase: str
    critical_sigma_w: float

    def __str__(self) -> str:
        q, c, critical = f"{self.variance:.4g}", f"{self.correlation:.4g}", f"{self.critical_sigma_w:.4g}"
        if math.isfinite(self.variance):
            q += ", " + _reached(self.variance_length)
        if c == "nan":
            c = "that of the inputs"
        else:
            c = f"{c}, {_reached(self.correlation_length)}"
        return "\n".join(
            (
                f"{self.activation}, sigma_w {self.sigma_w:.4g}, sigma_b {self.sigma_b:.4g}: {self.phase}",
                f"  chi_1             {self.chi_1:.4g}",
                f"  variance          {'any' if q == 'nan' else q}",
                f"  correlation       {c}",
                f"  critical sigma_w  {'none found' if critical == 'nan' else critical}",
            )
        )


def _reached(length: float) -> str:
    if math.isfinite(length):
        return f"e times closer in {length:.3g} layers"
    return "closer by a power of the depth"


def phases(arch: Structure) -> tuple[Phase, ...]:
    """The phase of each distinct (activation, sigma_w, sigma_b) that repeats; see `Architecture.phase`."""
    seen: dict[tuple[Activation, float, float], str] = {}
    for number, step in enumerate(arch.steps):
        masked = isinstance(step.op, ops.Masked) and _keeps(arch, step.inputs[1])
        if step.data or step.op.random or masked or isinstance(step.op, (Activation, *ON_POSITIONS)):
            if isinstance(step.op, Affine) and arch.hidden(number):
                below = _activation_below(arch, step.inputs[0])
                if below is not None:
                    seen.setdefault((below, step.op.sigma_w, step.op.sigma_b), step.where)
            continue
        raise NoLimit(
            f"{step.op.name} is not a part of the recursion that a phase is about.",
            where=step.where,
            why="a phase is that of one activation and one affine layer, repeated; with sums and normalizations the "
            "variance obeys another recursion",
            fix="architecture(...).phase() of the branch alone, without skips and normalizations",
        )
    if not seen:
        raise NoLimit(
            "No hidden affine layer of this network has an activation below it.",
            where=arch.steps[arch.output].where,
            why="a phase is about depth, and nothing repeats here",
            fix="a module with two hidden layers or more: Linear, activation, Linear, activation, Linear",
        )
    each_phase = []
    for key, where in seen.items():
        try:
            each_phase.append(_phase(*key))
        except NoLimit as error:
            raise NoLimit(error.what, where=where, why=error.why, fix=error.fix) from None
    return tuple(each_phase)


def _keeps(arch: Structure, number: int) -> bool:
    """Whether numbers of the inputs are a mask, or divide by a length: then what is kept obeys the recursion."""
    if number >= 0:
        step = arch.steps[number]
    else:
        step = None
    if step is None:
        return arch.inputs.leaves[-1 - number].kind != "float"
    if isinstance(step.op, ops.Factor) and step.op.how == "inverse":
        return True
    if isinstance(step.op, ops.Computed) and step.op.dtype == torch.bool:
        return True
    return all(_keeps(arch, i) for i in step.inputs)


def _activation_below(arch: Structure, number: int) -> Activation | None:
    """The activation that a layer's input comes from, through ops on positions."""
    while number >= 0:
        op: ops.Op = arch.steps[number].op
        if isinstance(op, Activation):
            return op
        if op.random:
            return None
        number = arch.steps[number].inputs[0]
    return None


def _phase(op: Activation, sigma_w: float, sigma_b: float) -> Phase:
    sigma_w, sigma_b = plain(sigma_w), plain(sigma_b)
    if op.jumps or isinstance(op, ops.Sign | ops.Heaviside):
        raise NoLimit(
            f"{op.name} jumps, so chi_1 is infinite: close inputs are pulled apart at once.",
            why="chi_1 is sigma_w^2 E phi'^2, and a jump has the square of a point mass for its part of phi'^2",
            fix="an activation without jumps, such as nn.Tanh or nn.Hardtanh in the place of torch.sign",
        )
    one = _Recursion(op, sigma_w, sigma_b)
    if one.ratio is not None:
        q, chi, c, slope_q, slope_c = one.homogeneous()
    else:
        q, chi, c, slope_q, slope_c = one.smooth()
    if chi < 1:
        name = "ordered"
    else:
        name = "chaotic"
    if abs(chi - 1) <= CRITICAL:
        name = "critical"
    return Phase(
        activation=f"{op.name} {op.describe()}".strip(),
        sigma_w=sigma_w,
        sigma_b=sigma_b,
        variance=q,
        chi_1=chi,
        correlation=c,
        variance_length=_length(slope_q),
        correlation_length=_length(slope_c),
        phase=name,
        critical_sigma_w=one.critical_sigma_w(),
    )


def _length(slope: float) -> float:
    """Layers in which `slope^layers` shrinks by e."""
    slope = abs(slope)
    if slope == 0 or math.isnan(slope):
        return slope
    # slope^l = e^-1 at l = -1 / log(slope)
    if slope >= 1:
        return math.inf
    return -1 / math.log(slope)


def _rounded(chi: float) -> float:
    """1 for what is critical, so that its length is infinite."""
    if abs(chi - 1) <= CRITICAL:
        return 1.0
    return chi


@dataclass(frozen=True)
class _Recursion:
    r"""$q \mapsto \sigma_w^2 E\,\phi(\sqrt q z)^2 + \sigma_b^2$, and the like for correlations."""

    op: Activation
    sigma_w: float
    sigma_b: float

    def duals(self, q: float, c: float = 1.0) -> tuple[float, float]:
        r"""$E\,\phi(u)\phi(v)$ and $E\,\phi'(u)\phi'(v)$ at variance q and correlation c."""
        at = torch.tensor(q, dtype=torch.float64)
        k, kdot = self.op.dual(at, c * at, at)
        return float(k), float(kdot)

    def step(self, q: float) -> float:
        return self.sigma_w**2 * self.duals(q)[0] + self.sigma_b**2

    def slope(self, q: float) -> float:
        r"""Derivative of `step`, $\sigma_w^2 E(\phi'^2 + \phi \phi'')$."""
        at = torch.tensor(q, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(self.op.dual(at, at, at)[0], at)
        return self.sigma_w**2 * float(grad)

    @property
    def ratio(self) -> float | None:
        r"""$E\,\phi^2 / q$ if it is the same for every q, as for ReLU; else None."""
        # three variances a factor 4 apart: a homogeneous function gives the same ratio up to rounding
        ratios = [self.duals(q)[0] / q for q in (0.25, 1.0, 4.0)]
        if max(ratios) - min(ratios) <= 1e-12 * ratios[1]:
            return ratios[1]
        return None

    def homogeneous(self) -> tuple[float, float, float, float, float]:
        r"""q*, chi_1, c* and the slopes, of $\phi(a x) = a\,\phi(x)$: nothing depends on the variance.

        A bias beside a bounded variance pulls correlations to 1 like chi_1^depth; else they go there by a power.
        """
        # phi(x) = x phi'(x) with phi' constant on each side of 0, so E phi^2 = q E phi'^2: q -> chi q + sigma_b^2.
        chi = self.sigma_w**2 * self.duals(1.0)[1]
        if self.sigma_b == 0:
            if chi < 1:
                q = 0.0
            else:
                q = math.inf
            if abs(chi - 1) <= CRITICAL:
                q = math.nan
            return q, chi, 1.0, _rounded(chi), 1.0
        if chi < 1 - CRITICAL:
            return self.sigma_b**2 / (1 - chi), chi, 1.0, chi, chi
        return math.inf, chi, 1.0, 1.0, 1.0

    def smooth(self) -> tuple[float, float, float, float, float]:
        """q*, chi_1, c* and the slopes, where they depend on the variance."""
        start = self.step(0.0)
        chi = self.sigma_w**2 * self.duals(0.0)[1]
        small = VARIANCES[16]
        if start == 0 and (chi < 1 - CRITICAL or (chi <= 1 + CRITICAL and self.step(small) <= small)):
            # phi(0) = 0 and no bias: small variances die out
            return 0.0, chi, math.nan, _rounded(chi), math.nan
        fixed_point, reached = _first_root(lambda q: q - self.step(q))
        if fixed_point is None:
            raise NoLimit(
                f"The variance under {self.op.name} with sigma_w {self.sigma_w:g}, sigma_b {self.sigma_b:g} has no "
                f"fixed point below {reached:.2g}.",
                why="it grows from layer to layer without bound, or to where the activation's dual can't be had",
                fix="a smaller sigma_w",
            )
        chi = self.sigma_w**2 * self.duals(fixed_point)[1]
        c = self.correlation(fixed_point, chi)
        if c < 1:
            slope_c = self.sigma_w**2 * self.duals(fixed_point, c)[1]
        else:
            slope_c = _rounded(chi)
        return fixed_point, chi, c, self.slope(fixed_point), slope_c

    def correlation(self, q: float, chi: float) -> float:
        """The stable fixed point; the map is convex in c on [0, 1], with slope chi_1 at its fixed point 1."""

        def change(c: float) -> float:
            return (self.sigma_w**2 * self.duals(q, c)[0] + self.sigma_b**2) / q - c

        if chi <= 1 + CRITICAL:
            return 1.0
        if change(0.0) <= 0:
            return 0.0
        # At 1 `change` is zero with slope chi - 1 > 0: just below it is negative, and as it is convex it has one root
        # before.
        near = next((1 - 4.0**-k for k in range(1, 24) if change(1 - 4.0**-k) < 0), None)
        if near is None:
            return 1.0
        return float(brentq(change, 0.0, near, xtol=1e-15, rtol=1e-14))

    def critical_sigma_w(self) -> float:
        r"""Where $\chi_1 = 1$: $\sigma_w^2 = 1 / E\,\phi'^2$ at the q with $\sigma_b^2 = q - \sigma_w^2 E\,\phi^2$."""
        if self.ratio is not None:
            return self.duals(1.0)[1] ** -0.5
        # at q = 0, phi(0) = 0 and no bias, chi_1 = sigma_w^2 phi'(0)^2
        k, kdot = self.duals(0.0)
        if k == 0 and self.sigma_b == 0:
            if kdot > 0:
                return kdot**-0.5
            return math.nan

        def missing(q: float) -> float:
            k, kdot = self.duals(q)
            if kdot == 0:  # a function that is 0 around 0, at a variance that never leaves there: k is 0 as well
                return q - self.sigma_b**2
            # sigma_w^2 = 1 / kdot put into q = sigma_w^2 E phi^2 + sigma_b^2
            return q - k / kdot - self.sigma_b**2

        q, _ = _first_root(missing)
        if q is None:
            return math.nan
        critical = self.duals(q)[1] ** -0.5
        # else q is no stable fixed point
        if replace(self, sigma_w=critical).slope(q) < 1:
            return critical
        return math.nan


def _first_root(f: Callable[[float], float]) -> tuple[float | None, float]:
    """The smallest q at which f rises through zero, None if it does not where f can be had; and the largest q tried."""
    before = (0.0, math.nan)
    for q in VARIANCES:
        try:
            here = f(q)
        except NoLimit:  # too steep for the quadrature
            break
        if before[1] < 0 <= here:
            return float(brentq(f, before[0], q, xtol=1e-18, rtol=1e-14)), q
        before = (q, here)
    return None, before[0]
