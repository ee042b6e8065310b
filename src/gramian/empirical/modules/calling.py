r"""Calling a user's module: the one place where it is run, as it stands or at other values of its parameters.

**What "derivative" means here.** The Jacobian J of a module is what backward passes give: $J^\top v$ is what
`(v * module(x)).sum().backward()` adds to the parameters' gradients, so it is what training sees. What the forward
detaches (`detach`, `no_grad`) has no derivative; a custom `autograd.Function` has the one that its backward says
(straight-through, gradient reversal); gradient hooks count, those of parameters (`p.register_hook`), of tensors in
the forward and of modules (`register_full_backward_hook`). All functions use this J, and the kernel is $J J^\top$. Of a
hook that masks the gradient (a projection M) that is the kernel of training, as $J_0 M M^\top J_0^\top = J_0 M
J_0^\top$ with $J_0$ the Jacobian without hooks. Forward mode knows nothing of hooks and of `no_grad`: where it differs
from the backward pass, two backward passes are taken. A backward pass that is not linear (clipping in a hook) is no
Jacobian, and refused.

**What a call does.** The module finds its inputs in copies, no checkpoint recomputes anything (the values that were
put in are gone by then), and afterwards each attribute is what it was. Values are put in by place: everywhere in the
module where the parameter itself is found, under however many names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint as checkpoints
from torch.utils._pytree import tree_map_only

from gramian.empirical.modules.arguments import Arguments, Samples, copied_arguments_of
from gramian.module_state.attributes import Attributes
from gramian.module_state.untouched import MOST_COPIED_BYTES, Loan, loan_of, surely, untouched


def plain(x: Tensor) -> Tensor:
    """The same numbers without a graph, outside inference mode."""
    return x.detach().clone()


def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """f(x) at the parameters as they stand."""
    return call_at(module, {}, Arguments(args, kwargs))


def call_at(
    module: nn.Module, at: Mapping[str, Tensor], x: Samples | Arguments, watched: AbstractContextManager | None = None
) -> Any:
    """f(x; at); parameters and buffers that are not in `at` are the module's own. `watched` is on during the call."""
    args, kwargs = copied_arguments_of(x)
    with _placed(module, at):
        if watched is None:
            return module(*args, **kwargs)
        with watched:
            return module(*args, **kwargs)


@contextmanager
def lent(module: nn.Module, quiet: bool = False, most: int = MOST_COPIED_BYTES) -> Iterator[Loan | None]:
    """`untouched`, for many calls between which nobody changes the module's attributes: they are read once for all.

    Each call still brings them back. Who switches modes or adds hooks between calls takes `untouched` itself.
    """
    with untouched(module, quiet, most) as loan:
        if id(module) in _read_once:
            yield loan
            return
        if loan is None:
            _read_once[id(module)] = Attributes(module)
        else:
            _read_once[id(module)] = loan.attributes
        try:
            yield loan
        finally:

            def forget() -> None:
                _read_once.pop(id(module), None)

            surely(forget)


_read_once: dict[int, Attributes] = {}  # by the id of the module that is lent


@contextmanager
def placed(module: nn.Module, at: Mapping[str, Tensor]) -> Iterator[None]:
    """As in `call_at`, for as long as it is open: a backward pass that runs the module again finds the same values."""
    with _placed(module, at):
        yield


@contextmanager
def _placed(module: nn.Module, at: Mapping[str, Tensor]) -> Iterator[None]:
    """Meanwhile the module has these tensors for its own; all its attributes come back, whatever happens.

    No checkpoint recomputes, and no fused layer takes the place of its parts, which alone have derivatives.
    """
    attributes = _read_once.get(id(module)) or Attributes(module)
    loan = loan_of(attributes)
    scripted: list[tuple[Any, str, Tensor]] = []
    values = _by_place(module, at)
    if loan is not None:  # each call finds the buffers that it writes into as they were
        for t in attributes.tensors:
            if id(t) in loan.written and id(t) not in values and not isinstance(t, nn.Parameter):
                values[id(t)] = t.detach().clone()
    fast = torch.backends.mha.get_fastpath_enabled()
    checkpoint = [(name, getattr(checkpoints, name, None)) for name in ("CheckpointFunction", _GENERATOR)]
    try:
        _keep_to_plain_functions(fast, checkpoint)
        if values:
            _put_in(attributes, values, scripted)
        if loan is None:
            yield
        else:
            with loan.one_call(values):
                yield
    finally:

        def back() -> None:
            for part, key, own in scripted:
                part._c.setattr(key, own)
            attributes.bring_back()
            if fast:
                torch.backends.mha.set_fastpath_enabled(True)
            for name, function in checkpoint:
                if function is not None:
                    setattr(checkpoints, name, function)

        surely(back)


