"""How the inputs lie: norms, the two closest rows, equal rows, equal rows with different labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from .check import check
from .normalize import row_norms
from .wording import row_number


@dataclass(frozen=True)
class Geometry:
    r"""What the theorems ask of the inputs.

    Args:
        n: rows.
        d: numbers in a row, flattened.
        norm_min: smallest Euclidean norm of a row, as given.
        norm_max: largest.
        separation: $\delta = \min_{i \ne j} \lVert x_i / \lVert x_i \rVert - x_j / \lVert x_j \rVert \rVert$; infinite
            for one row. Zero rows stay zero.
        closest: the rows that are this close, smaller number first; None for one row.
        duplicates: groups of rows that are equal as given, to the last bit.
        conflicts: pairs of equal rows with different labels; no function gives both.
    """

    n: int
    d: int
    norm_min: float
    norm_max: float
    separation: float
    closest: tuple[int, int] | None
    duplicates: tuple[tuple[int, ...], ...]
    conflicts: tuple[tuple[int, int], ...]


def geometry(x: Tensor, y: Tensor | None = None, *, rows: Tensor | None = None, block: int = 1024) -> Geometry:
    r"""Norms, separation, duplicates and conflicts of the rows of `x`.

    All pairs are compared in blocks in float64, $\lVert u - v \rVert^2 = \lVert u \rVert^2 + \lVert v \rVert^2
    - 2 \langle u, v \rangle$, which rounding puts off by about $d\,\epsilon$; every pair that could be the closest
    within that is then measured from its difference, so that the separation of near duplicates has all its digits.
    Cost: $O(n^2 d)$ time, memory of two float64 copies of `x` and of `block` squared.

    Args:
        x: shape (n, *in_shape), floating point, finite.
        y: labels; int64 (n,) or float (n, C). Without them there are no conflicts.
        rows: numbers by which rows are named in the result, e.g. `Dataset.rows`; shape (n,), default 0 .. n - 1.
        block: rows compared at once.

    Raises:
        BadData: `x` is not finite, empty, or of the wrong shape.

    References:
        Allen-Zhu, Li, Song 2019, arXiv:1811.03962, for the separation.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
        >>> found = geometry(x, torch.tensor([0, 1, 1]))
        >>> found.separation, found.duplicates, found.conflicts
        (0.0, ((0, 2),), ((0, 2),))
    """
    check(x)
    flat = x.detach().flatten(1)
    norms = row_norms(flat)
    if y is not None and len(y) != len(x):
        check(x, y)  # says so
    same = equal_rows(flat)
    if len(x) == 1:
        separation, closest = float("inf"), None
    elif same:
        separation, closest = 0.0, (same[0][0], same[0][1])
    else:
        separation, closest = _separation(_unit(flat, norms), block)

    def named(*group: int) -> tuple[int, ...]:
        return tuple(row_number(i, rows) for i in group)

    return Geometry(
        n=len(x),
        d=flat.shape[1],
        norm_min=float(norms.min()),
        norm_max=float(norms.max()),
        separation=separation,
        closest=None if closest is None else (named(closest[0])[0], named(closest[1])[0]),
        duplicates=tuple(named(*group) for group in same),
        conflicts=tuple((named(i)[0], named(j)[0]) for i, j in _conflicts(same, y)),
    )


def equal_rows(x: Tensor) -> list[tuple[int, ...]]:
    """Groups of two and more equal rows, by hash; 0.0 and -0.0 are equal."""
    flat = x.detach().flatten(1).cpu()
    groups: dict[bytes, list[int]] = {}
    for start in range(0, len(flat), 1024):
        part = (flat[start : start + 1024] + 0.0).contiguous()  # -0.0 + 0.0 is 0.0
        for i, row in enumerate(part.view(torch.uint8).numpy(), start):
            groups.setdefault(hashlib.blake2b(row.data, digest_size=16).digest(), []).append(i)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _conflicts(same: list[tuple[int, ...]], y: Tensor | None) -> list[tuple[int, int]]:
    """In each group, its first row against the first of every other label; so k labels give k - 1 pairs."""
    pairs = []
    if y is None:
        return []
    for group in same:
        seen: dict[tuple[float, ...], int] = {}
        for i in group:
            seen.setdefault(tuple(y[i].flatten().tolist()), i)
        first, *others = seen.values()
        pairs += [(first, j) for j in others]
    return pairs


def _unit(flat: Tensor, norms: Tensor) -> Tensor:
    return flat.double() / torch.where(norms > 0, norms, 1.0)[:, None]


def _separation(u: Tensor, block: int) -> tuple[float, tuple[int, int]]:
    """Smallest distance between rows of norm 1 (or 0), and the first pair that has it."""
    same = equal_rows(u)
    if same:
        return 0.0, (same[0][0], same[0][1])
    squares = (u * u).sum(1)
    # twice the rounding of |u|^2 + |v|^2 - 2 <u, v>
    slack = 4 * (u.shape[1] + 4) * torch.finfo(u.dtype).eps
    best, pair = float("inf"), (0, 1)
    for i in range(0, len(u), block):
        for j in range(i, len(u), block):
            near = torch.addmm(squares[None, j : j + block], u[i : i + block], u[j : j + block].T, alpha=-2)
            near += squares[i : i + block, None]
            if i == j:
                if len(near) == 1:
                    continue
                near.masked_fill_(torch.ones_like(near, dtype=torch.bool).tril(), torch.inf)  # each pair once
            # |u|^2 + |v|^2 - 2 <u, v> is off by up to `slack` where u is near v: every pair that could be the closest
            # is measured again from u - v
            bound = min(best * best, float(near.min())) + slack
            left, right = (near <= bound).nonzero(as_tuple=True)
            step = max(1, 2**22 // u.shape[1])
            for k in range(0, len(left), step):
                a, b = left[k : k + step] + i, right[k : k + step] + j
                distance = torch.linalg.vector_norm(u[a] - u[b], dim=1)
                at = int(distance.argmin())
                if float(distance[at]) < best:
                    best, pair = float(distance[at]), (int(a[at]), int(b[at]))
    return best, pair
