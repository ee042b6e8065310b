"""Hermite series of activations as tables over the variance: what compiled loops read instead of asking torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from gramian.duals.chebyshev import chebyshev_nodes
from gramian.duals.gaussian_function import GaussianFunction
from gramian.duals.hermite_expansion import HermiteExpansion, terms_needed
from gramian.duals.hermite_series import agrees
from gramian.errors import NoLimit, Unsupported

TABLE_DEGREE = 12  # as in native/src/planes_program.h
LOWEST, HIGHEST = -61, 20  # octaves
MOST_TERMS = 1024  # terms of a series
SERIES_TAIL_SHARE = {torch.float64: 1e-14, torch.float32: 1e-8}  # share of E phi^2 that the last terms may leave out


@dataclass(frozen=True)
class HermiteTable:
    r"""$a_r(q)$ of $\phi$ and of $\phi'$ over octaves of q, each a polynomial in $\log_2 q$.

    The $a_r$ are analytic in q off the negative axis, so that an octave in log q has its next singularity at 9 times
    its half width: Chebyshev interpolation of degree 12 is off by 18^-13, 1e-16.

    Args:
        first: the lowest octave, $2^{first} \le q < 2^{first + 1}$.
        octaves: how many there are.
        terms: of each series.
        numbers: coefficients from the lowest power on; shape (octaves, 2, terms, TABLE_DEGREE + 1).
    """

    first: int
    octaves: int
    terms: int
    numbers: np.ndarray


def hermite_table(op: GaussianFunction, low: int, high: int, dtype: torch.dtype) -> HermiteTable:
    """The table of the octaves `low` to `high`, as exact as `dtype` needs.

    Raises:
        Unsupported: the function bends so sharply at these variances that its series has more than 1024 terms.
    """
    if high > HIGHEST:
        raise Unsupported(f"{op.name} at a variance above {2.0**HIGHEST:.0f}")
    parts = [_octave(op, octave, dtype) for octave in range(max(low, LOWEST), high + 1)]
    terms = max(needed for needed, _ in parts)  # everywhere: what a shorter series lacks counts against a longer one
    numbers = np.stack([part[:, :terms] for _, part in parts])
    return HermiteTable(max(low, LOWEST), len(parts), terms, numbers)


def at_zero(op: GaussianFunction) -> tuple[float, float]:
    """phi(0) and phi'(0)."""
    x = torch.zeros(1, dtype=torch.float64)
    series = HermiteExpansion(op.phi, op.name)
    return float(series.derivative(0, x)), float(series.derivative(1, x))


@lru_cache(maxsize=1024)
def _octave(op: GaussianFunction, octave: int, dtype: torch.dtype) -> tuple[int, np.ndarray]:
    """How many terms are needed, and all that a table may have; shape (2, MOST_TERMS, TABLE_DEGREE + 1)."""
    x, to_powers = _chebyshev()
    q = torch.from_numpy(2.0 ** (octave + (x + 1) / 2))
    expanded = HermiteExpansion(op.phi, op.name)
    try:
        of_phi, of_slope = (expanded.coefficients(q, order) for order in (0, 1))
    except NoLimit as error:
        raise Unsupported(f"{op.name} at a variance of {2.0**octave:.3g}: {error}") from None
    if not op.by_series and not agrees(op, of_phi, q):
        raise Unsupported(f"the dual of {op.name} is not the series of its function")
    series = of_phi.numpy(), of_slope.numpy()
    terms = max(1, *(terms_needed(torch.from_numpy(a).square(), SERIES_TAIL_SHARE[dtype]) for a in series))
    if terms > MOST_TERMS:
        raise Unsupported(f"the Hermite series of {op.name} has {terms} terms at a variance of {2.0**octave:.3g}")
    return terms, np.stack([_first(a, MOST_TERMS) @ to_powers.T for a in series])


def _first(a: np.ndarray, terms: int) -> np.ndarray:
    return np.pad(a[:terms], ((0, max(0, terms - len(a))), (0, 0)))


@lru_cache(maxsize=1)
def _chebyshev() -> tuple[np.ndarray, np.ndarray]:
    """Points in (-1, 1), and the matrix from values there to coefficients of powers."""
    x, back = (t.numpy() for t in chebyshev_nodes(TABLE_DEGREE + 1))
    # values -> coefficients of Chebyshev polynomials -> of powers; each polynomial's powers are a column
    polynomials = map(np.polynomial.chebyshev.cheb2poly, np.eye(TABLE_DEGREE + 1))
    powers = np.stack([np.pad(p, (0, TABLE_DEGREE + 1 - len(p))) for p in polynomials], 1)
    return x, powers @ back


def octaves_of(variances: Iterable[float]) -> tuple[int, int]:
    """The lowest and the highest octave that these variances lie in, with a margin for rounding."""
    octaves = np.log2(np.asarray(tuple(variances)))
    return int(np.floor(octaves.min() - 1e-9)), int(np.floor(octaves.max() + 1e-9))
