"""The loss of the best constant predictor, the scale on which a training loss is called small."""

from __future__ import annotations

import torch
from torch import Tensor


def best_constant_loss(loss: str, targets: Tensor, labels: Tensor | None) -> float:
    """The least loss, summed over the rows, of a predictor that gives every row the same outputs.

    Args:
        loss: "squared", whose best constant is the mean of the targets, or "cross-entropy", where it is the classes'
            frequencies.
        targets: as the squared loss takes them; shape (n, C).
        labels: class numbers, int64 (n,); the cross-entropy needs them.

    Example:
        >>> best_constant_loss("squared", torch.tensor([[1.0], [3.0]]), None)
        1.0
    """
    if loss == "cross-entropy":
        assert labels is not None
        return summed_entropy(labels)
    return scatter(targets.double())


def scatter(targets: Tensor) -> float:
    """Half the summed squared distances of rows from their mean; 0 where all rows are equal, whatever rounding says."""
    if bool((targets == targets[0]).all()):
        return 0.0
    return float((targets - targets.mean(0)).square().sum() / 2)


def summed_entropy(labels: Tensor) -> float:
    """Number of rows times the entropy of the classes' shares: the cross-entropy when each class gets its share."""
    counts = torch.unique(labels, return_counts=True)[1].double()
    return float(-torch.xlogy(counts, counts / len(labels)).sum())
