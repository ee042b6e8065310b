"""What a measurement may touch of the user's run, and leaves as it was: module, buffers, graph, random numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from gramian.module_state.random_numbers import kept_random_states
from gramian.module_state.untouched import surely, untouched
from gramian.train.forward import evaluating


@contextmanager
def undisturbed(module: nn.Module, others: Iterable[nn.Module] = ()) -> Iterator[None]:
    """The module in eval mode; afterwards it and the `others` are as they were, and so are all random numbers.

    Weights are compared with a copy too: a forward pass may write into them at some values only.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    everything = list({id(m): m for top in (module, *others) for m in top.modules()}.values())
    with ExitStack() as stack:
        stack.enter_context(kept_random_states(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_eager())
        stack.enter_context(_unprofiled(everything))
        stack.enter_context(_copied_buffers(everything))
        stack.enter_context(_same_weights(everything))
        for one in (module, *others):
            stack.enter_context(untouched(one))
        stack.enter_context(evaluating(module))
        yield


def _eager() -> AbstractContextManager[Any]:
    """Compiled modules run as they were written: no recompilation for the sake of a measurement."""
    # without it nothing is compiled, and loading it takes seconds
    used = "torch._dynamo" in sys.modules
    stance = getattr(torch.compiler, "set_stance", None)
    if used and stance is not None:
        return stance("force_eager")
    return nullcontext()


def _unprofiled(modules: list[nn.Module]) -> AbstractContextManager[Any]:
    """Modules of torch.jit are optimized after some calls: ours are none of them, or training rounds otherwise."""
    if any(map(_scripted, modules)):
        return torch.jit.optimized_execution(False)
    return nullcontext()


@contextmanager
def _copied_buffers(modules: list[nn.Module]) -> Iterator[None]:
    """Buffers are copies meanwhile: a backward pass of the user's that is still to come meets none that was written."""
    kept = [(m._buffers, dict(m._buffers)) for m in modules if not _scripted(m) and m._buffers]
    shared: dict[int, Any] = {}
    for own, before in kept:
        for name, t in before.items():
            if t is not None:
                own[name] = shared.setdefault(id(t), t.detach().clone())

    def back() -> None:
        for own, before in kept:
            own.clear()
            own.update(before)

    try:
        yield
    finally:
        surely(back)


@contextmanager
def _same_weights(modules: list[nn.Module]) -> Iterator[None]:
    """Weights that changed meanwhile are put back."""
    own = {id(p): p for m in modules for p in m.parameters(recurse=False)}
    kept = [(p, p.detach().clone()) for p in own.values()]

    def back() -> None:
        with torch.no_grad():
            for p, before in kept:
                if not bool(((p == before) | (p.isnan() & before.isnan())).all()):
                    p.copy_(before)

    try:
        yield
    finally:
        surely(back)


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)
