"""What is refused before any work is done, and why."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gramian.errors import BadArgument, BadData

OUTPUTS = ("mean", "sum", "full")
ENGINES = ("auto", "torch")


def check_options(outputs: str, engine: str, max_bytes: int) -> None:
    """The options that are words or numbers."""
    if outputs not in OUTPUTS:
        raise BadArgument(
            f"`outputs` is {outputs!r}; known are {', '.join(map(repr, OUTPUTS))}.",
            where="empirical_ntk(..., outputs=...)",
            why='"mean" averages the outputs\' kernels, "sum" adds them, "full" keeps every pair of outputs',
            fix='outputs="mean"',
        )
    if engine not in ENGINES:
        unbuilt = engine in ("native", "cuda")
        raise BadArgument(
            f"`engine` is {engine!r}; this version has {', '.join(map(repr, ENGINES))}.",
            where="empirical_ntk(..., engine=...)",
            why="this engine is not built in this version" if unbuilt else "there is no engine of this name",
            fix='engine="auto"; the module and x decide the device, so `module.cuda()` and `x.cuda()` use the GPU',
        )
    if max_bytes < 1:
        raise BadArgument(
            f"`max_bytes` is {max_bytes}; it must be a positive number of bytes.",
            where="empirical_ntk(..., max_bytes=...)",
            why="it bounds the working memory beside the result",
            fix="max_bytes=2**30 for 1 GiB",
        )


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that the kernel is about, by name."""
    if not isinstance(module, nn.Module):
        raise BadArgument(
            f"`module` is a {type(module).__name__}, not a torch.nn.Module.",
            where="empirical_ntk(module, ...)",
            why="the kernel is made of gradients with respect to a module's parameters",
            fix="wrap the function in a torch.nn.Module that owns its parameters",
        )
    parameters: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        count = sum(1 for _ in module.parameters())
        raise BadArgument(
            f"The module has no trainable parameter ({count} in all), so its tangent kernel is zero.",
            where=type(module).__name__,
            why="every parameter has requires_grad=False" if count else "the module has no parameters",
            fix="module.requires_grad_(True)" if count else "give the module parameters",
        )
    for name, p in parameters.items():
        if not p.is_floating_point():
            raise BadArgument(
                f"The parameter `{name}` is {p.dtype}; only real floating-point parameters have a kernel here.",
                where=f"{type(module).__name__}.{name}",
                why="a complex gradient has no inner product that is real and bilinear",
                fix="store its real and imaginary parts as two real parameters",
            )
    return parameters


def check_input(name: str, x: Tensor) -> Tensor:
    """An input must be a tensor with rows and without NaN; the same numbers, usable in a backward pass."""
    if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[0] == 0:
        has = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
        raise BadData(
            f"`{name}` has {has}; it must be a tensor of at least one sample.",
            where=f"argument `{name}`",
            why="the first axis counts the samples",
            fix=f"{name} of shape (n, ...), as the module takes it; torch.as_tensor({name}) for an array",
        )
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).nonzero()
        row, place = int(bad[0, 0]), tuple(int(i) for i in bad[0, 1:])
        raise BadData(
            f"`{name}` has {bad.shape[0]} values that are NaN or infinite.",
            where=f"first at row {row}, entry {place}",
            why="a missing value, or a division by zero when the data was normalized",
            fix=f"keep = torch.isfinite({name}).flatten(1).all(1); {name} = {name}[keep]",
        )
    with torch.inference_mode(False):
        return x.clone() if x.is_inference() else x.detach()


def check_mode(module: nn.Module) -> None:
    """Dropout and batch normalization in training mode make the kernel random or mix its samples."""
    for path, m in module.named_modules():
        if isinstance(m, _DropoutNd) and m.training and m.p > 0:
            raise random_module(f"{path} ({type(m).__name__}, p={m.p}) is in training mode")
        if isinstance(m, _BatchNorm) and (m.training or m.running_mean is None):
            raise BadArgument(
                "The module mixes the samples of a batch, so its kernel at a pair of samples is not defined.",
                where=f"{path or 'the module'} ({type(m).__name__})"
                + (" in training mode" if m.training else " without running statistics"),
                why="batch normalization by the batch's own mean and variance",
                fix="module.eval()" if m.running_mean is not None else "track_running_stats=True, then module.eval()",
            )


def try_module(module: nn.Module, name: str, x: Tensor) -> tuple[Tensor, int]:
    """The output on the first sample, shape (C,), and the bytes that a backward pass keeps for it."""
    path = type(module).__name__
    buffers = {key: b.clone() for key, b in module.named_buffers()}
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def keep(t: Tensor) -> Tensor:
        if t.layout is torch.strided and t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    def run(x: Tensor) -> Tensor:
        try:
            return functional_call(module, buffers, (x,))
        except Exception as error:
            text = str(error).strip().splitlines() or ["(no text)"]
            raise BadData(
                f"The module failed on `{name}` of shape {tuple(x.shape)}, {x.dtype}, {x.device}.",
                where=path,
                why=f"{type(error).__name__}: {text[0]}",
                fix=f"`{name}` such that module({name}) works: shape (n, ...), the module's dtype and device",
            ) from error

    cuda = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # the caller's random state stays as it was
        out = run(x[:1])
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.numel() == 0:
            raise BadArgument(
                f"The module returns {_kind(out)}; the kernel needs one real tensor.",
                where=path,
                why="a tuple or dictionary of outputs, or class numbers instead of scores",
                fix="wrap the module: a torch.nn.Module whose forward returns the tensor to differentiate",
            )
        # a module with torch.func inside cannot be counted in this way; what was counted until there is a bound below
        with suppress(BadData), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            run(x[:1])
        again = run(x[:1])
        pair = run(x[:2]) if x.shape[0] > 1 else None
    for key, b in module.named_buffers():
        if not torch.equal(buffers[key], b):
            raise BadArgument(
                f"A forward pass changes the module's buffer `{key}`: the kernel would depend on the samples' order.",
                where=f"{path}.{key}",
                why="running statistics or power iteration in training mode",
                fix="module.eval()",
            )
    out = out.detach().reshape(-1)
    if not bool(torch.isfinite(out).all()):
        raise BadData(
            "The module's output on the first sample is NaN or infinite.",
            where=path,
            why=f"overflow in {out.dtype}, or a parameter that is NaN",
            fix="all(p.isfinite().all() for p in module.parameters()) to check; module.double() against overflow",
        )
    if not _close(out, again.detach().reshape(-1)):
        raise random_module(f"{path}: two forward passes on the same sample differ")
    if pair is not None and not _close(out, pair.detach().reshape(-1)[: out.numel()], pair.numel() == 2 * out.numel()):
        raise BadArgument(
            "The module mixes the samples of a batch, so its kernel at a pair of samples is not defined.",
            where=f"{path}: the output at the first sample changes when a second one is beside it",
            why="a mean, a norm or an attention over the batch axis",
            fix="the first axis must count samples: batch_first=True in torch's attention and recurrent layers",
        )
    return out, sum(kept.values())


def random_module(where: str) -> BadArgument:
    """The error for a module whose forward pass draws random numbers."""
    return BadArgument(
        "The module's output is random, so its kernel would be another one at each call.",
        where=where,
        why="dropout, or noise drawn in the forward pass",
        fix="module.eval()",
    )


def _kind(out: object) -> str:
    return f"a tensor of {out.dtype}, shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__


def _close(a: Tensor, b: Tensor, same_size: bool = True) -> bool:
    tolerance = torch.finfo(a.dtype).eps ** 0.5
    return same_size and torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(a.abs().max()))
