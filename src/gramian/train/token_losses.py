"""Cross-entropies of tokens: of logits (n, s, vocabulary) and targets (n, s), -100 where there is none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.errors import BadData
from gramian.train.objective import Loss

IGNORED_TARGET = -100  # torch's mark of a position without a target


def mean_of_tokens(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy over all positions that have a target."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORED_TARGET)


def sum_of_tokens(logits: Tensor, y: Tensor) -> Tensor:
    """Summed cross-entropy over all positions that have a target."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORED_TARGET, reduction="sum")


def loss_of_tokens(loss: Loss) -> Loss:
    """torch's cross-entropy, which takes classes on axis 1, on logits that have them last."""
    if loss == "cross-entropy":
        return sum_of_tokens
    if isinstance(loss, nn.CrossEntropyLoss):
        given = loss
        return lambda logits, y: given(logits.flatten(0, 1), y.flatten())
    return loss


def are_tokens(logits: Any, y: Tensor) -> bool:
    """Whether these are logits of tokens, and targets the tokens' numbers."""
    whole = not y.is_floating_point() and y.dtype != torch.bool
    return isinstance(logits, Tensor) and whole and logits.ndim == 3 and y.ndim == 2 and logits.shape[1] == y.shape[1]


def check_tokens(y: Tensor, vocabulary: int) -> None:
    """Raises BadData for targets that are no tokens of the vocabulary, and for a sample without a target."""
    has = y != IGNORED_TARGET
    if not bool(has.any(1).all()):
        raise BadData(
            f"Sample {int((~has.any(1)).nonzero()[0])} has no target at any position.",
            where="the targets of tokens",
            fix="samples with one target or more; -100 marks positions without",
        )
    low, high = int(y[has].min()), int(y[has].max())
    if low < 0 or high >= vocabulary:
        raise BadData(
            f"Targets are {low} to {high}; the module has logits of {vocabulary} tokens.",
            where="the targets of tokens",
            fix="token numbers from 0; -100 marks positions without a target",
        )
