"""Projected gradients: features whose Gram matrix is the tangent kernel, up to a stated error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.contraction.gradient_checks import Untrusted
from gramian.empirical.jacobian_products.pullback import pulled_per_sample, rows_of_samples
from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import Samples, samples
from gramian.empirical.modules.calling import lent
from gramian.empirical.modules.composed_outputs import unwrapped
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.plain_gradients import differs, gradients_along, named_errors, tolerance
from gramian.empirical.modules.trial_passes import try_model
from gramian.empirical.sketches.random_projections import Sketch
from gramian.errors import BadData, GramianError


def projected_gradients(
    module: nn.Module,
    x: Inputs,
    sketch: Sketch,
    outputs: str | Callable[..., Tensor] = "mean",
    *,
    targets: Tensor | None = None,
    max_bytes: int = 2**30,
) -> Tensor:
    r"""Random projections of the gradients, $\phi(x_i) = S\, \nabla_\theta f(x_i)$.

    $\langle \phi(x_i), \phi(x_j) \rangle$ is the tangent kernel on average, with the error that `sketch` states. The
    p x k matrix S is never stored: its blocks are made again from the seed for each chunk of samples.

    Args:
        module: any module that treats samples on their own.
        x: inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        sketch: the map, `Sketch(size=4096)` say; features of one map belong together.
        outputs: as of `empirical_ntk`. "sum" and "mean" take another map for each output and add the features; "full"
            has the rows $i C + c$; a callable of the module's output likewise.
        targets: one a sample, shape (n, ...); the callable gets that of its sample, shape (1, ...), as second argument:
            `outputs=F.cross_entropy`, or the margin of the right class.
        max_bytes: bound on the gradients that are held at once, in bytes; at least those of one sample and output.

    Returns:
        Shape (n, size), or (n C, size) with "full" and a callable; dtype and device of the module's output.

    Raises:
        BadData, BadArgument: as `empirical_ntk`.

    References:
        Park et al. 2023, arXiv:2303.14186 (TRAK) projects gradients to attribute predictions to data.

    Example:
        >>> from gramian.empirical import Sketch, projected_gradients
        >>> x = torch.eye(3) + 1
        >>> phi = projected_gradients(torch.nn.Linear(3, 1, bias=False), x, Sketch(20000))
        >>> (phi @ phi.mT).round(decimals=1)
        tensor([[6., 5., 5.],
                [5., 6., 5.],
                [5., 5., 6.]])
    """
    checks.check_options(outputs, max_bytes)
    module = unwrapped(module)
    checks.trainable(module)
    rows_of_x, _ = samples(module, x, None)
    rows_of_x = checks.check_samples("x", rows_of_x)
    given, _ = checks.check_targets(rows_of_x, None, outputs, targets, where="projected_gradients(..., targets=...)")
    checks.check_mode(module)
    model, batch = Model.with_outputs(module, outputs), Batch(rows_of_x, given)
    kind = "full"
    if isinstance(outputs, str):
        kind = outputs
    with lent(module), differentiable_math():
        out, _ = try_model(model, "x", batch)
        backward = checked_backward(module, batch.x[:1], lambda out: model.apply(out, batch[:1]))
        way = _batched
        if backward.inside or backward.past:
            way = _looped
        features = _project(model, batch, sketch, kind, out, max_bytes, way)
    if not bool(features.isfinite().all()):
        raise BadData(
            f"The features have NaN or infinite entries, in {features.dtype}.",
            where="projected_gradients",
            why="an output that is not finite at some sample, or a gradient too large for this precision",
            fix="module.double() and x.double(); module(x).isfinite().all() shows whether an output is the cause",
        )
    return features


def _project(
    model: Model, x: Batch, sketch: Sketch, kind: str, out: Tensor, max_bytes: int, gradients: Callable
) -> Tensor:
    theta = checks.trainable(model.module)
    c, n = out.numel(), len(x)
    held = 2 * out.dtype.itemsize * sum(p.numel() for p in theta.values())  # the gradients, and what makes them
    together = max(1, max_bytes // held)
    count, width = max(1, together // c), min(c, together)
    features = torch.zeros(n, c if kind == "full" else 1, sketch.size, dtype=out.dtype, device=out.device)
    tried: set[tuple[int, int]] = set()
    for i in range(0, n, count):
        part = x[i : i + count]
        for first in range(0, c, width):
            here = range(first, min(first + width, c))
            if gradients is _batched:
                grads = _trusted(model, theta, part, here, tried)
            if gradients is _looped or grads is None:
                gradients = _looped
                grads = _looped(model, theta, part, here)
            _add(features[i : i + count], grads, sketch, here, kind)
            del grads
    if kind == "mean":
        # the kernel is a product of two features, so their mean over c outputs is a root of c each
        features /= c**0.5
    return features.reshape(-1, sketch.size)


def _trusted(
    model: Model, theta: dict[str, Tensor], x: Batch, here: range, tried: set[tuple[int, int]]
) -> list[Tensor] | None:
    """The gradients by vmap; None where it cannot run the module, or gives others than a plain backward pass.

    A shape is tried once, after a few of its samples and outputs: a wrong rule may ask for the square of the memory.
    """
    try:
        if not tried:
            few = range(here.start, min(here.start + 2, here.stop))
            _compare(model, theta, x[:2] if len(few) == 1 else x[:3], few)
        if (len(x), len(here)) in tried:
            return _batched(model, theta, x, here)
        grads = _compare(model, theta, x, here)
    except (torch.OutOfMemoryError, GramianError):
        raise
    except Exception:
        return None
    tried.add((len(x), len(here)))
    return grads


def _compare(model: Model, theta: dict[str, Tensor], x: Batch, here: range) -> list[Tensor]:
    """The gradients by vmap, those of the last sample and of the first compared along one direction of the outputs."""
    grads = _batched(model, theta, x, here)
    w = torch.linspace(1, 2, len(here), dtype=torch.float64).sqrt()
    for i in dict.fromkeys((len(x) - 1, 0)):
        with named_errors():
            out = model(x[i : i + 1]).reshape(-1)[here.start : here.stop]
        w = w.to(out)
        plain = [g.reshape(-1) for g in gradients_along(out, w, list(theta.values()))]
        if any(g.shape != (len(x), len(here), p.numel()) for g, p in zip(grads, plain, strict=True)):
            raise Untrusted("gradients of other shapes")
        if said := differs([w.to(g) @ g[i] for g in grads], plain, tolerance(out.dtype)):
            raise Untrusted(said)
    return grads


def _add(features: Tensor, grads: list[Tensor], sketch: Sketch, here: range, kind: str) -> None:
    """`grads`: for each parameter (samples, outputs, numel)."""
    for number, g in enumerate(grads):
        if kind == "full":
            block = features[:, here.start : here.stop].flatten(0, 1)
            new = torch.zeros_like(block)
            sketch.add_to(new, g.flatten(0, 1), number)
            features[:, here.start : here.stop] += new.reshape(g.shape[0], len(here), -1)
        else:
            for k, output in enumerate(here):
                sketch.add_to(features[:, 0], g[:, k], number, output)


def _batched(model: Model, theta: dict[str, Tensor], x: Batch, here: range) -> list[Tensor]:
    detached = {name: p.detach() for name, p in theta.items()}

    def run(sample: Samples, target: Tensor | None, theta: dict[str, Tensor]) -> tuple[Tensor, tuple]:
        return model(Batch.of_one(sample, target), theta).reshape(-1), ()

    _, (grads,), _ = pulled_per_sample(run, x, (detached,), here)
    return [g.detach().reshape(*g.shape[:2], -1) for g in grads.values()]


def _looped(model: Model, theta: dict[str, Tensor], x: Batch, here: range) -> list[Tensor]:
    return rows_of_samples(model, list(theta.values()), x, here)
