"""Which engine computes a kernel: compiled code where it can, plain torch everywhere else."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gramian.arch.architecture import Architecture
from gramian.arch.inputs import Inputs
from gramian.errors import BadArgument
from gramian.library import library
from gramian.limit import cuda, planes, torch_engine, vectors
from gramian.limit.engine_inputs import no_autocast, prepared
from gramian.limit.finite import NotFinite, check_finite, refuse
from gramian.limit.kernel_program import Lack, Program, program
from gramian.limit.outputs import chosen_output

ENGINES = ("auto", "torch", "native", "cuda")


class Part(Protocol):
    """A part of a compiled engine, for one kind of network."""

    def lacks(self, p: Program) -> Lack | None:
        """What keeps it from running this program; None if nothing does."""

    def kernels(
        self, arch: Architecture, p: Program, x: Tensor, x2: Tensor | None, *, ntk: bool
    ) -> tuple[Tensor, Tensor]:
        """`(nngp, ntk)`; inputs are checked, on the engine's device, in float32 or float64, and need no gradients."""


PARTS: dict[str, tuple[Part, ...]] = {"native": (vectors, planes), "cuda": (cuda.vectors, cuda.images)}
NAMES = {"native": "native", "cuda": "CUDA"}
# types of torch devices on which an engine runs
DEVICES = {"native": ("cpu",), "cuda": cuda.DEVICES}


