"""What is contracted at once: one weight, one bias or one general parameter, each by the cheaper way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from gramian.empirical.modules.structured_calls import (
    ConvTransposeCall,
    EmbeddingCall,
    LinearCall,
    NormScaleCall,
    Sizes,
)
from gramian.empirical.modules.structured_parameters import StructuredCall, Uses

PASS_COST = 16  # multiplications of a matrix product in the time of one number of an elementwise pass


@dataclass(frozen=True)
class Unit:
    """One parameter (or a weight with its bias) and the calls that its gradient is read from.

    `rows`: its gradients are formed, k p numbers a sample; else activations and back-propagated vectors are kept, a
    piece of them for each of `sizes`, and contracted over positions. Without calls the parameter goes the general way.
    `columns`: into how many parts a gradient can be cut, 0 if into none; `late`: its gradients are formed in such parts
    while they are contracted, and until then the calls' inputs, `inputs` numbers, and back-propagated vectors are kept.
    """

    name: str
    kind: str  # "weight" | "weight and bias" | "bias" | "general"
    calls: tuple[int, ...]
    rows: bool
    numel: int
    sizes: tuple[Sizes, ...]
    inputs: int = 0
    columns: int = 0
    late: bool = False

    def held(self, k: int) -> int:
        """Numbers kept for a sample and k outputs."""
        if self.late:
            return self.inputs + k * sum(s.groups * s.positions * s.b for s in self.sizes)
        if self.rows:
            return k * self.numel
        return sum(s.held + k * s.groups * s.positions * s.b for s in self.sizes)

    def part(self, k: int) -> int:
        """Numbers of the least part of a sample's gradients that can be formed."""
        if self.late:
            return k * self.numel // self.columns
        return 0

    @property
    def single(self) -> bool:
        """One piece of one position: (A A^T) o (B B^T)."""
        return len(self.sizes) == 1 and self.sizes[0][:2] == (1, 1) and not self.sizes[0].lookup


def make_units(uses: Uses, sizes: Iterable[tuple[str, int]], apart: bool) -> list[Unit]:
    """Units of the parameters in their order.

    Args:
        uses: how the module uses them.
        sizes: name and number of entries of each.
        apart: never a weight together with its bias.
    """
    units: list[Unit] = []
    for name, numel in sizes:
        weight = tuple(i for i, call in enumerate(uses.calls) if call.weight == name)
        bias = tuple(i for i, call in enumerate(uses.calls) if call.bias == name)
        if weight:
            units.append(_of_weight(name, weight, [uses.calls[i] for i in weight], numel))
        elif bias:
            partner = next((u for u in units if u.calls == bias and u.single), None)
            if partner is not None and not apart and uses.calls[bias[0]].weight == partner.name:
                units[units.index(partner)] = replace(partner, kind="weight and bias")  # (A A^T + 1) o (B B^T)
            else:
                units.append(Unit(name, "bias", bias, True, numel, ()))
        elif name in uses.general:
            units.append(Unit(name, "general", (), True, numel, ()))
    return units


def _of_weight(name: str, places: tuple[int, ...], calls: list[StructuredCall], numel: int) -> Unit:
    if any(isinstance(call.how, NormScaleCall) for call in calls):
        return Unit(name, "weight", places, True, numel, ())
    pieces: list[Sizes] = []
    for each in (call.how.sizes(call.weight_shape, call.out_shape) for call in calls):  # type: ignore[union-attr]
        like = next((i for i, s in enumerate(pieces) if s._replace(positions=each.positions) == each), None)
        if like is None:
            pieces.append(each)
        else:  # called twice, it has twice the positions
            pieces[like] = each._replace(positions=each.positions + pieces[like].positions)
    rows = len({s.groups for s in pieces}) > 1
    inputs = sum(prod(call.in_shape) for call in calls)
    return Unit(name, "weight", places, rows, numel, tuple(pieces), inputs, _columns(calls, pieces))


def _columns(calls: list[StructuredCall], pieces: list[Sizes]) -> int:
    """Into how many parts the weight's gradient can be cut: by output if all calls are alike, else columns."""
    if len(pieces) == 1:
        if isinstance(calls[0].how, ConvTransposeCall):
            return 0
        return pieces[0].b
    if all(isinstance(call.how, LinearCall | EmbeddingCall) for call in calls):
        return calls[0].weight_shape[1]
    return 0


def cheaper(unit: Unit, n: int, m: int, k: int, full: bool, scratch: int) -> Unit:
    """The unit with the way that takes less time, given n x m samples and k outputs.

    Forming gradients: (n + m) k G P a b to form, n m p to contract. Contracting positions: n m G P^2 (a + b) and one
    pass over the products. All pairs of outputs with `full`, else each output with itself. `scratch`: the numbers
    that one pair of samples may take when positions are contracted.
    """
    if unit.rows or unit.single:
        return unit
    kinds, output_pairs = len(unit.sizes), k
    if full:
        output_pairs = k * k
    passes = 1  # over the products: the outputs of one kind of pieces are summed before
    if full or kinds > 1:
        passes = output_pairs
    held_at_once = 2  # arrays of all pairs of positions
    if kinds > 1:
        held_at_once = 3
    ab = sum(s.groups * s.positions * s.multiplied * s.b for s in unit.sizes)
    form = (n + m) * k * ab + n * m * output_pairs * unit.numel
    contract, most = 0, 0
    for s in unit.sizes:
        for t in unit.sizes:
            places = s.groups * s.positions * t.positions
            a = s.multiplied
            if t.lookup:
                a = 1
            contract += n * m * places * (a + output_pairs * s.b + passes * PASS_COST)
            most = max(most, places)
    rows = form < contract or held_at_once * most > scratch
    early, late = replace(unit, rows=rows), replace(unit, rows=rows, late=True)
    # put off where that halves what is kept, or better
    if rows and unit.columns and 2 * late.held(k) <= early.held(k):
        return late
    return early
