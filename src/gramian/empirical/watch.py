"""Watching the layers of a module while it runs, and leaving the module as it was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gramian.empirical.layers import LAYERS


def is_plain(layer: nn.Module) -> bool:
    """A linear or convolutional layer with its own forward and its own weight: no subclass, no parametrization."""
    return type(layer) in LAYERS and "forward" not in vars(layer) and layer._parameters.get("weight") is not None


@contextmanager
def watched(module: nn.Module, seen: Callable[[nn.Module, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Calls `seen(layer, input, output)` at each call of a plain layer; what it returns replaces the output."""

    def hook(layer: nn.Module, args: tuple, kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        return seen(layer, args[0] if args else kwargs["input"], output)

    with ExitStack() as stack:
        for layer in module.modules():
            if is_plain(layer):
                # before the user's own hooks: they may change the output, and what counts is the layer's
                stack.callback(layer.register_forward_hook(hook, with_kwargs=True, prepend=True).remove)
        yield


@contextmanager
def differentiable_math() -> Iterator[None]:
    """Attention by operations that vmap knows, compiled modules uncompiled; gradients on, inference mode off."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # a module can only be compiled if this is loaded, and loading it takes seconds
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    with (
        eager,
        warnings.catch_warnings(),
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