def kernels(
    arch: Architecture,
    x: Inputs,
    x2: Inputs | None = None,
    *,
    engine: str = "auto",
    ntk: bool = True,
    outputs: str = "mean",
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)` of an architecture at infinite width; shapes (n, m). Without `ntk` the second is empty.

    Args:
        arch: the architecture.
        x: inputs; shape (n, *in_shape), or the structure of several that the architecture was read with.
        x2: inputs; shape (m, *in_shape), or None for `x`: then only half of the tiles are computed, the result is
            exactly symmetric, and its diagonal exact.
        engine: "torch" runs everything, on any device, and is differentiable. "native" is compiled code for networks
            on vectors and for convolutional ones, "cuda" the same on a GPU. "auto" is the one of the inputs' device
            where that can be, and "torch" elsewhere.
        ntk: whether to compute the NTK.
        outputs: "mean", or "full" for shapes (n, m, *S, *S); see `Architecture.ntk`.

    Raises:
        BadArgument: there is no such engine, or a compiled one was asked for and cannot run this; the message says why.
    """
    if engine not in ENGINES:
        raise BadArgument(
            f"The engine {engine!r} is not in this build.",
            where="argument `engine` of a limit kernel",
            why=f"there are {', '.join(ENGINES)}",
            fix='engine="auto"',
        )
    x, x2, dtype = prepared(arch, x, x2)
    with no_autocast():
        nngp, theta = _computed(arch, x, x2, engine, ntk, outputs)
        if dtype is not None:
            nngp, theta = nngp.to(dtype), theta.to(dtype)
            check_finite(arch, x, x2, nngp, theta)
    return nngp, theta


def _computed(
    arch: Architecture, x: Inputs, x2: Inputs | None, engine: str, ntk: bool, outputs: str
) -> tuple[Tensor, Tensor]:
    """By the engine that was asked for, or chosen."""
    odd = isinstance(x, Tensor) and not isinstance(x2, Tensor | None)  # torch's way says what is wrong with `x2`
    if engine == "torch" or odd:
        return _by_torch(arch, x, x2, ntk, outputs)
    if engine != "auto":
        compiled = engine
    else:
        compiled = _of_device(x)
    lack = _missing(compiled, arch, x, x2, outputs)
    p = None
    if lack is None:
        p = program(arch)
        lack = lacks(p, compiled)
    if p is not None and lack is None:
        assert isinstance(x, Tensor)
        assert x2 is None or isinstance(x2, Tensor)
        try:
            if engine == "auto" and not _worthwhile(p, x, x2):
                return _by_torch(arch, x, x2, ntk, outputs)
            return _compiled(compiled, arch, p, x, x2, ntk)
        except vectors.Unable as error:
            lack = Lack("inputs", "of this size", str(error))
    if engine != "auto" and lack is not None:
        raise BadArgument(
            f"The {NAMES[engine]} engine cannot compute this kernel.",
            where=", ".join(word for word in (lack.op, lack.where) if word),
            why=lack.why,
            fix='engine="auto", which takes plain torch operations here',
        )
    return _by_torch(arch, x, x2, ntk, outputs)


def _by_torch(arch: Architecture, x: Inputs, x2: Inputs | None, ntk: bool, outputs: str) -> tuple[Tensor, Tensor]:
    try:
        nngp, theta = torch_engine.kernels(arch, x, x2, ntk=ntk, outputs=outputs)
    except NotFinite as error:
        refuse(arch, x, x2, error.pair, 1, error.dtype)
    check_finite(arch, x, x2, nngp, theta)
    return nngp, theta


def _worthwhile(p: Program, x: Tensor, x2: Tensor | None) -> bool:
    return len(p.lines[0].shape) > 1 or vectors.worthwhile(p, len(x) * len(x if x2 is None else x2))


def _of_device(x: Inputs) -> str:
    if isinstance(x, Tensor) and x.is_cuda:
        return "cuda"
    return "native"


def _compiled(
    engine: str, arch: Architecture, p: Program, x: Tensor, x2: Tensor | None, ntk: bool
) -> tuple[Tensor, Tensor]:
    arch.inputs.check(x, "x")
    if x2 is not None:
        arch.inputs.check(x2, "x2")
    chosen_output(arch, "mean")
    number = next(number for number, part in enumerate(PARTS[engine]) if part.lacks(p) is None)
    with torch.no_grad():
        try:
            if number == 0:  # the other part takes only what has a rule; one entry in torch may not fit in memory there
                torch_engine.check(arch, x, ntk)
            nngp, theta = PARTS[engine][number].kernels(arch, p, x, x2, ntk=ntk)
        except NotFinite as error:
            refuse(arch, x, x2, error.pair, 1, error.dtype)
    if engine != "native" or number:  # the loops for vectors have looked already
        check_finite(arch, x, x2, nngp, theta)
    return nngp, theta


def lacks(p: Program, engine: str = "native") -> Lack | None:
    """What keeps a compiled engine from running this network; None if nothing does. A missing GPU is not asked for."""
    if engine == "native" and library().module is None:
        return Lack("the compiled library", "", library().why)
    reasons = [part.lacks(p) for part in PARTS[engine]]
    if None in reasons:
        return None
    for_vectors, for_images = reasons
    has_positions = len(p.lines[0].shape) > 1
    if has_positions:
        return for_images
    return for_vectors


def explain(arch: Architecture) -> str:
    """Two lines: the engine that "auto" takes for this network on a CPU and on a GPU, and if it is torch, why."""
    p = program(arch)
    lack, on_gpu = lacks(p), lacks(p, "cuda")
    if lack is None:
        first = f"native engine ({library().isa}), for float32 and float64 on a CPU without gradients; else torch"
        if vectors.lacks(p) is None:
            condition = vectors.conditions(p)
        else:
            condition = ""
        if condition:
            first += f" ({condition})"
    else:
        first = f"torch engine: the native one lacks {lack}"
    if on_gpu is None:
        second = "CUDA engine, where cuda.core is installed"
    else:
        second = f"torch engine: CUDA lacks {on_gpu}"
    return f"{first}\non a GPU: {second}"


def _missing(engine: str, arch: Architecture, x: Inputs, x2: Inputs | None, outputs: str) -> Lack | None:
    """What about the machine, the inputs or the outputs keeps a compiled engine away."""
    if engine == "cuda":
        absent = cuda.missing(x.device.type if isinstance(x, Tensor) else "cuda")
        if absent is not None:
            return absent
    if arch.inputs.kind != "tensor" or arch.inputs.leaves[0].kind != "float":
        return Lack("inputs", "that are not one tensor of numbers", "it takes one tensor of floating-point numbers")
    if any(isinstance(s, Tensor) for a in arch.affine for s in (a.sigma_w, a.sigma_b)):
        return Lack("a law", "with tensors", "its results are plain numbers, without gradients")
    if outputs != "mean":
        return Lack("outputs", "at positions", "it computes one number for a pair of inputs")
    given = [t for t in (x, x2) if isinstance(t, Tensor)]
    for t in given:
        if t.device.type not in DEVICES[engine]:
            if engine == "native":
                runs = "runs on the CPU"
            else:
                runs = "runs on a GPU, where x.cuda() would be"
            return Lack("inputs", f"on {t.device}", f"it {runs}")
        if t.dtype not in (torch.float32, torch.float64):
            return Lack("inputs", f"of {t.dtype}", "it computes in float32 and float64")
        if t.requires_grad and torch.is_grad_enabled():
            return Lack("inputs", "that require gradients", "its results are plain numbers")
    if len({t.dtype for t in given}) > 1:
        return Lack("inputs", "of two dtypes", "it computes in one")
    if len({t.device for t in given}) > 1:
        return Lack("inputs", "on two devices", "it runs on one")
    if given:
        return None
    return Lack("inputs", "that are no tensors", "it takes tensors")
