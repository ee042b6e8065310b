r"""Gradient descent on a two-layer ReLU network whose readout is fixed: after the proof of Du et al. 2019.

$f_c(x_i) = \sum_r b_{cr}\,\mathrm{relu}(w_r\cdot x_i)$, $w_r$ trained. With the neurons counted that can change their
sign, $q^2 = \sum_{i,r}\|b_r\|^2\|x_i\|^2\,1[|w_r\cdot x_i| \le \|b_r\|T\|x_i\|]$, $s = \sigma_{\min}(J) - q$ and
$c = 1 - q/s - \frac\eta2\nu^2$: if $\|X\|R < T s^2c$, then $\|r_k\| \le (1 - \eta s^2c)^k R$ at every step, and no
neuron moves by $\|b_r\|T$. docs/proofs/other-theorems.md has the proof; it holds whatever slope in [0, 1] the ReLU
has at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from gramian.checker.balls import Ball, outward, spectral_norm
from gramian.checker.eigenvalues import largest_is_at_most, smallest_is_at_least
from gramian.checker.line import Line, compared, positive, rational, shown
from gramian.checker.program import NetworkProgram, Values, jacobian_gram
from gramian.checker.statements import evaluated, residual_norm
from gramian.checker.well_formed import require

RELU_DESCENT = "relu-descent"
CLAIMS = ("residual", "sigma", "flips", "inputs", "norm", "reach", "step")


@dataclass(frozen=True, eq=False)
class ReluLayers:
    """The inputs x (n, d), a bias as a constant column; the readout b (C, m); the preactivations w_r . x_i (n, m)."""

    inputs: Ball
    readout: Ball
    preactivations: Ball

    def flips(self, reach: float) -> float:
        """q, at most, where each neuron moves by no more than its readout's norm times `reach`."""
        lengths, sizes = self.inputs.norms(), _columns(self.readout).norms()
        z = self.preactivations
        moved = outward(outward(lengths[:, None] * sizes[None]) * reach)
        # what is no number is uncertain as well
        uncertain = ~(np.abs(z.middle) > outward(z.radius + moved))
        each = outward(np.sum(np.where(uncertain, outward(lengths**2)[:, None], 0.0), axis=0))
        return float(outward(np.sqrt(outward(np.sum(outward(each * outward(sizes**2)))))))


def _columns(matrix: Ball) -> Ball:
    return Ball(matrix.middle.T, matrix.radius.T)


def relu_layers(program: NetworkProgram, values: Values) -> ReluLayers:
    """The two layers of a program.

    Raises:
        NotWellFormed: it is another network, or other parts of it train than the first layer.
    """
    steps = list(program.steps)
    kinds = [step.kind for step in steps]
    chained = all(step.inputs == (number,) for number, step in enumerate(steps[1:]))
    two_layers = kinds == ["input", "affine", "function", "affine"] and chained and steps[2].function == "relu"
    require(two_layers, "this statement is about Linear, ReLU, Linear on vectors")
    hidden, readout = steps[1], steps[3]
    own = {name for name in (hidden.weight, hidden.bias) if name}
    require(hidden.positions == readout.positions == 1, "the layers share no weights between positions")
    require(program.trained == own, "the first layer trains as a whole, and nothing else of it")
    require(not own & {readout.weight, readout.bias}, "the layers share no parameter")
    require(len(own) == 1 + bool(hidden.bias), "a bias is no weight")
    inputs = values.values[0].scaled(hidden.weight_scale)
    if hidden.bias:
        ones = np.full((len(inputs.middle), 1), float(hidden.bias_scale))
        inputs = Ball(np.hstack([inputs.middle, ones]), np.hstack([inputs.radius, np.zeros_like(ones)]))
    return ReluLayers(inputs, program.weights(readout.weight).scaled(readout.weight_scale), values.values[1])


def relu_descent_lines(program: NetworkProgram, x: np.ndarray, y: np.ndarray, numbers: Mapping[str, Any]) -> list[Line]:
    """All inequalities of the statement.

    Args:
        numbers: residual R; sigma; flips q; inputs, the norm of X; norm, nu of the secants' Jacobian; reach T; step.
    """
    had = {name: float(numbers[name]) for name in CLAIMS}
    values = evaluated(program, x)
    layers = relu_layers(program, values)
    sizes = positive(had)
    if not sizes.holds:
        return [sizes]
    gram = jacobian_gram(program, values)
    inputs, norm, flips = spectral_norm(layers.inputs), had["norm"], had["flips"]
    # secants of the ReLU are numbers in [0, 1] in place of the signs, and differ from the start's where a sign may
    by_layers = outward(inputs * spectral_norm(layers.readout)) <= norm
    by_start = norm > flips and largest_is_at_most(gram, (norm - flips) * (1 - 2.0**-50))
    s, q, step = Fraction(had["sigma"]) - Fraction(flips), Fraction(flips), Fraction(had["step"])
    result = [
        sizes,
        compared("residual", "the residual is at most as claimed", residual_norm(values, y), "<=", had["residual"]),
        shown("sigma", "the smallest singular value of the Jacobian is at least as claimed", had["sigma"],
              smallest_is_at_least(gram, had["sigma"])),
        compared("inputs", "the norm of the inputs is at most as claimed", inputs, "<=", had["inputs"]),
        compared("flips", "neurons that can change their sign count for no more than claimed",
                 layers.flips(had["reach"]), "<=", flips),
        shown("largest", "the Jacobian's norm is at most as claimed, whatever signs change", norm,
              by_layers or by_start),
        rational("rank", "the Jacobian keeps its rank", q, "<", Fraction(had["sigma"])),
    ]  # fmt: skip
    if s <= 0:
        return result
    share = 1 - q / s - step / 2 * Fraction(norm) ** 2
    allowed = Fraction(had["reach"]) * s**2 * share / Fraction(had["inputs"])
    result.append(rational("share", "a step lowers the residual", Fraction(0), "<", share))
    result.append(
        rational(
            "path",
            "residual below s^2 c T / ||X||: no neuron leaves its reach",
            Fraction(had["residual"]),
            "<",
            allowed,
        )
    )
    return result


def relu_contraction(had: Mapping[str, float]) -> float:
    """p of (1 - p)^k, rounded down; 0 where nothing is proved."""
    if not all(math.isfinite(had[name]) for name in CLAIMS):
        return 0.0
    s, step = Fraction(had["sigma"]) - Fraction(had["flips"]), Fraction(had["step"])
    if s <= 0:
        return 0.0
    share = 1 - Fraction(had["flips"]) / s - step / 2 * Fraction(had["norm"]) ** 2
    return max(float(step * s**2 * share) * (1 - 2.0**-50), 0.0)
