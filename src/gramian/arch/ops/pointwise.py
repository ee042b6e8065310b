"""A user's own elementwise function of one value: an expression, its kinks, and its dual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramian.arch.ops.base import Op, replaced
from gramian.arch.ops.piecewise import Piecewise
from gramian.arch.ops.polynomial import RectifiedPower
from gramian.arch.ops.relu import LeakyReLU
from gramian.arch.ops.sign import Heaviside, Sign
from gramian.arch.ops.smooth import BEND_SCALES, HermiteActivation
from gramian.duals.hermite_expansion import HermiteExpansion
from gramian.errors import NoLimit

MOST_KINKS = 8
FARTHEST_KINK = 1e4  # kinks are looked for between minus this and this


@dataclass(frozen=True)
class LineResult:
    """The result of an expression's line; -1 is the function's argument."""

    index: int


Line = tuple[str | Op, tuple[Any, ...]]  # an aten name, or an elementwise op, and its arguments
COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne"}
# calls with a kink where their first argument is zero
KINKED_AT_ZERO = {
    "abs", "relu", "leaky_relu", "sign", "sgn", "heaviside", "elu", "celu", "selu", "sqrt", "rsqrt", "reciprocal",
    "log", "log2", "log10", "xlogy",
}  # fmt: skip
ELEMENTWISE = COMPARISONS | KINKED_AT_ZERO | {
    "add", "sub", "rsub", "mul", "div", "neg", "pow", "square", "addcmul", "exp", "exp2", "expm1", "log1p", "sin",
    "cos", "tan", "sinh", "cosh", "tanh", "asinh", "acosh", "asin", "acos", "atan", "atanh", "atan2", "sinc", "erf",
    "erfc", "erfinv", "special_erfcx", "special_ndtr", "special_log_ndtr", "special_expit", "sigmoid", "silu",
    "softplus", "mish", "gelu", "log_sigmoid", "logaddexp", "logit", "lgamma", "special_i0", "special_i0e",
    "special_i1", "special_i1e", "special_bessel_j0", "special_bessel_j1", "relu6", "clamp", "clamp_min", "clamp_max",
    "maximum", "minimum", "where", "hardtanh", "hardsigmoid", "hardswish", "threshold", "softshrink", "hardshrink",
    "zeros_like", "ones_like", "full_like",
}  # fmt: skip


@dataclass(frozen=True)
class Pointwise(Piecewise, HermiteActivation):
    """An elementwise function as the user wrote it, fused from several calls.

    A smooth one goes through its Hermite series, one with kinks, or too steep for the series, through quadrature
    between the kinks. They are found where the argument of `abs`, `relu`, `clamp`, `where`, ... crosses their own kink,
    or given. What no quadrature reaches to 1e-11 is refused.
    """

    lines: tuple[Line, ...] = ()
    given: tuple[float, ...] | None = None

    def phi(self, x: Tensor) -> Tensor:
        return evaluate(self.lines, x)[-1]

    @property
    def expansion(self) -> HermiteExpansion:
        """In float64: calls that cancel each other (h - tanh h at 0.01) leave few digits of float32."""
        return HermiteExpansion(self.phi, self.name, in_float64=True)

    @property
    def kinks(self) -> tuple[float, ...]:
        return self.given if self.given is not None else _kinks(self.lines)

    @property
    def splits(self) -> tuple[float, ...]:
        return self.kinks or BEND_SCALES

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        if not self.kinks:
            try:
                return HermiteActivation.dual(self, q1, k, q2)
            except NoLimit:
                pass
        return Piecewise.dual(self, q1, k, q2)

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.kinks:
            return Piecewise.dual_at_gap(self, q1, k, q2, gap, opposite)
        return (*self.dual(q1, k, q2), None)

    @property
    def nonsmooth(self) -> bool:  # type: ignore[override]
        return bool(self.kinks)

    def mean(self, q: Tensor) -> Tensor | None:
        if not self.kinks:
            try:
                return HermiteActivation.mean(self, q)
            except NoLimit:
                pass
        return Piecewise.mean(self, q)

    def _covariance(self, k: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
        if self.kinks:
            return Piecewise._covariance(self, k, q)
        return self.dual(q[0], k, q[1])[0]

    def describe(self) -> str:
        return ", ".join(_name_of(call) for call, _ in self.lines)


def evaluate(lines: tuple[Line, ...], x: Tensor) -> list[Tensor]:
    """The result of each line at `x`."""
    results: list[Tensor] = []

    def filled(arg: Any) -> Any:
        if not isinstance(arg, LineResult):
            return arg
        if arg.index < 0:
            return x
        return results[arg.index]

    for name, args in lines:
        results.append(_call(name, [filled(a) for a in args], x))
    return results


def _call(name: str | Op, args: list[Any], x: Tensor) -> Tensor:
    if isinstance(name, Op):
        return name.apply(*args)
    base = _base(name)
    if base in ("zeros_like", "ones_like"):
        return torch.full_like(x, float(base == "ones_like"))
    if base == "full_like":
        return torch.full_like(x, args[1])
    if base == "where":
        return torch.where(args[0] != 0, args[1], args[2])
    call = getattr(getattr(torch.ops.aten, base), name.split(".")[2])
    schema = call._schema.arguments
    args = as_tensors(args, schema, x)
    names = {s.name: a for a, s in zip(args, schema, strict=False) if s.kwarg_only}
    result = call(*args[: len(args) - len(names)], **names)
    if base in COMPARISONS:
        return result.to(x.dtype)
    return result


def as_tensors(args: Sequence[Any], schema: Sequence[Any], like: Tensor) -> list[Any]:
    """The arguments of an aten call, with tensors instead of numbers where its schema asks for tensors."""
    result = list(args)
    for place, (arg, asked) in enumerate(zip(args, schema, strict=False)):
        if str(asked.type) == "Tensor" and not isinstance(arg, Tensor):
            result[place] = like.new_tensor(arg)
    return result


def _name_of(call: str | Op) -> str:
    if isinstance(call, str):
        return _base(call)
    return call.name


def _base(name: str) -> str:
    return name.removeprefix("aten.").split(".")[0].rstrip("_")


@lru_cache(maxsize=256)
def _kinks(lines: tuple[Line, ...]) -> tuple[float, ...]:
    """Where the expression has kinks: each place is a root of the argument of a function with a kink."""
    # equal steps of arcsinh: dense at zero, in proportion to the distance far out
    x = torch.from_numpy(np.sinh(np.linspace(-np.arcsinh(FARTHEST_KINK), np.arcsinh(FARTHEST_KINK), 20_002)))
    values, roots = [x], set()
    for number, (name, args) in enumerate(lines):
        values.append(evaluate(lines[: number + 1], x)[-1])
        for upper, lower in _crossings(name, args):
            difference = _minus(upper, lower, values)
            # a change of sign between neighbors; bisection finds the place
            left = torch.nonzero((difference[:-1] > 0) != (difference[1:] > 0)).flatten()
            if len(left) > MOST_KINKS:
                raise NoLimit(
                    f"The function has {len(left)} kinks or more.",
                    why="its integral is computed between the kinks, of which there must be few",
                    fix=f"a function with at most {MOST_KINKS} kinks",
                )
            for i in left.tolist():
                roots.add(_root(lines[:number], upper, lower, x[i], x[i + 1]))
    places: list[float] = []
    for t in sorted(roots):
        if not places or t - places[-1] > 1e-9 * (1 + abs(t)):
            places.append(t)
    return tuple(places)


def _crossings(name: str | Op, args: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    """Pairs of a line's arguments at whose equality it has a kink."""
    if isinstance(name, Op):
        own: tuple[float, ...] = ()
        if isinstance(name, LeakyReLU | RectifiedPower | Sign | Heaviside):
            own = (0.0,)
        elif isinstance(name, Piecewise):
            own = name.kinks
        return [(args[0], t) for t in own]
    base = _base(name)
    if base in COMPARISONS | {"maximum", "minimum"}:
        return [(args[0], args[1])]
    if base == "div" and isinstance(args[1], LineResult):
        return [(args[1], 0.0)]
    if (
        base == "pow"
        and isinstance(args[0], LineResult)
        and not (isinstance(args[1], int | float) and args[1] % 1 == 0 <= args[1])
    ):
        return [(args[0], 0.0)]
    return [(args[0], t) for t in _places(base, args[1:]) if t is not None]


