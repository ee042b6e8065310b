"""A copy of a module that has nothing in common with it, also of those that `copy.deepcopy` refuses or half copies."""

from __future__ import annotations

import copy
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gramian.empirical.modules.calling import ASIDE
from gramian.empirical.modules.composed_outputs import own_module
from gramian.errors import BadArgument
from gramian.module_state.attributes import Attributes
from gramian.module_state.untouched import untouched

M = TypeVar("M", bound=nn.Module)


def copied(module: M, beside: Any = None) -> Any:
    """A deep copy; with `beside` a pair, of the module and of what holds its parameters too (an optimizer, say).

    What `copy.deepcopy` does not do:

    - tensors that a forward pass made and left on the module (the `weight` of the older weight_norm, spectral_norm and
      of pruning, which a hook makes anew at each call) are copied without their graph;
    - functions on the module that were made from it (a `forward` that was set on the instance, hooks) are made again
      from the copy;
    - parameters keep their gradient hooks.

    Raises:
        BadArgument: an attribute cannot be copied; names it.
    """
    with untouched(module):
        attributes = Attributes(module)
        memo: dict[int, Any] = {}
        for t in attributes.tensors:
            if not t.is_leaf:
                memo[id(t)] = t.detach().clone()
        own = {id(part) for part in attributes.parts} | {id(t) for t in attributes.tensors}
        rebound: dict[int, FunctionType] = {}
        for _, held in attributes.holders:
            for value in held.values() if isinstance(held, dict) else held:
                _rebind(value, own, memo, rebound)
        try:
            copies: Any = copy.deepcopy(module if beside is None else (module, beside), memo)
            _fill(rebound, memo)
        except Exception as error:
            raise BadArgument(
                f"The module cannot be copied: {(str(error).splitlines() or [type(error).__name__])[0]}",
                where=_where(module),
                why="what is trained or moved here is a copy, so that yours stays as it is",
                fix="keep locks, files and generators out of the module, or give it a __deepcopy__",
            ) from error
    if beside is None:
        twin = copies
    else:
        twin = copies[0]
    _own_of_scripted(module, twin)
    for t, u in zip(module.parameters(), twin.parameters(), strict=True):
        for hook in (t._backward_hooks or {}).values():
            u.register_hook(_again(hook, memo))
        if hasattr(t, ASIDE):
            setattr(u, ASIDE, tuple(_again(hook, memo) for hook in getattr(t, ASIDE)))
    return copies


def _own_of_scripted(module: nn.Module, twin: nn.Module) -> None:
    """Parameters of a copy of a scripted or traced module hang on those of the original by a graph: here it goes."""
    copies: dict[int, Tensor] = {}
    other: Any
    for part, other in zip(module.modules(), twin.modules(), strict=True):
        if isinstance(part, torch.jit.ScriptModule):
            for key, t in [*part._parameters.items(), *part._buffers.items()]:
                if t is not None and id(t) not in copies:
                    new = t.detach().clone()
                    if isinstance(t, nn.Parameter):
                        copies[id(t)] = nn.Parameter(new, t.requires_grad)
                    else:
                        copies[id(t)] = new
                if t is not None:
                    other._c.setattr(key, copies[id(t)])


def _rebind(value: Any, own: set[int], memo: dict[int, Any], rebound: dict[int, FunctionType]) -> None:
    """An empty twin of each function whose closure leads to the module, in `memo` before anything is copied."""
    if isinstance(value, MethodType):
        value = value.__func__
    if not isinstance(value, FunctionType) or id(value) in memo or not _leads(value, own, set()):
        return
    cells = tuple(CellType() for _ in value.__closure__ or ())
    twin = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
    twin.__kwdefaults__, twin.__dict__ = value.__kwdefaults__, dict(value.__dict__)
    memo[id(value)], rebound[id(value)] = twin, value
    for cell in value.__closure__ or ():
        _rebind(_inside(cell), own, memo, rebound)


def _leads(function: FunctionType, own: set[int], seen: set[int]) -> bool:
    seen.add(id(function))
    for cell in function.__closure__ or ():
        value = _inside(cell)
        if isinstance(value, MethodType):
            if id(value.__self__) in own:
                return True
            value = value.__func__
        if id(value) in own:
            return True
        if isinstance(value, FunctionType) and id(value) not in seen and _leads(value, own, seen):
            return True
    return False


def _inside(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty as yet
        return None


def _fill(rebound: dict[int, FunctionType], memo: dict[int, Any]) -> None:
    """The twins' closures, of copies."""
    for key, function in rebound.items():
        for cell, own in zip(memo[key].__closure__ or (), function.__closure__ or (), strict=True):
            value = _inside(own)
            if isinstance(value, MethodType):
                function_of = memo.get(id(value.__func__), value.__func__)
                cell.cell_contents = MethodType(function_of, copy.deepcopy(value.__self__, memo))
            elif isinstance(value, nn.Module | Tensor):
                cell.cell_contents = copy.deepcopy(value, memo)
            else:
                cell.cell_contents = memo.get(id(value), value)


def _again(hook: Any, memo: dict[int, Any]) -> Any:
    return memo.get(id(hook), hook)


def _where(module: nn.Module) -> str:
    """The first part whose own attributes cannot be copied."""
    for path, part in own_module(module).named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and isinstance(value, dict) and name in nn.Module().__dict__:
                continue
            try:
                copy.deepcopy(value.detach() if isinstance(value, torch.Tensor) else value)
            except Exception:
                return f"{path + '.' if path else ''}{name} ({type(value).__name__}) of {type(part).__name__}"
    return type(own_module(module)).__name__
