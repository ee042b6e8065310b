"""Products of matrices by the fastest library that torch brings along.

On processors that are not Intel's, MKL does float32 at half of what oneDNN does: 98 and 217 GFLOP/s on one core of an
AMD EPYC with AVX-512. torch hands its convolutions to oneDNN, but its products of matrices to MKL.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gramian.empirical.workarounds.switch import has_faster_way

LEAST_MULTIPLICATIONS = 2**20  # multiplications below which handing over costs more than it saves


def gemm(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T, shapes (n, d) and (m, d), plus a bias of m numbers for each row."""
    if not worth_it(a, b):
        if bias is None:
            return a @ b.mT
        return F.linear(a, b, bias)
    if not (b.is_contiguous() or b.mT.is_contiguous()):
        b = b.contiguous()  # a b with gaps goes to oneDNN's reference loop: 6 s where a copy and the product take 3 ms
    return _onednn()(a, b, bias)  # type: ignore[misc]


def worth_it(a: Tensor, b: Tensor) -> bool:
    """Whether `gemm` has a faster way for a b^T than torch's own."""
    return (
        a.shape[0] * a.shape[1] * b.shape[0] >= LEAST_MULTIPLICATIONS
        and min(a.shape[0], b.shape[0], a.shape[1]) >= 32
        and has_faster_way(a)
        and _onednn() is not None
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` that goes through `gemm`, its backward pass to `x` too; the parameters get no gradient."""
    plain = weight.numel() < 2**14 or not has_faster_way(weight) or torch.is_autocast_enabled("cpu")
    if plain or x.dtype != weight.dtype:
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


@cache
def _onednn() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    """oneDNN's product, if this torch has it under the name that its compiler uses; `to_mkldnn()` would copy."""
    try:
        call = torch.ops.mkldnn._linear_pointwise
        # not of the default dtype and device: what is found here holds for the rest of the process
        a, b = (torch.arange(n, dtype=torch.float32, device="cpu").view(-1, 3) for n in (6, 12))
        if torch.equal(call(a, b, None, "none", [], ""), a @ b.mT):
            return lambda a, b, bias: call(a, b, bias, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        pass
    return None


class _Linear(torch.autograd.Function):
    """x W^T + bias, of any number of leading axes."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return gemm(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _LinearBack.apply(grad, *ctx.saved_tensors), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, int]:
        return _Linear.apply(x.movedim(in_dims[0], 0), weight, bias), 0


class _LinearBack(torch.autograd.Function):
    """g W, of any number of leading axes."""

    @staticmethod
    def forward(g: Tensor, weight: Tensor) -> Tensor:
        return gemm(g.reshape(-1, g.shape[-1]), weight.mT).view(*g.shape[:-1], -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Linear.apply(grad, *ctx.saved_tensors, None), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, g: Tensor, weight: Tensor) -> tuple[Tensor, int]:
        return _LinearBack.apply(g.movedim(in_dims[0], 0), weight), 0
