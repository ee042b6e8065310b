"""Tokens and pixels: of the many positions of a sample a few are looked at, by the log-odds of the right class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gramian.errors import BadData
from gramian.monitor.losses import IGNORED, UserLoss
from gramian.monitor.module_call import ModuleCall
from gramian.monitor.watched_outputs import Look


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions that are looked at; the cross-entropy of one is log(1 + exp(-m)) of its log-odds m, exactly.

    Attributes:
        at, right: positions and the right classes there; shape (n, positions).
        look: where the logits are.
        torch_layout: whether classes are on axis 1, as torch's cross-entropy has them for images; else last.
        numbers: logits of a sample.
    """

    at: Tensor
    right: Tensor
    look: Look
    torch_layout: bool
    numbers: int

    @property
    def n(self) -> int:
        """How many of a sample."""
        return self.at.shape[1]

    def log_odds(self, out: Any, at: Tensor, right: Tensor) -> Tensor:
        """z_y - log sum_{k != y} e^{z_k} at some samples' positions; shape (n, positions)."""
        logits = _by_position(next(iter(self.look.tensors(self.look.flat(out)).values())), self.torch_layout)
        z = logits.gather(1, at[:, :, None].expand(-1, -1, logits.shape[2]))
        mine = z.gather(2, right[:, :, None])
        # e^{-inf} = 0 takes the right class out of the sum
        return mine[:, :, 0] - z.scatter(2, right[:, :, None], -math.inf).logsumexp(2)

    @staticmethod
    def loss(odds: Tensor, _rows: Tensor) -> Tensor:
        """Sum over samples of the mean cross-entropy of their positions."""
        return F.softplus(-odds).mean(1).sum()


def positions_of(call: ModuleCall, user: UserLoss, tokens: int, *, most: int | None = None) -> Positions | None:
    """The positions of a batch of tokens or pixels with one class each; None if it is none.

    Raises:
        BadData: targets that are no classes of these logits.
    """
    y = call.targets.given
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dtype == torch.bool or len(call.look.paths) > 1:
        return None
    shape, at_last = call.look.shapes[0], False
    if len(shape) == 2 and y.ndim == 2 and y.shape[1] == shape[0]:  # logits (n, s, classes)
        at_last = True
    elif not (user.by_class and y.ndim > 1 and len(shape) == y.ndim and tuple(y.shape[1:]) == tuple(shape[1:])):
        return None
    if at_last:
        classes = shape[-1]
    else:
        classes = shape[0]
    if classes < 2:
        return None
    ignored = user.ignored if user.ignored is not None else IGNORED
    y = y.flatten(1).long()
    has = y != ignored
    low, high = int(y[has].min()), int(y[has].max())
    if low < 0 or high >= classes:
        raise BadData(
            f"Targets are {low} to {high}; the module has logits of {classes} {'tokens' if at_last else 'classes'}.",
            where="the targets of tokens or pixels",
            why="class numbers count the logits from 0",
            fix=f"class numbers from 0; {ignored} marks positions without a target",
        )
    # the largest of independent uniform numbers are a draw without repetition; -1 is below all of them
    chance = torch.rand(y.shape, generator=torch.Generator().manual_seed(0)).to(y.device).masked_fill(~has, -1.0)
    at = chance.topk(min(most or tokens, int(has.sum(1).min())), 1).indices.sort(1).values
    return Positions(at, y.gather(1, at), call.look, not at_last, call.look.columns)


def _by_position(logits: Tensor, torch_layout: bool) -> Tensor:
    """Logits (n, positions, classes)."""
    if torch_layout:
        return logits.flatten(2).transpose(1, 2)
    return logits
