"""What a program must be before any inequality about it means something: steps that refer backwards, arrays of the
shapes and types that the rules assume, and trained parameters that stand nowhere else than as weights.

Someone may write and seal a file by hand. NumPy's broadcasting and negative indices would give such a program values,
and gradients that are not those of its values; so each assumption of the other modules is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gramian.checker.functions import FUNCTIONS
from gramian.checker.program import NetworkProgram, ProgramStep

INPUTS = {
    "input": 0, "parameter": 0, "linear": 1, "affine": 1, "function": 1, "product": 2, "softmax": 1, "normalize": 1,
    "maximum": 1,
}  # fmt: skip


class NotWellFormed(ValueError):
    """The program or the data are not what the rules are about."""


def require(condition: bool, why: str) -> None:
    if not condition:
        raise NotWellFormed(why)


def require_well_formed(program: NetworkProgram, x: np.ndarray) -> int:
    """The number of outputs of a sample.

    Raises:
        NotWellFormed: names the step and what is wrong.
    """
    require(x.dtype == np.float64 and x.ndim == 2 and len(x) > 0, "inputs are float64 (n, d), n at least 1")
    require(bool(np.isfinite(x).all()), "inputs are finite")
    require(len(program.steps) > 0, "a network has steps")
    widths: list[int] = []
    for number, step in enumerate(program.steps):
        try:
            widths.append(_width(program, number, step, widths, x.shape[1]))
        except NotWellFormed as error:
            raise NotWellFormed(f"step {number} ({step.kind}): {error}") from None
    _require_roles(program)
    return widths[-1]


def require_targets(statement: str, y: np.ndarray, samples: int, outputs: int) -> None:
    """Targets (n, C) in float64; for "separation" class numbers (n,)."""
    if statement == "separation":
        require(y.dtype == np.int64 and y.shape == (samples,), "class numbers are int64, one for each sample")
        require(bool(((y >= 0) & (y < outputs)).all()), "class numbers are numbers of outputs")
        return
    require(y.dtype == np.float64 and y.shape == (samples, outputs), "targets are float64 (n, C), as the outputs")
    require(bool(np.isfinite(y).all()), "targets are finite")


def _width(program: NetworkProgram, number: int, step: ProgramStep, widths: Sequence[int], inputs: int) -> int:
    """Entries of a step's value, after all that its rule assumes."""
    require(all(type(i) is int and 0 <= i < number for i in step.inputs), "inputs are numbers of earlier steps")
    scales = (step.weight_scale, step.bias_scale, step.eps)
    require(all(type(s) in (int, float) and math.isfinite(s) for s in scales), "scales are finite numbers")
    require(type(step.positions) is int and step.positions >= 1, "positions are a number above 0")
    given = [widths[i] for i in step.inputs]
    if step.kind == "sum":
        require(len(given) >= 1, "a sum has terms")
    else:
        require(INPUTS.get(step.kind) == len(given), "no such kind of step, or another number of inputs")
    require(len(set(given)) <= 1, "terms and factors have one width")
    if step.kind == "input":
        return inputs
    if step.kind == "parameter":
        return _numbers(program, step.weight).size
    if step.kind == "linear":
        return _linear_width(program, number, step, given[0])
    if step.kind == "affine":
        weight = _numbers(program, step.weight)
        require(weight.ndim == 2, "a weight is a matrix")
        require(step.positions * weight.shape[1] == given[0], "positions times the weight's columns are the input")
        if step.bias:
            require(_numbers(program, step.bias).shape == weight.shape[:1], "a bias has the weight's rows")
        return step.positions * weight.shape[0]
    if step.kind == "function":
        require(step.function in FUNCTIONS, "no such function")
    if step.kind in ("softmax", "normalize", "maximum"):
        require(given[0] % step.positions == 0, "positions divide the input")
        require(step.eps >= 0, "eps is not negative")
    if step.kind in ("softmax", "maximum") and step.offset:
        mask = _numbers(program, step.offset)
        require(mask.shape == (given[0],), "a mask has a number for each entry")
        require(bool((mask != 0).reshape(step.positions, -1).any(1).all()), "a mask leaves an entry to each group")
    if step.kind == "maximum":
        return step.positions
    return given[0]


def _linear_width(program: NetworkProgram, number: int, step: ProgramStep, given: int) -> int:
    require(len(step.matrix) == 3 and len(step.shape) == 2, "a sparse matrix is three arrays and a shape")
    data = _numbers(program, step.matrix[0])
    for name in step.matrix[1:]:
        require(name in program.arrays, f"there is no array {name!r}")
        array = program.arrays[name]
        require(array.dtype in (np.int32, np.int64) and array.ndim == 1, "indices are int32 or int64 (k,)")
    require(data.ndim == 1, "a sparse matrix has its numbers in a row")
    require(all(type(size) is int and size >= 1 for size in step.shape) and step.shape[1] == given, "the shape fits")
    # two entries at one place would be added with a rounding that no bound covers
    require(
        bool(program.matrix(number).has_canonical_format), "the indices of each row are sorted, and each stands once"
    )
    if step.offset:
        require(_numbers(program, step.offset).shape == (step.shape[0],), "an offset has the matrix's rows")
    return step.shape[0]


def _numbers(program: NetworkProgram, name: str) -> np.ndarray:
    require(name != "" and name in program.arrays, f"there is no array {name!r}")
    array = program.arrays[name]
    require(array.dtype == np.float64 and array.size > 0, f"the array {name!r} is not float64, or empty")
    require(bool(np.isfinite(array).all()), f"the array {name!r} holds what is no number")
    return array


def _require_roles(program: NetworkProgram) -> None:
    """A parameter that trains is a weight or a bias or a value, and is no constant elsewhere."""
    weights: set[str] = set()
    constants: set[str] = set()
    for step in program.steps:
        if step.kind in ("affine", "parameter"):
            weights.add(step.weight)
        if step.kind == "affine" and step.bias:
            weights.add(step.bias)
        if step.kind == "linear":
            constants |= {*step.matrix, step.offset}
        if step.kind in ("softmax", "maximum"):
            constants.add(step.offset)
    require(program.trained <= weights, "a trained parameter is a weight or a bias of some step")
    require(not program.trained & constants, "a trained parameter stands in no matrix, offset or mask")
