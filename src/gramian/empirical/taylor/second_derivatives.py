"""Second derivatives along a direction of the parameters, and the check that torch has them right."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from gramian.empirical.jacobian_products.pushforward import along, along_forward, forward_by_backward, load_rules
from gramian.empirical.modules.arguments import Arguments
from gramian.empirical.modules.calling import call_at, plain
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.module_copy import copied
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.errors import BadArgument

Terms = tuple[Tensor, Tensor, Tensor]
STEP, TOLERANCE, TRIES = 1e-7, 1e-4, 3


def forward_over_forward(module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Arguments) -> Terms:
    r"""f(x; at), J step and $\partial^2 f[step, step]$, each of the output's shape."""

    def line(at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return along_forward(module, at, step, x)

    load_rules()
    (out, change), (_, second) = jvp(line, (at,), (step,))  # type: ignore[misc]
    return out, change, second


def three_backward(module: nn.Module, at: dict[str, Tensor], step: dict[str, Tensor], x: Arguments) -> Terms:
    r"""The same as the derivative of $w \mapsto \partial^2 \langle w, f \rangle[step, step]$, which is linear in w.

    Not as the first derivative's derivative: a third one by the parameters would go through it, and torch's are wrong
    for normalization layers.
    """
    train = torch.is_grad_enabled()
    with torch.enable_grad():
        at = {name: t.detach().requires_grad_() for name, t in at.items()}
        here, steps = list(at.values()), [step[name] for name in at]
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have one derivative
            out = call_at(module, at, x)
        change = forward_by_backward(out, here, steps, train)
        second = torch.zeros_like(out)
        if out.requires_grad:
            w = torch.zeros_like(out, requires_grad=True)
            slope = _slope(torch.autograd.grad(out, here, w, create_graph=True, allow_unused=True), steps)
            if slope is not None:
                bend = _slope(torch.autograd.grad(slope, here, create_graph=True, allow_unused=True), steps)
                if bend is not None:
                    (second,) = torch.autograd.grad(bend, w, create_graph=train, materialize_grads=True)
    return out.detach(), change, second


def _slope(grads: tuple[Tensor | None, ...], steps: list[Tensor]) -> Tensor | None:
    """The gradients' inner product with the step, None where it is constant."""
    parts = [(g * s).sum() for g, s in zip(grads, steps, strict=True) if g is not None and g.requires_grad]
    if parts:
        return torch.stack(parts).sum()
    return None


MODES = {"forward over forward": forward_over_forward, "three backward passes": three_backward}


def checked_mode(module: nn.Module, x: Arguments) -> str:
    """The first of `MODES` whose second derivative is the difference of first ones, in float64 on the first samples.

    And that runs in the module's own precision, for which torch may take other kernels.

    Raises:
        BadArgument: none is, or the samples are not plain tensors.
    """
    with differentiable_math(), torch.no_grad():
        try:
            changed = checked_backward(module, x.first().change(plain)).altered
            x = x.first(3).change(plain)
            row = x.change(lambda v: v.double() if v.is_floating_point() else v)
            wide = copied(module).double()
            at = {name: p.detach() for name, p in wide.named_parameters() if p.requires_grad}
            errors = {mode: _error(mode, wide, at, row) for mode in MODES}
        except RuntimeError as error:
            raise BadArgument(
                "The second derivatives of the module could not be checked.",
                where="the first call of a quadratic model",
                why=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
                fix="a module that takes float64; call the model once on x[:1] before it goes into vmap or compile",
            ) from error
        if changed:
            raise BadArgument(
                f"The module has no second-order model: {changed} changes its gradients.",
                where=type(module).__name__,
                why="its Jacobian is then none of the function that it computes, so there is no second derivative",
                fix="linearize(module), whose first-order model has the hooks in its Jacobian; or without the hooks",
            )
        for mode, off in errors.items():
            if off is not None and off <= TOLERANCE and _runs(mode, module, x):
                return mode
    told = ", ".join(f"{mode}: {'fails' if off is None else f'{off:.1%} off'}" for mode, off in errors.items())
    raise BadArgument(
        f"torch's second derivative of the module is not a derivative of its first one ({told}).",
        where=type(module).__name__,
        why="an operation whose rule in torch drops a term, as that of torch's parametrizations.weight_norm does; or a "
        "stop-gradient in the forward (detach, no_grad), past which the first derivative does not look",
        fix="write that operation in elementary ones (v * g / v.norm(dim=1, keepdim=True)), or linearize(module)",
    )


def _runs(mode: str, module: nn.Module, x: Arguments) -> bool:
    at = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    try:
        MODES[mode](module, at, {name: p.clone() for name, p in at.items()}, x)
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError):
        return False
    return True


def _error(mode: str, module: nn.Module, at: dict[str, Tensor], x: Arguments) -> float | None:
    """The least relative error over some directions: at a kink a difference says nothing."""
    errors = []
    for seed in range(TRIES):
        draw = torch.Generator().manual_seed(seed)
        step = {name: torch.randn(p.shape, generator=draw, dtype=p.dtype).to(p.device) for name, p in at.items()}
        try:
            _, change, second = MODES[mode](module, at, step, x)
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError):
            return None
        ahead, behind = (
            along(module, {name: p + sign * STEP * step[name] for name, p in at.items()}, step, x)[1]
            for sign in (1, -1)
        )
        # J(theta + e s) s - J(theta - e s) s = 2 e s' H s, up to e^3
        gap = float(((ahead - behind) / (2 * STEP) - second).norm())
        scale = max(float(second.norm()), 1e-4 * float(change.norm()))  # rounding is eps / STEP of the first derivative
        errors.append(gap / scale if scale else gap)
    return min(errors)
