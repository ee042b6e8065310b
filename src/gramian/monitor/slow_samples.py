"""Which samples a network is slowest to learn: what is left of the residual, along the directions of the kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.monitor.watched_run import WatchedRun

PULLED = 1e-6  # of the squared residual: a direction with less is not asked to be learned
STRONG, WEAK = 0.1, 0.5  # parts of the kernel's directions, by eigenvalue, that are compared


@dataclass(frozen=True)
class Slow:
    """What is left to learn on the watched rows.

    Attributes:
        directions: how many eigenvectors of the Gram matrix have lost less than a factor e of their residual.
        of: how many had any at the start.
        rows: training rows with the most residual in these directions, most first.
        share: how much of the squared residual that is left lies in these directions.
        left: norm of the residual over what it was at the start.
        strong, weak: the same along the tenth of the directions with the largest eigenvalues, and along the half with
            the smallest ones.
        weights: residual of each of `rows` in these directions.
    """

    directions: int
    of: int
    rows: tuple[int, ...]
    share: float
    left: float = math.nan
    strong: float = math.nan
    weak: float = math.nan
    weights: tuple[float, ...] = ()


def slow_rows(run: WatchedRun, rows: Tensor, first: Tensor, most: int = 12) -> Slow:
    """Compares the residual now with the `first` one, along the eigenvectors of the rows' Gram matrix as it is now."""
    now = run.slope()[rows].double()
    gram = run.kernel(rows)
    vectors = torch.linalg.eigh(gram).eigenvectors.to(now)  # ascending
    before, after = ((vectors.mT @ g).square().sum(1) for g in (first, now))
    pulled = before > PULLED * before.sum()
    # squares: a residual that is more than 1/e of its start is more than 1/e^2 in its square
    stuck = pulled & (after > before / math.e**2)
    # the residual projected on the directions that are not learned
    held = vectors[:, stuck] @ (vectors[:, stuck].mT @ now)
    weight = held.square().sum(1)
    order = weight.argsort(descending=True)[: min(most, int((weight > 0).sum()))]
    total = float(now.square().sum())
    n = len(before)
    # eigenvectors come by ascending eigenvalue: the largest ones are last
    strong, weak = slice(n - max(1, round(STRONG * n)), n), slice(0, max(1, round(WEAK * n)))
    return Slow(
        directions=int(stuck.sum()),
        of=int(pulled.sum()),
        rows=tuple(rows[order.to(rows.device)].tolist()),
        share=float(weight.sum()) / total if total else 0.0,
        left=_ratio(after, before),
        strong=_ratio(after[strong], before[strong]),
        weak=_ratio(after[weak], before[weak]),
        weights=tuple(weight[order].sqrt().tolist()),
    )


def _ratio(after: Tensor, before: Tensor) -> float:
    if float(before.sum()) > 0:
        return math.sqrt(float(after.sum()) / float(before.sum()))
    return 0.0
