"""One switch for all ways round torch's slowness: off, only torch's own operations run.

For tests, which compare the two, and for whoever suspects one of these ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_state = {"on": True}


@contextmanager
def torch_alone() -> Iterator[None]:
    """Inside, none of this package's faster ways is taken."""
    before = _state["on"]
    _state["on"] = False
    try:
        yield
    finally:
        _state["on"] = before


def workarounds_are_on() -> bool:
    """Whether a faster way may be taken."""
    return _state["on"]


def has_faster_way(a: Tensor) -> bool:
    """Whether oneDNN and the compiled loops may take it: single precision, on the CPU."""
    return workarounds_are_on() and a.dtype is torch.float32 and a.device.type == "cpu"
