r"""A network as a short list of steps, evaluated for each sample with bounds of every error.

A step's value is a vector for each sample. The kinds: "input"; "parameter" (a block of the weights, the same for all
samples); "linear" (an exact sparse matrix, and an offset); "affine" (at each of P positions
$z = c_w W h + c_b b$); "function" (entry by entry); "sum"; "product" (entry by entry); "softmax" (over P groups of
neighbouring entries, weighted by a mask of zeros and ones); "normalize" (P groups to mean 0, variance 1);
"maximum" (of each of P groups, among the entries of a mask).
Convolutions, pooling and attention are spelled in these: a convolution gathers patches ("linear"), then is "affine".

`evaluate` gives the outputs; `jacobian_gram` the matrix $J J^T$ of the gradients of all outputs with respect to all
trained weights. docs/proofs.md derives the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from gramian.checker.balls import SMALLEST, Ball, gamma, mapped, outward, product, root_of_squares
from gramian.checker.functions import applied
from gramian.checker.groups import (
    NormalizedGroups,
    largest,
    largest_back,
    normalized,
    normalized_back,
    softmax,
    softmax_back,
)

MOST_NUMBERS = 2**26  # of per-sample gradients held at once: 512 MiB, and their radii as much


@dataclass(frozen=True)
class ProgramStep:
    """One step; `inputs` are the numbers of earlier steps.

    Attributes:
        kind: see the module.
        inputs: earlier steps; a "parameter" and the "input" have none.
        weight, bias: names of parameters; of "parameter" the weight is its value.
        positions: P of "affine", and the number of groups.
        weight_scale, bias_scale: c_w and c_b of "affine".
        function: a name in FUNCTIONS.
        matrix: names of the three arrays of a sparse matrix (data, indices, indptr) and its shape.
        offset: name of the array that "linear" adds, or of the mask of "softmax" and "maximum"; or "".
        eps: what "normalize" adds to the variance.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    weight: str = ""
    bias: str = ""
    positions: int = 1
    weight_scale: float = 1.0
    bias_scale: float = 1.0
    function: str = ""
    matrix: tuple[str, str, str] = ("", "", "")
    shape: tuple[int, int] = (0, 0)
    offset: str = ""
    eps: float = 0.0


@dataclass
class NetworkProgram:
    """Steps, the arrays that they name, and the parameters that train."""

    steps: Sequence[ProgramStep]
    arrays: Mapping[str, np.ndarray]
    trained: frozenset[str]
    matrices: dict[int, sparse.csr_matrix] = field(default_factory=dict)

    def matrix(self, number: int) -> sparse.csr_matrix:
        """The sparse matrix of a "linear" step."""
        if number not in self.matrices:
            step = self.steps[number]
            data, indices, indptr = (self.arrays[name] for name in step.matrix)
            result = sparse.csr_matrix((data, indices, indptr), shape=step.shape)
            result.check_format(full_check=True)
            self.matrices[number] = result
        return self.matrices[number]

    def weights(self, name: str) -> Ball:
        return Ball.exact(self.arrays[name])


@dataclass
class Values:
    """The values of all steps for all samples; slopes of functions; normalizations; winners of maxima, and leads."""

    values: list[Ball]
    slopes: dict[int, Ball]
    normalizations: dict[int, NormalizedGroups]
    winners: dict[int, np.ndarray]
    leads: dict[int, np.ndarray]

    @property
    def output(self) -> Ball:
        return self.values[-1]


def evaluate(program: NetworkProgram, x: np.ndarray) -> Values:
    """All values; x (n, d). A step's value is (n, k), or (1, k) where it is the same for all samples."""
    values: list[Ball] = []
    slopes: dict[int, Ball] = {}
    normalizations: dict[int, NormalizedGroups] = {}
    winners: dict[int, np.ndarray] = {}
    leads: dict[int, np.ndarray] = {}
    for number, step in enumerate(program.steps):
        given = [values[i] for i in step.inputs]
        if step.kind == "input":
            value = Ball.exact(x)
        elif step.kind == "parameter":
            value = program.weights(step.weight).reshape(1, -1)
        elif step.kind == "linear":
            value = mapped(program.matrix(number), given[0])
            if step.offset:
                value = value + program.weights(step.offset)
        elif step.kind == "affine":
            value = _affine(program, step, given[0])
        elif step.kind == "function":
            value, slopes[number] = applied(step.function, given[0])
        elif step.kind == "sum":
            value = given[0]
            for other in given[1:]:
                value = value + other
        elif step.kind == "product":
            value = given[0] * given[1]
        elif step.kind == "softmax":
            value = softmax(given[0], step.positions, _mask(program, step))
        elif step.kind == "maximum":
            value, winners[number], leads[number] = largest(given[0], step.positions, _mask(program, step))
        elif step.kind == "normalize":
            normalizations[number] = normalized(given[0], step.positions, step.eps)
            value = normalizations[number].value
        else:
            raise ValueError(f"step {number} is of the unknown kind {step.kind!r}")
        values.append(value)
    return Values(values, slopes, normalizations, winners, leads)


