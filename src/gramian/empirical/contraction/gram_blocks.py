"""Gram matrices of two blocks' factors: the only place where n x m numbers are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, einsum

from gramian.empirical.contraction.contracted_parameters import Unit
from gramian.empirical.contraction.layer_factors import Factor, Piece, part
from gramian.empirical.modules.structured_calls import Sizes
from gramian.empirical.workarounds.gemm import gemm

# rows of a cache tile, least and most: sums over layers stay in the cache until the tile is done
TILE_ROWS = (128, 512)
TILES_A_SIDE = 8  # tiles a side; of a symmetric result a little more than half of them are made


def add_gram(
    out: Tensor, units: Sequence[Unit], f: Sequence[Factor], g: Sequence[Factor], scratch: int, mirror: Tensor | None
) -> None:
    """Adds sum_units <f_i, g_j> to `out`, shape (n, k, m, l), in cache tiles.

    `mirror`: where the transpose goes as well; `out` itself for a diagonal block, whose upper tiles alone are computed
    so that the result is symmetric to the last bit. `scratch`: numbers that may be held meanwhile.
    """
    n, k, m, l = out.shape
    rows = min(max(TILE_ROWS[0], -(-max(n * k, m * l) // TILES_A_SIDE)), TILE_ROWS[1], int((scratch / 4) ** 0.5))
    step = max(1, rows // max(k, l))
    same = mirror is out
    for i in range(0, n, step):
        start = 0
        if same:
            start = i
        for j in range(start, m, step):
            left, right = slice(i, min(i + step, n)), slice(j, min(j + step, m))
            acc = out.new_zeros((left.stop - i) * k, (right.stop - j) * l)
            for unit, a, b in zip(units, f, g, strict=True):
                _add(acc.view(left.stop - i, k, right.stop - j, l), unit, part(a, left), part(b, right), scratch)
            if same and i == j:
                acc = acc.triu() + acc.triu(1).mT
            acc4 = acc.view(left.stop - i, k, right.stop - j, l)
            out[left, :, right] += acc4
            if mirror is not None and not (same and i == j):
                mirror[right, :, left] += acc4.permute(2, 3, 0, 1)


def _add(out: Tensor, unit: Unit, f: Factor, g: Factor, scratch: int) -> None:
    """Adds one unit's part to a cache tile, shape (n, k, m, l)."""
    n, k, m, l = out.shape
    if isinstance(f, Tensor) or isinstance(g, Tensor):
        assert isinstance(f, Tensor)
        assert isinstance(g, Tensor)
        out += gemm(f.flatten(0, 1), g.flatten(0, 1)).view(n, k, m, l)
    elif unit.single:  # (A A^T) o (B B^T)
        (a, b), (c, d) = f[0], g[0]
        aa = gemm(a.view(n, -1), c.view(m, -1))
        if unit.kind == "weight and bias":
            # the bias's gradient is b itself: it adds B B^T, that is 1 to each entry of A A^T
            aa += 1
        bb = gemm(b.reshape(n * k, -1), d.reshape(m * l, -1))
        out.addcmul_(bb.view(n, k, m, l), aa[:, None, :, None])
    else:
        for left, of_left in zip(f, unit.sizes, strict=True):
            for right, of_right in zip(g, unit.sizes, strict=True):
                if of_left == of_right:
                    _add_positions(out, left, right, of_left.lookup, scratch)
                else:
                    _add_two_kinds(out, left, right, of_left, of_right, scratch)


