"""Gradient descent of a fully connected network with 400 bits: what the checker's bounds are tested against."""

import flint
import numpy as np
from exact_two_layer import BITS, matrix, middle, product, size
from flint import arb, arb_mat

from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.deep_run import DeepReplay
from gramian.checker.taylor_table import ACTIVATIONS


def activated(name: str, z: arb_mat) -> tuple[arb_mat, arb_mat]:
    cap, flint.ctx.cap = flint.ctx.cap, 2
    series = [ACTIVATIONS[name](flint.arb_series([e, 1])) for e in z.entries()]
    flint.ctx.cap = cap
    return tuple(arb_mat(z.nrows(), z.ncols(), [s[k] for s in series]) for k in (0, 1))


class ExactDeepRun:
    """`matrices`, `biases` and `residual` of the exact run; `step()` moves on."""

    def __init__(self, task: DeepTask, start: DeepWeights):
        self.task = task
        with flint.ctx.workprec(BITS):
            self.x, self.y, self.ones = matrix(task.x), matrix(task.y), matrix(np.ones((len(task.x), 1)))
            self.matrices = [matrix(w) for w in start.matrices]
            self.biases = [matrix(b[None]) for b in start.biases]
            self.forward()

    def forward(self) -> None:
        task, h = self.task, self.x
        self.hidden, self.slopes = [h], []
        for number, (w, b) in enumerate(zip(self.matrices, self.biases, strict=True)):
            z = h * w.transpose() * arb(task.scales[number]) + self.ones * b * arb(task.bias_scales[number])
            if number < len(self.matrices) - 1:
                h, slope = activated(task.activations[number], z)
                self.hidden.append(h)
                self.slopes.append(slope)
        self.residual = z - self.y

    def gradient(self, top: arb_mat | None = None) -> list[arb_mat]:
        """Of half the sum of squares, matrices then biases; or of the sum of `top` times the outputs."""
        task, depth = self.task, len(self.matrices)
        with flint.ctx.workprec(BITS):
            back, result = top if top is not None else self.residual, {}
            for number in range(depth - 1, -1, -1):
                result[number] = back.transpose() * self.hidden[number] * arb(task.scales[number])
                result[depth + number] = (back.transpose() * self.ones * arb(task.bias_scales[number])).transpose()
                if number > 0:
                    through = back * self.matrices[number] * arb(task.scales[number])
                    back = product(through, self.slopes[number - 1])
        return [result[number] for number in range(2 * depth)]

    def moved(self, direction: list[arb_mat], factor: arb) -> None:
        with flint.ctx.workprec(BITS):
            new = [p + g * factor for p, g in zip(self.parameters(), direction, strict=True)]
            new = [middle(p) for p in new]
            self.matrices, self.biases = new[: len(self.matrices)], new[len(self.matrices) :]
            self.forward()

    def step(self) -> None:
        self.moved(self.gradient(), -arb(self.task.lr))

    def parameters(self) -> list[arb_mat]:
        return self.matrices + self.biases

    def distance(self, weights: DeepWeights) -> float:
        return self.way_from([matrix(w) for w in weights.matrices] + [matrix(b[None]) for b in weights.biases])

    def way_from(self, other: list[arb_mat]) -> float:
        with flint.ctx.workprec(BITS):
            pairs = zip(self.parameters(), other, strict=True)
            return float(size(*(a - b for a, b in pairs)).mid())

    def loss_root(self) -> float:
        with flint.ctx.workprec(BITS):
            return float(size(self.residual).mid())


def random_deep_problem(rng: np.random.Generator) -> tuple[DeepTask, DeepWeights]:
    """Data, depth, activations, widths and scales at random; the rate up to the edge of stability."""
    n, d, outputs, depth = (int(rng.integers(*r)) for r in ((1, 5), (1, 4), (1, 3), (3, 5)))
    widths = [d, *(int(rng.integers(2, 8)) for _ in range(depth - 1)), outputs]
    scales = tuple(float(rng.choice([1.0, 0.7, 1 / np.sqrt(k)])) for k in widths[:-1])
    bias_scales = tuple(float(rng.choice([0.0, 1.0, 0.3])) for _ in range(depth))
    x = rng.standard_normal((n, d)) * 10 ** rng.uniform(-0.5, 0.3)
    y = rng.standard_normal((n, outputs)) * 10 ** rng.uniform(-2, 0.5)
    spread = 10 ** rng.uniform(-0.3, 0.2)
    pairs = list(zip(widths[1:], widths[:-1], strict=True))
    matrices = tuple(spread * rng.standard_normal(pair) for pair in pairs)
    biases = tuple(rng.standard_normal(m) * (scale > 0) for m, scale in zip(widths[1:], bias_scales, strict=True))
    activations = tuple(str(rng.choice(list(ACTIVATIONS))) for _ in range(depth - 1))
    task = DeepTask(x, y, activations, scales, bias_scales, 1.0)
    start = DeepWeights(matrices, biases)
    replay = DeepReplay(task, start)
    h, _, _ = replay.gram(replay.at(0, start))
    rate = float(rng.choice([0.3, 0.7, 1.0, 1.3, 1.7, 1.95, 2.05, 3.0]))
    return DeepTask(x, y, activations, scales, bias_scales, rate / float(np.linalg.eigvalsh(h)[-1])), start
