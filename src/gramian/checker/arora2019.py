r"""The error on new samples of a two-layer ReLU network trained to the end, after Arora et al. 2019 (arXiv:1901.08584).

Labels $\pm1$. On top of the proof in du2019.py: descent ends within B of the start, no neuron beyond its reach, and
the class of all such networks has a small Rademacher complexity. B and the reach depend on the samples, so both are on
grids.
docs/proofs/other-theorems.md has the proof. The inequalities are those of numbers, in ball arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flint
import numpy as np

from gramian.checker.du2019 import BITS, ball_line, require_rows, width_lines
from gramian.checker.line import Line, compared, positive
from gramian.checker.relu_limit import relu_limit
from gramian.checker.well_formed import require

ARORA2019 = "arora2019"
CLAIMS = (
    "width", "kappa", "failure", "sigma", "inputs", "frobenius", "labels", "length", "shortest", "lost", "flips",
    "value",
)  # fmt: skip
EVENTS = 5  # Gram matrix, flips, trace, first outputs, deviation: delta is shared equally
STEPS_OF_TWO = 4  # of the grid of distances: it grows by the fourth root of 2
FARTHEST = 4_000


def arora2019_lines(x: np.ndarray, y: np.ndarray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of the statement, for inputs (n, d) and labels (n, 1).

    Args:
        numbers: as in du2019.py without step, excess and reach; length, a bound of the root of $y^T H^{-1} y$;
            shortest, one of the shortest input; power: a neuron's reach is kappa times 2 to this; grid: the distance's
            number on its grid; value, the bound of the error.

    Raises:
        NotWellFormed, BadData: the data are not what the statement can be about.
    """
    require_rows(x, y)
    require(bool((np.abs(y) == 1).all()), "labels are 1 and -1")
    had = {name: float(numbers[name]) for name in CLAIMS}
    power, grid = float(numbers["power"]), float(numbers["grid"])
    sizes = positive(had)
    whole = compared("grids", "the places on both grids are whole numbers", abs(power % 1) + abs(grid % 1), "<=", 0.0)
    near = compared("places", "and none that cannot be computed with", max(abs(power), abs(grid)), "<=", FARTHEST)
    if not (sizes.holds and whole.holds and near.holds):
        return [sizes, whole, near]
    limit = relu_limit(x)
    shortest = float(np.sqrt((x**2).sum(1)).min()) * (1 - 1e-12)
    square = limit.complexity(y[:, 0]) * (1 + 1e-12)
    return [
        sizes, whole, near,
        *width_lines(x, y, had, float(numbers["antisymmetric"]), limit),
        compared("length", "the labels' norm in the limit kernel is at most as claimed", square, "<=",
                 had["length"] ** 2 * (1 - 1e-12)),
        compared("shortest", "no input is shorter than claimed", had["shortest"], "<=", shortest),
        *_between_numbers(had, len(x), bool(numbers["antisymmetric"]), int(power), int(grid)),
    ]  # fmt: skip


def _between_numbers(had: Mapping[str, float], n: int, antisymmetric: bool, power: int, grid: int) -> list[Line]:
    if not (had["lost"] < 1 and had["failure"] < 1):
        return []
    with flint.ctx.workprec(BITS):
        number = {name: flint.arb(value) for name, value in had.items()}
        m, epsilon, q, norm = number["width"], number["lost"], number["flips"], number["inputs"]
        each, reach = number["failure"] / EVENTS, flint.arb(2) ** power
        square, independent, start = number["frobenius"] ** 2, m, flint.arb(0)
        if antisymmetric:
            independent = m / 2
        else:  # Markov: E ||f_0||^2 = kappa^2 ||X||_F^2 / 2
            start = number["kappa"] * number["frobenius"] / (2 * each).sqrt()
        initial = number["sigma"] * (1 - epsilon).sqrt()
        s = initial - q
        room = number["sigma"] ** 2 * (epsilon + (1 - epsilon) * (1 - epsilon).log())
        share = flint.arb(1) / 2 - q / s
        result = [
            ball_line("kernel", "neurons enough for the Gram matrix at the start", norm**2 * (n / each).log(),
                      independent * room),
            ball_line("rank", "the Jacobian keeps its rank", flint.arb(0), s),
            ball_line("share", "a step of at most 1 / ||X||^2 lowers the residual", flint.arb(0), share),
        ]  # fmt: skip
        if not (s > 0 and share > 0):
            return result
        total = (number["labels"] + start) / (s**2 * share)  # at least the sum of the steps times the residuals
        near = (reach / flint.arb(2).sqrt()).erf()
        # Chernoff: above both, a mean of expectation `near` is found with probability at most `each`
        counted = 2 * near, near + 3 * (1 / each).log() / independent
        result += [
            ball_line("flips", "neurons enough for the count of those near their kink", part * square, q**2)
            for part in counted
        ]
        moved = norm * total / m.sqrt()
        result.append(ball_line("reach", "no neuron leaves its reach", moved, number["kappa"] * reach))
        distance = number["length"] / (1 - epsilon).sqrt() + start / initial + (q + 2 * q * norm / initial) * total
        radius = flint.arb(2) ** (flint.arb(grid) / STEPS_OF_TWO)
        result.append(
            ball_line("distance", "the distance of the weights is within its place on the grid", distance, radius)
        )
        trace = square * (flint.arb(1) / 2 + ((1 / each).log() / (2 * independent)).sqrt())
        excess = number["kappa"] * reach * m.sqrt() * q**2 / (n * number["shortest"])
        chance = each / _places(grid) / _places(power)
        value = 2 * radius * trace.sqrt() / n + 2 * excess + 3 * ((1 / chance).log() / (2 * n)).sqrt()
        result.append(ball_line("value", "the bound is at most as claimed", value, number["value"]))
        result.append(ball_line("width", "the bound is below the error of guessing", number["value"], flint.arb(1) / 2))
    return result


def _places(place: int) -> int:
    """The reciprocals of these sum to 3/4 over all whole numbers."""
    return 2 * (abs(place) + 1) * (abs(place) + 2)