def _add_positions(out: Tensor, f: Piece, g: Piece, lookup: bool, scratch: int) -> None:
    """sum over groups and positions p, q of (a_p . a_q) (b_p . b_q), as many samples and outputs at once as fit."""
    (n, k, groups, p, _), (m, l, _, q, _) = f.b.shape, g.b.shape
    summed = out.shape[1] < k  # pieces of several kinds keep their outputs apart
    pair = groups * p * q  # numbers for one pair of samples and one pair of outputs
    c = 1  # outputs at once
    if not summed and 2 * k * l * pair <= scratch:
        c = max(k, l)
    # of a pair of samples aa takes `pair` numbers, bb c^2 times as many
    step = max(1, int((scratch / ((c * c + 1) * pair)) ** 0.5))
    for i in range(0, n, step):
        for j in range(0, m, step):
            rows, columns = slice(i, i + step), slice(j, j + step)
            if lookup:
                aa = _equal(f.a[rows], g.a[columns], out.dtype)
            else:
                aa = _dots(f.a[rows], g.a[columns])
            aa = aa[:, :, None, :, :, None]
            for s, t in _output_pairs(k, l, c, summed):
                bb = einsum("icgpb,jdgqb->gicpjdq", f.b[rows, s : s + c], g.b[columns, t : t + c])
                bb = bb.mul_(aa).sum((0, 3, 6))
                if summed:
                    out[rows, :, columns] += bb
                else:
                    out[rows, s : s + c, columns, t : t + c] += bb


def _add_two_kinds(out: Tensor, f: Piece, g: Piece, of_f: Sizes, of_g: Sizes, scratch: int) -> None:
    """The same between pieces of two kinds: sum of (row_p . row_q) (column_p . column_q), one output at a time.

    The gradient of a piece is sum_p row_p column_p^T: rows are b and columns a, or with `flip` rows a and columns b.
    """
    (n, k, groups, p, _), (m, l, _, q, _) = f.b.shape, g.b.shape
    step = max(1, int((scratch / (3 * groups * p * q)) ** 0.5))
    summed = out.shape[1] < k
    for i in range(0, n, step):
        for j in range(0, m, step):
            rows, columns = slice(i, i + step), slice(j, j + step)
            a, c = f.a[rows], g.a[columns]
            for s, t in _output_pairs(k, l, 1, summed):
                r1, c1 = _rows_and_columns(a, f.b[rows, s], of_f.flip)
                r2, c2 = _rows_and_columns(c, g.b[columns, t], of_g.flip)
                products = _inner_products(r1, r2).mul_(_inner_products(c1, c2)).sum((0, 2, 4))
                if summed:
                    out[rows, 0, columns, 0] += products
                else:
                    out[rows, s, columns, t] += products


def _output_pairs(k: int, l: int, step: int, summed: bool) -> Iterator[tuple[int, int]]:
    """First outputs of blocks on both sides: each output with itself where they are summed, else all pairs."""
    for s in range(0, k, step):
        if summed:
            yield s, s
        else:
            yield from ((s, t) for t in range(0, l, step))


def _rows_and_columns(a: Tensor, b: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
    if flip:
        return a, b
    return b, a


def _inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of all positions, of which one side may be unit vectors, given by their place."""
    if a.is_floating_point() and b.is_floating_point():
        return _dots(a, b)
    if a.is_floating_point():
        return _picked(a, b)
    return _picked(b, a).permute(0, 3, 4, 1, 2)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """(i, G, p, d), (j, G, q, d) -> (G, i, p, j, q)."""
    return einsum("igpa,jgqa->gipjq", a, b)


def _equal(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where two positions hold the same row, else 0; rows below 0 hold none: (1, i, p, j, q)."""
    (i, _, p, _), (j, _, q, _) = a.shape, b.shape
    a, b = a.view(i, p, 1, 1), b.view(1, 1, j, q)
    return ((a == b) & (a >= 0)).to(dtype)[None]


def _picked(a: Tensor, place: Tensor) -> Tensor:
    """Numbers of the vectors a at the places, 0 for those below 0: (i, 1, p, d), (j, 1, q, 1) -> (1, i, p, j, q)."""
    (i, _, p, d), (j, _, q, _) = a.shape, place.shape
    flat = place.reshape(-1)
    numbers = a.reshape(i * p, d).index_select(1, flat.clamp(min=0)) * (flat >= 0)
    return numbers.view(1, i, p, j, q)
