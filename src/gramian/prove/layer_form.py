r"""A program with its multipliers inside its layers: $c\,W h + b'$ as one step, however the module spells it.

A drawn network multiplies by numbers and adds biases in steps of their own; theorems about two layers read an affine
step with its scales. The two programs are one formula, up to the rounding of a product of multipliers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gramian.checker.program import NetworkProgram, ProgramStep


class _Unfoldable(Exception):
    """A step that is no part of a chain of layers."""


def in_layers(program: NetworkProgram) -> NetworkProgram:
    """The same formula as a chain of affine steps and functions; the program as it is where it is none."""
    try:
        return _Folding(program).result()
    except _Unfoldable:
        return program


class _Folding:
    """Steps are taken in order; a multiplier is carried along until the layer before or after it takes it in."""

    def __init__(self, program: NetworkProgram) -> None:
        self.program, self.arrays = program, dict(program.arrays)
        self.steps: list[ProgramStep] = []
        self.parameters: dict[int, str] = {}
        self.value: dict[int, tuple[int, float]] = {}  # of an old step: the new one, and what multiplies it
        uses = [i for step in program.steps for i in step.inputs]
        if any(uses.count(number) > 1 for number in range(len(program.steps))):
            raise _Unfoldable

    def result(self) -> NetworkProgram:
        for number, step in enumerate(self.program.steps):
            self._take(number, step)
        last = self._settled(len(self.program.steps) - 1)
        chained = all(step.inputs == (number,) for number, step in enumerate(self.steps[1:]))
        if last != len(self.steps) - 1 or not chained:
            raise _Unfoldable
        names = [name for step in self.steps for name in (step.weight, step.bias) if name]
        used = set(names)
        if len(used) < len(names):  # a tied parameter may have two shapes
            raise _Unfoldable
        arrays = {name: array for name, array in self.arrays.items() if name in used}
        if not self.program.trained <= used:
            raise _Unfoldable
        return NetworkProgram(tuple(self.steps), arrays, self.program.trained)

    def _take(self, number: int, step: ProgramStep) -> None:
        if step.kind == "input":
            self._append(number, step)
        elif step.kind == "parameter":
            self.parameters[number] = step.weight
            self.value[number] = (-1, 1.0)
        elif step.kind == "linear":
            before = step.inputs[0]
            new, factor = self.value[before]
            self.value[number] = (new, factor * self._multiplier(number))
            if before in self.parameters:
                self.parameters[number] = self.parameters[before]
        elif step.kind == "affine" and step.inputs[0] not in self.parameters:
            new, factor = self.value[step.inputs[0]]
            self._append(number, replace(step, inputs=(new,), weight_scale=step.weight_scale * factor))
        elif step.kind == "function" and step.inputs[0] not in self.parameters:
            self._append(number, replace(step, inputs=(self._settled(step.inputs[0]),)))
        elif step.kind == "sum" and len(step.inputs) == 2:
            self._add_bias(number, step)
        else:
            raise _Unfoldable

    def _append(self, number: int, step: ProgramStep) -> None:
        self.value[number] = (len(self.steps), 1.0)
        self.steps.append(step)

    def _settled(self, number: int) -> int:
        """The new step whose value is that of the old one: its layer takes the multiplier in."""
        if number in self.parameters:
            raise _Unfoldable
        new, factor = self.value[number]
        if factor != 1.0:
            layer = self.steps[new]
            if layer.kind != "affine":
                raise _Unfoldable
            self.steps[new] = replace(
                layer, weight_scale=layer.weight_scale * factor, bias_scale=layer.bias_scale * factor
            )
        return new

    def _add_bias(self, number: int, step: ProgramStep) -> None:
        biases = [i for i in step.inputs if i in self.parameters]
        layers = [i for i in step.inputs if i not in self.parameters]
        if len(biases) != 1 or len(layers) != 1:
            raise _Unfoldable
        new = self._settled(layers[0])
        layer, name = self.steps[new], self.parameters[biases[0]]
        bias = self.arrays[name]
        fits = layer.kind == "affine" and not layer.bias and layer.positions == 1
        if not fits or bias.size != self.arrays[layer.weight].shape[0]:
            raise _Unfoldable
        self.arrays[name] = bias.reshape(-1)
        self.steps[new] = replace(layer, bias=name, bias_scale=self.value[biases[0]][1])
        self.value[number] = (new, 1.0)

    def _multiplier(self, number: int) -> float:
        """c of a step that multiplies all of its input by c."""
        step, matrix = self.program.steps[number], self.program.matrix(number)
        size = step.shape[0]
        diagonal = step.shape == (size, size) and matrix.nnz == size and np.array_equal(matrix.indices, np.arange(size))
        if step.offset or not diagonal or not (matrix.data == matrix.data[0]).all():
            raise _Unfoldable
        return float(matrix.data[0])
