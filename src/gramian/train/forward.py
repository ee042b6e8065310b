"""Through the network: one row of outputs per sample, in eval mode, in parts that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples, arguments_of, in_parts, tensors_of
from gramian.empirical.modules.calling import call_at
from gramian.module_state.untouched import untouched

OUTPUTS_PER_POSITION = 256  # outputs of a sample that take as much memory as one of its positions
MOST_ROWS, MOST_POSITIONS = 1024, 50_000  # in a pass. Larger activations leave the cache, and each costs page faults


def rows_per_pass(x: Samples, outputs: int = 0) -> int:
    """How many samples go through the network at once: sums over samples may be taken in parts.

    `outputs`: how many numbers a sample has on its way out, where these are more than its inputs (a vocabulary).
    """
    if isinstance(x, Tensor) and x.is_floating_point():
        positions = math.prod(x.shape[2:])
    else:
        # tokens have no channels, and of several tensors nobody says which axis is theirs: each number is a position
        positions = sum(math.prod(t.shape[1:]) for t in tensors_of(x))
    return min(MOST_ROWS, max(8, MOST_POSITIONS // max(positions, outputs // OUTPUTS_PER_POSITION, 1)))


def movable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name; one that has two names comes once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def outputs_of(module: nn.Module, x: Samples) -> Tensor:
    """`module(x)` with one row per sample, to measure it; shape (n, C)."""
    return call_at(module, {}, x).reshape(len(x), -1)


def outputs_as_trained(module: nn.Module, x: Samples) -> Tensor:
    """The same for a step of training: what the module keeps from one call to the next stays, and checkpoints save
    memory; only the data are a copy, in which it may write."""
    return called_as_trained(module, x).reshape(len(x), -1)


def called_as_trained(module: nn.Module, x: Samples) -> Any:
    """What the module returns in a step of training, as in `outputs_as_trained`."""
    args, kwargs = arguments_of(x.clone())
    return module(*args, **kwargs)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """`module.eval()` for a while; every submodule's mode, and all else, is afterwards as before."""
    training = [m for m in module.modules() if m.training]
    with untouched(module):
        try:
            module.eval()
            yield
        finally:
            for m in training:
                m.training = True


def normalizers(module: nn.Module) -> list[Any]:
    """Batch normalizations that keep running statistics."""
    kind = nn.modules.batchnorm._BatchNorm
    return [m for m in module.modules() if isinstance(m, kind) and m.running_mean is not None]


def mixes_samples(module: nn.Module) -> bool:
    """Whether a batch normalization takes the statistics of the batch, so that a batch must stay whole."""
    kind = nn.modules.batchnorm._BatchNorm
    return any(isinstance(m, kind) and (m.training or m.running_mean is None) for m in module.modules())


def passes(module: nn.Module, x: Samples, outputs: int = 0) -> list[Any]:
    """The rows in parts that go through the network one after the other; all at once where samples are mixed."""
    if mixes_samples(module):
        return [x]
    return in_parts(x, rows_per_pass(x, outputs))


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Batch normalization with the statistics of the batch, as training has it, and no running ones kept."""
    layers = normalizers(module)
    kept = [(m.running_mean, m.running_var) for m in layers]
    for m in layers:
        m._buffers["running_mean"] = m._buffers["running_var"] = None
    try:
        yield
    finally:
        for m, (mean, var) in zip(layers, kept, strict=True):
            m._buffers["running_mean"], m._buffers["running_var"] = mean, var


@contextmanager
def statistics_of(module: nn.Module, x: Samples) -> Iterator[None]:
    """Batch normalization with the statistics of these rows at the present weights, held fixed.

    Running statistics lag behind the weights, and at the start they are those of nothing.
    """
    layers = normalizers(module)
    kept = [dict(m._buffers) for m in layers]
    taking = [m.register_forward_pre_hook(_take_statistics) for m in layers]
    try:
        if layers:
            with torch.no_grad():
                # not `call`, which takes back what it writes into buffers
                called_as_trained(module, x)
        for hook in taking:
            hook.remove()
        yield
    finally:
        for hook in taking:
            hook.remove()
        for m, buffers in zip(layers, kept, strict=True):
            m._buffers.update(buffers)


def _take_statistics(m: Any, inputs: tuple[Tensor, ...]) -> None:
    """Runs in eval mode: in training mode SyncBatchNorm waits for the other processes, which know nothing of this pass.

    Other tensors take the buffers' places: one that is written into would be taken for the work of a forward pass.
    """
    (x,) = inputs
    axes = [axis for axis in range(x.ndim) if axis != 1]
    m._buffers["running_mean"] = x.mean(axes).to(m.running_mean.dtype)
    m._buffers["running_var"] = x.var(axes, correction=0).to(m.running_var.dtype)