def _places(base: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values of the first argument at which the named function has a kink."""
    if base in KINKED_AT_ZERO:
        return (0.0,)
    if base == "relu6":
        return (0.0, 6.0)
    if base in ("hardsigmoid", "hardswish"):
        return (-3.0, 3.0)
    if base in ("softshrink", "hardshrink"):
        return (-args[0], args[0])
    if base in ("clamp", "hardtanh"):
        return args[:2]
    if base in ("clamp_min", "clamp_max", "threshold"):
        return args[:1]
    return ()


def _minus(upper: Any, lower: Any, values: list[Tensor]) -> Tensor:
    a, b = replaced((upper, lower), LineResult, lambda result: values[result.index + 1])
    return torch.as_tensor(a - b, dtype=torch.float64).expand_as(values[0])


def _root(lines: tuple[Line, ...], upper: Any, lower: Any, low: Tensor, high: Tensor) -> float:
    """By bisection to the last bit; exact zero is tried first."""

    def positive(t: Tensor) -> bool:
        at = t.reshape(1)
        return bool(_minus(upper, lower, [at, *evaluate(lines, at)]) > 0)

    zero, before = torch.zeros_like(low), positive(low)
    if low < 0 < high:
        # a kink at zero itself gets exactly 0.0, which closed forms and tables ask for
        tiny = torch.full_like(low, 1e-300)
        if positive(-tiny) != positive(tiny):
            return 0.0
        if positive(zero) == before:
            low, high = (zero, high)
        else:
            low, high = (low, zero)
    for _ in range(2000):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if positive(middle) == before:
            low, high = (middle, high)
        else:
            low, high = (low, middle)
    return float(high)
