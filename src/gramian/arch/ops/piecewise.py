"""Activations that are smooth between known kinks (clamps, shrinks, ELU and its kin): closed forms, or quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Value, reads, value
from gramian.duals.angle import area_and_angle
from gramian.duals.closed_form import Closed, closed_dual
from gramian.duals.derivatives import Broken, Pair, expectation_of, pairs, slope, wanted
from gramian.duals.dual_table import table_for
from gramian.duals.elu import Bent
from gramian.duals.quadrature import FARTHEST_NODE, expectation, overlooks, product_expectation, rule
from gramian.duals.spline import Spline, cut
from gramian.errors import NoLimit

NODES_PER_PIECE = (16, 20, 24, 32, 48, 64, 96)
QUADRATURE_TOLERANCE = 4e-12  # of the integral, at every pair of a grid of variances and correlations
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946  # torch's
TRIED_CORRELATIONS = (-0.9999, -0.6, 0.3, 0.95, 0.9999, 1.0)


@dataclass(frozen=True)
class Piecewise(Activation):
    """A function that is smooth between its kinks, through quadrature whose error is estimated, and refused if large.

    A polynomial between the kinks has a closed form, which is used where it agrees with the quadrature.

    The values' expectation is differentiated by Price's theorem, so that gradients are right at equal inputs too. A
    function with jumps has in its NTK the derivative that torch computes: none at the jumps.
    """

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where the function or its derivatives jump, in increasing order."""
        raise NotImplementedError

    @property
    def splits(self) -> tuple[float, ...]:
        """Where the quadrature is divided: at the kinks, and where else the function bends sharply."""
        return self.kinks

    def slope(self, x: Tensor) -> Tensor:
        """The derivative as torch computes it, differentiable in turn."""
        return slope(self.phi, x)

    nonsmooth: ClassVar[bool] = True
    integrated: ClassVar[bool] = True
    form: ClassVar[str] = "quadrature between kinks, or a table; error below 1e-11"

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        return self._dual(q1, k, q2, None)

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return *self._dual(q1, k, q2, gap, opposite), None

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """By an integral over one variable, between kinks whose places move with q."""
        return self._own(self.phi, q), self._own(self.slope, q)

    def _own(self, f: Callable[[Tensor], Tensor], q: Tensor) -> Tensor:
        nodes = self._nodes(q, q)
        parts = [expectation(lambda x: f(x) ** 2, t, self.splits, nodes) for t in q.flatten().split(2**12)]
        return torch.cat(parts).reshape(q.shape)

    def _dual(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.kinks and not wanted(q1, k, q2, gap, opposite):
            at_zero = all(t == 0 for t in self.kinks)
            table = table_for(self._integrals, self, q1, q2, k.numel(), kinks_at_zero=at_zero)
            if table is not None:
                return table(q1, area_and_angle(q1, k, q2, gap, opposite=opposite)[1], q2)
        return self._integrals(q1, k, q2, gap, opposite)

    @property
    def closed(self) -> Closed | None:
        """The closed form, where there is one."""
        return _spline(self)

    def untabulated_dual(self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrals(q1, k, q2, gap)

    def _integrals(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        form, duals = self.closed, None
        if form is not None and (not isinstance(form, Spline) or _agrees(self, *_octaves(q1, q2, zeros=False))):
            duals = closed_dual(form, lambda: self._pairs(self._nodes(q1, q2)), q1, k, q2, gap, opposite)
        return self._quadrature(q1, k, q2, gap, opposite) if duals is None else duals

    def _quadrature(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        kernel, slopes = self._pairs(self._nodes(q1, q2))
        return self._expected(kernel, q1, k, q2, gap, opposite), self._expected(slopes, q1, k, q2, gap, opposite)

    def _expected(
        self,
        kernel: Pair,
        q1: Tensor,
        k: Tensor,
        q2: Tensor,
        gap: Tensor | None = None,
        opposite: Tensor | None = None,
    ) -> Tensor:
        if wanted(q1, k, q2, gap, opposite):
            return expectation_of(kernel, pairs(q1, k, q2, gap, opposite)).to(k.dtype)
        f, g = kernel.f, kernel.g
        return rule(f.kinks)(f.f, g.f, q1, k, q2, kernel.splits, kernel.nodes, gap=gap, opposite=opposite)

    def _pairs(self, nodes: int) -> tuple[Pair, Pair]:
        """Kernel and slope's kernel by quadrature, as torch has the slope: without what jumps would add."""
        f, slope = _broken(self)
        return Pair(f, f, self.splits, nodes), Pair(slope, slope, self.splits, nodes)

    @property
    def jumps(self) -> bool:  # type: ignore[override]
        """Whether the function itself jumps at a kink."""
        return _jumps(self)

    def _covariance(self, k: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
        if self.closed is None:
            return self._expected(self._pairs(self._nodes(*q))[0], q[0], k, q[1])
        return self._integrals(q[0], k, q[1], None)[0]

    def mean(self, q: Tensor) -> Tensor | None:
        return expectation(self.phi, q, self.splits, self._nodes(q, q))

    def mean_slope(self, q: Tensor) -> Tensor:
        return expectation(self.slope, q, self.splits, self._nodes(q, q))

    def scale_dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        steep = _broken(self)[1].times_x
        return self._expected(Pair(steep, steep, self.splits, self._nodes(q1, q2)), q1, k, q2)

    def own_scale(self, q: Tensor) -> Tensor:
        def squared(x: Tensor) -> Tensor:
            return (x * self.slope(x)) ** 2

        nodes = self._nodes(q, q)
        return torch.cat([expectation(squared, t, self.splits, nodes) for t in q.flatten().split(2**12)]).reshape(
            q.shape
        )

    def _nodes(self, q1: Tensor, q2: Tensor) -> int:
        """Nodes a piece that give the tolerance for variances between the smallest and largest of these."""
        return _enough(self, *_octaves(q1, q2))


def _octaves(q1: Tensor, q2: Tensor, *, zeros: bool = True) -> tuple[int, int]:
    """Of standard deviations, from the smallest to the largest."""
    given = [t.detach().double().flatten() for t in (q1, q2)]
    if not zeros:
        given = [_positive_or_one(t) for t in given]
    q = torch.stack([t.aminmax()[i] for t in given for i in (0, 1)]).clamp(1e-6, 1e20)
    exponents = torch.log2(q).tolist()
    return math.floor(min(exponents) / 2), math.ceil(max(exponents) / 2)


def _positive_or_one(t: Tensor) -> Tensor:
    """The numbers above zero; 1 where all are zero."""
    if bool((t > 0).all()):
        return t
    if bool(t.any()):
        return t[t > 0]
    return t.new_ones(1)


@lru_cache(maxsize=256)
def _spline(op: Piecewise) -> Spline | None:
    """The closed form of a function that is a polynomial between its kinks."""
    if not op.kinks:
        return None
    function = cut(op.phi, op.kinks)
    zero = torch.zeros(1, dtype=torch.float64)
    if function is None:
        return None
    return Spline(function, float(op.phi(zero)), float(op.slope(zero)))


@lru_cache(maxsize=1024)
def _agrees(op: Piecewise, low: int, high: int) -> bool:
    """Whether closed form and quadrature agree for variances from 4^low to 4^high."""
    nodes, form = _enough(op, low, high), op.closed
    assert form is not None
    with torch.no_grad():
        q1, k, q2 = _grid(low, high)
        exact = form.values(q1, k, q2, None)
        for f, closed in zip((op.phi, op.slope), () if exact is None else exact, strict=True):
            size = (_size(f, q1, op.splits, nodes) * _size(f, q2, op.splits, nodes)).sqrt()
            error = (closed - product_expectation(f, f, q1, k, q2, op.splits, nodes)).abs() / size
            if not float(error.max()) <= QUADRATURE_TOLERANCE:
                return False
    return True


def _grid(low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
    """Variances and covariances at which integrals are checked."""
    scale = 4.0 ** torch.arange(low, high + 1, dtype=torch.float64)
    # equal variances at each octave, and the smallest with each: the widest ratios
    ends = torch.stack([scale[:1].expand_as(scale), scale])
    q1, q2 = torch.cat([torch.stack([scale, scale]), ends], 1)[..., None]
    return q1, torch.tensor(TRIED_CORRELATIONS, dtype=torch.float64) * (q1 * q2).sqrt(), q2


@lru_cache(maxsize=256)
def _jumps(op: Piecewise) -> bool:
    at = torch.tensor(op.kinks, dtype=torch.float64)
    # over so short a step a slope of order 1 changes the function by 1e-10, a jump by its whole height
    step = 1e-10 * (1 + at.abs())
    return bool(((op.phi(at + step) - op.phi(at - step)).abs() > 1e-7).any())


@lru_cache(maxsize=256)
def _broken(op: Piecewise) -> tuple[Broken, Broken]:
    """The function and its slope, as functions with masses that are zero."""
    none = (0.0,) * len(op.kinks)
    return Broken(op.phi, op.kinks, none), Broken(op.slope, op.kinks, none)


@lru_cache(maxsize=1024)
def _enough(op: Piecewise, low: int, high: int) -> int:
    """Nodes that agree with fewer nodes on a narrower range, for variances from 4^low to 4^high."""
    with torch.no_grad():
        scale = 4.0 ** torch.arange(low, high + 1, dtype=torch.float64)
        q1, k, q2 = _grid(low, high)
        error = math.inf
        for few, more in pairwise(NODES_PER_PIECE):
            error = max(_difference(f, op, q1, k, q2, few, more) for f in (op.phi, op.slope))
            if error <= QUADRATURE_TOLERANCE:
                narrow = [overlooks(f, scale, _second(f, scale, op.splits, few), op.splits) for f in (op.phi, op.slope)]
                if not any(narrow):  # more are close to rounding, so that a matrix of these is positive to rounding
                    if op.kinks:
                        return more
                    return few
                error = 1.0
    raise NoLimit(
        f"The quadrature for {op.name} {op.describe()} has an error of {error:.1e}, "
        f"more than {QUADRATURE_TOLERANCE:.0e}.",
        why=f"at standard deviations up to {2.0**high:.3g} the function is infinite, oscillates, or bends sharply "
        "at places that are not known to be its kinks",
        fix="standardize the inputs (columns of mean 0 and variance 1, or rows of norm sqrt(d)), or use a smoother "
        "activation",
    )


def _difference(f, op, q1, k, q2, few, more) -> float:
    kinks, expected = op.splits, rule(op.kinks)
    # both nodes and reach differ, so that a range that cuts off too much shows as well
    a = expected(f, f, q1, k, q2, kinks, few)
    b = expected(f, f, q1, k, q2, kinks, more, reach=1.1 * FARTHEST_NODE)
    size = (_size(f, q1, kinks, more) * _size(f, q2, kinks, more)).sqrt()
    error = float(((a - b).abs() / size).max())
    if math.isfinite(error):
        return error
    return math.inf


def _size(f: Callable[[Tensor], Tensor], q: Tensor, kinks: tuple[float, ...], nodes: int) -> Tensor:
    """E f^2, or, if larger (f is zero up to far out, or grows), the largest f^2 weighted by the density's root."""
    z = torch.linspace(-FARTHEST_NODE, FARTHEST_NODE, 401, dtype=torch.float64)
    # f^2 times the root of the density, exp(-z^2 / 4)
    largest = (f(q.sqrt()[..., None] * z) ** 2 * torch.exp(-z * z / 4)).amax(-1)
    return torch.maximum(_second(f, q, kinks, nodes), largest).clamp_min(1e-140)


def _second(f: Callable[[Tensor], Tensor], q: Tensor, kinks: tuple[float, ...], nodes: int) -> Tensor:
    return expectation(lambda x: f(x) ** 2, q, kinks, nodes)


def _clamp(x: Tensor, low: float, high: float) -> Tensor:
    return x.clamp(low, high)


def _both_sides(t: float) -> tuple[float, ...]:
    """Kinks of what is zero from -t to t."""
    if t:
        return (-t, t)
    return (0.0,)


# name: (function of x and the call's numbers, its kinks)
KINKED_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., tuple[float, ...]]]] = {
    "elu": (lambda x, a, s, b: torch.ops.aten.elu(x, a, s, b), lambda *_: (0.0,)),
    "celu": (lambda x, a: functional.celu(x, a), lambda a: (0.0,)),
    "selu": (functional.selu, lambda: (0.0,)),
    "clamp": (_clamp, lambda low, high: tuple(t for t in (low, high) if math.isfinite(t))),
    "hardsigmoid": (lambda x: (x / 6 + 0.5).clamp(0, 1), lambda: (-3.0, 3.0)),  # torch's own has no second derivative
    "hardswish": (lambda x: x * (x / 6 + 0.5).clamp(0, 1), lambda: (-3.0, 3.0)),
    "threshold": (functional.threshold, lambda t, v: (t,)),
    "softshrink": (functional.softshrink, _both_sides),
    "hardshrink": (functional.hardshrink, _both_sides),
    "softplus": (functional.softplus, lambda beta, threshold: (0.0, threshold / beta)),
}
SPELLED_AS = {"hardtanh": "clamp", "relu6": "clamp", "clamp_min": "clamp", "clamp_max": "clamp"}
INPLACE = ("elu", "celu", "selu", "hardtanh", "relu6", "hardsigmoid", "hardswish", "threshold", "clamp")
KINKED_CALLS = [f"aten.{name}.default" for name in (*KINKED_FUNCTIONS, *SPELLED_AS) if name != "softplus"]
KINKED_CALLS += [f"aten.{name}_.default" for name in INPLACE]


@reads(*KINKED_CALLS)
@dataclass(frozen=True)
class Kinked(Piecewise):
    """ELU and its kin, and polynomials between kinks: closed forms; of many pairs a table, error below 1e-11."""

    form: ClassVar[str] = "closed form, or a table of it with an error below 1e-11"

    function: str = "elu"
    args: tuple[float, ...] = ()

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        name = call.target.removeprefix("aten.").split(".")[0].rstrip("_")
        x, *args = call.args
        if name == "relu6":
            args = [0.0, 6.0]
        elif name == "clamp_max":
            args = [None, args[0]]
        if SPELLED_AS.get(name, name) == "clamp":
            low, high = (*args, None)[:2]
            if low is None:
                low = -math.inf
            if high is None:
                high = math.inf
            args = [low, high]
        if not all(isinstance(a, int | float) for a in args):
            raise NoLimit(f"A bound of {name} is a tensor.", why="there is a rule for numbers only", fix="use numbers")
        return cls(SPELLED_AS.get(name, name), tuple(float(a) for a in args)), (value(x, f"the input of {name}"),)

    @property
    def name(self) -> str:
        return self.function

    @property
    def kinks(self) -> tuple[float, ...]:
        return KINKED_FUNCTIONS[self.function][1](*self.args)

    @property
    def closed(self) -> Closed | None:
        return super().closed if self.bent is None else self.bent

    @property
    def bent(self) -> Bent | None:
        """ELU, CELU and SELU in one form."""
        if self.function == "elu":
            alpha, scale, rate = self.args
            if rate > 0:
                return Bent(scale / rate, alpha * scale, rate)
            return None
        if self.function == "celu":
            if self.args[0] > 0:
                return Bent(self.args[0], self.args[0], 1 / self.args[0])
            return None
        if self.function == "selu":
            return Bent(SELU_SCALE, SELU_ALPHA * SELU_SCALE, 1.0)
        return None

    def mean(self, q: Tensor) -> Tensor | None:
        if self.bent is None:
            return super().mean(q)
        return self.bent.mean(q)

    def mean_slope(self, q: Tensor) -> Tensor:
        if self.bent is None:
            return super().mean_slope(q)
        return self.bent.mean_slope(q)

    def phi(self, x: Tensor) -> Tensor:
        return KINKED_FUNCTIONS[self.function][0](x, *self.args)

    def describe(self) -> str:
        return ", ".join(f"{a:g}" for a in self.args)
