"""Derivatives along a direction of the parameters."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from gramian.empirical.modules.arguments import Arguments, Samples, arguments_of
from gramian.empirical.modules.calling import call_at, plain
from gramian.empirical.modules.checks import check_product
from gramian.empirical.modules.plain_gradients import (
    differs,
    gradients,
    gradients_along,
    marks,
    named_errors,
    right_batch_norm,
    tolerance,
)
from gramian.module_state.random_numbers import kept_random_states

FORWARD, BACKWARD, EACH = "forward mode", "two backward passes", "a backward pass for each output"
WAYS = (FORWARD, BACKWARD, EACH)
_checked: WeakKeyDictionary[nn.Module, dict[Any, str]] = WeakKeyDictionary()  # what `along` found out about a module


def along(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Samples | Arguments, *, way: str | None = None
) -> tuple[Tensor, Tensor]:
    """f(x; at) and J step, each of the output's shape; parameters not in `at` are the module's own.

    `way`: one of `WAYS`, as `checked_way` gives it. None: that is asked once for a module and a shape of inputs; inside
    a `vmap` or `grad`, which show no numbers, it is forward mode, or if that fails two backward passes.
    """
    if way is None and torch._C._functorch.peek_interpreter_stack() is not None:  # inside a vmap or grad of the user's
        try:
            return along_forward(module, at, step, x)
        except (NotImplementedError, RuntimeError):
            return _along_twice_backward(module, at, step, x)
    if way is None:
        way = _known_way(module, at, x)
    if way == FORWARD:
        return along_forward(module, at, step, x)
    if way == BACKWARD:
        return _along_twice_backward(module, at, step, x)
    return _along_each(module, at, step, x)


def _known_way(module: nn.Module, at: dict[str, Tensor], x: Samples | Arguments) -> str:
    """The checked way, from the last call that was like this one."""
    tensors = arguments_of(x).tensors()
    key = (*at, *((t.shape[1:], t.dtype, t.device) for t in tensors), module.training)
    known = _checked.setdefault(module, {})
    if key not in known:
        known[key] = checked_way(module, at, x)[0]
    return known[key]


def checked_way(
    module: nn.Module,
    at: dict[str, Tensor],
    x: Samples | Arguments,
    pulled: tuple[Tensor, dict[str, Tensor]] | None = None,
    against: str = "",
    trained: bool = False,
) -> tuple[str, str]:
    r"""The first of `WAYS` that agrees with a backward pass on this module, and what speaks against forward mode.

    Some of torch's forward-mode rules are wrong without a word, and second derivatives are missing for some operations.
    So $\langle w, J u\rangle = \langle J^\top w, u\rangle$ is checked on the first samples for one random pair.

    Args:
        module: any module; samples may depend on each other.
        at: the parameters that move.
        x: inputs; three samples of them are used.
        pulled: w and J^T w of these samples, where they are known; else by one backward pass.
        against: what is known to speak against forward mode.
        trained: the step is to be trained, so the gradient of <w, J u> with respect to u must be J^T w as well: some
            forward-mode rules have no derivative, or NaN where the backward pass has 0.

    Raises:
        BadArgument: torch has no backward pass of the module.
        BadData: the step is to be trained, and a derivative is not finite.
    """
    rows = arguments_of(x).first(3).change(plain)
    draw = torch.Generator().manual_seed(0)
    with kept_random_states(next(iter(at.values())).device), torch.enable_grad():
        w, down = _pull_few(module, at, rows, draw) if pulled is None else pulled
        if trained:
            check_product(module, down.values(), ())
        u = _step_seen_in_all(down, draw)
        parts = [float((d * u[name]).sum(dtype=torch.float64)) for name, d in down.items()]
        why = against
        for way in WAYS[bool(against) : -1]:
            torch.manual_seed(0)
            here = {name: t.detach() for name, t in at.items()}
            said = _why_not(way, module, here, u, rows, w, parts)
            if not said and trained:
                said = _why_not_trained(way, module, here, u, rows, w, down)
            if not said:
                return way, why
            why = why or said
    return EACH, why


def _pull_few(
    module: nn.Module, at: dict[str, Tensor], x: Arguments, draw: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """A random w, and J^T w."""
    torch.manual_seed(0)  # a module that draws numbers draws the same ones in each pass
    here = {name: t.detach().requires_grad_() for name, t in at.items()}
    out = call_at(module, here, x)
    w = torch.randn(out.shape, generator=draw).to(out)
    return w, dict(zip(at, gradients_along(out, w, list(here.values())), strict=True))


def _step_seen_in_all(gradient: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """A random step that changes the product as much by each parameter, so that an error in one of them shows."""
    sizes = {name: float(g.norm()) for name, g in gradient.items()}
    least = (
        max(sizes.values(), default=0.0) * max((torch.finfo(g.dtype).eps for g in gradient.values()), default=0) ** 0.25
    )
    step = {}
    for name, g in gradient.items():
        scale = max(sizes[name], least)
        step[name] = torch.randn(g.shape, generator=draw).to(g) / (scale if scale > 0 else 1.0)
    return step


def _why_not(
    way: str,
    module: nn.Module,
    at: dict[str, Tensor],
    u: dict[str, Tensor],
    x: Arguments,
    w: Tensor,
    parts: list[float],
) -> str:
    """What speaks against a way: torch's error, or another product than that of a backward pass; empty if nothing."""
    try:
        with torch.no_grad():
            change = along(module, at, u, x, way=way)[1].detach()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an operation without a rule
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    products = w.reshape(change.shape).double() * change.double()
    ours = float(products.sum())
    size = float(products.norm()) + sum(p * p for p in parts) ** 0.5
    if not abs(ours - sum(parts)) <= 10 * torch.finfo(w.dtype).eps ** 0.5 * size:
        return f"{way} gives {ours:.6g} for a product that is {sum(parts):.6g} by a backward pass"
    return ""


