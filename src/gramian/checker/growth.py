r"""How much the Jacobian of a network can change on a ball of weights.

For each sample, each step v has four numbers that hold for all weights within `radius` of the centre: its size
$a \ge \|v\|$, its largest entry, $d \ge \|Dv\|$ (so that v moves by at most $d\,\|\theta - \theta'\|$), and
$s$, a Lipschitz constant of $Dv$. They follow from those of its inputs. The derivation of each rule is in
docs/proofs.md; the one idea is that weights of different layers are orthogonal directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gramian.checker.balls import outward, spectral_norm
from gramian.checker.functions import FUNCTIONS, bounds
from gramian.checker.program import Program, Step, Values


@dataclass(frozen=True)
class Growth:
    """Bounds for each sample, arrays (n,) or (1,)."""

    size: np.ndarray
    largest: np.ndarray
    first: np.ndarray
    second: np.ndarray
    uses: frozenset[str]  # the trained parameters that the value depends on


@dataclass(frozen=True)
class Bounds:
    r"""On the ball: a Lipschitz constant of J over all samples, and the smallest distance of a kinked function's
    argument from its kink after what the ball can move it (infinite where there is none)."""

    lipschitz: float
    kink_margin: float


def bounded(program: Program, values: Values, radius: float) -> Bounds:
    """On the ball of `radius` around the program's weights."""
    growth: list[Growth] = []
    margin = np.inf
    for number, step in enumerate(program.steps):
        given = [growth[i] for i in step.inputs]
        first, second, uses = _rule(program, number, step, given, radius, values)
        value = values.values[number]
        moved = first * radius
        size, largest = outward(value.norms() + moved), outward(value.size().max(-1) + moved)
        growth.append(Growth(size, largest, outward(first), outward(second), uses))
        if step.kind == "function" and FUNCTIONS[step.function].kink:
            z = values.values[step.inputs[0]]
            gaps = np.abs(z.middle) - z.radius - outward(given[0].first * radius)[:, None]
            margin = min(margin, float(gaps.min()))
    samples = len(values.output.middle)
    seconds = np.broadcast_to(growth[-1].second, (samples,))
    return Bounds(float(outward(np.sqrt(np.sum(seconds**2)))), margin)


def _rule(program: Program, number: int, step: Step, given: list[Growth], radius: float, values: Values):
    """(first, second, uses) of a step."""
    zero, uses = np.zeros(1), frozenset().union(*(g.uses for g in given))
    if step.kind == "input":
        return zero, zero, uses
    if step.kind == "parameter":
        if step.weight in program.trained:
            return np.ones(1), zero, frozenset([step.weight])
        return zero, zero, uses
    if step.kind == "linear":
        matrix = abs(program.matrix(number))
        # ||A||_2^2 <= ||A||_1 ||A||_inf
        norm = outward(np.sqrt(float(matrix.sum(0).max()) * float(matrix.sum(1).max())))
        return norm * given[0].first, norm * given[0].second, uses
    if step.kind == "affine":
        return _affine_rule(program, step, given[0], radius)
    if step.kind == "function":
        z = values.values[step.inputs[0]]
        moved = outward(given[0].first * radius)
        low = (z.middle - z.radius).min(-1) - moved
        high = (z.middle + z.radius).max(-1) + moved
        steepest, bend = bounds(step.function, low - 1e-12 * np.abs(low), high + 1e-12 * np.abs(high))
        return steepest * given[0].first, bend * given[0].first ** 2 + steepest * given[0].second, uses
    if step.kind == "sum":
        return sum(g.first for g in given), sum(g.second for g in given), uses
    a, b = given
    first = a.first * b.largest + a.largest * b.first
    return first, a.second * b.largest + 2 * a.first * b.first + a.largest * b.second, uses


def _affine_rule(program: Program, step: Step, h: Growth, radius: float):
    weight_trains, bias_trains = step.weight in program.trained, step.bias in program.trained
    norm = abs(step.weight_scale) * outward(spectral_norm(program.weights(step.weight)) + radius * weight_trains)
    own = np.zeros(1)
    if weight_trains:
        own = own + (step.weight_scale * h.size) ** 2
    if bias_trains:
        own = own + step.bias_scale**2 * step.positions
    mine = frozenset(name for name in (step.weight, step.bias) if name in program.trained)
    cross = abs(step.weight_scale) * h.first * weight_trains
    if mine & h.uses:  # tied with an earlier layer: the directions are no longer orthogonal
        return np.sqrt(own) + norm * h.first, 2 * cross + norm * h.second, mine | h.uses
    return np.sqrt(own + (norm * h.first) ** 2), cross + norm * h.second, mine | h.uses
