"""How good outputs are, in the words and units of the user: accuracy of classes, RMSE and R^2 of real targets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

IMBALANCED = 1.5  # times the share that classes of equal size would have: from there on accuracy alone misleads


def scores(outputs: Tensor, y: Tensor, scale: tuple[Tensor, Tensor] | None = None) -> dict[str, Any] | None:
    r"""Scores of outputs on some rows; None where there are no rows or the outputs are not finite.

    Classes: accuracy, and balanced accuracy, the mean over the classes present of the share of their rows that are
    right. Real targets: root mean squared error of each output in the target's own unit, and
    $R^2 = 1 - \sum (f - y)^2 / \sum (y - \bar y)^2$ over all outputs with the mean of these rows, None where all
    targets are equal.

    Args:
        outputs: shape (n, C).
        y: class numbers, int64 (n,), or real targets (n, C) in their own unit.
        scale: mean and deviation that were taken from the targets before training, each of shape (C,).

    Example:
        >>> y = torch.tensor([[1.0], [3.0]])
        >>> scores(torch.tensor([[2.0], [2.0]]), y)
        {'rmse': [1.0], 'r2': 0.0}
    """
    if not len(outputs) or not bool(outputs.isfinite().all()):
        return None
    if y.dtype == torch.int64:
        right = (outputs.argmax(1) == y).double()
        by_class = [float(right[y == c].mean()) for c in y.unique()]
        return {"accuracy": float(right.mean()), "balanced_accuracy": sum(by_class) / len(by_class)}
    if scale is not None:
        outputs = outputs * scale[1] + scale[0]
    off = (outputs - y).square()
    if not bool((y == y[0]).all()):
        spread = float((y - y.mean(0)).square().sum())
    else:
        spread = 0.0
    return {
        "rmse": [math.sqrt(float(v)) for v in off.mean(0)],
        "r2": 1 - float(off.sum()) / spread if spread > 0 else None,
    }


def base_rate(y: Tensor) -> float | None:
    """Share of the largest class, which a constant predictor gets right; None for real targets or no rows."""
    if y.dtype != torch.int64 or not len(y):
        return None
    return float(torch.bincount(y).max()) / len(y)


def imbalanced(y: Tensor) -> bool:
    """Whether the largest class has so many rows that accuracy alone misleads."""
    rate = base_rate(y)
    return rate is not None and rate >= IMBALANCED / len(y.unique())


def error_of(score: dict[str, Any] | None) -> float | None:
    """One number that falls as outputs get better: share of wrong rows, or RMSE over all outputs."""
    if score is None:
        return None
    if "accuracy" in score:
        return 1 - score["accuracy"]
    return math.sqrt(sum(v * v for v in score["rmse"]) / len(score["rmse"]))
