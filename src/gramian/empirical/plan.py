"""How many samples and outputs are held at once, so that the working memory stays under what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from gramian.empirical.factors import Source
from gramian.empirical.units import Unit
from gramian.errors import BadArgument

CACHED = 2**24  # numbers that a chunk of samples works on: above, a backward pass only waits for memory


@dataclass(frozen=True)
class Plan:
    """Units that are done together, with the outputs and samples of a block; `chunk` samples run at once."""

    units: tuple[Unit, ...]
    outputs: int
    samples: int
    chunk: int


@dataclass(frozen=True, eq=False)
class Budget:
    """What the plans are made from: numbers of samples, numbers (not bytes) available, numbers a forward pass saves."""

    source: Source
    n: int
    m: int
    symmetric: bool
    numbers: int
    saved: int

    @property
    def scratch(self) -> int:
        """Numbers for the contraction itself."""
        return self.numbers // 8

    def work(self, units: Sequence[Unit], k: int) -> int:
        """Numbers that one sample takes while its factors are made for k outputs, these included."""
        held = sum(unit.held(k) for unit in units)
        if not self.source.batched:
            return self.saved + 2 * held + sum(unit.numel for unit in units)
        calls = [self.source.uses.calls[c] for c in {c for unit in units for c in unit.calls}]
        outs = [prod(call.out_shape) for call in calls]
        pieces = [s for unit in units for s in unit.sizes]
        windows = max((s.held + (k * s.groups * s.positions * s.b if s.flip else 0) for s in pieces), default=0)
        general = sum(unit.numel for unit in units if unit.kind == "general")
        forward = 2 * self.saved + sum(outs) + sum(prod(call.in_shape) for call in calls)
        backward = sum(outs) + general + 3 * max([*outs, self.source.n_outputs])
        return forward + 2 * windows + k * backward + held

    def block(self, units: Sequence[Unit], k: int) -> tuple[int, int]:
        """Samples in a block and in a chunk, for k outputs at once; (0, 0) if not even one fits."""
        free = self.numbers - self.scratch
        held, work = sum(unit.held(k) for unit in units), self.work(units, k)
        largest = max(self.n, self.m)
        cached = max(1, CACHED // work)  # samples whose backward pass stays in the cache
        once = held * (self.n if self.symmetric else self.n + self.m)
        if once + work <= free:
            return largest, min(largest, cached, (free - once) // work)
        chunk = max(1, min(largest, cached, free // 4 // work))
        return (samples, min(chunk, samples)) if (samples := (free - chunk * work) // (2 * held)) > 0 else (0, 0)


def plans(budget: Budget, units: Sequence[Unit]) -> list[Plan]:
    """The fewest passes that fit: first fewer outputs or samples at once, and only then units apart."""
    if not units:
        return []
    c = budget.source.n_outputs
    halves = [max(1, c >> i) for i in range(c.bit_length())]
    fits = [(k, *budget.block(units, k)) for k in halves]
    fits = [fit for fit in fits if fit[1] > 0]
    if fits:
        whole = [fit for fit in fits if fit[1] >= max(budget.n, budget.m)]
        # without pairs of outputs, fewer outputs at once cost nothing; with them, blocks of samples are cheaper
        k, samples, chunk = fits[0] if budget.source.full else whole[0] if whole else fits[-1]
        return [Plan(tuple(units), k, samples, chunk)]
    if len(units) > 1:
        half = len(units) // 2
        return plans(budget, units[:half]) + plans(budget, units[half:])
    need = -(-8 * (budget.work(units, 1) + 2 * units[0].held(1)) // 7) * budget.source.dtype.itemsize
    raise BadArgument(
        f"`max_bytes` is too small: one pair of samples needs about {need:,} bytes.",
        where=f"parameter `{units[0].name}` of {type(budget.source.model.module).__name__}, {units[0].numel:,} numbers",
        why="the gradient of one output and what a backward pass keeps must fit",
        fix=f"max_bytes={need:_}",
    )
