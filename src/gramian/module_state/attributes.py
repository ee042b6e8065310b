"""The attributes of a module's parts, with all that hangs in their lists and dicts, to be brought back later."""

from __future__ import annotations

from collections import deque
from operator import is_
from typing import Any

import torch
from torch import Generator, Tensor, nn

ATOMS = {str, int, float, bool, complex, bytes, type, type(None), torch.dtype, torch.device, torch.Size}
EMPTY: dict[Any, Any] = {}


class Attributes:
    """The attributes of a module's parts and all lists, dicts and sets in them, to be brought back as they are now.

    Parts are its submodules, those that only a plain list, tuple or dict holds too. What changes in the values of the
    `tensors` is no matter of this class.

    Attributes:
        parts: the modules, each once.
        holders: lists and dicts, among them the parts' `_parameters` and `_buffers`, with what they held.
        tensors: all tensors that were found, each once.
        generators: random number generators.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parts: list[nn.Module] = []
        self.holders: list[tuple[Any, Any]] = []
        self.tensors: list[Tensor] = []
        self.generators: list[Generator] = []
        self._kinds: list[type] = []
        self._slots: list[tuple[nn.Module, str, Any]] = []
        seen: set[int] = set()
        todo: list[Any] = [module]
        while todo:
            value = todo.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                self.tensors.append(value)
            elif isinstance(value, dict):
                if value:
                    self.holders.append((value, dict(value)))
                    todo += [v for v in value.values() if type(v) not in ATOMS]
                else:
                    self.holders.append((value, EMPTY))
            elif isinstance(value, list | set | deque):
                self.holders.append((value, list(value)))
                todo += [v for v in value if type(v) not in ATOMS]
            elif isinstance(value, tuple):
                todo += [v for v in value if type(v) not in ATOMS]
            elif isinstance(value, nn.Module):
                self._part(value, todo)
            elif isinstance(value, Generator):
                self.generators.append(value)

    def _part(self, part: nn.Module, todo: list[Any]) -> None:
        self.parts.append(part)
        self._kinds.append(type(part))
        todo.append(part.__dict__)
        for kind in type(part).__mro__:
            names = kind.__dict__.get("__slots__", ())
            if isinstance(names, str):
                names = (names,)
            for name in names:
                if name not in ("__dict__", "__weakref__") and hasattr(part, name):
                    self._slots.append((part, name, getattr(part, name)))
                    todo.append(self._slots[-1][2])
        if isinstance(part, torch.jit.ScriptModule):  # what it holds lies in C++
            todo.extend([*part.children(), *part.parameters(recurse=False), *part.buffers(recurse=False)])

    def bring_back(self) -> None:
        """Every attribute, and what is in the lists and dicts; only what has changed is written."""
        for part, kind in zip(self.parts, self._kinds, strict=True):
            if type(part) is not kind:
                part.__class__ = kind
        for part, name, value in self._slots:
            if getattr(part, name, self) is not value:
                setattr(part, name, value)
        for holder, held in self.holders:
            _refill(holder, held)


def _refill(holder: Any, held: Any) -> None:
    if not holder and not held:
        return
    same = len(holder) == len(held) and all(map(is_, holder, held))  # of a dict these are the keys
    if isinstance(holder, dict):
        same = same and all(map(is_, holder.values(), held.values()))
    if same:
        return
    holder.clear()
    if isinstance(holder, dict | set):
        holder.update(held)
    else:
        holder.extend(held)
