"""M = sum_ic r_ic Hess f_ic of a fully connected network, as sums over samples of products of small factors.

Block (l, l') of M, for the weights of two layers, is a sum over samples of tensor products. Frobenius norms of M, and
of its change since an anchor, come from n x n matrices of inner products of the factors, whatever the width. Where M
is small enough, its smallest eigenvalue is bounded at anchors. Numbers in brackets are those of
docs/proofs/deep-run.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import linalg

from gramian.checker.balls import gamma
from gramian.checker.deep_network import DeepPoint, DeepTask
from gramian.checker.eigenvalues import factorizes
from gramian.checker.taylor_table import PAD, SMALLEST, TaylorTable
from gramian.checker.two_layer import norm

MOST_WEIGHTS = 9000  # of M as a matrix: 620 MiB twice, and a factorization of some ten seconds
FEW_WEIGHTS = 200  # up to which all eigenvalues are as quick as one
ANCHOR_SLACK = 1.5  # a new anchor is set once the change adds this share to the bound
FREE_ANCHORS, STEPS_FOR_ONE = 16, 64  # so many at the start, and one more for so many steps


@dataclass(frozen=True)
class Term:
    """sum_i of the tensor product of one row of each factor, all of the same n rows; a part of block (layer, other).

    `kind`: "bend": Q_l T_ll' as (n, m_l m_l'), g_l, g_l'. "turn": beta_l, D as (n, m_{l-1} m_l') or, with other =
    layer - 1, its diagonal (n, m_{l-1}), and g_l'.
    """

    layer: int
    other: int
    kind: str
    factors: tuple[NDArray, ...]

    def inner(self, other: Term) -> float:
        """The inner product of two such blocks, as computed."""
        product = np.ones(())
        for a, b in zip(self.factors, other.factors, strict=True):
            product = product * (a @ b.T)
        return float(product.sum(0).sum())

    def size(self) -> float:
        """sum_i of the product of the rows' norms: at least the norm of the block, and of that of absolute values."""
        product = np.ones(())
        for a in self.factors:
            product = product * (np.sqrt(np.sum(np.square(a), axis=1)) * PAD)
        return float(product.sum()) * PAD + SMALLEST

    @property
    def length(self) -> int:
        """The number of roundings in an inner product is at most this."""
        return 2 * len(self.factors[0]) + sum(a.shape[1] for a in self.factors) + 6


