"""The Hermite expansion of a smooth function of a Gaussian value, by quadrature that is as fine as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.derivatives import slope
from gramian.duals.quadrature import overlooks
from gramian.errors import NoLimit

# (nodes, terms): a Hermite function of order r has wave number sqrt(r), so nodes may grow slower than terms
QUADRATURE_GRIDS = (
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
FARTHEST_NODE = 13.0  # the normal density is 8e-38 there
FUNCTION_VALUES_HELD = 2**26  # function values held at once


@dataclass(frozen=True)
class HermiteExpansion:
    r"""A function through its Hermite series (Daniely et al. 2016, arXiv:1602.05897).

    With normalized Hermite polynomials $h_r$ and $a_r(q) = E\,\phi(\sqrt q\, z)\, h_r(z)$, $z \sim N(0, 1)$:
    $E\,\phi(u)\phi(v) = \sum_r a_r(q_1)\, a_r(q_2)\, c^r$ at correlation $c$ (Mehler), and the same with $\phi'$.

    Args:
        phi: the function, elementwise.
        name: what a refusal calls it.
        in_float64: whether it is evaluated in float64 for float32 as well, and rounded then.
    """

    phi: Callable[[Tensor], Tensor]
    name: str
    in_float64: bool = False

    def derivative(self, order: int, x: Tensor) -> Tensor:
        """The derivative of this order, differentiable where `x` is."""
        if self.in_float64 and x.dtype != torch.float64:
            return self.derivative(order, x.double()).to(x.dtype)
        if order:
            return slope(partial(self.derivative, order - 1), x)
        return self.phi(x)

    def product(self, q1: Tensor, k: Tensor, q2: Tensor, i: int, j: int) -> Tensor:
        r"""$E\,\phi^{(i)}(u)\,\phi^{(j)}(v)$, differentiable."""
        return _Product.apply(q1, k, q2, self, i, j)

    def coefficients(self, q: Tensor, order: int) -> Tensor:
        r"""Hermite coefficients of a derivative of $\phi$ at $\sqrt q\,z$; shape (r, *q.shape).

        Those of orders 0 and 1 are accurate or refused; the others, of gradients, are as accurate as the grids allow.
        """
        if q.dtype == torch.float64:
            tolerance = 1e-12
        else:
            tolerance = 2e-6
        flat, left = q.flatten(), 0.0
        for nodes, terms in QUADRATURE_GRIDS:
            z, weighted = _hermite_functions(nodes, terms, q.dtype, q.device)
            parts = [
                self._coefficients(part, z, weighted, order)
                for part in flat.split(max(1, FUNCTION_VALUES_HELD // nodes))
            ]
            left = max(part[1] for part in parts)
            if left <= tolerance and order == 0:  # the slope's series is the longer one, and kdot and K share a length
                slopes = (
                    self._coefficients(part, z, weighted, 1)
                    for part in flat.split(max(1, FUNCTION_VALUES_HELD // nodes))
                )
                left = max(part[1] for part in slopes)
            if left <= tolerance:
                widest = flat.detach().max()[None]
                seen = self._second(widest, z, weighted, order)
                if order < 2 and bool(widest > 0) and overlooks(partial(self.derivative, order), widest, seen):
                    left = 1.0  # between the nodes: so it will be on finer grids, or is refused
                    continue
                break
        if left <= tolerance or order > 1:
            return torch.cat([part[0] for part in parts]).mT.reshape(terms, *q.shape)
        deviation = float(q.detach().max()) ** 0.5
        raise NoLimit(
            f"The quadrature for `{self.name}` leaves {left:.1e} of its variance, more than {tolerance:.0e}.",
            why=f"the function has a kink, or the values' standard deviation, up to {deviation:.3g}, is so large that "
            "it looks like one",
            fix="standardize the inputs (columns of mean 0 and variance 1), or use a smoother activation",
        )

    def _second(self, q: Tensor, z: Tensor, weighted: Tensor, order: int) -> Tensor:
        return self.derivative(order, safe_sqrt(q)[:, None] * z) ** 2 @ weighted[:, 0]

    def _coefficients(self, q: Tensor, z: Tensor, weighted: Tensor, order: int) -> tuple[Tensor, float]:
        """Coefficients (len(q), terms), and the largest share left out."""
        f = self.derivative(order, safe_sqrt(q)[:, None] * z)
        a = f @ weighted
        return a, _left_out(f.detach(), a.detach(), weighted)


class _Product(torch.autograd.Function):
    r"""$E\,\phi^{(i)}(u)\,\phi^{(j)}(v)$, with the gradient of Price's theorem, which holds at variance 0 as well.

    Its derivative in k is the same of orders i + 1 and j + 1; in $q_1$, half of that of orders i + 2 and j.
    """

    @staticmethod
    def forward(ctx: Any, q1: Tensor, k: Tensor, q2: Tensor, expansion: HermiteExpansion, i: int, j: int) -> Tensor:
        ctx.save_for_backward(q1, k, q2)
        ctx.expansion, ctx.orders = expansion, (i, j)
        # Mehler's formula: E f(u) g(v) = sum_r a_r(q1) b_r(q2) c^r
        a1 = expansion.coefficients(q1, i)
        if q2 is q1 and i == j:
            a2 = a1
        else:
            a2 = expansion.coefficients(q2, j)
        s = safe_sqrt(q1 * q2)
        c = torch.where(s > 0, k / torch.where(s > 0, s, torch.ones_like(s)), torch.zeros_like(k)).clamp(-1, 1)
        return _series(a1, a2, c)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        (q1, k, q2), (i, j) = ctx.saved_tensors, ctx.orders
        # Price's theorem: d/dk E f(u) g(v) = E f'(u) g'(v), d/dq1 = E f''(u) g(v) / 2
        orders = ((i + 2, j, 0.5), (i + 1, j + 1, 1.0), (i, j + 2, 0.5))
        gradients: list[Tensor | None] = [None, None, None]
        for place, (t, (a, b, factor)) in enumerate(zip((q1, k, q2), orders, strict=True)):
            if ctx.needs_input_grad[place]:
                derivative = _Product.apply(q1, k, q2, ctx.expansion, a, b)
                gradients[place] = (grad[0] * factor * derivative).sum_to_size(t.shape)
        return (*gradients, None, None, None)


@lru_cache(maxsize=16)
def _hermite_functions(nodes: int, terms: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes z (N,), and normalized Hermite polynomials times trapezoidal weights (N, R)."""
    z = torch.linspace(-FARTHEST_NODE, FARTHEST_NODE, nodes, dtype=torch.float64, device=device)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    columns = [density, z * density]
    # sqrt(r + 1) h_(r+1) = z h_r - sqrt(r) h_(r-1); with the density in each column nothing overflows
    for r in range(1, terms - 1):
        columns.append((z * columns[r] - math.sqrt(r) * columns[r - 1]) / math.sqrt(r + 1))
    return z.to(dtype), torch.stack(columns, 1).to(dtype)


def _left_out(values: Tensor, terms: Tensor, weighted: Tensor) -> float:
    """Largest share of E f^2 that the series lacks, or by which every second node changes E f^2."""
    second = values.double() ** 2 @ weighted[:, 0].double()
    # Parseval: E f^2 = sum_r a_r^2, so the difference is the series' tail. The rule's own error is far below that of
    # every second node, as it converges exponentially: this difference counts a thousandth.
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


def terms_needed(weights: Tensor, left_out: float) -> int:
    """Terms after which no column lacks more than this share of its sum; weights (terms, n), none below zero."""
    # Parseval: E phi^2 = sum_r a_r^2, so that the sum of the squares from r on is the share of the terms from r on
    left = weights.flip(0).cumsum(0).flip(0)
    return int((left > left_out * left[:1]).any(1).sum())
