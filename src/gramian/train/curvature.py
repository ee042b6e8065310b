r"""Curvature of any loss along the network's outputs: the largest eigenvalue that a step of an optimizer meets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gramian.empirical.call import call
from gramian.empirical.forward import along
from gramian.errors import BadArgument
from gramian.gram.krylov import top_eigenvalue
from gramian.train.forward import evaluating, passes

TOLERANCE = 1e-3
ON_DEVICE = 2**24  # parameters; of larger networks Lanczos' vectors stay out of a GPU's memory
LossOf = Callable[[Tensor, Tensor], Tensor]


def gauss_newton_product(
    module: nn.Module, x: Tensor, y: Tensor, loss: LossOf, v: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    r"""$J^\top H J v$ by name: J the Jacobian of the outputs on x, H the Hessian of the loss in the outputs."""
    here = {name: p.detach() for name, p in module.named_parameters() if name in v}
    rows = passes(module, x)
    with torch.no_grad():
        parts = [along(module, here, dict(v), part) for part in rows]
    out, change = (torch.cat(found) for found in zip(*parts, strict=True))
    curved = loss_hessian_product(loss, out, y, change.reshape(out.shape))
    weights = {name: p for name, p in module.named_parameters() if name in v}
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    with torch.enable_grad():
        for part, pull in zip(rows, curved.split([len(part) for part in rows]), strict=True):
            found = torch.autograd.grad(call(module, part), list(weights.values()), pull, allow_unused=True)
            for name, g in zip(total, found, strict=True):
                total[name] += 0 if g is None else g
    return total


def loss_hessian_product(loss: LossOf, outputs: Tensor, y: Tensor, u: Tensor) -> Tensor:
    """H u for the Hessian H of the loss in the outputs; shape of `outputs`. Zero for a loss that is linear there."""
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        value = loss(outputs, y)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise BadArgument(
                f"The loss gives {shape}, not one number.",
                where="the loss, called with the module's outputs and the targets",
                why='a loss per sample (reduction="none"), or something that is not a tensor',
                fix='reduction="mean" or "sum"',
            )
        (slope,) = torch.autograd.grad(value, outputs, create_graph=True, materialize_grads=True)
        if not slope.requires_grad:
            return torch.zeros_like(outputs)
        (product,) = torch.autograd.grad(slope, outputs, u.to(slope.dtype), materialize_grads=True)
    return product


def sharpness(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: LossOf,
    scale: Mapping[str, Tensor | float] | None = None,
    *,
    decay: float = 0.0,
    tolerance: float = TOLERANCE,
) -> float:
    r"""Largest eigenvalue of $P^{-1/2} (J^\top H J + w) P^{-1/2}$: what a step $-\eta P^{-1} \nabla L$ meets.

    $J^\top H J$ is the Gauss-Newton matrix of the loss as the user computes it (mean or sum), on these samples in eval
    mode. A dozen or two vectors of the parameters' size are held (2 GiB at most, or 8), and no matrix. The result is a
    Ritz value of Lanczos' method: never above the true one, more than `tolerance` below it in one case of a thousand.

    Args:
        module: any module with one output tensor.
        x: inputs; shape (n, *in_shape).
        y: targets, in the form that `loss` takes.
        loss: `loss(outputs, y)`, one number, twice differentiable in the outputs.
        scale: $P^{-1/2}$ by parameter name, tensors of the parameters' shapes or numbers; 1 where there is none.
        decay: weight decay w, whose gradient the optimizer adds to that of the loss.
        tolerance: relative accuracy.

    Example:
        Half the squared error of a linear map without bias has the Hessian x^T x:

        >>> x, y = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)
        >>> half = lambda f, y: (f - y).square().sum() / 2
        >>> round(sharpness(nn.Linear(2, 1, bias=False).to(x.dtype), x, y, half), 4)
        25.0
    """
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not weights:
        raise BadArgument("The module has no trainable parameters.", fix="module.requires_grad_(True)")
    first = next(iter(weights.values()))
    scale = {} if scale is None else scale
    size = sum(p.numel() for p in weights.values())
    kind = torch.float64 if first.dtype == torch.float64 else torch.float32

    def split(v: Tensor) -> dict[str, Tensor]:
        parts = v.to(first.device).split([p.numel() for p in weights.values()])
        return {
            name: part.reshape(p.shape).to(p.dtype) * scale.get(name, 1.0)
            for (name, p), part in zip(weights.items(), parts, strict=True)
        }

    def product(v: Tensor) -> Tensor:
        at = split(v)
        made = {name: g + decay * at[name] for name, g in gauss_newton_product(module, x, y, loss, at).items()}
        return torch.cat([(g * scale.get(name, 1.0)).flatten() for name, g in made.items()]).to(kind)

    with evaluating(module):
        start = torch.Generator().manual_seed(0)  # ours, so that a run's own random numbers stay as they are
        g = torch.randn(size, generator=start, dtype=torch.float64).to(kind)
        if size <= ON_DEVICE:
            g = g.to(first.device)
        return top_eigenvalue(product, g, tolerance)
