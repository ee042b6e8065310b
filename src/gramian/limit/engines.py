"""Which engine computes a kernel: compiled code where it can, plain torch everywhere else."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.arch.inputs import Inputs
from gramian.arch.structure import Structure
from gramian.errors import BadArgument, Unsupported
from gramian.library import library
from gramian.limit import cuda, torch_engine, vectors
from gramian.limit.compiled import Compiled, compiled
from gramian.limit.engine_inputs import no_autocast, prepared
from gramian.limit.finite import NotFinite
from gramian.limit.not_finite import check_finite, refuse
from gramian.limit.outputs import chosen_output

ENGINES = ("auto", "torch", "native", "cuda")


NAMES = {"native": "native", "cuda": "CUDA"}
# types of torch devices on which an engine runs
DEVICES = {"native": ("cpu",), "cuda": cuda.DEVICES}
RUNS_ON = {"native": "it runs on the CPU", "cuda": "it runs on a GPU, where x.cuda() would be"}


def kernels(
    arch: Structure,
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
    arch: Structure, x: Inputs, x2: Inputs | None, engine: str, ntk: bool, outputs: str
) -> tuple[Tensor, Tensor]:
    """The kernels by the engine that was asked for, or chosen."""
    odd = isinstance(x, Tensor) and not isinstance(x2, Tensor | None)  # torch's way says what is wrong with `x2`
    if engine == "torch" or odd:
        return _by_torch(arch, x, x2, ntk, outputs)
    chosen = engine
    if engine == "auto":
        chosen = _of_device(x)
    try:
        check_inputs(chosen, arch, x, x2, outputs)
        assert isinstance(x, Tensor)
        assert x2 is None or isinstance(x2, Tensor)
        code = compiled(arch, chosen)
        if engine == "auto" and not code.worthwhile(x, x2):
            return _by_torch(arch, x, x2, ntk, outputs)
        return _by_compiled(code, arch, x, x2, ntk)
    except Unsupported as error:
        if engine != "auto":
            raise BadArgument(
                f"The {NAMES[engine]} engine cannot compute this kernel.",
                where=", ".join(word for word in (error.op, error.where) if word) or "inputs, of this size",
                why=error.why,
                fix='engine="auto", which takes plain torch operations here',
            ) from None
    return _by_torch(arch, x, x2, ntk, outputs)


def _by_torch(arch: Structure, x: Inputs, x2: Inputs | None, ntk: bool, outputs: str) -> tuple[Tensor, Tensor]:
    try:
        nngp, theta = torch_engine.kernels(arch, x, x2, ntk=ntk, outputs=outputs)
    except NotFinite as error:
        refuse(arch, x, x2, error.pair, 1, error.dtype)
    check_finite(arch, x, x2, nngp, theta)
    return nngp, theta


def _of_device(x: Inputs) -> str:
    if isinstance(x, Tensor) and x.is_cuda:
        return "cuda"
    return "native"


def _by_compiled(code: Compiled, arch: Structure, x: Tensor, x2: Tensor | None, ntk: bool) -> tuple[Tensor, Tensor]:
    arch.inputs.check(x, "x")
    if x2 is not None:
        arch.inputs.check(x2, "x2")
    chosen_output(arch, "mean")
    try:
        nngp, theta = code.kernels(arch, x, x2, ntk=ntk)
    except NotFinite as error:
        refuse(arch, x, x2, error.pair, 1, error.dtype)
    if code.part is not vectors:  # these loops have looked already
        check_finite(arch, x, x2, nngp, theta)
    return nngp, theta


def explain(arch: Structure) -> str:
    """Two lines: the engine that "auto" takes for this network on a CPU and on a GPU, and if it is torch, why."""
    try:
        code = compiled(arch, "native")
        first = f"native engine ({library().isa}), for float32 and float64 on a CPU without gradients; else torch"
        condition = vectors.conditions(code.program)
        if code.on_vectors and condition:
            first += f" ({condition})"
    except Unsupported as lack:
        first = f"torch engine: the native one lacks {lack}"
    try:
        compiled(arch, "cuda")
        second = "CUDA engine, where cuda.core is installed"
    except Unsupported as lack:
        second = f"torch engine: CUDA lacks {lack}"
    return f"{first}\non a GPU: {second}"


def check_inputs(engine: str, arch: Structure, x: Inputs, x2: Inputs | None, outputs: str) -> None:
    """Raises Unsupported where the machine, the inputs or the outputs keep a compiled engine away."""
    if engine == "cuda":
        cuda.check_gpu(x.device.type if isinstance(x, Tensor) else "cuda")
    if arch.inputs.kind != "tensor" or arch.inputs.leaves[0].kind != "float":
        raise _inputs("that are not one tensor of numbers", "it takes one tensor of floating-point numbers")
    if arch.has_tensor_laws:
        raise Unsupported("its results are plain numbers, without gradients", op="a law", where="with tensors")
    if outputs != "mean":
        raise Unsupported("it computes one number for a pair of inputs", op="outputs", where="at positions")
    given = [t for t in (x, x2) if isinstance(t, Tensor)]
    for t in given:
        if t.device.type not in DEVICES[engine]:
            raise _inputs(f"on {t.device}", RUNS_ON[engine])
        if t.dtype not in (torch.float32, torch.float64):
            raise _inputs(f"of {t.dtype}", "it computes in float32 and float64")
        if t.requires_grad and torch.is_grad_enabled():
            raise _inputs("that require gradients", "its results are plain numbers")
    if len({t.dtype for t in given}) > 1:
        raise _inputs("of two dtypes", "it computes in one")
    if len({t.device for t in given}) > 1:
        raise _inputs("on two devices", "it runs on one")
    if not given:
        raise _inputs("that are no tensors", "it takes tensors")


def _inputs(which: str, why: str) -> Unsupported:
    return Unsupported(why, op="inputs", where=which)
