"""What a proof will cost, before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from gramian.checker.program import Program
from gramian.errors import BadArgument

TRIAL = 768  # side of the matrices whose product is timed
COPIES = 5  # N x N matrices held at once
FACTORIZATIONS = 6  # of N x N: polishing, eigenvalues, the proof


@dataclass(frozen=True)
class Cost:
    """Predicted seconds and bytes."""

    seconds: float
    bytes: float
    rows: int

    def says(self) -> str:
        return f"about {self.seconds:.0f} s and {self.bytes / 2**30:.1f} GiB for a Gram matrix of {self.rows:,} rows"


def cost_of(program: Program, samples: int, outputs: int) -> Cost:
    """From the sizes of the steps and the speed of one matrix product here."""
    rows = samples * outputs
    flops = FACTORIZATIONS * rows**3 / 3
    largest = 0
    for step in program.steps:
        if step.kind != "affine":
            continue
        m, k = program.arrays[step.weight].shape
        largest = max(largest, rows * step.positions * max(m, k))
        inner = k * m if step.positions > 1 else k + m
        flops += 2.0 * rows**2 * inner + 8.0 * rows * step.positions * m * k
    return Cost(flops / _speed() + 1.0, 8.0 * (COPIES * rows**2 + 4 * largest), rows)


def _speed() -> float:
    matrix = np.ones((TRIAL, TRIAL))
    matrix @ matrix
    began = time.perf_counter()
    matrix @ matrix
    return 2.0 * TRIAL**3 / (time.perf_counter() - began)


def check_memory(cost: Cost, most: int) -> None:
    """Raises BadArgument where the proof would take more memory than it may."""
    if cost.bytes > most:
        raise BadArgument(
            f"The proof would take {cost.bytes / 2**30:.1f} GiB, and `max_bytes` allows {most / 2**30:.1f}.",
            where=f"the Gram matrix of {cost.rows:,} rows (samples times outputs), {COPIES} times",
            why="its smallest eigenvalue is proved by a dense factorization; no matrix-free bound of it is rigorous",
            fix="fewer rows, or a larger max_bytes",
        )
