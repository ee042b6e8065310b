r"""Curvature of the objective in the weights: the largest eigenvalue that a step of an optimizer meets.

It is the Hessian of $w \mapsto L(f(x; w), y)$, the loss as the user computes it. A Gauss-Newton matrix $J^\top H J$
would depend on where the outputs end and the loss begins: behind a LogSoftmax the loss is linear in the outputs, and
J^T H J is 0. The Hessian is one for every way to write the same function of the weights, and at a minimum it is what
decides whether steps converge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.arch.inputs import shape_or_type
from gramian.empirical.jacobian_products.pushforward import along
from gramian.empirical.modules.arguments import Samples, in_parts
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.composed_outputs import own_module
from gramian.empirical.modules.gradient_hooks import check_masks
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.errors import BadArgument
from gramian.gram.krylov import top_eigenvalue
from gramian.train.forward import evaluating, mixes_samples, movable, rows_per_pass

SHARPNESS_TOLERANCE = 1e-3
MOST_PARAMETERS_ON_DEVICE = 2**24  # parameters; of larger networks Lanczos' vectors stay out of a GPU's memory
JUMP_DISTANCES = (0.3, 3.0, 30.0)  # times the outputs' size: where the slope of a loss is looked at for jumps
LossOf = Callable[[Tensor, Tensor], Tensor]
ByName = dict[str, Tensor]


def loss_value(loss: LossOf, outputs: Tensor, y: Tensor) -> Tensor:
    """The loss as one number.

    Raises:
        BadArgument: it is a tensor of another shape, or none.
    """
    value = loss(outputs, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = shape_or_type(value)
        raise BadArgument(
            f"The loss gives {shape}, not one number.",
            where="the loss, called with the module's outputs and the targets",
            why='a loss per sample (reduction="none"), or something that is not a tensor',
            fix='reduction="mean" or "sum"',
        )
    return value.reshape(())


def gradient(
    module: nn.Module, x: Samples, y: Tensor, loss: LossOf, at: Mapping[str, Tensor] | None = None
) -> tuple[float, ByName]:
    """The loss and its gradient by name, dense, at the weights as they stand or `at` others."""
    numbers = movable(module) if at is None else at
    here = {name: p.detach().clone().requires_grad_() for name, p in numbers.items()}
    with torch.enable_grad():
        value = loss_value(loss, call_at(module, here, x), y)
        slopes = _slopes(value, list(here.values()), create_graph=False)
    dense = {n: _dense(g, p) for (n, p), g in zip(here.items(), slopes, strict=True)}
    return float(value.detach()), dense


def _dense(slope: Tensor | None, p: Tensor) -> Tensor:
    """A gradient with all its entries; zero for a parameter that has none."""
    if slope is None:
        return torch.zeros_like(p)
    if slope.is_sparse:
        return slope.to_dense()
    return slope


@dataclass(frozen=True, eq=False)
class HessianProducts:
    """Products of the Hessian of the objective with vectors, by name.

    Attributes:
        product: v -> H v.
        exact: whether by two backward passes; else by differences of gradients, where an operation has no second
            derivative in torch (EmbeddingBag, MultiMarginLoss).
    """

    product: Callable[[Mapping[str, Tensor]], ByName]
    exact: bool


def hessian_products(module: nn.Module, x: Samples, y: Tensor, loss: LossOf) -> HessianProducts:
    """Products with the Hessian in the trainable parameters, on these rows, in the module's present mode."""
    weights = movable(module)
    if not weights:
        raise BadArgument(
            "The module has no trainable parameters.",
            where=type(own_module(module)).__name__,
            why="it has no parameters at all, or all have requires_grad=False",
            fix="module.requires_grad_(True), or a module with weights",
        )
    check_masks(module, x[:2])
    apart = len(x) > rows_per_pass(x) and not mixes_samples(module) and _rows_stand_alone(module, x)
    try:
        if apart:
            product = _by_parts(module, x, y, loss)
        else:
            product = _whole(module, x, y, loss)
        product({name: torch.zeros_like(p) for name, p in weights.items()})
    except torch.OutOfMemoryError:
        raise
    except (NotImplementedError, RuntimeError):  # an operation without a second derivative
        return HessianProducts(_by_differences(module, x, y, loss), exact=False)
    return HessianProducts(product, exact=True)


def _rows_stand_alone(module: nn.Module, x: Samples) -> bool:
    """Whether a few rows give the same outputs together and in two parts: then a batch may be taken in parts."""
    few = x[:8]
    with torch.no_grad():
        whole = call_at(module, {}, few)
        parts = torch.cat([call_at(module, {}, few[:5]), call_at(module, {}, few[5:])])
    return whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-5)


