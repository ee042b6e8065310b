"""J^T v by backward passes: of a batch, of one number after another, and of each sample on its own under `vmap`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._pytree import tree_map

from gramian.empirical.modules.output_functions import Batch
from gramian.empirical.modules.plain_gradients import gradients, gradients_along, named_errors, right_batch_norm


def pulled_back(run: Callable[[], Tensor], v: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of <v, run()>, one tensor a parameter; `v` has as many numbers as the output."""
    with named_errors():
        out = run()
    return gradients_along(out, v.reshape(out.shape).to(out), parameters)


def jacobian_rows(
    run: Callable[[], Tensor], parameters: Sequence[Tensor], outputs: range | None = None
) -> list[Tensor]:
    """Gradients of some of the numbers that `run()` returns; one (k, *shape) tensor a parameter."""
    with named_errors():
        out = run().reshape(-1)
    right_batch_norm(out)
    numbers = range(out.numel()) if outputs is None else outputs
    rows = [gradients(out[c], parameters, keep_graph=True) for c in numbers]
    return [torch.stack(row) for row in zip(*rows, strict=True)]


def rows_of_samples(
    run: Callable[[Batch], Tensor], parameters: Sequence[Tensor], batch: Batch, outputs: range | None = None
) -> list[Tensor]:
    """`jacobian_rows` of one sample after the other: one (n, k, p) tensor a parameter."""
    each = []
    for i in range(len(batch)):
        rows = jacobian_rows(partial(run, batch[i : i + 1]), parameters, outputs)
        each.append([g.detach().reshape(len(g), -1) for g in rows])
    return [torch.stack(column) for column in zip(*each, strict=True)]


def pulled_per_sample(
    run: Callable[..., tuple[Tensor, Any]],
    batch: Batch,
    primals: tuple[Any, ...],
    outputs: range,
    *,
    nested: bool = True,
) -> tuple[Any, tuple[Any, ...], Tensor]:
    """Pullbacks of some outputs of each sample on its own, in one `vmap`: no gradient is a sum over samples.

    Args:
        run: `run(sample, target, *primals)` gives the numbers to differentiate of one sample, and what else it saw.
        batch: the samples.
        primals: by what is differentiated.
        outputs: which numbers.
        nested: a second vmap over the outputs; else one after the other.

    Returns:
        What else was seen, the gradients (n, k, *shape) by each of `primals`, and the numbers, (n, C).
    """

    def one(sample: Any, target: Tensor | None) -> tuple[Any, tuple[Any, ...], Tensor]:
        out, pull, seen = vjp(partial(run, sample, target), *primals, has_aux=True)  # type: ignore[misc]
        basis = out.new_zeros(len(outputs), out.numel())
        basis[range(len(outputs)), list(outputs)] = 1
        return seen, over_outputs(pull, basis, nested), out

    with torch.no_grad():
        return vmap(one, in_dims=(0, batch.target_axis))(batch.x, batch.targets)


def over_outputs(pull: Callable[[Tensor], Any], basis: Tensor, nested: bool) -> Any:
    """`vmap(pull)(basis)`, or the same by a loop."""
    if nested:
        return vmap(pull)(basis)
    return tree_map(lambda *parts: torch.stack(parts), *[pull(v) for v in basis])
