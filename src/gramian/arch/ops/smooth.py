"""Any smooth activation: Hermite coefficients by quadrature, then a power series in the correlation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import Call, Op, Value, reads, value
from gramian.arch.ops.piecewise import Kinked, Piecewise
from gramian.duals.hermite_expansion import HermiteExpansion
from gramian.errors import NoLimit

SMOOTH_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": lambda x, beta=1.0, _=20.0: torch.logaddexp(beta * x, torch.zeros_like(x)) / beta,
    "mish": functional.mish,
    "atan": torch.atan,
    "log_sigmoid": functional.logsigmoid,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}
ODD_FUNCTIONS = {"tanh", "atan"}
SMOOTH_CALLS = {f"aten.{name}.default": name for name in SMOOTH_FUNCTIONS if name != "gelu_tanh"}
SMOOTH_CALLS |= {f"aten.{name}_.default": name for name in ("tanh", "sigmoid", "silu", "mish", "atan")}
BEND_SCALES = (-36.0, -6.0, 0.0, 6.0, 36.0)  # scales at which the functions below bend
MANY_INTEGRALS = 1000  # integrals by quadrature, from which on it is said how they are avoided


@dataclass(frozen=True)
class HermiteActivation(Activation):
    r"""A smooth function through its Hermite series (Daniely et al. 2016, arXiv:1602.05897).

    With normalized Hermite polynomials $h_r$ and $a_r(q) = E\,\phi(\sqrt q\, z)\, h_r(z)$, $z \sim N(0, 1)$:
    $E\,\phi(u)\phi(v) = \sum_r a_r(q_1)\, a_r(q_2)\, c^r$ at correlation $c$ (Mehler), and the same with $\phi'$.
    The $a_r$ come from the trapezoidal rule, which converges exponentially for analytic functions. Nodes and terms
    grow until what is left out, known exactly from $E\,\phi^2 - \sum_r a_r^2$, is below 1e-12 of $E\,\phi^2$
    (2e-6 in float32); a function that does not get there is refused.
    """

    by_series: ClassVar[bool] = True

    @property
    def expansion(self) -> HermiteExpansion:
        """The series."""
        return HermiteExpansion(self.phi, self.name)

    def coefficients(self, q: Tensor, order: int) -> Tensor:
        r"""Hermite coefficients of a derivative of $\phi$ at $\sqrt q\,z$; shape (r, *q.shape)."""
        return self.expansion.coefficients(q, order)

    def mean(self, q: Tensor) -> Tensor | None:
        return self.coefficients(q, 0)[0]

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        return self.expansion.product(q1, k, q2, 0, 0), self.expansion.product(q1, k, q2, 1, 1)


@reads(*SMOOTH_CALLS)
@dataclass(frozen=True)
class Smooth(Piecewise, HermiteActivation):
    """A smooth activation: by its Hermite series, or by quadrature where its values are so large that it bends sharply.

    The error is below 1e-11 of the kernel's diagonal in float64.
    """

    nonsmooth: ClassVar[bool] = False
    form: ClassVar[str] = "Hermite series; error below 1e-12"

    function: str = "tanh"
    args: tuple[float, ...] = ()

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        name = SMOOTH_CALLS[call.target]
        args = tuple(float(a) for a in call.args[1:] if isinstance(a, int | float))
        if name == "softplus" and args[1] < 20:  # beyond the threshold torch returns x: a jump of exp(-threshold)
            return Kinked(name, args), (value(call.args[0], f"the input of {name}"),)
        return cls(name, args), (value(call.args[0], f"the input of {name}"),)

    @property
    def name(self) -> str:
        return self.function

    def phi(self, x: Tensor) -> Tensor:
        return SMOOTH_FUNCTIONS[self.function](x, *self.args)

    @property
    def kinks(self) -> tuple[float, ...]:
        return ()

    @property
    def splits(self) -> tuple[float, ...]:
        return BEND_SCALES

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return HermiteActivation.dual(self, q1, k, q2)
        except NoLimit:
            self._warn(k.numel(), q1, q2)
            return self._integrals(q1, k, q2, None)

    def _warn(self, count: int, q1: Tensor, q2: Tensor) -> None:
        if count >= MANY_INTEGRALS:
            wide = max(float(q.detach().max()) for q in (q1, q2)) ** 0.5
            warnings.warn(
                f"{self.name} of values with standard deviations up to {wide:.3g} bends like a step: each of {count} "
                "integrals takes milliseconds. Standardize the inputs (columns of mean 0 and variance 1).",
                stacklevel=2,
            )

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return *self.dual(q1, k, q2), None

    def mean(self, q: Tensor) -> Tensor | None:
        if self.function in ODD_FUNCTIONS:
            return None
        try:
            return HermiteActivation.mean(self, q)
        except NoLimit:
            return Piecewise.mean(self, q)

    def mean_slope(self, q: Tensor) -> Tensor:
        try:
            return self.coefficients(q, 1)[0]
        except NoLimit:
            return Piecewise.mean_slope(self, q)

    def _covariance(self, k: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
        return self.dual(q[0], k, q[1])[0]

    def describe(self) -> str:
        return ", ".join(f"{a:g}" for a in self.args)