def _by_place(module: nn.Module, at: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """The values by the id of the tensor in whose places they go; a parameter's hooks go with them."""
    if not at:
        return {}
    named: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
    named.update(module.named_parameters(remove_duplicate=False))
    return {id(named[name]): _with_hooks(named[name], value) for name, value in at.items()}


def _with_hooks(own: Tensor, value: Tensor) -> Tensor:
    """The value with the gradient hooks of the parameter for which it stands."""
    hooks = gradient_hooks(own)
    if not hooks or not value.requires_grad:
        return value
    value = value.view_as(value)  # hooks hang on this use of it alone
    with torch._C.DisableTorchFunction():  # not seen by who looks for hooks of the forward pass itself
        for hook in hooks:
            value.register_hook(hook)
    return value


def gradient_hooks(parameter: Tensor) -> tuple[Callable, ...]:
    """The hooks of a parameter's gradient; those of a Taylor model's copy lie aside (see `lay_aside`)."""
    if parameter.is_leaf:
        own = parameter._backward_hooks
    else:
        own = None
    return (*getattr(parameter, ASIDE, ()), *(own or {}).values())


def hooked_ones(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of the parameters that have hooks of their gradient, or of their `.grad`."""
    return [
        p
        for p in parameters
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) or hasattr(p, ASIDE)
    ]


def lay_aside(parameter: Tensor) -> None:
    """Takes the hooks off a parameter and keeps them on it for `call_at`: a Taylor model is linear in its step, and
    its J has the hooks already, so that they must not act once more on the step's own gradient."""
    hooks = gradient_hooks(parameter)
    if hooks:
        setattr(parameter, ASIDE, hooks)
        if parameter._backward_hooks:
            parameter._backward_hooks.clear()


ASIDE = "gradient_hooks_laid_aside"


def _put_in(attributes: Attributes, values: dict[int, Tensor], scripted: list[tuple[Any, str, Tensor]]) -> None:
    for holder, held in attributes.holders:
        for key, own in held.items() if isinstance(held, dict) else enumerate(held):
            if id(own) in values and isinstance(holder, dict | list):
                holder[key] = values[id(own)]
    for part in attributes.parts:
        if isinstance(part, torch.jit.ScriptModule):
            for key, own in [*part._parameters.items(), *part._buffers.items()]:
                if own is not None and id(own) in values:
                    scripted.append((part, key, own))
                    part._c.setattr(key, values[id(own)])


def _keep_to_plain_functions(fast: bool, checkpoint: list[tuple[str, Any]]) -> None:
    """Switches fused attention layers off, and puts ours in the place of the functions that recompute."""
    if fast and not torch.compiler.is_compiling():
        torch.backends.mha.set_fastpath_enabled(False)
    if all(function is not None for _, function in checkpoint):
        checkpoints.CheckpointFunction = _Reentrant  # type: ignore[assignment,misc]
        setattr(checkpoints, _GENERATOR, _not_reentrant)


_GENERATOR = "_checkpoint_without_reentrant_generator"


class _Reentrant:
    """A reentrant checkpoint without recomputation: where no input has a gradient, nothing in it has one."""

    @staticmethod
    def apply(function: Callable, preserve: bool, *args: Any) -> Any:
        if any(isinstance(t, Tensor) and _moves(t) for t in args):
            return function(*args)
        with torch.no_grad():
            return tree_map_only(Tensor, Tensor.detach, function(*args))  # forward mode knows nothing of no_grad


def _moves(t: Tensor) -> bool:
    """Whether it has a derivative, of either mode, under whatever transforms."""
    if t.requires_grad or torch.autograd.forward_ad.unpack_dual(t).tangent is not None:
        return True
    inside = torch._C._functorch
    return inside.is_functorch_wrapped_tensor(t) and _moves(inside.get_unwrapped(t))


def _not_reentrant(
    fn: Callable, preserve: bool = True, context: Callable = checkpoints.noop_context_fn, *args: Any, **kwargs: Any
) -> Iterator[None]:
    with context()[0]:
        yield
