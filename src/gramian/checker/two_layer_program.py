"""The two-layer network that a certificate's program spells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gramian.checker.program import NetworkProgram
from gramian.checker.taylor_table import ACTIVATIONS
from gramian.checker.two_layer import Task, TwoLayerWeights


class NotTwoLayer(ValueError):
    """The program is not input, affine, activation, affine."""


def two_layer(program: NetworkProgram, x: NDArray, y: NDArray, lr: float) -> tuple[Task, TwoLayerWeights]:
    """The same network as arrays; every number is taken as it stands, only x times its multiplier is rounded."""
    steps = list(program.steps)
    inputs = np.asarray(x, dtype=np.float64)
    first = 1
    while first < len(steps) - 3 and steps[first].kind == "linear" and steps[first].inputs == (first - 1,):
        inputs = rearranged(program, first, inputs)
        first += 1
    kinds = [step.kind for step in steps[:1] + steps[first:]]
    chained = all(step.inputs == (number,) for number, step in enumerate(steps[1:]))
    if kinds != ["input", "affine", "function", "affine"] or not chained:
        raise NotTwoLayer(f"this one's steps are {', '.join(step.kind for step in steps)}")
    hidden, function, readout = steps[first:]
    if hidden.positions != 1 or readout.positions != 1 or function.function not in ACTIVATIONS:
        raise NotTwoLayer(f"this one's activation is {function.function!r}, or it shares weights between positions")
    w, a = (np.asarray(program.arrays[step.weight], dtype=np.float64) for step in (hidden, readout))
    multipliers = np.full(inputs.shape[1], hidden.weight_scale)
    if hidden.bias:
        bias = np.asarray(program.arrays[hidden.bias], dtype=np.float64).reshape(-1, 1)
        w = np.hstack([w, bias])
        inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
        multipliers = np.append(multipliers, hidden.bias_scale)
    beta, bias_scale = np.zeros(len(a)), 0.0
    if readout.bias:
        beta = np.asarray(program.arrays[readout.bias], dtype=np.float64).ravel()
        bias_scale = readout.bias_scale
    trained = [[name in program.trained for name in (step.weight, step.bias) if name] for step in (hidden, readout)]
    names = [name for step in (hidden, readout) for name in (step.weight, step.bias) if name]
    if len(set(names)) < len(names):
        raise NotTwoLayer("this one's layers share a parameter")
    if not all(trained[0]) or any(trained[1]) != all(trained[1]):
        raise NotTwoLayer("of this one other parts train than the first layer, or the whole network")
    targets = np.asarray(y, dtype=np.float64).reshape(len(inputs), len(a))
    scale = readout.weight_scale
    if scale < 0:  # the same network and the same descent, mirrored: a bound is a multiple of a positive multiplier
        scale, a = -scale, -a
    task = Task(
        inputs * multipliers,
        targets,
        function.function,
        scale,
        bias_scale,
        all(trained[1]),
        float(lr),
        (inputs, multipliers),
    )
    return task, TwoLayerWeights(w, a, beta)


def rearranged(program: NetworkProgram, number: int, values: NDArray) -> NDArray:
    """What a "linear" step makes of these values, if it only moves them."""
    matrix = program.matrix(number)
    moves_only = np.all(matrix.data == 1) and np.diff(matrix.indptr).max(initial=0) <= 1
    if program.steps[number].offset or not moves_only:
        raise NotTwoLayer("this one maps its inputs before the first layer")
    return np.asarray((matrix @ values.T).T)
