"""Through the network: one row of outputs per sample, in eval mode, in parts that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

MOST_ROWS, MOST_POSITIONS = 1024, 50_000  # in a pass. Larger activations leave the cache, and each costs page faults


def rows_per_pass(x: Tensor) -> int:
    """How many samples go through the network at once: sums over samples may be taken in parts."""
    return min(MOST_ROWS, max(8, MOST_POSITIONS // max(math.prod(x.shape[2:]), 1)))


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
