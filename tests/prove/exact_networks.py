"""Small fully connected networks in 200 bits, with their gradients: written for tests, apart from the checker's code.

A network is a list of layers (weight, bias or "", activation or ""); a name that stands twice is a tied parameter.
"""

import flint
import numpy as np

from gramian.checker.program import NetworkProgram, ProgramStep

BITS = 200
ONE = flint.arb(1)


def _cdf(z):
    return (ONE + (z / flint.arb(2).sqrt()).erf()) / 2


def _density(z):
    return (-z * z / 2).exp() / (2 * flint.arb.pi()).sqrt()


def _sigmoid(z):
    return ONE / (ONE + (-z).exp())


def _positive(z):
    return float(z.mid()) > 0


ACTIVATIONS = {
    "tanh": (lambda z: z.tanh(), lambda z: ONE / z.cosh() ** 2),
    "erf": (lambda z: z.erf(), lambda z: 2 * (-z * z).exp() / flint.arb.pi().sqrt()),
    "gelu": (lambda z: z * _cdf(z), lambda z: _cdf(z) + z * _density(z)),
    "softplus": (lambda z: (ONE + z.exp()).log(), _sigmoid),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) + z * _sigmoid(z) * (1 - _sigmoid(z))),
    "sin": (lambda z: z.sin(), lambda z: z.cos()),
    "square": (lambda z: z * z, lambda z: 2 * z),
    "elu": (
        lambda z: z if _positive(z) else z.exp() - 1,
        lambda z: ONE if _positive(z) else z.exp(),
    ),
    "relu": (
        lambda z: z if _positive(z) else flint.arb(0),
        lambda z: ONE if _positive(z) else flint.arb(0),
    ),
}


class Network:
    """Layers, the shapes of their parameters, those that train, and what multiplies each layer's weight and bias."""

    def __init__(self, layers, shapes, trained, scales=None):
        self.layers, self.shapes = layers, shapes
        self.scales = scales or [(1.0, 1.0)] * len(layers)
        self.trained = [name for name in shapes if name in trained]
        ends = np.cumsum([int(np.prod(shapes[name])) for name in self.trained])
        self.starts = dict(zip(self.trained, [0, *ends[:-1]], strict=True))
        self.size = int(ends[-1])

    def program(self, weights):
        """As the checker takes it; weights are float64 arrays by name."""
        steps = [ProgramStep("input")]
        for weight, bias, activation in self.layers:
            steps.append(ProgramStep("affine", (len(steps) - 1,), weight=weight, bias=bias))
            if activation:
                steps.append(ProgramStep("function", (len(steps) - 1,), function=activation))
        return NetworkProgram(tuple(steps), dict(weights), frozenset(self.trained))

    def exact(self, weights):
        """float64 arrays as lists of 200-bit numbers."""
        return {name: [flint.arb(float(v)) for v in array.ravel()] for name, array in weights.items()}

    def moved(self, weights, step):
        """Weights plus a vector over all trained parameters."""
        result = dict(weights)
        for name in self.trained:
            first = self.starts[name]
            result[name] = [v + step[first + i] for i, v in enumerate(weights[name])]
        return result

    def distance(self, a, b):
        return _norm([p - q for name in self.trained for p, q in zip(a[name], b[name], strict=True)])

    def residual_and_jacobian(self, weights, x, y):
        """r = f - y as a list, and J as rows; both over (sample, output)."""
        residual, rows = [], []
        for sample, target in zip(x, y, strict=True):
            values, slopes = [[flint.arb(float(v)) for v in sample]], []
            for (weight, bias, activation), scale in zip(self.layers, self.scales, strict=True):
                z = self._affine(weights, weight, bias, values[-1], scale)
                value, slope = ACTIVATIONS[activation] if activation else (lambda t: t, lambda t: ONE)
                values.append([value(t) for t in z])
                slopes.append([slope(t) for t in z])
            residual += [v - flint.arb(float(t)) for v, t in zip(values[-1], target, strict=True)]
            rows += [self._gradient(weights, values, slopes, c) for c in range(len(target))]
        return residual, rows

    def _affine(self, weights, weight, bias, h, scale):
        rows, columns = self.shapes[weight]
        w = weights[weight]
        z = [scale[0] * sum((w[i * columns + j] * h[j] for j in range(columns)), flint.arb(0)) for i in range(rows)]
        if bias:
            z = [a + scale[1] * b for a, b in zip(z, weights[bias], strict=True)]
        return z

    def _gradient(self, weights, values, slopes, output):
        gradient = [flint.arb(0)] * self.size
        back = [flint.arb(int(i == output)) for i in range(len(values[-1]))]
        layers = list(zip(self.layers, self.scales, values[:-1], slopes, strict=True))
        for (weight, bias, _), scale, h, slope in reversed(layers):
            back = [b * s for b, s in zip(back, slope, strict=True)]
            rows, columns = self.shapes[weight]
            if weight in self.starts:
                first = self.starts[weight]
                for i in range(rows):
                    for j in range(columns):
                        gradient[first + i * columns + j] += scale[0] * back[i] * h[j]
            if bias in self.starts:
                for i in range(rows):
                    gradient[self.starts[bias] + i] += scale[1] * back[i]
            w = weights[weight]
            back = [
                scale[0] * sum((w[i * columns + j] * back[i] for i in range(rows)), flint.arb(0))
                for j in range(columns)
            ]
        return gradient


def _norm(vector):
    return float(sum((v.mid() * v.mid() for v in vector), flint.arb(0)).mid().sqrt())


def _middle(vector):
    return [v.mid() for v in vector]


def newton(network, weights, x, y, steps=60, enough=1e-40):
    """Gauss-Newton steps of minimum norm in 200 bits, and the residual's norm where they end."""
    with flint.ctx.workprec(BITS):
        norm = np.inf
        for _ in range(steps):
            residual, rows = network.residual_and_jacobian(weights, x, y)
            norm = _norm(residual)
            if not norm > enough:
                break
            jacobian = flint.arb_mat(rows)
            try:
                solved = (jacobian * jacobian.transpose()).solve(flint.arb_mat([[r] for r in residual]))
            except ZeroDivisionError:
                break
            step = (jacobian.transpose() * solved).entries()
            weights = {k: _middle(v) for k, v in network.moved(weights, [-s for s in step]).items()}
        return weights, norm


def descent(network, weights, x, y, rate, steps):
    """Norms of the residual and distances from the start, of gradient descent in 200 bits."""
    with flint.ctx.workprec(BITS):
        start, norms, distances = weights, [], []
        for _ in range(steps):
            residual, rows = network.residual_and_jacobian(weights, x, y)
            norms.append(_norm(residual))
            distances.append(network.distance(weights, start))
            gradient = (flint.arb_mat([residual]) * flint.arb_mat(rows)).entries()
            weights = {
                k: _middle(v) for k, v in network.moved(weights, [-flint.arb(rate) * g for g in gradient]).items()
            }
        return norms, distances
