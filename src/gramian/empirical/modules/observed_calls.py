"""Watching the calls of a module while it runs, whoever makes them, and leaving the module as it was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from gramian.empirical.modules.structured_calls import READERS, Use, read
from gramian.empirical.workarounds.channels_last import ACTIVATIONS

# functions written in Python around the calls that are read
AROUND_READ_CALLS = frozenset(
    (F.embedding, F.layer_norm, F.group_norm, F.batch_norm, F.instance_norm, F.rms_norm, F.multi_head_attention_forward)
)
PLAIN_TYPES = (Tensor, torch.nn.Parameter)


class CallWatcher(TorchFunctionMode):
    """While on, `seen(use, run)` stands for each call that uses one of the parameters; `run()` makes the call itself.

    `parameters`: ids of the tensors that count; `activation(func, args, kwargs)` stands for activations' calls.

    Attributes:
        registers_hooks: the forward registered gradient hooks on tensors.
        opened: a function of torch was opened, so that the calls inside are seen.
    """

    def __init__(
        self,
        parameters: Container[int],
        seen: Callable[[Use, Callable[[], Tensor]], Tensor],
        activation: Callable[[Callable, Any, dict], Any] | None = None,
    ) -> None:
        super().__init__()
        self.parameters, self.seen, self.activation = parameters, seen, activation
        self.registers_hooks, self.opened = False, False

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.register_hook:
            self.registers_hooks = True
        if func in AROUND_READ_CALLS:
            self.opened = True
            with self:
                return _inside(func)(*args, **kwargs)
        if func in READERS and all(t in PLAIN_TYPES for t in types):
            use = read(func, args, kwargs)
            if use is not None and (id(use.weight) in self.parameters or id(use.bias) in self.parameters):
                return self.seen(use, lambda: func(*args, **kwargs))
        if self.activation is not None and func in ACTIVATIONS and all(t in PLAIN_TYPES for t in types):
            return self.activation(func, args, kwargs)
        return func(*args, **kwargs)


@cache
def _inside(func: FunctionType) -> Callable:
    """The same function, but one that does not hand itself over to the mode, so that its own calls are seen."""
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    inside = FunctionType(
        func.__code__,
        func.__globals__ | {name: lambda *tensors: False for name in names},
        func.__name__,
        func.__defaults__,
        func.__closure__,
    )
    inside.__kwdefaults__ = func.__kwdefaults__
    return inside


@contextmanager
def differentiable_math() -> Iterator[None]:
    """Attention by operations that vmap knows, compiled modules uncompiled; gradients on, inference mode off."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # a module can only be compiled if this is loaded, and loading it takes seconds
    if "torch._dynamo" in sys.modules:
        eager = torch.compiler.set_stance("force_eager")
    else:
        eager = nullcontext()
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
