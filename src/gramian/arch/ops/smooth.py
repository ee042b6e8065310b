"""Any smooth activation: Hermite coefficients by quadrature, then a power series in the correlation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.ops.activation import Activation, safe_sqrt
from gramian.arch.ops.base import Call, Op, Value, reads, value
from gramian.errors import NoLimit

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "atan": torch.atan,
    "square": torch.square,
    "log_sigmoid": functional.logsigmoid,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "pow": torch.pow,
}
ODD = {"tanh", "sin", "atan"}
TARGETS = {f"aten.{name}.default": name for name in FUNCTIONS if name not in ("pow", "gelu_tanh")}
TARGETS |= {f"aten.{name}_.default": name for name in ("tanh", "sigmoid", "silu", "mish", "sin", "cos", "exp")}
TARGETS["aten.pow.Tensor_Scalar"] = "pow"
# (nodes, terms): a Hermite function of order r has wave number sqrt(r), so nodes may grow slower than terms
GRIDS = (
    (128, 32),
    (256, 64),
    (512, 128),
    (512, 256),
    (1024, 512),
    (1024, 1024),
    (2048, 2048),
    (4096, 4096),
    (4096, 8192),
)
RANGE = 13.0  # the normal density is 8e-38 there
CHUNK = 2**26  # function values held at once


@reads(*TARGETS)
@dataclass(frozen=True)
class Smooth(Activation):
    r"""A smooth activation through its Hermite series (Daniely et al. 2016, arXiv:1602.05897).

    With normalized Hermite polynomials $h_r$ and $a_r(q) = E\,\phi(\sqrt q\, z)\, h_r(z)$, $z \sim N(0, 1)$:
    $E\,\phi(u)\phi(v) = \sum_r a_r(q_1)\, a_r(q_2)\, c^r$ at correlation $c$ (Mehler), and the same with $\phi'$.
    The $a_r$ come from the trapezoidal rule, which converges exponentially for analytic functions. Nodes and terms
    grow until what is left out, known exactly from $E\,\phi^2 - \sum_r a_r^2$, is below 1e-12 of $E\,\phi^2$
    (2e-6 in float32); a function that does not get there has a kink, and is refused.
    """

    function: str = "tanh"
    args: tuple[float, ...] = ()

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        name = TARGETS[call.target]
        args = tuple(float(a) for a in call.args[1:] if isinstance(a, int | float))
        if name == "pow" and (args[0] != int(args[0]) or args[0] < 1):
            raise NoLimit(
                f"A power with exponent {args[0]:g} has no rule.",
                why="it is not smooth at zero, or infinite there",
                fix="a whole exponent of 1 or more",
            )
        return cls(name, args), (value(call.args[0], f"the input of {name}"),)

    @property
    def name(self) -> str:
        return self.function

    def phi(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.function](x, *self.args)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative, differentiable in turn."""
        with torch.enable_grad():
            if not x.requires_grad:
                x = x.detach().requires_grad_()
                return torch.autograd.grad(self.phi(x).sum(), x)[0].detach()
            return torch.autograd.grad(self.phi(x).sum(), x, create_graph=True)[0]

    def mean(self, q: Tensor) -> Tensor | None:
        if self.function in ODD:
            return None
        return self.coefficients(q)[0][0]

    def mean_slope(self, q: Tensor) -> Tensor:
        return self.coefficients(q)[1][0]

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        a1, b1 = self.coefficients(q1)
        a2, b2 = (a1, b1) if q2 is q1 else self.coefficients(q2)
        s = safe_sqrt(q1 * q2)
        c = torch.where(s > 0, k / torch.where(s > 0, s, torch.ones_like(s)), torch.zeros_like(k)).clamp(-1, 1)
        return _series(a1, a2, c), _series(b1, b2, c)

    def coefficients(self, q: Tensor) -> tuple[Tensor, Tensor]:
        r"""Hermite coefficients of $\phi(\sqrt q\,\cdot)$ and of $\phi'(\sqrt q\,\cdot)$; shapes (r, *q.shape)."""
        tolerance = 1e-12 if q.dtype == torch.float64 else 2e-6
        flat, left = q.flatten(), 0.0
        for nodes, terms in GRIDS:
            z, weighted = _hermite_functions(nodes, terms, q.dtype, q.device)
            parts = [self._coefficients(part, z, weighted) for part in flat.split(max(1, CHUNK // nodes))]
            left = max(part[2] for part in parts)
            if left <= tolerance:
                a, b = (
                    torch.cat(columns).mT.reshape(terms, *q.shape)
                    for columns in zip(*(p[:2] for p in parts), strict=True)
                )
                return a, b
        raise NoLimit(
            f"The quadrature for `{self.function}` leaves {left:.1e} of its variance, more than {tolerance:.0e}.",
            why=f"the function has a kink, or the values' standard deviation, up to {float(q.max()) ** 0.5:.3g}, is so "
            "large that it looks like one",
            fix="scale the inputs to norm sqrt(d), or use a smoother activation",
        )

    def _coefficients(self, q: Tensor, z: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor, float]:
        """Coefficients (len(q), terms) of the function and its slope, and the largest share left out."""
        at = safe_sqrt(q)[:, None] * z
        f, g = self.phi(at), self.slope(at)
        a, b = f @ weighted, g @ weighted
        left = max(_left_out(v.detach(), t.detach(), weighted) for v, t in ((f, a), (g, b)))
        return a, b, left

    def describe(self) -> str:
        return ", ".join(f"{a:g}" for a in self.args)


@lru_cache(maxsize=16)
def _hermite_functions(nodes: int, terms: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes z (N,), and normalized Hermite polynomials times trapezoidal weights (N, R)."""
    z = torch.linspace(-RANGE, RANGE, nodes, dtype=torch.float64, device=device)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    columns = [density, z * density]
    for r in range(1, terms - 1):
        columns.append((z * columns[r] - math.sqrt(r) * columns[r - 1]) / math.sqrt(r + 1))
    return z.to(dtype), torch.stack(columns, 1).to(dtype)


def _left_out(values: Tensor, terms: Tensor, weighted: Tensor) -> float:
    """Largest share of E f^2 that the series lacks, or by which every second node changes E f^2."""
    second = values.double() ** 2 @ weighted[:, 0].double()
    half = values[..., ::2].double() ** 2 @ (2 * weighted[::2, 0].double())
    scale = second.clamp_min(1e-300)
    tail = (second - terms.double().square().sum(-1)).abs() / scale
    return float(torch.maximum(tail, (second - half).abs() / scale * 1e-3).max())


def _series(a1: Tensor, a2: Tensor, c: Tensor) -> Tensor:
    """sum_r a1[r] a2[r] c^r by Horner's rule; what one series has beyond the other is below the tolerance."""
    terms = min(len(a1), len(a2))
    total = a1[terms - 1] * a2[terms - 1]
    for r in range(terms - 2, -1, -1):
        total = total * c + a1[r] * a2[r]
    return total * torch.ones_like(c)