def _mask(program: NetworkProgram, step: ProgramStep) -> np.ndarray | None:
    if step.offset:
        return program.arrays[step.offset]
    return None


def _affine(program: NetworkProgram, step: ProgramStep, h: Ball) -> Ball:
    weight = program.weights(step.weight)
    patches = h.reshape(-1, weight.shape[1])
    # the outputs' errors decide how near a minimum can be proved: here products with twice the digits
    z = product(patches, Ball(weight.middle.T, weight.radius.T), split=True)
    if step.weight_scale != 1:
        z = z.scaled(step.weight_scale)
    if step.bias:
        z = z + program.weights(step.bias).scaled(step.bias_scale)
    return z.reshape(len(h.middle), -1)


@dataclass(frozen=True)
class JacobianGram:
    r"""$H = J J^T$ of all outputs of all samples (N, N), N = n C, as computed.

    Attributes:
        matrix: float64 (N, N), row i C + c.
        rounding: $\|H - \tilde J \tilde J^T\|_2$ is at most this, for the Jacobian $\tilde J$ made of computed factors.
        jacobian_error: $\|J - \tilde J\|_F$ is at most this.
    """

    matrix: np.ndarray
    rounding: float
    jacobian_error: float


def jacobian_gram(program: NetworkProgram, values: Values) -> JacobianGram:
    """By one backward pass for each output, of all samples at once."""
    samples, outputs = values.output.shape
    size = samples * outputs
    matrix = np.zeros((size, size))
    factors = _backward(program, values, samples, outputs)
    errors, longest, blocks, lost = 0.0, 1, 0, size * SMALLEST
    for name in sorted(factors):
        uses = factors[name]
        if len(uses) == 1 and uses[0][0] is not None and uses[0][0].shape[1] == 1:
            h, bar = uses[0][0].reshape(len(uses[0][0].middle), -1), uses[0][1].reshape(size, -1)
            # the gradient of output (i, c) is the outer product of bar and h, so its Gram matrix is a product of two
            sample = np.repeat(np.arange(len(h.middle)), size // len(h.middle))
            inputs, outer = h.middle @ h.middle.T, bar.middle @ bar.middle.T
            matrix += inputs[np.ix_(sample, sample)] * outer
            # what underflows in one factor is multiplied by the other
            lost += outward(size * SMALLEST * (1 + float(np.abs(inputs).max()) + float(np.abs(outer).max())))
            row_error = h.norms()[sample] * root_of_squares(bar.radius)
            row_error += root_of_squares(h.radius)[sample] * bar.norms()
            errors += float(np.sum(outward(row_error) ** 2))
            longest, blocks = max(longest, h.shape[1] + bar.shape[1] + 1), blocks + 1
            continue
        for gradient in _gradients(uses, size):
            matrix += gradient.middle @ gradient.middle.T
            errors += float(np.sum(root_of_squares(gradient.radius) ** 2))
            longest, blocks = max(longest, gradient.shape[1]), blocks + 1
    # each entry is a sum of products of computed factors; |J||J|^T is positive semidefinite with the trace of H
    rounding = outward(gamma(longest + blocks + 3) * 1.01 * float(np.trace(matrix))) + lost
    return JacobianGram(matrix, float(rounding), float(outward(np.sqrt(outward(errors)))))


Use = tuple[Ball | None, Ball]  # values at positions (n or 1, P, k), or None; what flows back (n, C, P, m)


def _backward(program: NetworkProgram, values: Values, samples: int, outputs: int) -> dict[str, list[Use]]:
    """For each trained parameter its uses: what went into it, and the gradients of all outputs that come out of it."""
    uses: dict[str, list[Use]] = {}
    back: dict[int, Ball] = {}
    last = len(program.steps) - 1
    identity = np.broadcast_to(np.eye(outputs), (samples, outputs, outputs))
    back[last] = Ball(identity, np.zeros_like(identity))
    for number in range(last, -1, -1):
        if number not in back:
            continue
        step, bar = program.steps[number], back.pop(number)
        if step.kind == "parameter" and step.weight in program.trained:
            uses.setdefault(step.weight, []).append((None, bar.reshape(samples, outputs, 1, -1)))
        elif step.kind == "linear":
            _add(back, step.inputs[0], mapped(program.matrix(number).T.tocsr(), bar))
        elif step.kind == "affine":
            _add(back, step.inputs[0], _affine_back(program, step, bar, values.values[step.inputs[0]], uses))
        elif step.kind == "function":
            slope = values.slopes[number]
            _add(back, step.inputs[0], bar * slope.reshape(len(slope.middle), 1, -1))
        elif step.kind == "sum":
            for i in step.inputs:
                _add(back, i, bar)
        elif step.kind == "softmax":
            _add(back, step.inputs[0], softmax_back(values.values[number], bar, step.positions))
        elif step.kind == "maximum":
            length = values.values[step.inputs[0]].shape[1] // step.positions
            _add(back, step.inputs[0], largest_back(values.winners[number], bar, length))
        elif step.kind == "normalize":
            _add(back, step.inputs[0], normalized_back(values.normalizations[number], bar, step.positions))
        elif step.kind == "product":
            for i, j in (step.inputs, step.inputs[::-1]):
                factor = values.values[j]
                _add(back, i, bar * factor.reshape(len(factor.middle), 1, -1))
    return uses


def _add(back: dict[int, Ball], number: int, bar: Ball) -> None:
    if number in back:
        back[number] = back[number] + bar
    else:
        back[number] = bar


def _affine_back(program: NetworkProgram, step: ProgramStep, bar: Ball, h: Ball, uses: dict[str, list[Use]]) -> Ball:
    weight = program.weights(step.weight)
    spread = bar.reshape(*bar.shape[:2], step.positions, weight.shape[0])
    if step.weight in program.trained:
        patches = h.reshape(len(h.middle), step.positions, -1)
        uses.setdefault(step.weight, []).append((patches, spread.scaled(step.weight_scale)))
    if step.bias in program.trained:
        uses.setdefault(step.bias, []).append((None, spread.scaled(step.bias_scale)))
    flat = product(spread.reshape(-1, weight.shape[0]), weight).scaled(step.weight_scale)
    return flat.reshape(*bar.shape[:2], -1)


def _gradients(uses: list[Use], size: int):
    """The gradients of all outputs with respect to one parameter, (N, numbers), in pieces that memory holds."""
    # a parameter that is a layer's matrix (rows, width) may stand elsewhere as a value, with its numbers row by row
    matrices = [(h, bar) for h, bar in uses if h is not None]
    rows, width = uses[0][1].shape[-1], 1
    if matrices:
        rows, width = matrices[0][1].shape[-1], matrices[0][0].shape[-1]
    step = max(MOST_NUMBERS // max(size * width, 1), 1)
    for first in range(0, rows, step):
        total: Ball | None = None
        for h, bar in uses:
            part = slice(first, first + step)
            if h is None:
                part = slice(first * width, (first + step) * width)
            gradient = _contracted(h, bar, part).reshape(size, -1)
            total = gradient if total is None else total + gradient
        assert total is not None
        yield total


def _contracted(h: Ball | None, bar: Ball, rows: slice) -> Ball:
    """Sum over positions of bar (n, C, P, m) times h (n, P, k): (n, C, m, k); without h the sum of bar."""
    middle, radius = bar.middle[..., rows], bar.radius[..., rows]
    positions = gamma(bar.shape[2] + 1)
    if h is None:
        return Ball(middle.sum(2), outward(radius.sum(2) + positions * np.abs(middle).sum(2)))
    flipped, flipped_radius = np.swapaxes(middle, 2, 3), np.swapaxes(radius, 2, 3)
    values, errors = h.middle[:, None], h.radius[:, None]
    spread = np.abs(flipped) @ (errors + outward(positions * np.abs(values))) + flipped_radius @ (
        np.abs(values) + errors
    )
    return Ball(flipped @ values, outward(spread))
