"""Proved bounds of a Jacobian's extreme singular values."""

from __future__ import annotations

import math

import numpy as np

from gramian.checker.eigenvalues import largest_is_at_most, largest_provable, smallest_is_at_least, smallest_provable
from gramian.checker.program import JacobianGram


def extreme_singular_values(gram: JacobianGram) -> tuple[float, float]:
    """A lower bound of the smallest one, 0 where none is proved, and an upper bound of the largest one."""
    eigenvalues = np.linalg.eigvalsh(gram.matrix)
    sigma = smallest_provable(gram, float(eigenvalues[0])) * (1 - 1e-6)
    if not (sigma > 0 and smallest_is_at_least(gram, sigma)):
        sigma = 0.0
    norm = largest_provable(gram, float(eigenvalues[-1])) * (1 + 1e-6)
    if not largest_is_at_most(gram, norm):
        norm = math.inf
    return sigma, norm
