"""Which engine computes a kernel: compiled code where it can, plain torch everywhere else."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gramian.arch.architecture import Architecture
from gramian.arch.inputs import Inputs
from gramian.errors import BadArgument
from gramian.limit import planes, torch_engine, vectors
from gramian.limit.library import library
from gramian.limit.outputs import chosen_output
from gramian.limit.program import Lack, Program, program

ENGINES = ("auto", "torch", "native", "cuda")


class Native(Protocol):
    """A part of the native engine, for one kind of network."""

    def lacks(self, p: Program) -> Lack | None:
        """What keeps it from running this program; None if nothing does."""

    def kernels(
        self, arch: Architecture, p: Program, x: Tensor, y: Tensor | None, *, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        """`(nngp, ntk)`; inputs are checked, on the CPU, in float32 or float64, and need no gradients."""


NATIVE: tuple[Native, ...] = (vectors, planes)


def kernels(
    arch: Architecture,
    x: Inputs,
    y: Inputs | None = None,
    *,
    engine: str = "auto",
    ntk: bool = True,
    outputs: str = "mean",
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)` of an architecture at infinite width; shapes (n, m). Without `ntk` the second is empty.

    Args:
        arch: the architecture.
        x: inputs; shape (n, *in_shape), or the structure of several that the architecture was read with.
        y: inputs; shape (m, *in_shape), or None for `x`: then only half of the tiles are computed, the result is
            exactly symmetric, and its diagonal exact.
        engine: "torch" runs everything, on any device, and is differentiable. "native" is compiled code for networks
            on vectors and for convolutional ones. "auto" is "native" where that can be, and "torch" elsewhere.
        ntk: whether to compute the NTK.
        outputs: "mean", or "full" for shapes (n, m, *S, *S); see `Architecture.ntk`.

    Raises:
        BadArgument: there is no such engine, or "native" was asked for and cannot run this; the message says why.
    """
    if engine not in ENGINES or engine == "cuda":
        raise BadArgument(
            f"The engine {engine!r} is not in this build.",
            where="argument `engine` of a limit kernel",
            why="this version has compiled kernels for the CPU; on other devices it uses plain torch operations",
            fix='engine="auto"',
        )
    if engine == "torch":
        return torch_engine.kernels(arch, x, y, ntk=ntk, outputs=outputs)
    lack = _missing(arch, x, y, outputs)
    p = None if lack else program(arch)
    if p is not None and (lack := lacks(p)) is None:
        assert isinstance(x, Tensor)
        assert y is None or isinstance(y, Tensor)
        try:
            return _native(arch, p, x, y, ntk)
        except vectors.Unable as error:
            lack = Lack("inputs", "of this size", str(error))
    if engine == "native" and lack is not None:
        raise BadArgument(
            "The native engine cannot compute this kernel.",
            where=", ".join(word for word in (lack.op, lack.where) if word),
            why=lack.why,
            fix='engine="auto", which takes plain torch operations here',
        )
    return torch_engine.kernels(arch, x, y, ntk=ntk, outputs=outputs)


def _native(arch: Architecture, p: Program, x: Tensor, y: Tensor | None, ntk: bool) -> tuple[Tensor, Tensor]:
    arch.inputs.check(x, "x")
    if y is not None:
        arch.inputs.check(y, "y")
    chosen_output(arch, "mean")
    part = next(part for part in NATIVE if part.lacks(p) is None)
    with torch.no_grad():
        if part is vectors:  # the other part takes only what has a rule; one entry in torch may not fit in memory there
            torch_engine.check(arch, x, ntk)
        return part.kernels(arch, p, x, y, ntk=ntk)


def lacks(p: Program) -> Lack | None:
    """What keeps the native engine from running this network; None if nothing does."""
    found = library()
    if found.module is None:
        return Lack("the compiled library", "", found.why)
    reasons = [part.lacks(p) for part in NATIVE]
    return None if None in reasons else reasons[len(p.lines[0].shape) > 1]  # by whether the input has positions


def explain(arch: Architecture) -> str:
    """One line: the engine that "auto" takes for this network on a CPU, and if it is torch, why."""
    lack = lacks(program(arch))
    if lack is None:
        return f"native engine ({library().isa}), for float32 and float64 on a CPU without gradients; else torch"
    return f"torch engine: the native one lacks {lack}"


def _missing(arch: Architecture, x: Inputs, y: Inputs | None, outputs: str) -> Lack | None:
    """What about the inputs themselves, or the outputs, keeps the native engine away."""
    if arch.inputs.kind != "tensor" or arch.inputs.leaves[0].kind != "float":
        return Lack("inputs", "that are not one tensor of numbers", "it takes one tensor of floating-point numbers")
    if any(isinstance(s, Tensor) for a in arch.affine for s in (a.sigma_w, a.sigma_b)):
        return Lack("a law", "with tensors", "its results are plain numbers, without gradients")
    if outputs != "mean":
        return Lack("outputs", "at positions", "it computes one number for a pair of inputs")
    given = [t for t in (x, y) if isinstance(t, Tensor)]
    for t in given:
        if t.device.type != "cpu":
            return Lack("inputs", f"on {t.device}", "it runs on the CPU")
        if t.dtype not in (torch.float32, torch.float64):
            return Lack("inputs", f"of {t.dtype}", "it computes in float32 and float64")
        if t.requires_grad and torch.is_grad_enabled():
            return Lack("inputs", "that require gradients", "its results are plain numbers")
    if len({t.dtype for t in given}) > 1:
        return Lack("inputs", "of two dtypes", "it computes in one")
    return None if given else Lack("inputs", "that are no tensors", "it takes tensors")
