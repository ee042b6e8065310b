"""The fully connected network of three or more layers that a certificate's program spells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.program import NetworkProgram
from gramian.checker.taylor_table import ACTIVATIONS
from gramian.checker.two_layer_program import NotTwoLayer, rearranged


class NotFullyConnected(ValueError):
    """The program is not input, then affine and activation in turn, then affine; all of it trained."""


def fully_connected(program: NetworkProgram, x: NDArray, y: NDArray, lr: float) -> tuple[DeepTask, DeepWeights]:
    """The same network as arrays; every number is taken as it stands."""
    steps, inputs, first = list(program.steps), np.asarray(x, dtype=np.float64), 1
    while first < len(steps) and steps[first].kind == "linear" and steps[first].inputs == (first - 1,):
        try:
            inputs = rearranged(program, first, inputs)
        except NotTwoLayer as error:
            raise NotFullyConnected(str(error)) from None
        first += 1
    layers, functions = steps[first::2], steps[first + 1 :: 2]
    chained = all(step.inputs == (number,) for number, step in enumerate(steps[1:]))
    alternate = all(s.kind == "affine" for s in layers) and all(s.kind == "function" for s in functions)
    if not (steps[0].kind == "input" and chained and alternate and len(layers) == len(functions) + 1):
        raise NotFullyConnected(f"this one's steps are {', '.join(step.kind for step in steps)}")
    for step in functions:
        if step.function not in ACTIVATIONS:
            raise NotFullyConnected(f"of this one an activation is {step.function!r}")
    if any(step.positions != 1 for step in layers):
        raise NotFullyConnected("this one shares weights between positions")
    names = [name for step in layers for name in (step.weight, step.bias) if name]
    if len(set(names)) < len(names):
        raise NotFullyConnected("this one's layers share a parameter")
    if not all(name in program.trained for name in names):
        raise NotFullyConnected("of this one a part does not train, which is read in two-layer networks alone")
    matrices = tuple(np.asarray(program.arrays[step.weight], dtype=np.float64) for step in layers)
    biases, bias_scales = [], []
    for step, matrix in zip(layers, matrices, strict=True):
        bias, scale = np.zeros(len(matrix)), 0.0
        if step.bias:
            bias, scale = np.asarray(program.arrays[step.bias], dtype=np.float64).ravel(), step.bias_scale
        biases.append(bias)
        bias_scales.append(float(scale))
    task = DeepTask(
        x=np.ascontiguousarray(inputs),
        y=np.asarray(y, dtype=np.float64).reshape(len(inputs), len(matrices[-1])),
        activations=tuple(step.function for step in functions),
        scales=tuple(float(step.weight_scale) for step in layers),
        bias_scales=tuple(bias_scales),
        lr=float(lr),
    )
    return task, DeepWeights(matrices, tuple(biases))
