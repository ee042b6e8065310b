"""What a limit kernel is given, as the engines take it: plain dense tensors of one precision, float32 or float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gramian.arch.inputs import Inputs, leaves, precision
from gramian.arch.structure import Structure
from gramian.errors import BadArgument, BadData


def prepared(arch: Structure, x: Inputs, x2: Inputs | None) -> tuple[Inputs, Inputs | None, torch.dtype | None]:
    """Both inputs in the precision that they have together, and the dtype of the kernel; None where that is theirs.

    Numbers of 16 bits are computed with in float32: a norm of many of them has no place in float16.

    Raises:
        BadArgument: a transform of `torch.func`, or forward-mode differentiation, is at work on them.
        BadData: tensors that are not dense.
    """
    given = [("x", t) for t in _tensors(x)] + [("x2", t) for t in _tensors(x2)]
    for name, t in given:
        _check(name, t)
    for op in arch.affine:
        for sigma in (op.sigma_w, op.sigma_b):
            if isinstance(sigma, Tensor):
                _check("law", sigma)
    floating = [t for _, t in given if t.is_floating_point()]
    if not floating:
        return x, x2, None
    dtype = precision(floating)
    if dtype.itemsize < 4:
        used = torch.float32
    else:
        used = dtype
    if all(type(t) is Tensor and t.dtype == used for t in floating) and len(floating) == len(given):
        return x, x2, None

    def plain(t: Tensor) -> Tensor:
        if type(t) is not Tensor:
            t = t.as_subclass(Tensor)
        if t.is_floating_point():
            return t.to(used)
        return t

    plain_x2 = None
    if x2 is not None:
        plain_x2 = _mapped(x2, plain)
    asked = None
    if used != dtype:
        asked = dtype
    return _mapped(x, plain), plain_x2, asked


def _tensors(x: object) -> list[Tensor]:
    """The tensors in an input; everything else is refused by the check of the inputs' structure."""
    if isinstance(x, Tensor | Mapping | list | tuple):
        given = leaves(x)
    else:
        given = ()
    return [t for t in given if isinstance(t, Tensor)]


def _mapped(x: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    def of(t: Tensor) -> Tensor:
        if isinstance(t, Tensor):
            return change(t)
        return t

    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, Mapping):
        return {k: of(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return tuple(of(v) for v in x)
    return x


def _check(name: str, t: Tensor) -> None:
    where = f"argument `{name}` of a limit kernel"
    if transformed(t):
        raise BadArgument(
            f"`{name}` is inside a transform of torch.func (vmap, grad, jacrev, jvp, ...) or forward-mode "
            "differentiation.",
            where=where,
            why="limit kernels decide by the values of their inputs, and give derivatives to torch.autograd alone",
            fix="x.requires_grad_() and torch.autograd.grad(arch.ntk(x, x2).sum(), x, create_graph=True); for rows of "
            "a Jacobian torch.autograd.functional.jacobian; instead of vmap pass all rows at once",
        )
    if t.layout != torch.strided or t.is_quantized:
        if t.is_quantized:
            quantized = ", quantized"
        else:
            quantized = ""
        if t.is_quantized:
            fix = f"{name}.dequantize()"
        else:
            fix = f"{name}.to_dense()"
        raise BadData(
            f"`{name}` is a tensor of layout {t.layout}{quantized}, not dense.",
            where=where,
            why="kernels are made of inner products of dense rows",
            fix=fix,
        )


def transformed(t: Tensor) -> bool:
    """Whether a tensor is what torch.func hands to the function that it transforms, or carries a tangent."""
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(t):
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(t).tangent is not None


@contextmanager
def no_autocast() -> Iterator[None]:
    """Kernels are computed in the precision of the inputs, also where the caller's training is not."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
