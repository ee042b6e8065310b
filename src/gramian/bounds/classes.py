"""Outputs against labels: which samples are misclassified, and by which margin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gramian.errors import BadData


def labels_of(y: Any, samples: int, outputs: int) -> Tensor:
    """Class numbers (n,) for several outputs; signs -1 and 1 (n,) for one.

    Raises:
        BadData: other labels.
    """
    labels = torch.as_tensor(y).detach().cpu()
    if outputs > 1 and labels.ndim == 2 and labels.shape == (samples, outputs):
        labels = labels.argmax(1)  # the rows that `gramian.train` fits
    if labels.numel() != samples:
        raise _bad(f"y has shape {tuple(labels.shape)} for {samples} samples")
    labels = labels.reshape(samples)
    if outputs == 1:
        if not bool(((labels == 1) | (labels == -1)).all()):
            raise _bad("of a network with one output the labels are not all 1 and -1")
        return labels.double()
    numbers = labels.long()
    if not bool((numbers == labels).all()) or int(numbers.min()) < 0 or int(numbers.max()) >= outputs:
        raise _bad(f"the labels are not class numbers from 0 to {outputs - 1}")
    return numbers


def margins(output: Tensor, labels: Tensor) -> Tensor:
    r"""Margins (n,): $y f$ of one output, $f_y - \max_{c \ne y} f_c$ of several; at most 0 where misclassified.

    Example:
        >>> margins(torch.tensor([[2.0, 1.5], [0.0, 0.0]]), torch.tensor([0, 1]))
        tensor([0.5000, 0.0000])
    """
    output = output.reshape(len(labels), -1)
    if output.shape[1] == 1:
        return output[:, 0] * labels.to(output.dtype)
    rows = torch.arange(len(labels))
    others = output.clone()
    others[rows, labels] = -torch.inf
    return output[rows, labels] - others.max(1).values


def _bad(what: str) -> BadData:
    return BadData(
        f"{what[0].upper()}{what[1:]}.",
        where="y of gramian.bounds",
        why="the bound is one of the share of misclassified samples",
        fix="class numbers for several outputs; 1 and -1 for one",
    )
