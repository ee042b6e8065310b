"""Derivatives along a direction of the parameters."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from gramian.empirical.call import Given, call_at


def along(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor | Given, *, forward: bool | None = None
) -> tuple[Tensor, Tensor]:
    """f(x; at) and J step, each of the output's shape; parameters not in `at` are the module's own.

    `forward`: True is forward mode, False two backward passes, None forward mode and if it fails the other.
    """
    if forward is False:
        return _along_twice_backward(module, at, step, x)
    try:
        return along_forward(module, at, step, x)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError):  # an operation without a forward-mode rule
        if forward:
            raise
        return _along_twice_backward(module, at, step, x)


def why_no_forward_mode(module: nn.Module, at: dict[str, Tensor], x: Tensor | Given) -> str:
    r"""What speaks against forward mode on this module; empty where it works and agrees with a backward pass.

    Some of torch's forward-mode rules are wrong without a word, so $\langle w, J u\rangle = \langle J^\top w, u\rangle$
    is checked on `x` for one random pair.
    """
    draw = torch.Generator().manual_seed(0)
    u = {name: torch.randn(p.shape, generator=draw).to(p) for name, p in at.items()}
    try:
        out, change = along_forward(module, at, u, x)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    w = torch.randn(out.shape, generator=draw).to(out)
    with torch.enable_grad():
        here = {name: t.detach().requires_grad_() for name, t in at.items()}
        back = call_at(module, here, x)
        if not back.requires_grad:
            return ""
        down = torch.autograd.grad(back, list(here.values()), w, materialize_grads=True)
    ours = float((w * change.detach()).sum(dtype=torch.float64))
    parts = [float((d * u[name]).sum(dtype=torch.float64)) for name, d in zip(here, down, strict=True)]
    size = float(w.norm().double() * change.detach().norm().double()) + sum(map(abs, parts))
    if abs(ours - sum(parts)) > torch.finfo(out.dtype).eps ** 0.5 * size:
        return f"forward mode gives {ours:.6g} for a product that is {sum(parts):.6g} by a backward pass"
    return ""


def along_forward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor | Given
) -> tuple[Tensor, Tensor]:
    load_rules()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        out, change = jvp(lambda at: call_at(module, at, x), (at,), (step,))  # type: ignore[misc]
    return out, change


def _along_twice_backward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor | Given
) -> tuple[Tensor, Tensor]:
    """The same as the derivative of w -> J^T w: slower, and for every twice differentiable module."""
    train = torch.is_grad_enabled()
    with torch.enable_grad():
        at = {name: t.detach().requires_grad_() for name, t in at.items()}
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have one derivative
            out = call_at(module, at, x)
        change = forward_by_backward(out, list(at.values()), [step[name] for name in at], train)
    return out.detach(), change


def forward_by_backward(out: Tensor, at: list[Tensor], step: list[Tensor], create_graph: bool) -> Tensor:
    """The derivative of `out` along `step`, as the derivative of w -> J^T w."""
    if not out.requires_grad:
        return torch.zeros_like(out)
    w = torch.zeros_like(out, requires_grad=True)
    down = torch.autograd.grad(out, at, w, create_graph=True, allow_unused=True)
    used = [(d, s) for d, s in zip(down, step, strict=True) if d is not None and d.requires_grad]
    if not used:
        return torch.zeros_like(out)
    (change,) = torch.autograd.grad(
        [d for d, _ in used], w, [s for _, s in used], create_graph=create_graph, materialize_grads=True
    )
    return change


@cache
def load_rules() -> None:
    """torch loads its forward-mode rules at the first use, by a function that it has deprecated itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
