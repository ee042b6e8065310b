"""Gradients that are formed only while they are contracted, some columns of the weight at a time.

A weight that is used at many positions often has gradients, k p numbers a sample, that are many more than the inputs
and cotangents that they are made of. Then these are kept, and no sample has to be run again because its gradients did
not fit: of a vision transformer's linear maps a tenth to a third, of a ResNet's last stages a twentieth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gramian.empirical.contraction.contracted_parameters import Unit
from gramian.empirical.contraction.gram_blocks import add_gram
from gramian.empirical.contraction.layer_factors import Factor, Piece, in_result_form
from gramian.empirical.contraction.memory_plan import Workload
from gramian.empirical.contraction.per_sample_gradients import formed
from gramian.empirical.contraction.source import Source
from gramian.empirical.modules.structured_calls import ConvCall, NormScaleCall
from gramian.empirical.modules.structured_parameters import StructuredCall
from gramian.empirical.workarounds.convolution_gradients import LANES


def add_late(
    out: Tensor, unit: Unit, source: Source, f: Factor, g: Factor, load: Workload, mirror: Tensor | None
) -> None:
    """Adds <f_i, g_j> of one unit to `out`, as `add_gram` does; `scratch` numbers for it, and as many for gradients."""
    scratch = load.scratch
    assert isinstance(f, tuple)
    assert isinstance(g, tuple)
    n, m = len(f[0].a), 0
    if g is not f:
        m = len(g[0].a)
    each = (n + m) * f[0].b.shape[1] * (unit.numel // unit.columns)
    step = max(1, min(scratch // 2, load.cached_gradients) // each)
    # whole multiples of the channels that the compiled loops take at once
    if step > LANES:
        step -= step % LANES
    for start in range(0, unit.columns, step):
        columns = slice(start, min(start + step, unit.columns))
        left = _gradients(source, unit, f, columns, scratch // 4)
        if g is f:
            right = left
        else:
            right = _gradients(source, unit, g, columns, scratch // 4)
        add_gram(out, [unit], [left], [right], scratch, mirror)


def _gradients(source: Source, unit: Unit, pieces: Sequence[Piece], columns: slice, room: int) -> Tensor:
    """Gradients of some columns of the weight: (n, k, p), with the outputs folded in without `full`."""
    total: Tensor | None = None
    several_kinds = len(unit.sizes) > 1
    for c, piece in zip(unit.calls, pieces, strict=True):
        grad = _of_call(source.uses.calls[c], piece, columns, several_kinds, room)
        if total is None:
            total = grad
        else:
            total = total.add_(grad)
    assert total is not None
    return in_result_form(source, total)


def _of_call(call: StructuredCall, piece: Piece, columns: slice, several_kinds: bool, room: int) -> Tensor:
    """One call's part of them; `several_kinds`: other calls of the weight have it transposed, or look rows up."""
    how = call.how
    assert not isinstance(how, NormScaleCall)
    (x, b), wide = piece, columns.stop - columns.start
    sizes = how.sizes(call.weight_shape, call.out_shape)
    by_input = several_kinds and not sizes.flip
    if by_input:
        x, sizes = x[..., columns], sizes._replace(a=wide)
    else:
        sizes = sizes._replace(b=wide)
    if isinstance(how, ConvCall):  # as if it made no more channels
        call = replace(call, weight_shape=(wide * sizes.groups, *call.weight_shape[1:]))
    step, out = max(1, room // sizes.held), None  # samples whose windows may be made at once
    for i in range(0, len(x), step):
        right = how.cotangents(b[i : i + step], call.weight_shape, call.in_shape)
        if not by_input:
            right = right[..., columns]
        grad = formed(call, x[i : i + step], right, sizes)
        if step >= len(x):
            return grad
        if out is None:
            out = grad.new_empty(len(x), *grad.shape[1:])
        out[i : i + step] = grad
    assert out is not None
    return out
