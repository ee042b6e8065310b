"""What a compiled engine makes of an architecture: its program and the part that runs it, once for all calls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from gramian.arch.structure import Structure
from gramian.errors import Unsupported
from gramian.library import library
from gramian.limit import cuda, planes, torch_engine, vectors
from gramian.limit.kernel_program import Program, program


class Part(Protocol):
    """A part of a compiled engine, for one kind of network."""

    def prepare(self, p: Program) -> Any:
        """The data that it computes once from a program; raises Unsupported."""

    def kernels(
        self, arch: Structure, prepared: Any, x: Tensor, x2: Tensor | None, *, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        """`(nngp, ntk)`; inputs are checked, on the engine's device, in float32 or float64, and need no gradients."""


# for vectors, and for images
PARTS: dict[str, tuple[Part, Part]] = {"native": (vectors, planes), "cuda": (cuda.vectors, cuda.images)}


@dataclass(frozen=True)
class Compiled:
    """An architecture on one engine.

    Args:
        program: the network's instructions.
        part: of the engine, which runs it.
        prepared: what that part made of the program.
        checked: dtypes, kinds of kernel and sizes of inputs for which the torch engine was seen to have a rule.
    """

    program: Program
    part: Part
    prepared: Any
    checked: set[tuple[torch.dtype, bool, int]] = field(default_factory=set)

    @property
    def on_vectors(self) -> bool:
        """Whether no value has positions."""
        return self.part in (vectors, cuda.vectors)

    def worthwhile(self, x: Tensor, x2: Tensor | None) -> bool:
        """Whether so many pairs pay for the tables that activations need."""
        return not self.on_vectors or vectors.worthwhile(self.program, len(x) * len(x if x2 is None else x2))

    def check(self, arch: Structure, x: Tensor, ntk: bool) -> None:
        """Computes one entry by the torch engine, which refuses what has no rule; once for inputs of about this size.

        The part for images takes only what has a rule, and one entry of theirs may not fit in memory.
        """
        if not self.on_vectors:
            return
        # a series may be too long at a larger variance: one octave of it is one case
        variance = float(torch.linalg.vector_norm(x[0], dtype=torch.float64)) ** 2
        key = (x.dtype, ntk, math.frexp(variance)[1])
        if key not in self.checked:
            torch_engine.check_entry(arch, x, ntk)
            self.checked.add(key)

    def kernels(self, arch: Structure, x: Tensor, x2: Tensor | None, *, ntk: bool) -> tuple[Tensor, Tensor]:
        """`(nngp, ntk)`, see `Part`."""
        with torch.no_grad():
            self.check(arch, x, ntk)
            return self.part.kernels(arch, self.prepared, x, x2, ntk=ntk)


def compiled(arch: Structure, engine: str) -> Compiled:
    """The architecture on "native" or "cuda", from the first call on kept with it.

    Raises:
        Unsupported: this engine cannot run the network. A missing GPU is not asked for.
    """
    if engine == "native" and library().module is None:
        raise Unsupported(library().why, op="the compiled library")
    kept = arch.prepared.get(engine)
    if kept is None:
        try:
            kept = _compile(arch, engine)
        except Unsupported as error:
            kept = error
        arch.prepared[engine] = kept
    if isinstance(kept, Unsupported):
        raise Unsupported(kept.why, op=kept.op, where=kept.where)
    return kept


def _compile(arch: Structure, engine: str) -> Compiled:
    p = program(arch)
    for_vectors, for_images = PARTS[engine]
    has_positions = len(p.lines[0].shape) > 1
    try:
        return Compiled(p, for_vectors, for_vectors.prepare(p))
    except Unsupported:
        if not has_positions:
            # a program that starts from vectors may still have positions further up, but then no engine has it
            raise
    return Compiled(p, for_images, for_images.prepare(p))