class Curvature:
    """M at one computed iterate: its terms; (6)."""

    def __init__(self, task: DeepTask, point: DeepPoint):
        self.task, self.point = task, point
        self.terms = _terms(task, point)
        self.squares = [term.inner(term) for term in self.terms]
        self.sizes = [term.size() for term in self.terms]

    def norm(self) -> float:
        """At least ||M||, of M from its computed factors."""
        return self.change(None, 0.0, [])

    def share(self, anchor: Curvature) -> tuple[float, list[float]]:
        """t >= 0 for which t M_anchor is nearest to this, and the inner products of the terms."""
        products = [a.inner(b) for a, b in zip(self.terms, anchor.terms, strict=True)]
        weights = [2.0 - (term.layer == term.other) for term in self.terms]
        total = sum(w * p for w, p in zip(weights, products, strict=True))
        return max(total / (sum(w * s for w, s in zip(weights, anchor.squares, strict=True)) + SMALLEST), 0.0), products

    def change(self, anchor: Curvature | None, share: float, products: list[float]) -> float:
        """At least ||M - share M_anchor||: Frobenius norms of blocks, and the norm of the matrix of these."""
        layers = len(self.task.scales)
        blocks = np.zeros((layers, layers))
        for number, term in enumerate(self.terms):
            form, size = self.squares[number], self.sizes[number]
            if anchor is not None:
                form += share * (share * anchor.squares[number] - 2 * products[number])
                size += share * anchor.sizes[number]
            # form is a sum of products of absolute value at most size^2 in all
            bound = np.sqrt(max(form, 0.0) + gamma(term.length) * size**2 * PAD) * PAD
            blocks[term.layer, term.other] += bound
            if term.layer != term.other:
                blocks[term.other, term.layer] += bound
        return _norm_of_nonnegative(blocks)

    def matrix(self) -> tuple[NDArray, float]:
        """M (p, p) of these factors, and a bound of its rounding."""
        shapes = [(w.shape[0], w.shape[1] + 1) for w in self.point.weights.matrices]
        starts = np.concatenate([[0], np.cumsum([m * k for m, k in shapes])])
        result = np.zeros((starts[-1], starts[-1]))
        parts = [slice(first, last) for first, last in itertools.pairwise(starts)]
        for row, column in itertools.combinations_with_replacement(range(len(shapes)), 2):
            block = np.zeros((*shapes[column], *shapes[row]))
            for term in self.terms:
                if (term.layer, term.other) == (column, row):
                    _fill(block, term)
            square = block.reshape(np.prod(shapes[column]), -1)
            if row == column:
                square = (square + square.T) / 2
            result[parts[column], parts[row]] = square
            result[parts[row], parts[column]] = square.T
        return result, gamma(len(self.point.residual) + 8) * 2 * sum(self.sizes) * PAD

    @staticmethod
    def spread(task: DeepTask, relative: float) -> float:
        """(4): products of this many factors and roundings err by at most this share of their norms' product."""
        count = 16 * len(task.scales) + 16
        if not count * relative < 0.1:
            raise ArithmeticError("rounding errors are too large to bound second derivatives")
        return 2 * count * relative * PAD

    @staticmethod
    def rounding(task: DeepTask, tables: Mapping[str, TaylorTable], point: DeepPoint) -> float:
        """(4): the error of M that comes from its factors' errors; by norms alone, M is at most `total`."""
        bounds = [tables[name].bound for name in task.activations]
        depth, sizes = len(task.scales), [norm(g) for g in point.inputs]
        through = [abs(c) * norm(w) for c, w in zip(task.scales, point.weights.matrices, strict=True)]
        bend, back, total = 0.0, norm(point.residual), 0.0
        for layer in range(depth - 1, -1, -1):
            if layer < depth - 1:
                pulled = through[layer + 1] * back
                back = bounds[layer][1] * pulled * PAD
                bend = (bounds[layer][2] * pulled + (through[layer + 1] * bounds[layer][1]) ** 2 * bend) * PAD
            total += bend * sizes[layer] ** 2
            below = 1.0  # dh_{layer-1} / dz_other
            for other in range(layer - 1, -1, -1):
                below *= bounds[other][1] * PAD
                bent = bend * through[layer] * sizes[layer]
                total += 2 * (bent + abs(task.scales[layer]) * back) * below * sizes[other]
                below *= through[other] * PAD
        return Curvature.spread(task, point.relative) * total * PAD**depth + SMALLEST


class DeepCurvature:
    """Bounds of lambda_max(-M) and ||M|| at the computed iterates, of M from its computed factors."""

    def __init__(self, task: DeepTask, most_weights: int = MOST_WEIGHTS):
        self.task, self.most_weights = task, most_weights
        self.anchor: Curvature | None = None
        self.top, self.anchors = 0.0, 0

    def bound(self, point: DeepPoint) -> tuple[float, float]:
        here = Curvature(self.task, point)
        size = here.norm()
        best, scaled = size, 0.0
        if self.anchor is not None:
            # M = t M_anchor + change with t >= 0, hence lambda_max(-M) <= t lambda_max(-M_anchor) + ||change||
            share, products = here.share(self.anchor)
            scaled = share * self.top
            best = min(size, (scaled + here.change(self.anchor, share, products)) * PAD)
        fits = point.weights.count <= self.most_weights
        allowed = self.anchors < FREE_ANCHORS + point.step // STEPS_FOR_ONE
        if fits and allowed and best > (1 + ANCHOR_SLACK) * scaled:
            self.anchor, self.anchors = here, self.anchors + 1
            self.top = best = _most_negative(*here.matrix(), size)
        return best, size


