r"""The setting of Allen-Zhu, Li, Song 2019, "A Convergence Theory for Deep Learning via Over-Parameterization".

ReLU; $h_0 = \phi(Ax)$, L hidden layers of width m, readout B with d rows; $\|x_i\| = 1$ with last coordinate
$1/\sqrt2$; A, B and the hidden weights drawn from the paper's Gaussian laws, A and B stay. Inputs are delta-separable,
where $\delta \le O(1/L)$ is no loss of generality: a smaller delta may always be taken.

The exponents are those of the appendix as restated by Basri et al. 2020 (arXiv:2003.04560, appendix D); b in the width
of Theorem 2, the exponents of its rate and steps, and the polynomial in the pixels were not confirmed.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import NORM_TOLERANCE, is_relu, unit_norm
from gramian.conditions import Condition

REFERENCE = "arXiv:1811.03962"


def delta(e: Evidence) -> float:
    """The separation that the theorems go by: that of the inputs, at most 1 / L."""
    return min(e.separation, 1 / max(e.depth, 1))


def network(e: Evidence) -> tuple[Condition, ...]:
    """What every statement asks of the inputs one by one and of the network."""
    return (
        unit_norm(e),
        Condition("last coordinate of each input is 1 / sqrt 2", NORM_TOLERANCE, e.last_coordinate_error, "<=",
                  "largest deviation"),
        is_relu(e),
        Condition("weights drawn as in the paper", True, e.paper_initialization, note=e.initialization),
        Condition("hidden layers trained, A and B stay as drawn", True, e.trained == "hidden"),
    )  # fmt: skip


def separated(e: Evidence) -> Condition:
    """delta > 0, of the inputs as the network takes them."""
    note = f"delta is taken to be {delta(e):.3g}: at most 1 / L, without loss of generality"
    return Condition("separation of the inputs", 0.0, e.separation, ">", note)


def failure(m: float, omega: float, L: int) -> float:
    r"""$\exp(-m \omega^{2/3} L)$, constant 1: how likely the random initialization is a bad one."""
    # e^-700 is near the smallest float64: a smaller one would become 0
    return math.exp(-min(m * omega ** (2 / 3) * L, 700.0))


def moved(e: Evidence) -> float | None:
    """Largest spectral distance of a hidden layer from initialization, in the paper's units."""
    distance = e.extreme("spectral_distance")
    if distance is None:
        return None
    return distance * e.stretch
