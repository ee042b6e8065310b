"""What a proof will cost, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from gramian.checker.program import NetworkProgram
from gramian.errors import BadArgument
from gramian.prove.problem import problem_of
from gramian.prove.read_program import read_program
from gramian.timing import seconds_of

TRIAL = 768  # side of the matrices whose product is timed
COPIES = 5  # N x N matrices held at once
POLISHING = 6  # Gram matrices that polishing forms and factorizes; 12 where it comes from far
BALLS = 2  # of a Gram matrix with its errors, in those without
FACTORIZATIONS = 2 * (POLISHING + 4)  # N^3 / 3 each; of the proof four. Twice, as they run at half a product's speed
EIGENVALUES = 12  # operations of a symmetric matrix of side n over n^3, at the speed of a product
SPLIT_PRODUCTS = 10  # products of parts in one product with twice the digits, and those of its error bounds


@dataclass(frozen=True)
class ProofCost:
    """Predicted seconds and bytes."""

    seconds: float
    bytes: float
    rows: int

    def says(self) -> str:
        return f"about {self.seconds:.0f} s and {self.bytes / 2**30:.1f} GiB for a Gram matrix of {self.rows:,} rows"


def cost_of(program: NetworkProgram, samples: int, outputs: int) -> ProofCost:
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
        flops += (POLISHING + BALLS) * (2.0 * rows**2 * inner + 8.0 * rows * step.positions * m * k)
    return ProofCost(flops / _speed() + 1.0, 8.0 * (COPIES * rows**2 + 4 * largest), rows)


def predicted_cost(module: nn.Module, x: Any, y: Any, *, loss: str = "squared") -> ProofCost:
    """What `prove(module, x, y, "minimum", loss=loss)` will cost; the network's formula is read, nothing is computed.

    Raises:
        Unsupported: a layer without a rule, by name.
        BadData, BadArgument: as `prove` does.
    """
    problem = problem_of(module, x, y, loss)
    program = read_program(problem.module, problem.x)
    if loss == "cross-entropy":
        return _cost_of_outputs(program, len(problem.x))
    return cost_of(program, len(problem.x), problem.y.numel() // len(problem.x))


def least_seconds(rows: int) -> float:
    """What the factorizations of a Gram matrix of so many rows take, whatever the network is."""
    return FACTORIZATIONS * rows**3 / 3 / _speed()


def first_step_cost(width: int, inputs: int, outputs: int, samples: int) -> ProofCost:
    """Of a replay's first step, before anything is computed: eigenvalues of each neuron's block and of the Gram matrix.

    Args:
        width: neurons of the hidden layer.
        inputs: numbers in an input, with a bias.
        outputs: of a sample.
        samples: rows.
    """
    block, rows = inputs + outputs, samples * outputs
    flops = EIGENVALUES * (float(width) * block**3 + float(rows) ** 3)
    return ProofCost(flops / _speed(), 8.0 * COPIES * (width * float(block) ** 2 + float(rows) ** 2), rows)


def _cost_of_outputs(program: NetworkProgram, samples: int) -> ProofCost:
    """Of the outputs with their errors alone: products with twice the digits, of every layer."""
    flops, largest = 0.0, 0
    for step in program.steps:
        if step.kind == "affine":
            m, k = program.arrays[step.weight].shape
            flops += 2.0 * SPLIT_PRODUCTS * samples * step.positions * m * k
            largest = max(largest, samples * step.positions * max(m, k))
    return ProofCost(flops / _speed() + 1.0, 8.0 * (2 + SPLIT_PRODUCTS) * largest, samples)


def _speed() -> float:
    """Operations in a second of one matrix product; on a busy machine of this process's own time."""
    matrix = np.ones((TRIAL, TRIAL))
    matrix @ matrix
    return 2.0 * TRIAL**3 / seconds_of(lambda: matrix @ matrix)


def check_memory(cost: ProofCost, most: int) -> None:
    """Raises BadArgument where the proof would take more memory than it may."""
    if cost.bytes > most:
        raise BadArgument(
            f"The proof would take {cost.bytes / 2**30:.1f} GiB, and `max_bytes` allows {most / 2**30:.1f}.",
            where=f"the Gram matrix of {cost.rows:,} rows (samples times outputs), {COPIES} times",
            why="its smallest eigenvalue is proved by a dense factorization; no matrix-free bound of it is rigorous",
            fix="fewer rows, or a larger max_bytes",
        )