def _terms(task: DeepTask, point: DeepPoint) -> list[Term]:
    """(6): all blocks on and below the diagonal."""
    n, terms = len(point.residual), []
    steps = _layer_jacobians(task, point)
    bends = _bends(point, steps)
    for layer, (back, inputs) in enumerate(zip(point.backs, point.inputs, strict=True)):
        bent = layer < len(bends)
        if bent:
            terms.append(Term(layer, layer, "bend", (bends[layer].reshape(n, -1), inputs, inputs)))
        between: NDArray | None = None  # dz_{layer-1} / dz_other
        for other in range(layer - 1, -1, -1):
            if other == layer - 1:
                reach, turn = steps[other], task.scales[layer] * point.slopes[other]
            else:
                between = _product(between, steps[other])
                reach = steps[layer - 1] @ between
                turn = (task.scales[layer] * point.slopes[layer - 1])[:, :, None] * between
            terms.append(Term(layer, other, "turn", (back, turn.reshape(n, -1), point.inputs[other])))
            if bent:
                through = (bends[layer] @ reach).reshape(n, -1)
                terms.append(Term(layer, other, "bend", (through, inputs, point.inputs[other])))
    return terms


def _product(left: NDArray | None, right: NDArray) -> NDArray:
    if left is None:
        return right
    return left @ right


def _layer_jacobians(task: DeepTask, point: DeepPoint) -> list[NDArray]:
    """dz_{l+1} / dz_l of each sample, (n, m_{l+1}, m_l)."""
    weights = point.weights.matrices
    return [
        (task.scales[layer + 1] * weights[layer + 1])[None] * slope[:, None, :]
        for layer, slope in enumerate(point.slopes)
    ]


def _bends(point: DeepPoint, steps: list[NDArray]) -> list[NDArray]:
    """Q_l of the hidden layers: second derivatives of <r, f> with respect to z_l of each sample, (n, m_l, m_l)."""
    bends: list[NDArray] = []
    for pulled, bend, step in zip(point.pulled[::-1], point.bends[::-1], steps[::-1], strict=True):
        own = np.zeros((*pulled.shape, pulled.shape[1]))
        np.einsum("ijj->ij", own)[:] = pulled * bend
        if bends:
            own += np.swapaxes(step, 1, 2) @ bends[0] @ step
        bends.insert(0, own)
    return bends


def _fill(block: NDArray, term: Term) -> None:
    """Add a term to its block (m_l, m_{l-1} + 1, m_o, m_{o-1} + 1)."""
    outer, inner, g = term.factors
    m, k, other, _ = block.shape
    n = len(g)
    for row in range(m):
        if term.kind == "bend":
            left = outer.reshape(n, m, other)[:, row, None, :] * inner[:, :, None]
            block[row] += (left.reshape(n, -1).T @ g).reshape(k, other, -1)
        elif term.other == term.layer - 1:
            units = np.arange(k - 1)
            block[row, units, units] += (outer[:, row, None] * inner).T @ g
        else:
            block[row, : k - 1] += ((outer[:, row, None] * inner).T @ g).reshape(k - 1, other, -1)


def _most_negative(matrix: NDArray, rounding: float, size: float) -> float:
    """At least lambda_max(-M), M known up to `rounding`: Cholesky's factorization of M + tI runs to its end."""
    count, trace = len(matrix), float(np.abs(np.diagonal(matrix)).sum())
    if not np.isfinite(size):
        raise ArithmeticError("second derivatives overflow")
    if count <= FEW_WEIGHTS:
        value = np.linalg.eigvalsh(matrix)[0]
    else:
        begin = np.random.default_rng(0).standard_normal(count)
        try:
            value = linalg.eigsh(matrix, 1, which="SA", tol=1e-4, v0=begin, return_eigenvectors=False)[0]
        except linalg.ArpackNoConvergence:
            value = -size
    guess = max(-float(value), 1e-6 * size) + SMALLEST
    for factor in (1.001, 1.01, 1.1, 1.5, 3.0):
        shift = factor * guess
        if factorizes(matrix, -shift):
            # of A = M + tI: lambda_min(A) >= -gamma tr A
            return (shift + 2 * gamma(count + 1) * (trace + count * shift) + rounding) * PAD
    return size


def _norm_of_nonnegative(blocks: NDArray) -> float:
    """At least the norm of a symmetric matrix of non-negative entries: max (B v)_i / v_i for any positive v."""
    vector = np.ones(len(blocks))
    for _ in range(30):
        vector = blocks @ vector + 1e-3 * vector * np.trace(blocks)
        if not (np.isfinite(vector).all() and vector.max() > 0):
            return float("inf") if not np.isfinite(blocks).all() else norm(blocks)
        vector = np.maximum(vector / vector.max(), 1e-12)
    return min(float(np.max(blocks @ vector / vector)) * PAD, norm(blocks)) + SMALLEST
