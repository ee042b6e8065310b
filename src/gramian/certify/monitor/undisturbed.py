"""What a measurement may touch of the user's run, and puts back: mode, buffers, attributes, weights, random numbers."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gramian.train.forward import evaluating

PARTS = ("_parameters", "_buffers", "_modules")  # their contents are looked after by themselves
LISTS = (list, dict, set, deque)


@contextmanager
def undisturbed(module: nn.Module, others: Iterable[nn.Module] = (), *, weights: bool = False) -> Iterator[list[str]]:
    """The module in eval mode; afterwards it and the `others` are as they were, and so are all random numbers.

    Buffers are copies meanwhile, so that no backward pass of the user's meets a changed one. A forward pass that writes
    into weights is rare: `weights` says that they are compared and put back; the list that it
    gives then has their names.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    everything = list({id(m): m for top in (module, *others) for m in top.modules()}.values())
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the one that modules draw from)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_eager())
        stack.enter_context(_unprofiled(everything))
        stack.enter_context(_attributes(everything))
        stack.enter_context(_containers(everything))
        stack.enter_context(_copied_buffers(everything))
        stack.enter_context(_copied_weights(everything))
        written: list[str] = []
        if weights:
            stack.enter_context(_same_weights(everything, written))
        stack.enter_context(evaluating(module))
        try:
            yield written
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _eager() -> AbstractContextManager[Any]:
    """Compiled modules run as they were written: no recompilation for the sake of a measurement."""
    used = "torch._dynamo" in sys.modules  # else nothing is compiled, and loading it takes seconds
    stance = getattr(torch.compiler, "set_stance", None)
    return stance("force_eager") if used and stance is not None else nullcontext()


def _unprofiled(modules: list[nn.Module]) -> AbstractContextManager[Any]:
    """Modules of torch.jit are optimized after some calls: ours are none of them, or training rounds otherwise."""
    return torch.jit.optimized_execution(False) if any(map(_scripted, modules)) else nullcontext()


@contextmanager
def _containers(modules: list[nn.Module]) -> Iterator[None]:
    """The very same parameters and children, whatever a derivative put in their place."""
    kept: list[tuple[Any, dict[str, Any]]] = [
        (own, dict(own)) for m in modules if not _scripted(m) for own in (m._parameters, m._modules)
    ]
    try:
        yield
    finally:
        for own, before in kept:
            if _differs(own, before):
                own.clear()
                own.update(before)


@contextmanager
def _copied_buffers(modules: list[nn.Module]) -> Iterator[None]:
    kept = [(m._buffers, dict(m._buffers)) for m in modules if m._buffers and not _scripted(m)]
    for own, before in kept:
        own.update({name: t if t is None else t.detach().clone() for name, t in before.items()})
    try:
        yield
    finally:
        for own, before in kept:
            own.clear()
            own.update(before)


@contextmanager
def _copied_weights(modules: list[nn.Module]) -> Iterator[None]:
    """Tables of embeddings with a largest norm are scaled by a mere forward pass."""
    tables = {id(m.weight): m.weight for m in modules if getattr(m, "max_norm", None) is not None}
    kept = [(p, p.data) for p in tables.values() if isinstance(p, Tensor)]
    for p, before in kept:
        p.data = before.clone()
    try:
        yield
    finally:
        for p, before in kept:
            p.data = before


@contextmanager
def _same_weights(modules: list[nn.Module], written: list[str]) -> Iterator[None]:
    """Weights that changed meanwhile are put back, and named."""
    kept = [(n, p, p.detach().clone()) for m in modules for n, p in m.named_parameters(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, p, before in kept:
                if not torch.equal(p, before) and not bool(((p == before) | (p.isnan() & before.isnan())).all()):
                    p.copy_(before)
                    written.append(name)


@contextmanager
def _attributes(modules: list[nn.Module]) -> Iterator[None]:
    """Plain attributes of modules, and what their lists and dicts hold; tensors among them with their numbers."""
    kept = [(m, dict(m.__dict__)) for m in modules if not _scripted(m)]
    inside = [(v, _contents(v)) for _, was in kept for name, v in was.items() if name not in PARTS and _is_list(v)]
    state = [(v, v.clone()) for _, was in kept for v in was.values() if isinstance(v, Tensor) and not v.requires_grad]
    try:
        yield
    finally:
        for m, was in kept:
            if _differs(m.__dict__, was):
                for name in set(m.__dict__) - set(was):
                    del m.__dict__[name]
                m.__dict__.update(was)
        for value, before in inside:
            if not _same_contents(value, before):
                value.clear()
                value.update(before) if isinstance(value, dict | set) else value.extend(before)
        for tensor, numbers in state:
            if not torch.equal(tensor, numbers):
                tensor.copy_(numbers)


def _is_list(value: Any) -> bool:
    return isinstance(value, LISTS)


def _contents(value: Any) -> Any:
    return list(value) if isinstance(value, list | deque) else value.copy()


def _same_contents(value: Any, before: Any) -> bool:
    if len(value) != len(before):
        return False
    if isinstance(value, dict):
        return all(name in before and one is before[name] for name, one in value.items())
    return value == before if isinstance(value, set) else all(a is b for a, b in zip(value, before, strict=True))


def _differs(now: dict[str, Any], was: dict[str, Any]) -> bool:
    return len(now) != len(was) or any(name not in was or value is not was[name] for name, value in now.items())


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)
