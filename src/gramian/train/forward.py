"""Through the network: one row of outputs per sample, in eval mode, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

ROWS_PER_PASS = 1024  # a loss is a sum, so a full batch may go through the network in parts


def outputs_of(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)` with one row per sample; shape (n, C)."""
    return module(x).reshape(len(x), -1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """`module.eval()` for a while; every submodule's mode comes back afterwards."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True
