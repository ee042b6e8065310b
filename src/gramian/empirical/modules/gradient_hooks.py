"""What changes a module's gradients on their way back: hooks and custom functions; `calling.py` says what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gramian.empirical.modules.arguments import Arguments, Samples, arguments_of
from gramian.empirical.modules.calling import call_at, gradient_hooks, placed
from gramian.empirical.modules.composed_outputs import own_module, own_name
from gramian.empirical.modules.plain_gradients import named_errors
from gramian.errors import BadArgument

NOISE = 100  # times eps and the norm of all gradients: what rounding may leave in a gradient that is 0


@dataclass(frozen=True)
class Backward:
    """What was found.

    Attributes:
        hooked: names of the parameters that have gradient hooks; their gradients are no sums of outer products.
        inside: hooks of tensors or modules, which vmap and forward mode do not see, in words; empty if none.
        custom: a custom autograd function in the forward.
        past: parameters that the forward uses by another way than from their places in the module.
    """

    hooked: frozenset[str] = frozenset()
    inside: str = ""
    custom: str = ""
    past: tuple[str, ...] = ()

    @property
    def altered(self) -> str:
        """Why forward mode does not know this module's derivative; empty if it may."""
        return self.inside or (f"a gradient hook on `{min(self.hooked)}`" if self.hooked else "")

    def check_places(self, module: nn.Module) -> None:
        """Raises BadArgument if the module cannot be called at other values of its parameters."""
        if self.past:
            raise BadArgument(
                f"The forward uses the parameter {self.past[0]} past its place in the module.",
                where=type(module).__name__,
                why="a closure, a tuple or a function that was set on the module holds it, or a tensor that was "
                "computed from it once; so the module cannot be called at other values of it",
                fix="self.NAME in the forward, where it is used; empirical_ntk and jacobian take the module as it is",
            )


class _Hooks(TorchFunctionMode):
    """Notes hooks that a forward pass registers on its tensors."""

    registered = False

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.register_hook:
            self.registered = True
        return func(*args, **(kwargs or {}))


def checked_backward(
    module: nn.Module, x: Samples | Arguments, scores: Callable[[Any], Tensor] | None = None
) -> Backward:
    """Looks at one forward pass, and if something changes gradients there, whether the backward pass is linear.

    Args:
        module: as it stands.
        x: one sample.
        scores: the tensor to differentiate, from what the module returns; None: the first one in it.

    Raises:
        BadArgument: the backward pass is not linear in the vector that is pulled back, or leaves gradients where
            autograd does not see them; or hooks that act on `.grad` itself.
    """
    parameters: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    check_grad_hooks(module)
    hooked = frozenset(name for name, p in parameters.items() if _changes(module, name, p))
    given = arguments_of(x)
    # of tensors made in inference mode a copy
    detached = {name: p.detach().clone() if p.is_inference() else p.detach() for name, p in parameters.items()}
    here = {name: p.requires_grad_() for name, p in detached.items()}
    with torch.enable_grad(), _Hooks() as seen, named_errors():
        out = call_at(module, here, given)
    custom, leaves = _graph(out)
    inside = ""
    if seen.registered:
        inside = "the forward registers gradient hooks on its tensors"
    elif path := module_hooks(module):
        inside = f"a backward hook on {path}"
    if custom:
        function = f"the custom autograd function {custom[0]}"
    else:
        function = ""
    backward = Backward(hooked, inside, function, _past(leaves, here, parameters, given))
    if backward.altered or custom:
        with torch.enable_grad():
            root = _root(out, scores)
            if root is not None and root.requires_grad:
                _check_linear(module, here, root, backward)
                if custom:
                    _check_grad(module, here, given, root, scores)
    return backward


def _root(out: Any, scores: Callable[[Any], Tensor] | None) -> Tensor | None:
    """The tensor whose gradient is taken: the scores, or the first floating-point output."""
    if scores is not None:
        return scores(out)
    return next((t for t in tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()), None)


