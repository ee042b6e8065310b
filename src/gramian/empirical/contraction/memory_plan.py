"""How many samples and outputs are held at once, so that the working memory stays under what was asked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from gramian.empirical.contraction.contracted_parameters import PASS_COST, Unit, cheaper, make_units
from gramian.empirical.contraction.source import Source
from gramian.empirical.modules.structured_calls import NormScaleCall, Sizes
from gramian.empirical.modules.structured_parameters import StructuredCall, Uses
from gramian.errors import BadArgument

# numbers of gradients that are formed at once: above, they leave the cache before they are contracted
CACHED_GRADIENTS = 2**23
CACHED_NUMBERS = 2**25  # numbers that a chunk of samples works on: above, a backward pass only waits for memory


@dataclass(frozen=True)
class ContractionPlan:
    """Units that are done together, with the outputs and samples of a block; `chunk` samples run at once."""

    units: tuple[Unit, ...]
    outputs: int
    samples: int
    chunk: int


@dataclass(frozen=True)
class Workload:
    """All that the plans depend on: shapes and counts, none of a tensor's values. Equal workloads have equal plans.

    Attributes:
        uses: how the module uses its parameters; `sizes`: name and number of entries of each.
        n_outputs: numbers to differentiate a sample; `full`: all pairs of them.
        batched: samples run together, under vmap.
        by_layer: a result for each parameter.
        n, m, symmetric: samples on both sides, and whether they are the same.
        numbers: what is available, in numbers of `itemsize` bytes; `saved`: what a forward pass of a sample saves.
        name: of the module's type, for the error.
        way: chooses how a unit is contracted, as `cheaper` does.
        cached_gradients: numbers of deferred gradients that are formed at once.
    """

    uses: Uses
    sizes: tuple[tuple[str, int], ...]
    n_outputs: int
    full: bool
    batched: bool
    by_layer: bool
    n: int
    m: int
    symmetric: bool
    numbers: int
    saved: int
    itemsize: int
    name: str = "the module"
    way: Callable[..., Unit] = cheaper
    cached_gradients: int = CACHED_GRADIENTS

    @classmethod
    def of(cls, source: Source, n: int, m: int | None, max_bytes: int, saved: int, by_layer: bool) -> Workload:
        """The workload of a kernel of n samples with themselves (m None), or with m others; `saved` in bytes."""
        uses, itemsize = source.uses, source.dtype.itemsize
        return cls(
            uses=replace(uses, calls=tuple(call.without_values() for call in uses.calls)),
            sizes=tuple(source.sizes()),
            n_outputs=source.n_outputs,
            full=source.full,
            batched=source.batched,
            by_layer=by_layer,
            n=n,
            m=n if m is None else m,
            symmetric=m is None,
            numbers=max_bytes // itemsize,
            saved=saved // itemsize,
            itemsize=itemsize,
            name=type(source.model.module).__name__,
        )

    def units(self) -> list[Unit]:
        """What is contracted at once, each in the way that takes less time."""
        n, m, c = self.n, self.m, self.n_outputs
        units = make_units(self.uses, self.sizes, self.by_layer)
        return [self.way(unit, n, m, c, self.full, self.scratch) for unit in units]

    @property
    def scratch(self) -> int:
        """Numbers for the contraction itself; as many again for gradients that are formed meanwhile."""
        return self.numbers // 8

    def work(self, units: Sequence[Unit], k: int) -> int:
        """Numbers that one sample takes while its factors are made for k outputs, these included."""
        held = sum(unit.held(k) for unit in units)
        if not self.batched:
            return self.saved + 2 * held + sum(unit.numel for unit in units)
        calls = [self.uses.calls[c] for c in {c for unit in units for c in unit.calls}]
        outs = [prod(call.out_shape) for call in calls]
        pieces = [s for unit in units for s in unit.sizes]
        windows = max((_windows(s, k) for s in pieces), default=0)
        general = sum(unit.numel for unit in units if unit.kind == "general")
        forward = 2 * self.saved + sum(outs) + sum(prod(call.in_shape) for call in calls)
        backward = sum(outs) + general + 3 * max([*outs, self.n_outputs])
        return forward + 2 * windows + k * backward + held

    def block(self, units: Sequence[Unit], k: int) -> tuple[int, int]:
        """Samples in a block and in a chunk, for k outputs at once; (0, 0) if not even one fits."""
        free = self.numbers - self.scratch
        if any(unit.late for unit in units):
            free -= self.scratch
        work = self.work(units, k)
        held = sum(unit.held(k) for unit in units) + max(unit.part(k) for unit in units)
        largest = max(self.n, self.m)
        cached = max(1, CACHED_NUMBERS // work)  # samples whose backward pass stays in the cache
        once = held * self.n
        if not self.symmetric:
            once += held * self.m
        if once + work <= free:
            return largest, min(largest, cached, (free - once) // work)
        chunk = max(1, min(largest, cached, free // 4 // work))
        samples = (free - chunk * work) // (2 * held)
        if samples > 0:
            return samples, min(chunk, samples)
        return 0, 0

    def together(self, units: Sequence[Unit]) -> ContractionPlan | None:
        """These units at once: the blocks that take the fewest passes; None if one sample of them does not fit."""
        c = self.n_outputs
        fits = [(k, *self.block(units, k)) for k in dict.fromkeys(max(1, c >> i) for i in range(c.bit_length()))]
        fits = [fit for fit in fits if fit[1] > 0]
        if not fits:
            return None
        whole = [fit for fit in fits if fit[1] >= max(self.n, self.m)]
        # without pairs of outputs, fewer outputs at once cost nothing; with them, blocks of samples are cheaper
        if self.full:
            k, samples, chunk = fits[0]
        elif whole:
            k, samples, chunk = whole[0]
        else:
            k, samples, chunk = fits[-1]
        return ContractionPlan(tuple(units), k, samples, chunk)

    def is_whole(self, units: Sequence[Unit]) -> bool:
        """Whether one block holds these units of all samples."""
        plan = self.together(units)
        return plan is not None and plan.samples >= max(self.n, self.m)

    def cost(self, plan: ContractionPlan) -> int:
        """Multiplications that make the plan's factors: forward and backward passes, and gradients that are formed."""
        calls = self.uses.calls
        efforts = [_effort(call) for call in calls]
        first = 0
        if not any(unit.kind == "general" for unit in plan.units):
            first = min((c for unit in plan.units for c in unit.calls), default=0)
        form = sum(_effort(calls[c]) for unit in plan.units if unit.rows for c in unit.calls)
        forward = PASS_COST * self.saved + sum(efforts)
        backward = PASS_COST * self.saved * (len(calls) - first) // max(1, len(calls)) + sum(efforts[first:])
        rows, columns = (-(-count // plan.samples) for count in (self.n, self.m))
        cuts = -(-self.n_outputs // plan.outputs)
        if self.full:
            rows, columns, cuts = rows * cuts, columns * cuts, 1
        if self.symmetric:
            blocks = rows * (rows + 1) // 2
        else:
            blocks = rows + rows * columns
        runs = cuts * blocks
        return runs * min(plan.samples, max(self.n, self.m)) * (forward + plan.outputs * (backward + form))


@lru_cache(maxsize=64)
def planned(load: Workload) -> tuple[ContractionPlan, ...]:
    """The cheapest passes that fit. They are a function of shapes and counts, so they are kept from call to call."""
    return tuple(plans(load, load.units()))


def plans(load: Workload, units: Sequence[Unit]) -> list[ContractionPlan]:
    """The cheapest passes that fit: all units together in blocks of samples, or those that fit whole, then the rest."""
    if not units:
        return []
    together = load.together(units)
    if together is not None and load.is_whole(units):
        return [together]
    if len(units) > 1:  # the last ones first: their backward passes are the shortest
        at = bisect_left(range(1, len(units) - 1), True, key=lambda i: load.is_whole(units[i:])) + 1
        apart = plans(load, units[:at]) + plans(load, units[at:])
        if together is None or sum(map(load.cost, apart)) < load.cost(together):
            return apart
    if together is not None:
        return [together]
    need = -(-8 * (load.work(units, 1) + 2 * units[0].held(1)) // 7) * load.itemsize
    raise BadArgument(
        f"`max_bytes` is too small: one pair of samples needs about {need:,} bytes.",
        where=f"parameter `{units[0].name}` of {load.name}, {units[0].numel:,} numbers",
        why="the gradient of one output and what a backward pass keeps must fit",
        fix=f"max_bytes={need:_}",
    )


def _windows(sizes: Sizes, k: int) -> int:
    """Numbers of a call's windows on one sample; a transposed call has those of the cotangents of k outputs beside."""
    if sizes.flip:
        return sizes.held + k * sizes.groups * sizes.positions * sizes.b
    return sizes.held


def _effort(call: StructuredCall) -> int:
    """Multiplications of a call, on one sample."""
    if isinstance(call.how, NormScaleCall):
        return PASS_COST * prod(call.out_shape)
    sizes = call.how.sizes(call.weight_shape, call.out_shape)
    if sizes.lookup:
        return sizes.groups * sizes.positions * sizes.b * PASS_COST
    return sizes.groups * sizes.positions * sizes.b * sizes.a
