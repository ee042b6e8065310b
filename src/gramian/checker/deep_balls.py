"""Steps of gradient descent of a network of any depth in ball arithmetic; as `two_layer_balls`, layer by layer."""

from __future__ import annotations

import flint
import numpy as np
from flint import arb, arb_mat

from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.two_layer_balls import activated, as_balls, descended, entrywise, rounded


class DeepBallSteps:
    """The run from `start`; its iterates are exact numbers of `bits` bits, its steps have a proved error."""

    def __init__(self, task: DeepTask, start: DeepWeights, bits: int):
        self.task, self.bits = task, bits
        self.x, self.y, self.ones = as_balls(task.x), as_balls(task.y), as_balls(np.ones((len(task.x), 1)))
        self.parameters = [as_balls(w) for w in start.matrices] + [as_balls(b[None]) for b in start.biases]

    def advance(self) -> tuple[DeepWeights, float, float]:
        """The next iterate in float64, its distance to the exact numbers kept here, and the error of this step."""
        with flint.ctx.workprec(self.bits):
            self.parameters, error = descended(self.parameters, self._gradient(), self.task.lr)
            floats, gap = rounded(self.parameters)
        depth = len(self.task.scales)
        return DeepWeights(tuple(floats[:depth]), tuple(b[0] for b in floats[depth:])), gap, error

    def _gradient(self) -> list[arb_mat]:
        task, depth = self.task, len(self.task.scales)
        matrices, biases = self.parameters[:depth], self.parameters[depth:]
        hidden, slopes = [self.x], []
        for layer in range(depth):
            z = hidden[layer] * matrices[layer].transpose() * arb(task.scales[layer])
            z += self.ones * biases[layer] * arb(task.bias_scales[layer])
            if layer < depth - 1:
                h, slope = activated(task.activations[layer], z)
                hidden.append(h)
                slopes.append(slope)
        back = z - self.y
        gradients: list[arb_mat] = [back] * (2 * depth)
        for layer in range(depth - 1, -1, -1):
            flipped = back.transpose()
            gradients[layer] = flipped * hidden[layer] * arb(task.scales[layer])
            gradients[depth + layer] = (flipped * self.ones * arb(task.bias_scales[layer])).transpose()
            if layer > 0:
                back = entrywise(
                    lambda b, s: b * s, back * matrices[layer] * arb(task.scales[layer]), slopes[layer - 1]
                )
        return gradients