def _past(
    leaves: list[Tensor], here: dict[str, Tensor], parameters: dict[str, Tensor], x: Arguments
) -> tuple[str, ...]:
    placed_ones = {id(t) for t in here.values()}
    names = {id(p): name for name, p in parameters.items()}
    past = [t for t in leaves if id(t) not in placed_ones and (id(t) in names or isinstance(t, nn.Parameter))]
    described = []
    for t in past:
        if id(t) in names:
            described.append(f"`{names[id(t)]}`")
        else:
            described.append(f"of shape {tuple(t.shape)}")
    return tuple(described)


def _through_hooks(p: Tensor, g: Tensor) -> Tensor:
    """What the hooks of a parameter make of a gradient; they may also write into it."""
    g = g.clone()
    for hook in gradient_hooks(p):
        changed = hook(g)
        g = g if changed is None else changed
    return g


def _changes(module: nn.Module, name: str, p: Tensor) -> bool:
    """Whether a parameter's hooks do more than look on. Tried on dense numbers: one sample's gradient may be sparse.

    Raises:
        BadArgument: what they do is not linear.
    """
    if not gradient_hooks(p):
        return False
    draw = torch.Generator().manual_seed(0)
    g, h = (torch.randn(p.shape, generator=draw).to(p.device, p.dtype) for _ in range(2))
    scale = _scale(p.dtype)
    with torch.no_grad():
        of_g, of_h = _through_hooks(p, g), _through_hooks(p, h)
        for got, want in (
            (_through_hooks(p, g + h), of_g + of_h),
            (_through_hooks(p, scale * g), scale * of_g),
            (_through_hooks(p, g / scale), of_g / scale),
        ):
            if not float((got - want).norm()) <= torch.finfo(p.dtype).eps ** 0.5 * float(got.norm() + want.norm()):
                raise _not_linear(module, name, f"a gradient hook on `{own_name(name, module)}`")
        return not (torch.equal(of_g, g) and torch.equal(of_h, h))


def check_masks(module: nn.Module, x: Samples) -> None:
    """Raises BadArgument if hooks do more to gradients than set some of their entries to 0; `x`: two rows.

    Steps along hooked gradients are stable by the Jacobian of the hooked gradient; of a mask M it is M H, with the
    eigenvalues of the symmetric M H M that two backward passes give. Of any other hook these are others.
    """
    backward = checked_backward(module, x)
    parameters = dict(module.named_parameters())
    bad = backward.inside
    for name in backward.hooked:
        g = torch.randn(parameters[name].shape, generator=torch.Generator().manual_seed(1)).to(parameters[name])
        with torch.no_grad():
            once = _through_hooks(parameters[name], g)
            if not torch.allclose(_through_hooks(parameters[name], once), once):
                bad = f"a gradient hook on `{own_name(name, module)}`"
    if bad:
        raise BadArgument(
            f"{bad[0].upper()}{bad[1:]} changes the gradients by more than a mask.",
            where=type(own_module(module)).__name__,
            why="which rates are stable then depends on it, and the Hessian does not know",
            fix="a rate of its own for these parameters, in the optimizer's groups, in place of the hook",
        )


def _scale(dtype: torch.dtype) -> float:
    """A power of two scales without rounding; a threshold (clipping) lies between the two sides, or beyond both."""
    if torch.finfo(dtype).max < 1e6:
        return 2.0**8
    return 2.0**20


def _not_linear(module: nn.Module, name: str, what: str) -> BadArgument:
    return BadArgument(
        f"The backward pass is not linear: the gradient of `{own_name(name, module)}` is no Jacobian times a vector.",
        where=f"{type(own_module(module)).__name__}: {what}",
        why="a hook or a backward that clips, normalizes, takes signs or adds noise, so that there is no "
        "tangent kernel that training follows",
        fix="hooks that multiply gradients by fixed numbers (masks, scales), and clipping in the "
        "training loop; or remove the hook: handle.remove()",
    )


def module_hooks(module: nn.Module) -> str:
    if global_hooks._global_backward_hooks or global_hooks._global_backward_pre_hooks:
        return "all modules (register_module_full_backward_hook)"
    for path, part in module.named_modules():
        if part._backward_hooks or getattr(part, "_backward_pre_hooks", None):
            return f"{own_name(path, module) or 'the module'} ({type(part).__name__})"
    return ""


