"""Gram matrices of two blocks' factors: the only place where n x m numbers are made."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, einsum

from gramian.empirical.factors import Factor, Outer, part
from gramian.empirical.units import Unit

TILE = 512  # rows of a cache tile: sums over layers stay in the cache until the tile is done


def add_gram(
    out: Tensor, units: Sequence[Unit], f: Sequence[Factor], g: Sequence[Factor], scratch: int, mirror: Tensor | None
) -> None:
    """Adds sum_units <f_i, g_j> to `out`, shape (n, k, m, l), in cache tiles.

    `mirror`: where the transpose goes as well; `out` itself for a diagonal block, whose upper tiles alone are computed
    so that the result is symmetric to the last bit. `scratch`: numbers that may be held meanwhile.
    """
    n, k, m, l = out.shape
    step = max(1, min(TILE, int((scratch / 4) ** 0.5)) // max(k, l))
    same = mirror is out
    for i in range(0, n, step):
        for j in range(i if same else 0, m, step):
            rows, columns = slice(i, min(i + step, n)), slice(j, min(j + step, m))
            acc = out.new_zeros((rows.stop - i) * k, (columns.stop - j) * l)
            for unit, left, right in zip(units, f, g, strict=True):
                _add(acc, unit, part(left, rows), part(right, columns), scratch)
            if same and i == j:
                acc = acc.triu() + acc.triu(1).mT
            acc4 = acc.view(rows.stop - i, k, columns.stop - j, l)
            out[rows, :, columns] += acc4
            if mirror is not None and not (same and i == j):
                mirror[columns, :, rows] += acc4.permute(2, 3, 0, 1)


def _add(acc: Tensor, unit: Unit, f: Factor, g: Factor, scratch: int) -> None:
    """Adds one unit's part to a cache tile, shape (n k, m l)."""
    if not isinstance(f, Outer) or not isinstance(g, Outer):
        assert isinstance(f, Tensor)
        assert isinstance(g, Tensor)
        acc.addmm_(f.flatten(0, 1), g.flatten(0, 1).mT)
    elif unit.sizes[:2] == (1, 1):  # (A A^T) o (B B^T)
        (n, k), (m, l) = f.b.shape[:2], g.b.shape[:2]
        aa = f.a.view(n, -1) @ g.a.view(m, -1).mT
        if unit.kind == "weight and bias":
            aa += 1
        bb = f.b.reshape(n * k, -1) @ g.b.reshape(m * l, -1).mT
        acc.view(n, k, m, l).addcmul_(bb.view(n, k, m, l), aa[:, None, :, None])
    else:
        _add_positions(acc, f, g, scratch)


def _add_positions(acc: Tensor, f: Outer, g: Outer, scratch: int) -> None:
    """sum over groups and positions p, q of (a_p . a_q) (b_p . b_q), as many samples and outputs at once as fit."""
    (n, k, groups, p, _), (m, l, _, q, _) = f.b.shape, g.b.shape
    out = acc.view(n, k, m, l)
    pair = groups * p * q  # numbers for one pair of samples and one pair of outputs
    c = max(k, l) if 2 * k * l * pair <= scratch else 1
    step = max(1, int((scratch / ((c * c + 1) * pair)) ** 0.5))
    for i in range(0, n, step):
        for j in range(0, m, step):
            rows, columns = slice(i, i + step), slice(j, j + step)
            aa = einsum("igpa,jgqa->gipjq", f.a[rows], g.a[columns])[:, :, None, :, :, None]
            for s in range(0, k, c):
                for t in range(0, l, c):
                    bb = einsum("icgpb,jdgqb->gicpjdq", f.b[rows, s : s + c], g.b[columns, t : t + c])
                    out[rows, s : s + c, columns, t : t + c] += bb.mul_(aa).sum((0, 3, 6))