def _whole(module: nn.Module, x: Samples, y: Tensor, loss: LossOf) -> Callable[[Mapping[str, Tensor]], ByName]:
    """One graph of the gradient, through which each product is one backward pass."""
    weights = movable(module)
    with torch.enable_grad(), differentiable_math():
        value = loss_value(loss, call_at(module, {}, x), y)
        slopes = _slopes(value, list(weights.values()), create_graph=True)
    used = [(name, g) for name, g in zip(weights, slopes, strict=True) if g is not None and g.requires_grad]

    def product(v: Mapping[str, Tensor]) -> ByName:
        if not used:
            return {name: torch.zeros_like(p) for name, p in weights.items()}
        products = torch.autograd.grad(
            [g for _, g in used], list(weights.values()), [v[name] for name, _ in used], retain_graph=True,
            allow_unused=True,
        )  # fmt: skip
        return {n: torch.zeros_like(p) if h is None else h for (n, p), h in zip(weights.items(), products, strict=True)}

    return product


def _slopes(value: Tensor, weights: Sequence[Tensor], *, create_graph: bool) -> tuple[Tensor | None, ...]:
    if not value.requires_grad:
        return (None,) * len(weights)
    return torch.autograd.grad(value, weights, create_graph=create_graph, allow_unused=True)


def _by_parts(module: nn.Module, x: Samples, y: Tensor, loss: LossOf) -> Callable[[Mapping[str, Tensor]], ByName]:
    r"""For batches too large for one graph: $H v = \partial_w \langle s, J v \rangle + J^\top (L'' J v)$.

    s is the slope of the loss in the outputs and L'' its Hessian there, both of all rows; the rest is a sum over rows.
    """
    weights = movable(module)
    rows = in_parts(x, rows_per_pass(x))
    sizes = [len(part) for part in rows]
    with torch.no_grad():
        outputs = torch.cat([call_at(module, {}, part) for part in rows])
    slope = loss_slope(loss, outputs, y).split(sizes)

    def product(v: Mapping[str, Tensor]) -> ByName:
        here = {name: p.detach() for name, p in weights.items()}
        with torch.no_grad():
            change = torch.cat([along(module, here, dict(v), part)[1] for part in rows])
        curved = loss_hessian_product(loss, outputs, y, change.reshape(outputs.shape)).split(sizes)
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        for part, s, c in zip(rows, slope, curved, strict=True):
            for name, h in _of_part(module, part, s, c, v).items():
                total[name] += h
        return total

    return product


def _of_part(module: nn.Module, part: Samples, slope: Tensor, curved: Tensor, v: Mapping[str, Tensor]) -> ByName:
    weights = movable(module)
    with torch.enable_grad(), differentiable_math():
        out = call_at(module, {}, part)
        down = torch.autograd.grad(out, list(weights.values()), slope, create_graph=True, allow_unused=True)
        used = [(name, g) for name, g in zip(weights, down, strict=True) if g is not None and g.requires_grad]
        # one backward pass for both terms: `curved` pulled back through the outputs is J^T (L'' J v), and v through
        # J^T s is the derivative of <s, J v>
        ends, pulls = [out, *(g for _, g in used)], [curved, *(v[name] for name, _ in used)]
        products = torch.autograd.grad(ends, list(weights.values()), pulls, allow_unused=True)
    return {name: h for name, h in zip(weights, products, strict=True) if h is not None}


def _by_differences(module: nn.Module, x: Samples, y: Tensor, loss: LossOf) -> Callable[[Mapping[str, Tensor]], ByName]:
    r"""$(\nabla L(w + h v) - \nabla L(w - h v)) / 2h$; h balances rounding, eps/h, and the third derivative, h^2."""
    weights = {name: p.detach() for name, p in movable(module).items()}
    size = _norm(weights)

    def product(v: Mapping[str, Tensor]) -> ByName:
        length = _norm(v)
        if length == 0:
            return {name: torch.zeros_like(p) for name, p in weights.items()}
        eps = max(torch.finfo(p.dtype).eps for p in weights.values())
        # eps/h + h^2 is smallest near h = eps^(1/3); the step h v then has that length relative to the weights
        h = eps ** (1 / 3) * max(size, 1e-3) / length
        sides = []
        for side in (h, -h):
            moved = {name: p + side * v[name] for name, p in weights.items()}
            sides.append(gradient(module, x, y, loss, moved)[1])
        return {name: (sides[0][name] - sides[1][name]) / (2 * h) for name in weights}

    return product


def _norm(v: Mapping[str, Tensor]) -> float:
    return sum(float(t.double().square().sum()) for t in v.values()) ** 0.5


def loss_slope(loss: LossOf, outputs: Tensor, y: Tensor) -> Tensor:
    """Gradient of the loss in the outputs; shape of `outputs`."""
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        value = loss_value(loss, outputs, y)
        if not value.requires_grad:
            return torch.zeros_like(outputs)
        return torch.autograd.grad(value, outputs, materialize_grads=True)[0]


def loss_hessian_product(loss: LossOf, outputs: Tensor, y: Tensor, u: Tensor) -> Tensor:
    """H u for the Hessian H of the loss in the outputs; shape of `outputs`. Zero for a loss that is linear there."""
    with torch.enable_grad():
        outputs = outputs.detach().requires_grad_()
        value = loss_value(loss, outputs, y)
        (slope,) = torch.autograd.grad(value, outputs, create_graph=True, materialize_grads=True)
        if not slope.requires_grad:
            return torch.zeros_like(outputs)
        (product,) = torch.autograd.grad(slope, outputs, u.to(slope.dtype), materialize_grads=True)
    return product


