"""What is refused before any work is done, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves

from gramian.empirical.modules.arguments import Samples, Several, description
from gramian.errors import BadArgument, BadData
from gramian.module_state.random_numbers import kept_random_states, random_states

OUTPUTS = ("mean", "sum", "full")


def check_options(outputs: object, max_bytes: int) -> None:
    """The options that are words or numbers."""
    if outputs not in OUTPUTS and not callable(outputs):
        raise BadArgument(
            f"`outputs` is {outputs!r}; known are {', '.join(map(repr, OUTPUTS))}, or a function of the output.",
            where="empirical_ntk(..., outputs=...)",
            why='"mean" averages the outputs\' kernels, "sum" adds them, "full" keeps every pair of outputs',
            fix='outputs="mean"',
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
    whole(module)
    parameters: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        count = sum(1 for _ in module.parameters())
        why, fix = "the module has no parameters", "give the module parameters"
        if count:
            why, fix = "every parameter has requires_grad=False", "module.requires_grad_(True)"
        raise BadArgument(
            f"The module has no trainable parameter ({count} in all), so its tangent kernel is zero.",
            where=type(module).__name__,
            why=why,
            fix=fix,
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


def whole(module: nn.Module) -> None:
    """Refuses parameters that have no values yet, or of which each process has a part."""
    parameters = list(module.named_parameters())
    for name, t in [*parameters, *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(t):
            raise BadArgument(
                f"The parameter `{name}` has no shape yet, so it has no values.",
                where=f"{type(module).__name__}.{name}",
                why="a lazy layer finds its sizes at its first call, and there was none",
                fix="module(x[:1]) once, before gramian sees the module",
            )
    kinds = {type(p).__name__ for _, p in parameters} | {type(m).__name__ for m in module.modules()}
    if kinds & {"DTensor", "FlatParameter", "FullyShardedDataParallel"}:
        raise BadArgument(
            "The module's parameters are spread over processes (FSDP).",
            where=type(module).__name__,
            why="what is measured is computed in one process, from whole parameters",
            fix="DistributedDataParallel, or torch.distributed.checkpoint.state_dict.get_model_state_dict with "
            "full_state_dict=True, loaded into a module that is not sharded",
        )


def check_samples(name: str, x: Samples) -> Any:
    """The same as `check_input`; several tensors were checked when they were taken."""
    if isinstance(x, Several):
        return x.change(_usable)
    return check_input(name, x)


def _usable(x: Tensor) -> Tensor:
    """The same numbers, usable in a backward pass."""
    with torch.inference_mode(False):
        if x.is_inference():
            return x.clone()
        return x.detach()


def check_input(name: str, x: Tensor) -> Tensor:
    """An input must be a tensor with rows and without NaN; the same numbers, usable in a backward pass."""
    if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[0] == 0:
        if isinstance(x, Tensor):
            has = f"shape {tuple(x.shape)}"
        else:
            has = f"type {type(x).__name__}"
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
    return _usable(x)


def check_same_shapes(x: Samples, x2: Samples | None, where: str) -> None:
    """Raises BadData for second inputs of other shapes; several tensors were compared when they were taken."""
    if isinstance(x, Tensor) and isinstance(x2, Tensor) and x2.shape[1:] != x.shape[1:]:
        raise BadData(
            f"`x2` has samples of shape {tuple(x2.shape[1:])}, `x` of shape {tuple(x.shape[1:])}.",
            where=where,
            why="one of them was flattened or resized and the other not",
            fix="x2 = x2.reshape(len(x2), *x.shape[1:])",
        )


def check_product(module: nn.Module, results: Iterable[Tensor], given: Iterable[Tensor]) -> None:
    """Never a silent NaN: what is made of finite numbers is finite.

    Raises:
        BadData: a derivative of the module is not finite.
    """
    for t in results:
        # the sum needs no memory; where it overflows the numbers are looked at
        if bool(t.detach().sum().isfinite()) or bool(t.isfinite().all()):
            continue
        if all(bool(g.isfinite().all()) for g in given):
            raise BadData(
                f"A derivative of the module is NaN or infinite, in {t.dtype}.",
                where=type(module).__name__,
                why="an operation without a finite slope at one of the samples (the root of 0, the logarithm of a "
                "masked number), or a gradient too large for this precision",
                fix="torch.autograd.detect_anomaly() around module(x).sum().backward() names the operation; "
                "against overflow module.double() and x.double()",
            )


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


def check_counts(module: nn.Module) -> None:
    """A gradient that is divided by counts over the batch is no derivative, and no sum over samples."""
    for path, layer in module.named_modules():
        if getattr(layer, "scale_grad_by_freq", False):
            raise BadArgument(
                "The module's gradients are divided by how often a token is in the batch, so they are no derivatives.",
                where=f"{path or 'the module'} ({type(layer).__name__}) with scale_grad_by_freq=True",
                why="products go through whole chunks of samples; the kernel is of each sample on its own",
                fix="scale_grad_by_freq = False on that layer; or empirical_ntk, which takes samples one by one",
            )


def check_targets(
    x: Samples,
    x2: Samples | None,
    outputs: object,
    targets: Tensor | tuple[Tensor, Tensor] | None,
    where: str = "empirical_ntk(..., targets=...)",
) -> tuple[Tensor | None, Tensor | None]:
    """The targets of `x` and of `x2`, one a sample."""
    if targets is None:
        return None, None
    if not callable(outputs):
        raise BadArgument(
            f"There are `targets`, but `outputs` is {outputs!r}, which takes none.",
            where=where,
            why="targets are the second argument of a function of the outputs",
            fix="outputs=torch.nn.functional.cross_entropy, for instance; or no targets",
        )
    pair: tuple[Any, ...] = (targets, None)
    if not isinstance(targets, Tensor):
        pair = tuple(targets)
    of_x, of_x2 = pair[0], pair[-1]
    for name, rows, given in (("x", x, of_x), ("x2", x2, of_x2)):
        if rows is not None and (not isinstance(given, Tensor) or given.ndim == 0 or len(given) != len(rows)):
            if isinstance(given, Tensor):
                has = f"shape {tuple(given.shape)}"
            else:
                has = f"type {type(given).__name__}"
            raise BadData(
                f"The targets of `{name}` have {has}; it has {len(rows)} samples.",
                where=where,
                why="each sample has its own target, along the first axis",
                fix="targets=t of shape (n, ...); with `x2`, targets=(of_x, of_y)",
            )
    first = of_x.detach().clone()
    if x2 is None or of_x2 is None:
        return first, None
    return first, of_x2.detach().clone()


def check_repeats(module: nn.Module, run: Callable[[], Any]) -> Any:
    """What a forward pass returns, if a second one returns the same; of what is no tensor, and under vmap, nothing is
    compared.

    Raises:
        BadArgument: it draws random numbers, or returns another output at the second call.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return run()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with kept_random_states(device):
        first = run()
        before = random_states(device)[0]
        again = run()
        drawn = random_states(device)[0] != before
    if drawn:
        raise random_module(f"{type(module).__name__}: a forward pass draws random numbers")
    for a, b in zip(tree_leaves(first), tree_leaves(again), strict=False):
        if not isinstance(a, Tensor) or not a.is_floating_point() or a.shape != b.shape:
            continue
        allowed = torch.finfo(a.dtype).eps ** 0.5
        if a.numel():
            size = float(a.detach().abs().max())
        else:
            size = 0.0
        if not torch.allclose(a.detach(), b.detach(), rtol=allowed, atol=allowed * size, equal_nan=True):
            raise random_module(f"{type(module).__name__}: two forward passes on the same sample differ")
    return first


@contextmanager
def taken(module: nn.Module, name: str, rows: Samples) -> Iterator[None]:
    """What fails in a forward pass becomes a refusal that says of which inputs."""
    try:
        yield
    except Exception as error:
        raise BadData(
            f"The module failed on `{name}` of {description(rows)}.",
            where=type(module).__name__,
            why=error_text(error),
            fix=f"`{name}` such that module({name}) works: shape (n, ...), the module's dtype and device",
        ) from error


def random_module(where: str) -> BadArgument:
    """The error for a module whose forward pass draws random numbers."""
    return BadArgument(
        "The module's output is random, so its kernel would be another one at each call.",
        where=where,
        why="dropout, or noise drawn in the forward pass",
        fix="module.eval()",
    )


def kind_of_output(out: object) -> str:
    if isinstance(out, Tensor):
        return f"a tensor of {out.dtype}, shape {tuple(out.shape)}"
    return type(out).__name__


def error_text(error: Exception) -> str:
    text = str(error).strip().splitlines() or ["(no text)"]
    return f"{type(error).__name__}: {text[0]}"
