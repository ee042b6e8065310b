"""A dual in closed form as one differentiable function, whose gradient is in closed form as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gramian.duals.derivatives import Kernel, PairCovariances, gradient, pairs, wanted

Duals = tuple[Tensor, Tensor]


class Slope(NamedTuple):
    r"""What the gradient of $F = E\,f(u)f(v)$ is made of, see `price`.

    Args:
        by_k: $E\,f'(u)f'(v)$.
        steep1: $E\,u f'(u)\,f(v)$.
        steep2: $E\,f(u)\,v f'(v)$.
    """

    by_k: Tensor
    steep1: Tensor
    steep2: Tensor


class Closed(Protocol):
    """A function's closed form; everything is computed in float64."""

    def values(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> Duals | None:
        """The dual at `(q1, k, q2)` and its gaps; None where the closed form loses digits."""

    def slopes(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor | None, opposite: Tensor | None = None
    ) -> tuple[Slope, Slope]:
        """Of kernel and of the slope's kernel."""


def closed_dual(
    form: Closed,
    kernels: Callable[[], tuple[Kernel, Kernel]],
    q1: Tensor,
    k: Tensor,
    q2: Tensor,
    gap: Tensor | None,
    opposite: Tensor | None,
) -> Duals | None:
    """The dual by its closed form, None where that loses digits; `kernels` are both again, for second derivatives."""
    with torch.no_grad():
        values = form.values(q1, k, q2, gap, opposite)
    if values is None or not wanted(q1, k, q2, gap, opposite):
        return values
    return _Dual.apply(*pairs(q1, k, q2, gap, opposite), form, kernels, values)


class _Dual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q1: Tensor,
        k: Tensor,
        q2: Tensor,
        gap: Tensor,
        opposite: Tensor,
        form: Closed,
        kernels: Callable[[], tuple[Kernel, Kernel]],
        values: Duals,
    ) -> Duals:
        ctx.save_for_backward(q1, k, q2, gap, opposite)
        ctx.form, ctx.kernels = form, kernels
        return values

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        at = PairCovariances(*ctx.saved_tensors)
        if torch.is_grad_enabled():  # a gradient that is to be differentiated
            parts = [(g, kernel.slopes(at), kernel) for g, kernel in zip(grad, ctx.kernels(), strict=True)]
        else:
            parts = [(g, tuple(s), None) for g, s in zip(grad, ctx.form.slopes(*at), strict=True)]
        return *gradient(at, parts), None, None, None
