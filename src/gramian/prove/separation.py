"""Cross-entropy: its infimum 0 is reached along a ray if each sample's own class is ahead."""

from __future__ import annotations

import time

import numpy as np

from gramian.checker import checked
from gramian.checker.certificate_file import Content
from gramian.checker.sentences import assumptions, sentence
from gramian.checker.statements import evaluated
from gramian.prove.problem import Problem
from gramian.prove.proof import Proof, proof
from gramian.prove.read_program import checked_program

FIXES = {
    "margin": "more training: a sample's own class is not ahead of all others",
    "positive": "more training: a sample's own class is not ahead of all others",
    "readout": "a last layer nn.Linear whose weight and bias both train, used once",
    "classes": "two outputs or more",
}


def prove_separation(problem: Problem, began: float) -> Proof:
    """See `gramian.prove`."""
    program = checked_program(problem.module, problem.x)
    x, y = problem.x.reshape(len(problem.x), -1).numpy(), problem.y.numpy().astype(np.int64)
    output = evaluated(program, x).output
    rows = np.arange(len(y))
    others = output.middle + output.radius
    own = (output.middle - output.radius)[rows, y]
    others[rows, y] = -np.inf
    margin = float((own - others.max(1)).min())
    claimed = margin - 1e-9 * abs(margin) - 1e-12
    says = sentence("separation", {"margin": claimed}, len(x))
    content = Content(
        "separation", says, (*assumptions("separation"), *problem.assumes), {"margin": claimed}, program, x, y
    )
    numbers = {"margin": claimed, "seconds": time.perf_counter() - began}
    return proof("separation", "The classes are separated", content, checked(content), numbers, FIXES)
