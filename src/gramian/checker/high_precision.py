"""The outputs of a small network in ball arithmetic of 128 bits: after polishing, the residual is nothing but rounding,
and the bounds of float64's own rounding would be thousands of times larger."""

from __future__ import annotations

import flint
import numpy as np

from gramian.checker.balls import UNIT, Ball, outward
from gramian.checker.functions import FUNCTIONS
from gramian.checker.program import NetworkProgram, ProgramStep

BITS = 128
MOST_NUMBERS = 4_000_000  # entries of all steps and samples, each an operation of about a microsecond
MOST_PRODUCTS = 200_000_000  # multiplications of matrix products, some tens of nanoseconds each
Numbers = list[flint.arb]


def outputs(program: NetworkProgram, x: np.ndarray) -> Ball | None:
    """All outputs (n, C); None where this would take minutes."""
    numbers, products = _cost(program)
    if len(x) * numbers > MOST_NUMBERS or len(x) * products > MOST_PRODUCTS or not np.isfinite(x).all():
        return None
    with flint.ctx.workprec(BITS):
        affine = [step.weight for step in program.steps if step.kind == "affine"]
        weights = {name: _matrix(program.arrays[name]) for name in affine}
        rows = [_sample(program, weights, row) for row in x]
        middle = np.array([[float(number.mid()) for number in row] for row in rows])
        radius = np.array([[float(number.rad()) for number in row] for row in rows])
    return Ball(middle, outward(radius + UNIT * np.abs(middle)))


def _cost(program: NetworkProgram) -> tuple[int, int]:
    """Of one sample: entries and entries of sparse maps; multiplications of the affine steps."""
    numbers = products = 0
    for step in program.steps:
        if step.kind == "affine":
            rows, columns = program.arrays[step.weight].shape
            products += step.positions * rows * columns
            numbers += step.positions * rows
        elif step.kind == "linear":
            numbers += len(program.arrays[step.matrix[0]])
        else:
            numbers += 4 * step.positions  # of unknown length; each is the output of a step that was counted
    return max(numbers, 1), products


def _matrix(array: np.ndarray) -> flint.arb_mat:
    rows, columns = array.shape
    return flint.arb_mat(columns, rows, array.T.ravel().tolist())  # transposed: rows of values times it


def _sample(program: NetworkProgram, weights: dict[str, flint.arb_mat], row: np.ndarray) -> Numbers:
    values: list[Numbers] = []
    for number, step in enumerate(program.steps):
        values.append(_step(program, weights, number, step, [values[i] for i in step.inputs], row))
    return values[-1]


def _step(
    program: NetworkProgram,
    weights: dict[str, flint.arb_mat],
    number: int,
    step: ProgramStep,
    given: list[Numbers],
    row: np.ndarray,
) -> Numbers:
    if step.kind == "input":
        return [flint.arb(v) for v in row.tolist()]
    if step.kind == "parameter":
        return [flint.arb(v) for v in program.arrays[step.weight].ravel().tolist()]
    if step.kind == "linear":
        return _linear(program, number, step, given[0])
    if step.kind == "affine":
        positions = step.positions
        product = flint.arb_mat(positions, len(given[0]) // positions, given[0]) * weights[step.weight]
        entries = [step.weight_scale * z for z in product.entries()]
        if step.bias:
            bias = [step.bias_scale * flint.arb(v) for v in program.arrays[step.bias].tolist()]
            entries = [z + b for z, b in zip(entries, bias * positions, strict=True)]
        return entries
    if step.kind == "function":
        value = FUNCTIONS[step.function].flint_value
        return [value(z) for z in given[0]]
    if step.kind == "sum":
        return [sum(parts[1:], parts[0]) for parts in zip(*given, strict=True)]
    if step.kind == "product":
        return [a * b for a, b in zip(*given, strict=True)]
    mask = program.arrays[step.offset].tolist() if step.offset else [1.0] * len(given[0])
    length = len(given[0]) // step.positions
    result: Numbers = []
    for first in range(0, len(given[0]), length):
        group = given[0][first : first + length]
        allowed = mask[first : first + length]
        if step.kind == "softmax":
            result += _softmax(group, allowed)
        elif step.kind == "maximum":
            result.append(_largest([z for z, m in zip(group, allowed, strict=True) if m]))
        else:
            result += _normalized(group, step)
    return result


def _linear(program: NetworkProgram, number: int, step: ProgramStep, h: Numbers) -> Numbers:
    matrix = program.matrix(number)
    offset = program.arrays[step.offset].tolist() if step.offset else [0.0] * matrix.shape[0]
    data, indices, starts = matrix.data.tolist(), matrix.indices.tolist(), matrix.indptr.tolist()
    result = []
    for i, start in enumerate(starts[:-1]):
        total = flint.arb(offset[i])
        for k in range(start, starts[i + 1]):
            total += data[k] * h[indices[k]]
        result.append(total)
    return result


def _softmax(group: Numbers, mask: list[float]) -> Numbers:
    shift = max(float(z.mid()) for z in group)
    e = [(z - shift).exp() if m else flint.arb(0) for z, m in zip(group, mask, strict=True)]
    total = sum(e[1:], e[0])
    return [v / total for v in e]


def _largest(group: Numbers) -> flint.arb:
    largest = max(group, key=lambda z: float(z.mid()))
    for z in group:
        if not z < largest and z is not largest:  # it may be larger
            largest = largest.union(z)
    return largest


def _normalized(group: Numbers, step: ProgramStep) -> Numbers:
    mean = sum(group[1:], group[0]) / len(group)
    centred = [z - mean for z in group]
    squares = [c * c for c in centred]
    scale = (sum(squares[1:], squares[0]) / len(group) + step.eps).sqrt()
    return [c / scale for c in centred]
