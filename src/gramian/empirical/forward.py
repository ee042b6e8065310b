"""Derivatives along a direction of the parameters."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel


def along(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor, *, forward: bool | None = None
) -> tuple[Tensor, Tensor]:
    """f(x; at) and J step, each of the output's shape; parameters not in `at` are the module's own.

    `forward`: True is forward mode, False two backward passes, None forward mode and if it fails the other.
    """
    if forward is False:
        return _along_twice_backward(module, at, step, x)
    try:
        return _along_forward(module, at, step, x)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError):  # an operation without a forward-mode rule
        if forward:
            raise
        return _along_twice_backward(module, at, step, x)


def why_no_forward_mode(module: nn.Module, at: dict[str, Tensor], x: Tensor) -> str:
    """What torch says against forward mode on this module; empty where it works."""
    try:
        _along_forward(module, at, at, x)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def _along_forward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    load_rules()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        out, change = jvp(lambda at: functional_call(module, at, (x,)), (at,), (step,))  # type: ignore[misc]
    return out, change


def _along_twice_backward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as the derivative of w -> J^T w: slower, and for every twice differentiable module."""
    train = torch.is_grad_enabled()
    with torch.enable_grad():
        at = {name: t.detach().requires_grad_() for name, t in at.items()}
        out = functional_call(module, at, (x,))
        w = torch.zeros_like(out, requires_grad=True)
        down = torch.autograd.grad(out, list(at.values()), w, create_graph=True, materialize_grads=True)
        (change,) = torch.autograd.grad(down, w, [step[name] for name in at], create_graph=train)
    return out.detach(), change


@cache
def load_rules() -> None:
    """torch loads its forward-mode rules at the first use, by a function that it has deprecated itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
