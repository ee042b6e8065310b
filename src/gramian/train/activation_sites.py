"""Where a network bends: every elementwise activation of a forward pass, as a module or as a function, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.calling import call_at

ACTIVATIONS = frozenset(  # by the name of the torch function, which modules call too
    """
    relu relu_ relu6 leaky_relu leaky_relu_ rrelu elu elu_ selu selu_ celu celu_ gelu silu mish softplus softsign tanh
    tanh_ sigmoid sigmoid_ logsigmoid hardtanh hardsigmoid hardswish erf threshold threshold_ sin cos
    """.split()  # noqa: SIM905 (a list of words reads better)
)


def visit_activations(module: nn.Module, x: Samples, see: Callable[[str, Tensor, Tensor], None]) -> None:
    """One forward pass without a graph; `see(label, before, after)` is called at each activation, in order.

    The label is the path of the module whose `forward` calls the activation ("1" for `nn.Sequential`'s second entry),
    or the function's name at the top level; a second call from one place is "1#2".

    Args:
        module: the network.
        x: inputs; shape (n, *in_shape), or several tensors.
        see: takes the label, the pre-activations and the activations, each of shape (n, *site_shape).

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.Tanh())
        >>> visit_activations(net, torch.ones(5, 2), lambda label, before, after: print(label, tuple(after.shape)))
        1 (5, 3)
        3 (5, 1)
    """
    path: list[str] = []
    hooks = []
    for name, submodule in module.named_modules():
        hooks.append(submodule.register_forward_pre_hook(lambda _m, _args, name=name: path.append(name)))
        hooks.append(submodule.register_forward_hook(lambda _m, _args, _out: _leave(path), always_call=True))
    try:
        with torch.no_grad(), _Watch(path, len(x), see):
            call_at(module, {}, x)
    finally:
        for hook in hooks:
            hook.remove()


def _leave(path: list[str]) -> None:
    path.pop()


class _Watch(TorchFunctionMode):
    """Sees the torch functions by name; a module's `forward` ends in one of them."""

    def __init__(self, path: list[str], n: int, see: Callable[[str, Tensor, Tensor], None]) -> None:
        super().__init__()
        self.path, self.n, self.see, self.calls = path, n, see, Counter[str]()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if args:
            before = args[0]
        else:
            before = kwargs.get("input")
        if name not in ACTIVATIONS or not isinstance(before, Tensor) or before.ndim < 2 or len(before) != self.n:
            return func(*args, **kwargs)
        if name.endswith("_") or kwargs.get("inplace"):
            before = before.clone()
        after = func(*args, **kwargs)
        label = name
        if self.path:
            label = self.path[-1] or name
        self.calls[label] += 1
        times = self.calls[label]
        if times > 1:
            label = f"{label}#{times}"
        self.see(label, before, after)
        return after
