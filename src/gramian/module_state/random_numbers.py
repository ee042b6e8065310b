"""The random numbers of torch, Python and NumPy, used for a while and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from gramian.module_state.untouched import surely


def random_numbers_apart(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn from torch inside, on the CPU or on this device, changes nothing of what is drawn afterwards."""
    devices = []
    if device.type == "cuda":
        devices = [device]
    return torch.random.fork_rng(devices=devices)


@contextmanager
def kept_random_states(device: torch.device) -> Iterator[None]:
    """Leaves the global random states of torch, Python and NumPy as they were, whatever modules draw inside."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the one that modules draw from)

    def back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002

    try:
        with random_numbers_apart(device):
            yield
    finally:
        surely(back)  # also under a second Ctrl-C


def random_states(device: torch.device) -> tuple[bytes, Any, Any]:
    """Marks of torch's, Python's and NumPy's random states: equal if no number was drawn between."""
    if device.type == "cuda":
        of_torch = torch.cuda.get_rng_state(device)
    else:
        of_torch = torch.random.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002
    return of_torch.numpy().tobytes(), random.getstate(), (numpy[1].tobytes(), *numpy[2:])  # type: ignore[index]