def jumps(loss: LossOf, outputs: Tensor, y: Tensor) -> bool:
    """Whether the loss is flat at these outputs and its slope jumps elsewhere: L1, hinge, Huber far from its middle.

    No curvature then says how large a step may be. A loss that is linear everywhere (NLL of log-probabilities) has its
    curvature from the network, and a smooth one its own.
    """
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(outputs.shape, generator=draw).to(outputs)
    outputs = outputs.detach()
    here = loss_slope(loss, outputs, y)
    try:
        curved = loss_hessian_product(loss, outputs, y, noise)
    except (NotImplementedError, RuntimeError):  # MultiMarginLoss has no second derivative
        h = 1e-4 * (1 + float(outputs.abs().max()))
        curved = loss_slope(loss, outputs + h * noise, y) - loss_slope(loss, outputs - h * noise, y)
        if int((curved != 0).sum()) > outputs.numel() / 10:  # few kinks lie within h
            return False
        curved = torch.zeros_like(outputs)
    if bool((curved != 0).any()):
        return False
    if outputs.numel():
        size = 1 + float(outputs.float().std(correction=0))
    else:
        size = 1.0
    for times in JUMP_DISTANCES:
        try:
            there = loss_slope(loss, outputs + times * size * noise, y)
        except (RuntimeError, ValueError):  # outputs that the loss does not take: probabilities above 1
            continue
        if not torch.allclose(there, here, rtol=1e-4, atol=1e-6 * float(here.abs().max())):
            return True
    return False


def sharpness(
    module: nn.Module,
    x: Samples,
    y: Tensor,
    loss: LossOf,
    scale: Mapping[str, Tensor | float] | None = None,
    *,
    decay: float | Mapping[str, float] = 0.0,
    shift: Mapping[str, float] | None = None,
    times: float = 1.0,
    tolerance: float = SHARPNESS_TOLERANCE,
) -> float:
    r"""Largest eigenvalue of $P^{-1/2} (t H + W) P^{-1/2} + D$: what a step $-\eta P^{-1} \nabla L$ meets.

    H is the Hessian of the loss as the user computes it (mean or sum), in the trainable parameters, on these samples
    in eval mode. A dozen or two vectors of the parameters' size are held (2 GiB at most, or 8), and no matrix. The
    result is a Ritz value of Lanczos' method: never above the true one, more than `tolerance` below it in one case of
    a thousand. It is 0 where no curvature is positive.

    Args:
        module: any module with one output tensor.
        x: inputs; shape (n, *in_shape), or several tensors of n rows.
        y: targets, in the form that `loss` takes.
        loss: `loss(outputs, y)`, one number.
        scale: $P^{-1/2}$ by parameter name, tensors of the parameters' shapes or numbers; 1 where there is none.
        decay: weight decay W whose gradient the optimizer adds to that of the loss; one number, or by name.
        shift: D by name, weight decay that the optimizer applies beside its steps.
        times: t, for a sum over another number of rows than these.
        tolerance: relative accuracy.

    Example:
        Half the squared error of a linear map without bias has the Hessian x^T x, however it is written:

        >>> x, y = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1)
        >>> half = lambda f, y: (f - y).square().sum() / 2
        >>> net = nn.Linear(2, 1, bias=False).to(x.dtype)
        >>> round(sharpness(net, x, y, half), 4)
        25.0
    """
    scale, shift = scale or {}, shift or {}
    with evaluating(module):
        hessian = hessian_products(module, x, y, loss)
        weights = movable(module)
        first = next(iter(weights.values()))
        if first.dtype == torch.float64:
            kind = torch.float64
        else:
            kind = torch.float32
        numbers = [p.numel() for p in weights.values()]

        def product(v: Tensor) -> Tensor:
            parts = v.to(first.device).split(numbers)
            raw = {n: t.reshape(p.shape).to(p.dtype) for (n, p), t in zip(weights.items(), parts, strict=True)}
            # P^{-1/2} on both sides keeps the product symmetric, as Lanczos needs; D is a number per parameter and
            # commutes with P, so the eigenvalues are those of P^{-1} (t H + W) + D
            at = {name: t * scale.get(name, 1.0) for name, t in raw.items()}
            products = []
            for name, h in hessian.product(at).items():
                if isinstance(decay, Mapping):
                    w = decay.get(name, 0.0)
                else:
                    w = decay
                products.append((times * h + w * at[name]) * scale.get(name, 1.0) + shift.get(name, 0.0) * raw[name])
            return torch.cat([t.flatten() for t in products]).to(kind)

        start = torch.Generator().manual_seed(0)  # ours, so that a run's own random numbers stay as they are
        g = torch.randn(sum(numbers), generator=start, dtype=torch.float64).to(kind)
        if sum(numbers) <= MOST_PARAMETERS_ON_DEVICE:
            g = g.to(first.device)
        return top_eigenvalue(product, g, tolerance)
