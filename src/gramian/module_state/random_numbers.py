"""Torch's global random numbers, used for a while and put back."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def random_numbers_apart(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn inside, on the CPU or on this device, changes nothing of what the caller draws afterwards."""
    devices = []
    if device.type == "cuda":
        devices = [device]
    return torch.random.fork_rng(devices=devices)
