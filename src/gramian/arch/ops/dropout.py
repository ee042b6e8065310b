"""Dropout, in training mode by the second moments of its masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Read, reads, value
from gramian.errors import NoLimit

SELU_LOW = 1.7580993408473766  # minus the limit of SELU at -infinity, as torch has it
# what draws the masks in torch, by (alpha, whole channels)
DRAWN_BY: dict[tuple[bool, bool], Callable[[Tensor, float, bool], Tensor]] = {
    (False, False): torch.dropout,
    (False, True): torch.feature_dropout,
    (True, False): torch.alpha_dropout,
    (True, True): torch.feature_alpha_dropout,
}


@reads(
    "aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default", "aten.feature_dropout_.default",
    "aten.alpha_dropout.default", "aten.alpha_dropout_.default", "aten.feature_alpha_dropout.default",
    "aten.feature_alpha_dropout_.default",
)  # fmt: skip
@dataclass(frozen=True)
class Dropout(Op):
    r"""Dropout in training mode: $K \mapsto K / (1 - p)$ where both entries have one mask; nothing in eval mode.

    Every call, sample, channel and position has a mask of its own, drawn anew for each use of a sample; of
    `nn.Dropout2d` and its like all positions share one. The value becomes $a d h + \beta (d - 1 + p)$ with d = 1 at
    probability 1 - p, else 0; $a = 1 / (1 - p)$ and $\beta = 0$ but for alpha dropout. Masks average out over the
    channels, so that with $s = a (1 - p)$

    - under one mask $K_{ij} \mapsto (1 - p) (a^2 K_{ij} + a \beta p (m_i + m_j) + \beta^2 p)$,
      $\Theta_{ij} \mapsto (1 - p)\, a^2\, \Theta_{ij}$ with the means m;
    - under two masks $K \mapsto s^2 K$ and $\Theta \mapsto s^2 \Theta$.

    `arch.ntk(x, x2)` takes x and x2 for different draws, even where rows are equal; `arch.ntk(x)` has each sample's own
    mask on its diagonal.

    References:
        Srivastava et al. 2014, 'Dropout'; alpha dropout: Klambauer et al. 2017, arXiv:1706.02515.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    p: float
    whole: bool = False  # whether a mask covers all positions of a channel
    alpha: bool = False

    @classmethod
    def read(cls, call: Call) -> Read:
        x, p = value(call.args[0], "the input of this call"), float(call.args[1])
        if not p or not call.args[2]:
            return x
        if p == 1:
            raise NoLimit("Dropout with p = 1 leaves nothing.", fix="p below 1")
        if x.data:
            raise NoLimit(
                f"Dropout of the input itself in training mode, p = {p:g}.",
                why="the input has a fixed number of channels, over which its mask does not average out",
                fix="call .eval() on the module first, or drop a layer's values, after an nn.Linear or nn.Conv2d",
            )
        whole = "feature" in call.target and len(x.shape) > 1
        if whole and x.order[0] != 0:
            raise NoLimit(
                f"A mask for each position, shared by all channels, which are on axis {x.order.index(0) + 1} here.",
                why="one number that all channels share stays random, however wide the network is",
                fix="transpose to (n, channels, *positions) before, or nn.Dropout, which masks every value by itself",
            )
        return cls(p, whole, "alpha" in call.target), (x,)

    def layer(self) -> _DropoutNd:
        """The same as a module, which does nothing in eval mode."""
        return Masking(self)

    def drawn(self, x: Tensor, training: bool) -> Tensor:
        """With fresh masks from torch's global generator, in training."""
        return DRAWN_BY[self.alpha, self.whole](x, self.p, training)

    @property
    def constants(self) -> tuple[float, float]:
        r"""$a$ and $\beta$."""
        if not self.alpha:
            return 1 / (1 - self.p), 0.0
        a = 1 / math.sqrt((SELU_LOW**2 * self.p + 1) * (1 - self.p))
        return a, SELU_LOW * a

    def limit(self, *m: Moments) -> Moments:
        if not isinstance(m[0], Moments):  # covariances with another value, which has another mask
            # the masks are independent of each other, so each value is multiplied by its mean
            if not self.alpha:
                return m[0]
            return m[0].scaled(self._factor)
        below = m[0].averaged()
        q_x, q_y = below.variances()
        mean_x = torch.zeros_like(q_x) if below.mean_x is None else below.mean_x
        mean_y = torch.zeros_like(q_y) if below.mean_y is None else below.mean_y
        mask = self._shared(below, q_x)  # 1 where two entries of one sample share a mask, else 0
        xx = self._covariance(below.xx, below.spread_self(mean_x), mask)
        same = below.yy is below.xx
        if same:
            yy = xx
        else:
            yy = self._covariance(below.yy, below.spread_self(mean_y), mask)
        if below.one_sample:
            samples = torch.eye(len(q_x)).to(q_x)
        else:
            samples = q_x.new_zeros(len(q_x), len(q_y))
        masks = samples.reshape(*samples.shape, *(1,) * mask.ndim) * mask
        theta = below.theta
        if theta is not None:
            # a^2 (1 - p) under one mask, s^2 under two: a^2 E d^2 with d^2 = d, against a^2 (E d)^2
            theta = theta * (self._factor**2 + (self._own_factor - self._factor**2) * masks)
        return replace(
            below,
            xx=xx,
            yy=yy,
            xy=self._covariance(below.xy, below.spread(mean_x, mean_y), masks),
            theta=theta,
            mean_x=None if below.mean_x is None else below.mean_x * self._factor,
            mean_y=None if below.mean_y is None else below.mean_y * self._factor,
            gaussian=False,
        )

    @property
    def _factor(self) -> float:
        if self.alpha:
            return self.constants[0] * (1 - self.p)
        return 1.0

    @property
    def _own_factor(self) -> float:
        return self.constants[0] ** 2 * (1 - self.p)

    def _shared(self, m: Moments, q: Tensor) -> Tensor:
        positions = q.shape[1:]
        if not m.all_pairs:
            return q.new_ones(positions)
        size = positions.numel()
        # one mask for all positions of a channel, or one for each
        if self.whole:
            block = q.new_ones(size, size)
        else:
            block = torch.eye(size).to(q)
        return block.reshape((*positions, *positions))

    def _covariance(self, k: Tensor, means: tuple[Tensor, Tensor], one: Tensor) -> Tensor:
        (a, beta), p = self.constants, self.p
        apart = k * self._factor**2
        shared = k * self._own_factor
        if beta:
            # With E d = 1 - p: E (d - 1 + p)^2 = p (1 - p) and E d (d - 1 + p) = p (1 - p).
            shared = shared + (1 - p) * p * beta * (a * (means[0] + means[1]) + beta)
        return torch.where(one > 0, shared, apart)

    def describe(self) -> str:
        text = f"p {self.p:g}, in training"
        if self.whole:
            text += ", whole channels"
        if self.alpha:
            text += ", alpha"
        return text


class Masking(_DropoutNd):
    """A finite network's dropout: of torch's class, so that whatever looks for dropout finds it."""

    def __init__(self, op: Dropout) -> None:
        super().__init__(op.p)
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op.drawn(x, self.training)