def _graph(out: Any) -> tuple[list[str], list[Tensor]]:
    """Names of the Python functions in the graph, and the leaves that it comes to."""
    custom: list[str] = []
    leaves: list[Tensor] = []
    todo = [t.grad_fn for t in tree_leaves(out) if isinstance(t, Tensor)]
    done: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in done:
            continue
        done.add(node)
        name = type(node).__name__
        if isinstance(node, torch.autograd.function.BackwardCFunction) and not name.startswith("BackwardHook"):
            custom.append(name.removesuffix("Backward"))
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
        todo.extend(below for below, _ in node.next_functions)
    return custom, leaves


def _check_linear(module: nn.Module, parameters: dict[str, Tensor], out: Tensor, backward: Backward) -> None:
    draw = torch.Generator().manual_seed(0)
    v, w = (torch.randn(out.shape, generator=draw).to(out) for _ in range(2))
    scale = _scale(out.dtype)

    def pull(v: Tensor) -> list[Tensor | None]:
        with named_errors():
            return list(torch.autograd.grad(out, list(parameters.values()), v, retain_graph=True, allow_unused=True))

    of_v, of_w = pull(v), pull(w)
    trials = [(pull(v + w), 1.0, 1.0), (pull(scale * v), scale, 0.0), (pull(v / scale), 1 / scale, 0.0)]
    eps = torch.finfo(out.dtype).eps
    tolerance = eps**0.5
    for pulled, a, b in trials:
        # a bias before batch normalization has a gradient of 0 in theory: what is there is rounding of the others'
        noise = NOISE * eps * float(sum(g.norm() ** 2 for g in pulled if g is not None)) ** 0.5
        for name, g, h, k in zip(parameters, pulled, of_v, of_w, strict=True):
            if g is None or h is None or k is None:
                continue
            off = float((g - (a * h + b * k)).norm())
            if not off <= noise + tolerance * float(a * h.norm() + abs(b) * k.norm() + g.norm()):
                raise _not_linear(module, name, backward.altered or backward.custom)


def _check_grad(
    module: nn.Module,
    here: dict[str, Tensor],
    x: Arguments,
    out: Tensor,
    scores: Callable[[Any], Tensor] | None,
) -> None:
    """Whether `backward` gives what `autograd.grad` does: a function may recompute, and call `backward` inside."""
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(out.shape, generator=draw).to(out)
    expected = torch.autograd.grad(out, list(here.values()), v, retain_graph=True, allow_unused=True)
    again = {name: t.detach().clone().requires_grad_() for name, t in here.items()}
    with placed(module, again):
        args, kwargs = x.change(Tensor.clone)
        root = _root(module(*args, **kwargs), scores)
        assert root is not None
        root.backward(v)
    tolerance = torch.finfo(out.dtype).eps ** 0.5
    for (name, t), g in zip(again.items(), expected, strict=True):
        got, want = (torch.zeros_like(t) if g is None else g for g in (t.grad, g))
        if not float((got - want).norm()) <= tolerance * float(got.norm() + want.norm()):
            raise BadArgument(
                f"`backward` gives `{name}` another gradient than torch.autograd.grad.",
                where=f"{type(module).__name__}: a custom autograd function in its forward",
                why="the function recomputes its part of the network in its backward and calls `backward` there, "
                "which autograd.grad does not see",
                fix="torch.utils.checkpoint.checkpoint(..., use_reentrant=False) in its place",
            )


def check_grad_hooks(module: nn.Module) -> None:
    """Raises BadArgument for hooks that act on `.grad` after it was added up."""
    for name, p in module.named_parameters():
        if getattr(p, "_post_accumulate_grad_hooks", None):
            raise BadArgument(
                f"The parameter `{name}` has a hook that acts on its `.grad` after it was added up.",
                where=f"{type(module).__name__}.{name} (register_post_accumulate_grad_hook)",
                why="what it makes of the gradient is seen by the optimizer alone, and may be anything, a step too",
                fix="a mask or a scale as p.register_hook(lambda g: mask * g); else remove the hook while you measure",
            )
