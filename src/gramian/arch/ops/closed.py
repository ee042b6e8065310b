"""A dual in closed form as one differentiable function, whose gradient is in closed form as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Numbers = tuple[Tensor, Tensor, Tensor, Tensor | None]  # variances, covariance, variances, gap
Duals = tuple[Tensor, Tensor]


class Slope(NamedTuple):
    r"""What the gradient of $F = E\,f(u)f(v)$ is made of.

    Args:
        by_k: $E\,f'(u)f'(v)$.
        steep1: $E\,u f'(u)\,f(v)$.
        steep2: $E\,f(u)\,v f'(v)$.
        by_gap: whether F has a square root where inputs are equal, so that its slope is that of the gap, where known.
    """

    by_k: Tensor
    steep1: Tensor
    steep2: Tensor
    by_gap: bool


class Closed(Protocol):
    """A function's closed form; everything is computed in float64."""

    def values(self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None) -> Duals | None:
        """The dual at `(q1, k, q2, gap)`; None where the closed form loses digits."""

    def slopes(self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None) -> tuple[Slope, Slope]:
        """Of kernel and of the slope's kernel."""


def closed_dual(form: Closed, again: Callable[..., Duals], at: Numbers) -> Duals | None:
    """The dual by its closed form, None where that loses digits; `again` serves for second derivatives."""
    with torch.no_grad():
        values = form.values(*at)
    if values is None:
        return None
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in at)):
        return values
    return _Dual.apply(*at, form, again, values)


class _Dual(torch.autograd.Function):
    """At fixed gap the derivative by $q_1$ has no terms that cancel where inputs are nearly equal."""

    @staticmethod
    def forward(
        ctx: Any,
        q1: Tensor,
        k: Tensor,
        q2: Tensor,
        gap: Tensor | None,
        form: Closed,
        again: Callable[..., Duals],
        values: Duals,
    ) -> Duals:
        ctx.save_for_backward(q1, k, q2, gap)
        ctx.form, ctx.again = form, again
        return values

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        at = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient that is to be differentiated
            wanted = [t for t in at if t is not None and t.requires_grad]
            found = iter(torch.autograd.grad(ctx.again(*at), wanted, grad, create_graph=True, allow_unused=True))
            return *(next(found) if t is not None and t.requires_grad else None for t in at), None, None, None
        total: list[Tensor | None] = [None] * 4
        for cotangent, slope in zip(grad, ctx.form.slopes(*at), strict=True):
            for i, part in enumerate(_parts(slope, *at)):
                if part is not None:
                    before, more = total[i], cotangent.double() * part
                    total[i] = more if before is None else before + more
        made = (
            None if t is None or g is None else g.sum_to_size(t.shape).to(t.dtype)
            for t, g in zip(at, total, strict=True)
        )
        return *made, None, None, None


def _parts(slope: Slope, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None) -> tuple[Tensor | None, ...]:
    """Derivatives by q1, k, q2 and the gap."""
    by_gap = slope.by_gap and gap is not None
    other = gap.double() * slope.by_k if by_gap and gap is not None else -k.double() * slope.by_k
    by1, by2 = ((steep + other) / 2 for steep in (slope.steep1, slope.steep2))
    return (
        _over(by1, q1.double()),
        None if by_gap else slope.by_k,
        _over(by2, q2.double()),
        -slope.by_k if by_gap else None,
    )


def _over(numerator: Tensor, q: Tensor) -> Tensor:
    return torch.where(q > 0, numerator / torch.where(q > 0, q, torch.ones_like(q)), torch.zeros_like(numerator))
