r"""How much the Jacobian of a network can change on a ball of weights.

For each sample, each step v has numbers that hold for all weights within `radius` of the centre: its size
$a \ge \|v\|$; $d \ge \|Dv\|$, so that v moves by at most $d\,\|\theta - \theta'\|$; $e \ge \|Dv_j\|$ for each
entry j on its own; and $s$, a Lipschitz constant of $Dv$. They follow from those of its inputs. The derivation of each
rule is in docs/proofs.md; the one idea is that weights of different layers are orthogonal directions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gramian.checker.balls import Ball, outward, root_of_squares, spectral_norm
from gramian.checker.functions import FUNCTIONS, bounds
from gramian.checker.groups import NormalizedGroups
from gramian.checker.program import NetworkProgram, ProgramStep, Values


@dataclass(frozen=True)
class Slopes:
    """d, e and s of a step for each sample, arrays (n,) or (1,); and the trained parameters that it depends on."""

    whole: np.ndarray
    entry: np.ndarray
    second: np.ndarray
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Growth(Slopes):
    """The same with the sizes: of the whole value, and of its largest entry."""

    size: np.ndarray = field(default_factory=lambda: np.zeros(1))
    largest: np.ndarray = field(default_factory=lambda: np.zeros(1))


@dataclass(frozen=True)
class JacobianBounds:
    r"""On the ball: a Lipschitz constant of J over all samples, and the smallest distance of a kinked function's
    argument from its kink, or of a maximum's second from its first, after what the ball can move it (infinite where
    there is none)."""

    lipschitz: float
    kink_margin: float


def bounded(program: NetworkProgram, values: Values, radius: float) -> JacobianBounds:
    """On the ball of `radius` around the program's weights; infinite, or no number, where something overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _bounded(program, values, radius)


def _bounded(program: NetworkProgram, values: Values, radius: float) -> JacobianBounds:
    growth: list[Growth] = []
    margin = np.inf
    for number, step in enumerate(program.steps):
        given = [growth[i] for i in step.inputs]
        slopes = _slopes(program, number, step, given, radius, values)
        value = values.values[number]
        whole, entry, second = outward(slopes.whole), outward(slopes.entry), outward(slopes.second)
        size, largest = outward(value.norms() + whole * radius), outward(value.size().max(-1) + entry * radius)
        growth.append(Growth(whole, entry, second, slopes.uses, size, largest))
        if step.kind == "function" and FUNCTIONS[step.function].kink:
            z = values.values[step.inputs[0]]
            gaps = np.abs(z.middle) - z.radius - outward(given[0].entry * radius)[:, None]
            margin = min(margin, _margin(gaps))
        if step.kind == "maximum":  # both may move
            gaps = values.leads[number] - outward(2 * given[0].entry * radius)[:, None]
            margin = min(margin, _margin(gaps))
    samples = len(values.output.middle)
    seconds = np.broadcast_to(growth[-1].second, (samples,))
    return JacobianBounds(float(root_of_squares(seconds)), margin)


def _margin(gaps: np.ndarray) -> float:
    smallest = float(gaps.min())
    if np.isnan(smallest):
        return -np.inf
    return smallest


