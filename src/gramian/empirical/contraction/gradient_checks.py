"""What vmap pulls back to calls and parameters, against plain backward passes of a sample or two.

torch's rules for vmap are wrong without a word for some operations (`prelu`, `lu_solve`), and for some of those right
at certain shapes. So this looks at what is made for the kernel itself, at its shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gramian.empirical.contraction.contracted_parameters import Unit
from gramian.empirical.contraction.source import Source
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.plain_gradients import differs, gradients, marks, right_batch_norm, tolerance
from gramian.empirical.modules.structured_calls import NormScaleCall
from gramian.empirical.modules.structured_parameters import StructuredCall
from gramian.empirical.modules.trial_passes import try_model


class Pulled(NamedTuple):
    """What a pass under vmap gives, for every sample.

    `inputs` and `cotangents`: of the calls, by their number; `general`: gradients of the general parameters;
    `scores`: the numbers that were differentiated, (n, C).
    """

    inputs: dict[int, Tensor]
    cotangents: dict[int, Tensor]
    general: dict[str, Tensor]
    scores: Tensor


class Untrusted(Exception):
    """A way to derivatives gives others than a plain backward pass."""


def check_pulled(source: Source, units: Sequence[Unit], batch: Batch, outputs: range, pulled: Pulled) -> None:
    """Compares gradients of the last sample, or of that and the first, along one direction of the outputs.

    Args:
        source: the model and its calls, all of which are watched; its `room` is how many numbers the plain gradients
            may take at once, at least those of the largest parameter.
        units: whose gradients were pulled back.
        batch, outputs: for which samples and outputs.
        pulled: what is checked.

    Raises:
        Untrusted: they are others.
        BadArgument: the module is random, as the second pass shows.
    """
    model, calls, parameters = source.model, source.uses.calls, source.parameters
    # a wrong rule may have the first sample right; without general parameters no sample has a rule of its own
    has_rules = any(unit.kind == "general" for unit in units)
    looked_at = [len(batch) - 1]
    if has_rules:
        looked_at.append(0)
    for i in dict.fromkeys(looked_at):
        sample = batch[i : i + 1]
        with differentiable_math():
            scores = None
            if source.observed is not None:
                scores = source.observed.take_scores(sample)
            if scores is None:
                scores = model(sample).reshape(-1)
            _check_repeats(model, sample, scores.detach(), pulled.scores[i])
            out = scores[outputs.start : outputs.stop]
            # unequal weights: no symmetry of the outputs hides an error in this direction
            w = torch.linspace(1, 2, len(outputs), dtype=torch.float64).sqrt().to(out)
            right_batch_norm(out)
            number = (out * w).sum()
        ours, theirs = [], []
        for group in _groups(units, parameters, source.room):
            names = list(dict.fromkeys(name for unit in group for name in _names(unit, calls)))
            checked = [parameters[name] for name in names]
            plain = dict(zip(names, gradients(number, checked, keep_graph=True), strict=True))
            for unit in group:
                for pulled_back, true in _compared(calls, unit, i, w, pulled, plain):
                    ours.append(pulled_back.to(true.dtype))
                    theirs.append(true)
            del plain  # not beside the next one's
        if said := differs(ours, theirs, tolerance(out.dtype)):
            raise Untrusted(said)


def _check_repeats(model: Model, sample: Batch, plain: Tensor, under_vmap: Tensor) -> None:
    """The pass under vmap is a second one: of a module that is random in a way of its own it has other outputs.

    Others beyond rounding may also be a difference of large numbers, or a wrong rule, which its gradients tell.
    """
    allowed = torch.finfo(plain.dtype).eps ** 0.5
    close = torch.allclose(plain, under_vmap, rtol=allowed, atol=allowed * float(plain.abs().max()))
    if not close and bool(plain.isfinite().all()):
        try_model(model, "x", sample)


def _groups(units: Sequence[Unit], parameters: dict[str, Tensor], most: int) -> list[list[Unit]]:
    """Units whose gradients are held at once."""
    sizes = [parameters[unit.name].numel() for unit in units]
    most = max(*sizes, most)
    groups, room = [[units[0]]], most - sizes[0]
    for unit, size in zip(units[1:], sizes[1:], strict=True):
        if size > room:
            groups.append([])
            room = most
        groups[-1].append(unit)
        room -= size
    return groups


def _names(unit: Unit, calls: Sequence[StructuredCall]) -> list[str]:
    if unit.kind != "weight and bias":
        return [unit.name]
    bias = calls[unit.calls[0]].bias
    assert bias is not None
    return [unit.name, bias]


def _compared(
    calls: Sequence[StructuredCall], unit: Unit, i: int, w: Tensor, pulled: Pulled, plain: dict[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each parameter of a unit the gradient of sample i, outputs weighted by w, and the plain one."""
    a, b, general, _ = pulled
    if unit.kind == "general":
        grad = general[unit.name]
        if grad.shape[1:] != (len(w), *plain[unit.name].shape):
            raise Untrusted(f"gradients of shape {tuple(grad.shape)} of a parameter {tuple(plain[unit.name].shape)}")
        yield from zip(marks([torch.tensordot(w.to(grad), grad[i], 1)]), marks([plain[unit.name]]), strict=True)
        return
    back = {c: torch.tensordot(w.to(b[c]), b[c][i], 1)[None, None] for c in unit.calls}  # (1, 1, *out)
    if unit.kind != "weight":
        true = plain[_names(unit, calls)[-1]]
        parts = [calls[c].how.summed(back[c], true.numel()).reshape(true.shape) for c in unit.calls]
        yield sum(parts[1:], parts[0]), true
    if unit.kind == "bias":
        return
    true = plain[unit.name]
    if any(isinstance(calls[c].how, NormScaleCall) for c in unit.calls):
        parts = [calls[c].how.product(a[c][i : i + 1].to(back[c]), back[c], true.shape) for c in unit.calls]  # type: ignore[union-attr]
        yield sum(parts[1:], parts[0]).reshape(true.shape), true
        return
    r = torch.randn(true.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(true)
    parts = [_times(calls[c], a[c][i : i + 1], back[c], r) for c in unit.calls]
    yield sum(parts[1:], parts[0]), true.reshape(len(true), -1) @ r.reshape(-1)


def _times(call: StructuredCall, x: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """The gradient of one call's weight, as a matrix with a row for each index of its first axis, times r.

    As different from another such product as the matrices are, without a pass over the matrix that the call would form.
    """
    how = call.how
    assert not isinstance(how, NormScaleCall)
    left, right = how.inputs(x, call.weight_shape)[0], how.cotangents(b, call.weight_shape, call.in_shape)[0, 0]
    # a window's channels come last
    if r.ndim:
        r = r.movedim(0, -1).reshape(-1)
    else:
        r = r.reshape(-1)
    sizes = how.sizes(call.weight_shape, call.out_shape)
    if not sizes.flip:  # sum_p b_p (a_p, r): left is (G, P, a), right (G, P, b)
        return torch.einsum("gp,gpb->gb", left.to(right) @ r.to(right), right).reshape(-1)
    if not sizes.lookup:
        return torch.einsum("gp,gpa->ga", right @ r.to(right), left.to(right)).reshape(-1)
    tokens, each = left.reshape(-1), (right @ r.to(right)).reshape(-1)
    return right.new_zeros(sizes.a).index_add(0, tokens.clamp(min=0), torch.where(tokens < 0, 0, each))
