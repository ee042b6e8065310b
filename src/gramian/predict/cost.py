"""What a kernel of n rows will cost, before it is computed: seconds measured on a few rows, memory counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gramian.timing import seconds_of

GiB = 2**30
MEMORY_SHARE = 0.85  # of the memory that is free, which may be taken
LEAST_TRIAL_SECONDS = 0.05  # seconds from which on a trial is believed
TILE_SECONDS = 0.4  # seconds that a tile may take, so that a bar moves and Ctrl-C is seen
SECONDS_PER_GIB = 4.0  # seconds to fill and write a GiB: 20,000 rows took 20 s beyond their entries
LEAST_TILE, MOST_TILE = 8, 1024


@dataclass(frozen=True)
class Cost:
    """The cost of a computation.

    Args:
        seconds: of this machine, as busy as it is now.
        memory: bytes at the peak, of the whole process.
    """

    seconds: float
    memory: float


def free_memory() -> float:
    """Bytes that this process may still take: of the machine, or of the container if that has less."""
    free = float("inf")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                free = float(line.split()[1]) * 1024
    except OSError:
        if hasattr(os, "sysconf"):
            free = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
    try:  # control groups, version 2
        most = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if most != "max":
            free = min(free, float(most) - float(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free


def resident_memory() -> float:
    """Bytes that this process holds now."""
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.5 * GiB  # torch and what it brings


def seconds_per_entry(kernel: Callable[..., Tensor], x: Tensor) -> float:
    """Time of a kernel on these rows, measured on growing squares until one takes long enough."""
    # what is made once: a program, an engine's choice
    kernel(x[:1], x[-1:])
    size = 1
    while True:
        rows, columns = x[:size], x[-size:]
        seconds = seconds_of(partial(kernel, rows, columns), on_cpu=x.device.type == "cpu")
        if seconds > LEAST_TRIAL_SECONDS or size >= min(len(x), MOST_TILE):
            return seconds / (len(rows) * len(columns))
        size = min(2 * size, len(x))


def tile_for(per_entry: float) -> int:
    """Rows of a square tile that takes about `TILE_SECONDS` seconds; a power of two."""
    tile = MOST_TILE
    while tile > LEAST_TILE and tile * tile * per_entry > TILE_SECONDS:
        tile //= 2
    return tile


def seconds_of_factorization(n: int) -> float:
    """n^3 / 3 multiplications and additions at the speed that a product of matrices has now."""
    size = 768
    a = torch.ones(size, size, dtype=torch.float64)
    a @ a
    per_product = seconds_of(lambda: a @ a) / size**3
    # triangular solves and the borders of tiles: a third more than products
    return 1.3 * per_product * n**3 / 3


def kernel_cost(n: int, per_entry: float, itemsize: int) -> Cost:
    """The cost of a kernel matrix of n rows: half is computed, half mirrored."""
    stored = n * n * itemsize
    # the lower triangle with its diagonal
    return Cost(per_entry * n * (n + 1) / 2 + stored / GiB * SECONDS_PER_GIB, resident_memory() + stored)


def fit_cost(n: int, m: int, d: int, per_entry: float) -> Cost:
    """Cost of a kernel predictor: the matrix of n rows, its factorization in place, and m test rows of d numbers."""
    seconds = per_entry * (n * (n + 1) / 2 + n * m) + seconds_of_factorization(n)
    # `solve` holds the matrix, the factor and two temporaries
    if n > 4000:
        copies = 1
    else:
        copies = 4
    return Cost(seconds, resident_memory() + 8 * (copies * n * n + 2 * n * d))


def predict_cost(m: int, n: int, tile: int, per_entry: float) -> Cost:
    """The cost of predictions at m rows from n training rows, tile by tile."""
    return Cost(per_entry * m * n, resident_memory() + 8 * min(tile, m) * n)


def most_rows(cost: Callable[[int], Cost], available: int, *, seconds: float = float("inf")) -> int:
    """The largest number of rows, up to `available`, whose cost this machine can take, within so many seconds."""
    memory = MEMORY_SHARE * (free_memory() + resident_memory())

    def can(n: int) -> bool:
        needed = cost(n)
        return needed.memory <= memory and needed.seconds <= seconds

    if can(available):
        return available
    # bisection to within 2 %, or one row: cost grows with the rows
    low, high = 1, available
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        if can(middle):
            low, high = (middle, high)
        else:
            low, high = (low, middle)
    return low
