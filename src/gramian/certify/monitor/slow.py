"""Which samples a network is slowest to learn: what is left of the residual in directions that have hardly moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.train.run import Run

PULLED = 1e-6  # of the squared residual: a direction with less is not asked to be learned


@dataclass(frozen=True)
class Slow:
    """Directions of the watched rows that the loss still pulls at as it did.

    Attributes:
        directions: how many eigenvectors of the Gram matrix have lost less than a factor e of their residual.
        of: how many had any at the start.
        rows: training rows with the most residual in these directions, most first.
        share: how much of the squared residual that is left lies in these directions.
    """

    directions: int
    of: int
    rows: tuple[int, ...]
    share: float


def slope(run: Run) -> Tensor:
    """Gradient of the summed loss in the outputs of the watched rows: the residual, for any loss; shape (r, C)."""
    rows = run.rows
    with torch.enable_grad():
        f = run.train_outputs()[rows].detach().requires_grad_()
        (found,) = torch.autograd.grad(run.objective(f, run.train.targets[rows]), f)
    return found.detach().double()


def slow_rows(run: Run, first: Tensor, most: int = 5) -> Slow:
    """Compares the residual now with the `first` one, along the eigenvectors of the Gram matrix as it is now."""
    now = slope(run)
    vectors = torch.linalg.eigh(run.gram()).eigenvectors.to(now)
    before, after = ((vectors.mT @ g).square().sum(1) for g in (first, now))
    pulled = before > PULLED * before.sum()
    stuck = pulled & (after > before / math.e**2)
    held = vectors[:, stuck] @ (vectors[:, stuck].mT @ now)
    weight = held.square().sum(1)
    order = weight.argsort(descending=True)[: min(most, int((weight > 0).sum()))]
    total = float(now.square().sum())
    return Slow(
        directions=int(stuck.sum()),
        of=int(pulled.sum()),
        rows=tuple(run.rows[order.to(run.rows.device)].tolist()),
        share=float(weight.sum()) / total if total else 0.0,
    )
