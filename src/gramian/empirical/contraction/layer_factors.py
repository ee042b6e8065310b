"""Activations and back-propagated vectors of a block of samples, or gradients where those are cheaper.

f(x_i) is by definition the module's output on the batch of one `x[i : i + 1]`. One `vmap` runs this for all samples of
the block, so that no layer can see two samples and no axis has to be guessed. Each watched call adds a zero to its
output; the cotangent of this zero is the vector back-propagated to that call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from gramian.empirical.contraction.contracted_parameters import Unit
from gramian.empirical.contraction.gradient_checks import Pulled, check_pulled
from gramian.empirical.contraction.per_sample_gradients import formed
from gramian.empirical.contraction.source import Source
from gramian.empirical.jacobian_products.pullback import over_outputs, pulled_per_sample, rows_of_samples
from gramian.empirical.modules.arguments import Samples, tensors_of
from gramian.empirical.modules.observed_calls import CallWatcher, differentiable_math
from gramian.empirical.modules.output_functions import Batch
from gramian.empirical.modules.structured_calls import ConvCall, LinearCall, NormScaleCall, Sizes, Use
from gramian.empirical.workarounds.channels_last import in_the_order_of_the_value
from gramian.empirical.workarounds.convolution_gradients import convolved
from gramian.empirical.workarounds.gemm import linear
from gramian.empirical.workarounds.reused_memory import room


class Piece(NamedTuple):
    """A sum of outer products: a is (n, G, P, a), or rows' numbers (n, 1, P, 1); b is (n, k, G, P, b).

    Of a unit that is `late` one call as it was: its input (n, *in), and what was propagated back, (n, k, *out).
    """

    a: Tensor
    b: Tensor


Shapes = dict[int, tuple[tuple[int, ...], torch.dtype]]
Factor = tuple[Piece, ...] | Tensor  # a tensor is the gradients themselves, (n, k, p)


def factors(source: Source, units: Sequence[Unit], batch: Batch, outputs: range, chunk: int) -> list[Factor]:
    """One factor a unit, for all samples of the batch, made `chunk` samples at a time.

    Without `full` the outputs become part of the contracted axis: k is 1, and b (or p) is k times longer; but not
    where a unit has pieces of several kinds.
    """
    n = len(batch)
    if n <= chunk:
        return _factors(source, units, batch, outputs)
    blocks: list[Factor] = []
    for start in range(0, n, chunk):
        chunk_factors = _factors(source, units, batch[start : start + chunk], outputs)
        if not blocks:
            blocks = [_map(lambda t: room(t, n), f) for f in chunk_factors]
        for block, f in zip(blocks, chunk_factors, strict=True):
            for whole, piece in zip(_tensors(block), _tensors(f), strict=True):
                whole[start : start + chunk] = piece
        del chunk_factors, f, piece  # not beside the next chunk's
    return blocks


def part(factor: Factor, samples: slice) -> Factor:
    """The factor of some of its samples."""
    return _map(lambda t: t[samples], factor)


def _tensors(factor: Factor) -> list[Tensor]:
    if isinstance(factor, Tensor):
        return [factor]
    return [t for piece in factor for t in piece]


def _map(f: Callable[[Tensor], Tensor], factor: Factor) -> Factor:
    if isinstance(factor, Tensor):
        return f(factor)
    return tuple(Piece(f(a), f(b)) for a, b in factor)


def _factors(source: Source, units: Sequence[Unit], batch: Batch, outputs: range) -> list[Factor]:
    if not source.batched:
        return _one_by_one(source, units, batch, outputs)
    pulled = pull_back(source, units, batch, outputs)
    shapes = (source.way, len(batch), len(outputs), tuple((unit.name, unit.kind) for unit in units))
    if shapes not in source.tried:
        check_pulled(source, units, batch, outputs, pulled)
        source.tried.add(shapes)
    a, b, general, _ = pulled
    del pulled
    in_order = []
    for i, unit in enumerate(units):
        in_order.append(_factor(source, unit, a, b, general))
        for c in unit.calls:  # a call's vectors go as soon as no later unit needs them
            if not any(c in later.calls for later in units[i + 1 :]):
                a.pop(c, None), b.pop(c)
        general.pop(unit.name, None)
    return in_order


def pull_back(source: Source, units: Sequence[Unit], batch: Batch, outputs: range) -> Pulled:
    """What is pulled back to the units' calls and to their general parameters, for every sample."""
    calls = source.uses.calls
    wanted = {c for unit in units for c in unit.calls}
    weights = {c for unit in units if unit.kind != "bias" for c in unit.calls}
    structured = {id(source.parameters[name]) for name in source.uses.structured}
    theta = {u.name: source.parameters[u.name].detach() for u in units if u.kind == "general"}

    def run(
        sample: Samples, target: Tensor | None, zeros: dict[int, Tensor], theta: dict[str, Tensor]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        inputs: dict[int, Tensor] = {}
        counter = iter(range(len(calls)))

        def seen(use: Use, make: Callable[[], Tensor]) -> Tensor:
            c = next(counter, None)
            if c is None or not calls[c].is_like(use):
                raise RuntimeError("the module makes its calls in another order than before")
            if c not in wanted:
                return make()
            if c in weights:
                if isinstance(use.how, NormScaleCall):
                    inputs[c] = use.how.plain(use.x)
                else:
                    inputs[c] = use.x
            return _by_a_faster_call(use, make, inputs.get(c), structured) + zeros[c]

        row = Batch.of_one(sample, target)
        out = source.model(row, theta, CallWatcher(structured, seen, in_the_order_of_the_value))
        if next(counter, None) is not None:
            raise RuntimeError("the module makes fewer calls than before")
        return out.reshape(-1), inputs

    with differentiable_math():
        if theta:
            pull = _pull_each
        else:
            pull = _pull_all
        shapes = {c: (calls[c].out_shape, calls[c].dtype) for c in wanted}
        return pull(run, batch, shapes, theta, outputs, source.way == "nested")


def _pull_all(
    run: Callable, batch: Batch, shapes: Shapes, theta: dict[str, Tensor], outputs: range, nested: bool
) -> Pulled:
    """One backward pass for all samples: each has zeros of its own, so that no cotangent is a sum over samples."""
    n, like = len(batch), tensors_of(batch.x)[0]
    zeros = {
        c: like.new_zeros((), dtype=dtype).expand(n, *shape).requires_grad_() for c, (shape, dtype) in shapes.items()
    }
    with torch.autograd.graph.disable_saved_tensors_hooks("not inside vmap"):
        out, inputs = vmap(run, in_dims=(0, batch.target_axis, 0, None))(batch.x, batch.targets, zeros, theta)
        basis = out.new_zeros(len(outputs), *out.shape)
        basis[range(len(outputs)), :, list(outputs)] = 1

        def down(v: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(out, list(zeros.values()), v, retain_graph=True, materialize_grads=True)

        b = {}
        if zeros:
            # not `is_grads_batched`: for a convolution torch's older vmap is a loop
            pulled = over_outputs(down, basis, nested)
            b = {c: grad.transpose(0, 1) for c, grad in zip(zeros, pulled, strict=True)}
    return Pulled({c: a.detach() for c, a in inputs.items()}, b, {}, out.detach())


def _pull_each(
    run: Callable, batch: Batch, shapes: Shapes, theta: dict[str, Tensor], outputs: range, nested: bool
) -> Pulled:
    """A backward pass for each sample, in one vmap: its gradients of general parameters are its own."""
    like = tensors_of(batch.x)[0]
    zeros = {c: like.new_zeros(shape, dtype=dtype) for c, (shape, dtype) in shapes.items()}
    inputs, (b, general), scores = pulled_per_sample(run, batch, (zeros, theta), outputs, nested=nested)
    return Pulled(inputs, b, general, scores)


def _by_a_faster_call(use: Use, make: Callable[[], Tensor], a: Tensor | None, structured: set[int]) -> Tensor:
    """The call's output, by a way that is faster where gradients of its parameters are not asked for."""
    if isinstance(use.how, NormScaleCall) and a is not None:
        return use.how.affine(a, use.weight, use.bias)
    if (
        use.weight is None
        or id(use.weight) not in structured
        or (use.bias is not None and id(use.bias) not in structured)
    ):
        return make()
    if isinstance(use.how, LinearCall):
        weight = use.weight
        if use.how.flip:
            weight = weight.mT
        return linear(use.x, weight, use.bias)
    if isinstance(use.how, ConvCall):
        out = convolved(use.how, use.x, use.weight, use.bias)
        return out if out is not None else make()
    return make()


def _factor(source: Source, unit: Unit, a: dict, b: dict, general: dict) -> Factor:
    if unit.kind == "general":
        grad = general[unit.name]
        return in_result_form(source, grad.reshape(*grad.shape[:2], -1))
    if unit.late:
        return tuple(Piece(a[c], b[c].to(source.dtype)) for c in unit.calls)
    total: Tensor | None = None
    pieces: dict[Sizes, tuple[list[Tensor], list[Tensor]]] = {}
    for c in unit.calls:
        call, cot = source.uses.calls[c], b[c].to(source.dtype)
        if unit.kind == "bias":
            grad = call.how.summed(cot, unit.numel).flatten(2)
        elif isinstance(call.how, NormScaleCall):
            grad = call.how.product(a[c].to(source.dtype), cot, call.weight_shape).flatten(2)
        else:
            sizes = call.how.sizes(call.weight_shape, call.out_shape)
            right = call.how.cotangents(cot, call.weight_shape, call.in_shape)
            if not unit.rows:
                left = call.how.inputs(a[c], call.weight_shape)
                if not sizes.lookup:
                    left = left.to(source.dtype)
                lefts, rights = pieces.setdefault(sizes._replace(positions=0), ([], []))
                lefts.append(left)
                rights.append(right)
                continue
            grad = formed(call, a[c], right, sizes)
        if total is None:
            total = grad
        else:
            total = total.add_(grad)
    if total is not None:
        return in_result_form(source, total)
    return tuple(_piece(source, len(pieces) > 1, *sides) for sides in pieces.values())


def _piece(source: Source, several: bool, left: list[Tensor], right: list[Tensor]) -> Piece:
    if len(left) == 1:
        a, b = (left[0], right[0])
    else:
        a, b = (torch.cat(left, 2), torch.cat(right, 3))
    if source.full or several:
        return Piece(a, b.contiguous())  # once, and not at every tile
    # sum_c (b_cp . b_cq) is the product of the vectors of all outputs laid end to end
    return Piece(a, b.permute(0, 2, 3, 1, 4).flatten(3)[:, None])  # (n, 1, G, P, k b)


def in_result_form(source: Source, grad: Tensor) -> Tensor:
    """Gradients (n, k, p) in the result's dtype, the outputs folded in without `full`."""
    grad = grad.to(source.dtype)
    # sum_c <grad f_c, grad f_c'> is one product of the gradients laid end to end
    if source.full:
        return grad
    return grad.flatten(1)[:, None]


def _one_by_one(source: Source, units: Sequence[Unit], batch: Batch, outputs: range) -> list[Factor]:
    parameters = [source.parameters[unit.name] for unit in units]
    with differentiable_math():
        return [in_result_form(source, g) for g in rows_of_samples(source.model, parameters, batch, outputs)]
