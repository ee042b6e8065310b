"""Limit kernels of two inputs in 50 digits: hand-written recursions to measure ours by."""

import mpmath

mpmath.mp.dps = 50


def relu(q1, k, q2):
    s = mpmath.sqrt(q1 * q2)
    if not s:
        return mpmath.mpf(0), mpmath.mpf(0)
    c = min(max(k / s, mpmath.mpf(-1)), mpmath.mpf(1))
    angle = mpmath.acos(c)
    half = (mpmath.pi - angle) / (2 * mpmath.pi)
    return s * mpmath.sqrt(1 - c * c) / (2 * mpmath.pi) + half * k, half


def erf(q1, k, q2):
    root = mpmath.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * k * k)
    return 2 / mpmath.pi * mpmath.atan2(2 * k, root), 4 / mpmath.pi / root


def sign(q1, k, q2):
    return 2 / mpmath.pi * mpmath.asin(k / mpmath.sqrt(q1 * q2)), mpmath.mpf(0)


def sin(q1, k, q2):
    scale = mpmath.exp(-(q1 + q2) / 2)
    return scale * mpmath.sinh(k), scale * mpmath.cosh(k)


class Exact:
    """`(q1, k, q2, theta)` at each position of an input x and an input y, and the layers that act on it."""

    def __init__(self, cells):
        self.cells = cells

    @classmethod
    def of(cls, x, y):
        """Of two rows of numbers, (c,) or (c, S)."""
        return cls.of_lists(*(t.double().reshape(len(t), -1).T.tolist() for t in (x, y)))

    @classmethod
    def of_lists(cls, x, y):
        """Of lists of positions, each a list of numbers."""
        return cls([[*_products(a, b), mpmath.mpf(0)] for a, b in zip(x, y, strict=True)])

    def affine(self, w=2, b=0, window=1, trains=True):
        """Variances of weights and biases, which are trained; a window with zero padding."""
        half, made = window // 2, []
        for i in range(len(self.cells)):
            near = self.cells[max(0, i - half) : i + half + 1]
            q1, k, q2, theta = (w * sum(c[f] for c in near) / window for f in range(4))
            made.append([q1 + b, k + b, q2 + b, theta + k + b])
        return Exact(made)

    def activation(self, dual):
        return Exact([
            [dual(q1, q1, q1)[0], dual(q1, k, q2)[0], dual(q2, q2, q2)[0], theta * dual(q1, k, q2)[1]]
            for q1, k, q2, theta in self.cells
        ])  # fmt: skip

    def plus(self, other):
        """Of independent values that have no means."""
        return Exact([[s + t for s, t in zip(a, b, strict=True)] for a, b in zip(self.cells, other.cells, strict=True)])

    def plus_post(self, other):
        """Of two independent ReLUs of these and of other Gaussians: their means multiply."""
        made = []
        for a, b in zip(self.cells, other.cells, strict=True):
            (q1, k, q2, theta), (p1, l, p2, eta) = a, b
            mean = [[mpmath.sqrt(q / (2 * mpmath.pi)) for q in pair] for pair in ((q1, q2), (p1, p2))]
            one, two = relu(q1, k, q2), relu(p1, l, p2)
            made.append([
                q1 / 2 + p1 / 2 + 2 * mean[0][0] * mean[1][0],
                one[0] + two[0] + mean[0][0] * mean[1][1] + mean[0][1] * mean[1][0],
                q2 / 2 + p2 / 2 + 2 * mean[0][1] * mean[1][1],
                theta * one[1] + eta * two[1],
            ])  # fmt: skip
        return Exact(made)

    def flat(self):
        return Exact([[sum(c[f] for c in self.cells) / len(self.cells) for f in range(4)]])

    @property
    def ntk(self):
        (cell,) = self.cells
        return cell[3]


def _products(x, y):
    x, y = ([mpmath.mpf(v) for v in t] for t in (x, y))
    return tuple(
        mpmath.fsum(a * b for a, b in zip(p, q, strict=True)) / len(x) for p, q in ((x, x), (x, y), (y, y))
    )  # fmt: skip