def _why_not_trained(
    way: str,
    module: nn.Module,
    at: dict[str, Tensor],
    u: dict[str, Tensor],
    x: Arguments,
    w: Tensor,
    down: dict[str, Tensor],
) -> str:
    """What speaks against training a step that goes this way; empty if its gradient is that of a backward pass."""
    step = {name: t.detach().requires_grad_() for name, t in u.items()}
    try:
        change = along(module, at, step, x, way=way)[1]
        grads = gradients((change * w.reshape(change.shape)).sum(), list(step.values()))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a rule without a derivative of its own
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    said = differs(marks(grads), marks(list(down.values())), tolerance(w.dtype))
    if said:
        return f"the gradient of {way} by its step is {said}"
    return ""


def _along_each(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Samples | Arguments
) -> tuple[Tensor, Tensor]:
    """The same from the gradient of one number after another: right wherever there is a backward pass."""
    with torch.enable_grad():
        here = {name: t.detach().requires_grad_() for name, t in at.items()}
        with named_errors():
            out = call_at(module, here, x)
        right_batch_norm(out)
        flat = out.reshape(-1)
        rows = [gradients(number, list(here.values()), keep_graph=True) for number in flat]
    change = [torch.stack([(g * step[name]).sum() for name, g in zip(at, row, strict=True)]).sum() for row in rows]
    return out.detach(), torch.stack(change).reshape(out.shape).to(out.dtype)


def along_forward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Samples | Arguments
) -> tuple[Tensor, Tensor]:
    load_rules()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        out, change = jvp(lambda at: call_at(module, at, x), (at,), (step,))  # type: ignore[misc]
    return out, change


def _along_twice_backward(
    module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Samples | Arguments
) -> tuple[Tensor, Tensor]:
    """The same as the derivative of w -> J^T w: slower, and for every twice differentiable module."""
    train = torch.is_grad_enabled()
    with torch.enable_grad():
        at = {name: t.detach().requires_grad_() for name, t in at.items()}
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have one derivative
            out = call_at(module, at, x)
        change = forward_by_backward(out, list(at.values()), [step[name] for name in at], train)
    return out.detach(), change


def forward_by_backward(out: Tensor, at: list[Tensor], step: list[Tensor], create_graph: bool) -> Tensor:
    """The derivative of `out` along `step`, as the derivative of w -> J^T w."""
    if not out.requires_grad:
        return torch.zeros_like(out)
    right_batch_norm(out)
    # J^T w is linear in w, and <J^T w, step> = <w, J step>: its derivative by w is J step, at any w
    w = torch.zeros_like(out, requires_grad=True)
    down = torch.autograd.grad(out, at, w, create_graph=True, allow_unused=True)
    used = [(d, s) for d, s in zip(down, step, strict=True) if d is not None and d.requires_grad]
    if not used:
        return torch.zeros_like(out)
    (change,) = torch.autograd.grad(
        [d for d, _ in used], w, [s for _, s in used], create_graph=create_graph, materialize_grads=True
    )
    return change


@cache
def load_rules() -> None:
    """torch loads its forward-mode rules at the first use, by a function that it has deprecated itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
