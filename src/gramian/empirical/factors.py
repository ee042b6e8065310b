"""Activations and back-propagated vectors of a block of samples, or gradients where those are cheaper.

f(x_i) is by definition the module's output on the batch of one `x[i : i + 1]`. One `vmap` runs this for all samples of
the block, so that no layer can see two samples and no axis has to be guessed. Each watched call adds a zero to its
output; the cotangent of this zero is the vector back-propagated to that call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from gramian.empirical import layers
from gramian.empirical.jacobian import rows
from gramian.empirical.proof import Call
from gramian.empirical.units import Unit
from gramian.empirical.watch import differentiable_math, watched


class Outer(NamedTuple):
    """Gradients as sums of outer products: a is (n, G, P, a), b is (n, k, G, P, b)."""

    a: Tensor
    b: Tensor


Factor = Outer | Tensor  # a tensor is the gradients themselves, (n, k, p)


@dataclass(frozen=True, eq=False)
class Source:
    """A module read once: what factors are made from."""

    module: nn.Module
    calls: tuple[Call, ...]
    parameters: dict[str, Tensor]
    n_outputs: int
    dtype: torch.dtype
    batched: bool  # False: vmap cannot run this module, so each sample has its own backward passes
    full: bool


def factors(source: Source, units: Sequence[Unit], x: Tensor, outputs: range, chunk: int) -> list[Factor]:
    """One factor a unit, for all samples of `x`, made `chunk` samples at a time.

    Without `full` the outputs become part of the contracted axis: k is 1, and b (or p) is k times longer.
    """
    if x.shape[0] <= chunk:
        return _factors(source, units, x, outputs)
    blocks: list[Factor] = []
    for start in range(0, x.shape[0], chunk):
        made = _factors(source, units, x[start : start + chunk], outputs)
        if not blocks:
            blocks = [_map(lambda t: t.new_empty(x.shape[0], *t.shape[1:]), f) for f in made]
        for block, f in zip(blocks, made, strict=True):
            for whole, piece in zip(_tensors(block), _tensors(f), strict=True):
                whole[start : start + chunk] = piece
        del made, f, piece  # not beside the next chunk's
    return blocks


def part(factor: Factor, samples: slice) -> Factor:
    """The factor of some of its samples."""
    return _map(lambda t: t[samples], factor)


def _tensors(factor: Factor) -> tuple[Tensor, ...]:
    return tuple(factor) if isinstance(factor, Outer) else (factor,)


def _map(f, factor: Factor) -> Factor:
    return Outer(f(factor.a), f(factor.b)) if isinstance(factor, Outer) else f(factor)


def _factors(source: Source, units: Sequence[Unit], x: Tensor, outputs: range) -> list[Factor]:
    if not source.batched:
        return _one_by_one(source, units, x, outputs)
    a, b, general = pull_back(source, units, x, outputs)
    found = []
    for i, unit in enumerate(units):
        found.append(_factor(source, unit, a, b, general))
        for c in unit.calls:  # a layer's vectors go as soon as no later unit needs them
            if not any(c in later.calls for later in units[i + 1 :]):
                a.pop(c, None), b.pop(c)
        general.pop(unit.name, None)
    return found


def pull_back(
    source: Source, units: Sequence[Unit], x: Tensor, outputs: range
) -> tuple[dict[int, Tensor], dict[int, Tensor], dict[str, Tensor]]:
    """Inputs and cotangents of the units' calls, and gradients of their general parameters, for every sample."""
    wanted = {c for unit in units for c in unit.calls}
    weights = {c for unit in units if unit.kind != "bias" for c in unit.calls}
    theta = {u.name: source.parameters[u.name].detach() for u in units if u.kind == "general"}
    zeros = {c: x.new_zeros(source.calls[c].out_shape, dtype=source.calls[c].dtype) for c in wanted}

    def one(sample: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor], dict[str, Tensor]]:
        def run(zeros: dict[int, Tensor], theta: dict[str, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
            inputs: dict[int, Tensor] = {}
            counter = iter(range(len(source.calls)))

            def seen(layer: nn.Module, a: Tensor, out: Tensor) -> Tensor | None:
                c = next(counter)
                if layer is not source.calls[c].layer:
                    raise RuntimeError("the module calls its layers in another order than before")
                if c in weights:
                    inputs[c] = a
                return out + zeros[c] if c in wanted else None

            with watched(source.module, seen):
                out = functional_call(source.module, theta, (sample[None],))
            return out.reshape(-1), inputs

        out, pull, inputs = vjp(run, zeros, theta, has_aux=True)  # type: ignore[misc]
        basis = out.new_zeros(len(outputs), out.numel())
        basis[range(len(outputs)), list(outputs)] = 1
        return inputs, *vmap(pull)(basis)

    with differentiable_math(), torch.no_grad():
        return vmap(one)(x)


def _factor(source: Source, unit: Unit, a: dict, b: dict, general: dict) -> Factor:
    if unit.kind == "general":
        return _own(source, general[unit.name].flatten(2))
    down = {c: layers.cotangents(source.calls[c].layer, b[c]).to(source.dtype) for c in unit.calls}
    if unit.kind == "bias":
        return _own(source, torch.stack([t.sum(3).flatten(2) for t in down.values()]).sum(0))
    total: Tensor | None = None
    up = []
    for c in unit.calls:
        windows = layers.inputs(source.calls[c].layer, a[c]).to(source.dtype)
        if unit.rows:
            formed = _formed(windows, down[c])
            total = formed if total is None else total.add_(formed)
        else:
            up.append(windows)
    if total is not None:
        return _own(source, total)
    if len(unit.calls) == 1:
        left, right = up[0], down[unit.calls[0]]
    else:  # a layer called twice has twice the positions
        left, right = torch.cat(up, 2), torch.cat(list(down.values()), 3)
    if not source.full:  # (n, 1, G, P, k b)
        right = right.permute(0, 2, 3, 1, 4).flatten(3)[:, None]
    return Outer(left, right)


def _formed(a: Tensor, b: Tensor) -> Tensor:
    """Gradients sum_p b_p a_p^T, shape (n, k, G b a)."""
    n, k, g, p, wide = b.shape
    b = b.permute(0, 2, 1, 4, 3).reshape(n * g, k * wide, p)
    grad = torch.bmm(b, a.reshape(n * g, p, -1)).view(n, g, k, wide, -1)
    return grad.transpose(1, 2).reshape(n, k, -1)


def _own(source: Source, grad: Tensor) -> Tensor:
    """Gradients (n, k, p) in the result's dtype, the outputs folded in without `full`."""
    grad = grad.to(source.dtype)
    return grad if source.full else grad.flatten(1)[:, None]


def _one_by_one(source: Source, units: Sequence[Unit], x: Tensor, outputs: range) -> list[Factor]:
    parameters = [source.parameters[unit.name] for unit in units]
    with differentiable_math():
        each = [[g.flatten(1) for g in rows(source.module, sample, parameters, outputs)] for sample in x]
    return [_own(source, torch.stack(column)) for column in zip(*each, strict=True)]
