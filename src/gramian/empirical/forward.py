"""Derivatives along a direction of the parameters: forward mode."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel


def along(module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x; at) and J step, each of the output's shape; parameters not in `at` are the module's own."""
    _load_rules()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        out, change = jvp(lambda at: functional_call(module, at, (x,)), (at,), (step,))  # type: ignore[misc]
    return out, change


@cache
def _load_rules() -> None:
    """torch loads its forward-mode rules at the first use, by a function that it has deprecated itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