def _slopes(
    program: NetworkProgram, number: int, step: ProgramStep, given: list[Growth], radius: float, values: Values
) -> Slopes:  # fmt: skip
    zero, uses = np.zeros(1), frozenset().union(*(g.uses for g in given))
    if step.kind == "input":
        return Slopes(zero, zero, zero)
    if step.kind == "parameter":
        if step.weight in program.trained:
            return Slopes(np.ones(1), np.ones(1), zero, frozenset([step.weight]))
        return Slopes(zero, zero, zero)
    if step.kind == "linear":
        matrix, h = abs(program.matrix(number)), given[0]
        rows, columns = float(matrix.sum(1).max()), float(matrix.sum(0).max())
        norm = outward(np.sqrt(outward(rows * columns)))  # ||A||_2^2 <= ||A||_1 ||A||_inf
        return Slopes(norm * h.whole, np.minimum(rows * h.entry, norm * h.whole), norm * h.second, uses)
    if step.kind == "affine":
        return _affine_slopes(program, step, given[0], radius, values.values[step.inputs[0]])
    if step.kind == "function":
        z, h = values.values[step.inputs[0]], given[0]
        moved = outward(h.entry * radius)
        low = (z.middle - z.radius).min(-1) - moved
        high = (z.middle + z.radius).max(-1) + moved
        steepest, bend = bounds(step.function, low - 1e-12 * np.abs(low), high + 1e-12 * np.abs(high))
        turn = outward(bend * h.entry)
        return Slopes(steepest * h.whole, steepest * h.entry, turn * h.whole + steepest * h.second, uses)
    if step.kind == "sum":
        whole, entry, second = zero, zero, zero
        for g in given:
            whole, entry, second = whole + g.whole, entry + g.entry, second + g.second
        return Slopes(whole, entry, second, uses)
    if step.kind == "softmax":
        # ||D sigma|| <= 1/2; its Lipschitz constant is at most 3/2; an entry moves by half of what its arguments do
        h, length = given[0], values.values[number].shape[1] // step.positions
        together = np.minimum(np.sqrt(float(length)) * h.entry, h.whole)  # of one group
        return Slopes(h.whole / 2, h.entry / 2, 1.5 * together * h.whole + h.second / 2, uses)
    if step.kind == "maximum":  # with fixed winners it leaves entries out
        return Slopes(given[0].whole, given[0].entry, given[0].second, uses)
    if step.kind == "normalize":
        return _normalization_slopes(step, given[0], radius, values.normalizations[number])
    a, b = given
    cross = 2 * np.minimum(a.whole * b.entry, a.entry * b.whole)
    return Slopes(
        a.whole * b.largest + a.largest * b.whole,
        a.entry * b.largest + a.largest * b.entry,
        a.second * b.largest + cross + a.largest * b.second,
        uses,
    )


def _affine_slopes(program: NetworkProgram, step: ProgramStep, h: Growth, radius: float, values: Ball) -> Slopes:
    weight_trains, bias_trains = step.weight in program.trained, step.bias in program.trained
    weight, scale = program.weights(step.weight), abs(step.weight_scale)
    norm = outward(scale * outward(spectral_norm(weight) + radius * weight_trains))
    row = outward(scale * outward(float(weight.norms().max()) + radius * weight_trains))
    patch = outward(values.reshape(len(values.middle), step.positions, -1).norms().max(-1) + radius * h.whole)
    # what the layer's own weights do: to all entries, and to one
    own, own_entry = np.zeros(1), np.zeros(1)
    if weight_trains:
        own, own_entry = own + (scale * h.size) ** 2, own_entry + (scale * patch) ** 2
    if bias_trains:
        own, own_entry = own + step.bias_scale**2 * step.positions, own_entry + step.bias_scale**2
    mine = frozenset(name for name in (step.weight, step.bias) if name in program.trained)
    cross = scale * h.whole * weight_trains
    if mine & h.uses:  # tied with an earlier layer: the directions are not orthogonal
        whole, entry = np.sqrt(outward(own)) + norm * h.whole, np.sqrt(outward(own_entry)) + row * h.whole
        return Slopes(whole, entry, 2 * cross + norm * h.second, mine | h.uses)
    # the squares may underflow: `outward` under the root
    whole = np.sqrt(outward(own + (norm * h.whole) ** 2))
    entry = np.sqrt(outward(own_entry + (row * h.whole) ** 2))
    return Slopes(whole, entry, cross + norm * h.second, mine | h.uses)


def _normalization_slopes(step: ProgramStep, h: Growth, radius: float, given: NormalizedGroups) -> Slopes:
    length = given.value.shape[1] // step.positions
    root = np.sqrt(float(length))
    together = np.minimum(root * h.entry, h.whole)  # of one group
    with np.errstate(divide="ignore"):
        # 1/s is below 1/(smallest s - what the ball takes from it)
        smallest = 1 / outward(given.inverse.middle + given.inverse.radius).max((1, 2)) - outward(
            together * radius / root
        )
        inverse = np.where(smallest > 0, outward(1 / smallest), np.inf)
    # an entry of z^ is at most sqrt(k), so it moves by at most 1/s (2e + sqrt(k) min(d / sqrt(k), 2e)) radius
    along = np.minimum(h.whole / root, 2 * h.entry)
    moved = outward(inverse * outward((2 * h.entry + root * along) * radius))
    largest = np.minimum(given.value.size().max(-1) + moved, root)
    entry = inverse * (2 * h.entry + largest * along)
    second = 6 / root * outward(inverse * together) * outward(inverse * h.whole) + inverse * h.second
    return Slopes(inverse * h.whole, entry, second, h.uses)
