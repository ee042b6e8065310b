"""LayerNorm, RMSNorm and GroupNorm: at infinite width, division by a number that is no longer random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Parameter, Read, reads, value
from gramian.arch.ops.norm import Normalization, scale_and_shift
from gramian.errors import NoLimit


@reads("aten.layer_norm.default", "aten.rms_norm.default")
@dataclass(frozen=True)
class LayerNorm(Normalization):
    r"""$\gamma\, (h - \mu) / \sqrt{s + \epsilon} + \beta$ at $\gamma = 1$, $\beta = 0$.

    Over infinitely many channels the mean $\mu = E\,h$ and the variance $s = E\,h^2 - \mu^2$ are numbers, and so
    $K \mapsto (K - \mu \mu') / \sqrt{(s + \epsilon)(s' + \epsilon)}$, and $\Theta$ is divided by the same root: what
    flows back through $\mu$ and $s$ is spread over all channels and vanishes with the width. Trained, $\gamma$ adds the
    new $K$ and $\beta$ adds 1 to $\Theta$. Statistics are over the channels at each position; `whole` takes them over
    channels and positions.
    """

    any_layout: ClassVar[bool] = True
    channels_last: ClassVar[bool] = True

    epsilon: float
    centred: bool  # whether the mean is subtracted; RMSNorm does not
    whole: bool
    groups: int = 1  # of a finite network's channels

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "the input of this normalization")
        shape, weight = call.args[1:3]
        rms = "rms_norm" in call.target
        if rms:
            bias, epsilon = (None, call.args[3])
        else:
            bias, epsilon = call.args[3:5]
        if epsilon is None:
            epsilon = torch.finfo(torch.get_default_dtype()).eps
        axes = x.order[-len(shape) :]
        if 0 not in axes or (len(axes) > 1 and len(axes) < len(x.shape)):
            raise NoLimit(
                f"A normalization over the last {len(shape)} axes of values of shape (n, "
                f"{', '.join(map(str, x.user_shape))}), whose channels are on axis {x.order.index(0) + 1}.",
                why="there is a rule for statistics over the channels, at each position or over all of them",
                fix="transpose so that the channels come last, or normalize over all axes",
            )
        whole = len(axes) > 1
        if whole and any(isinstance(p, Parameter) and p.trains for p in (weight, bias)):
            raise NoLimit(
                "A normalization over positions that trains a scale for each position.",
                why="these have no width, and there is no rule for them here",
                fix="elementwise_affine=False, or nn.GroupNorm(1, channels)",
            )
        return cls(*scale_and_shift(weight, bias), float(epsilon), not rms, whole), (x,), x.layout

    def apply(self, *x: Tensor) -> Tensor:
        h = x[0]
        flat = h.reshape(len(h), self.groups, h.shape[1] // self.groups, *h.shape[2:])
        if self.whole:
            axes = tuple(range(2, flat.ndim))
        else:
            axes = (2,)
        if self.centred:
            flat = flat - flat.mean(axes, keepdim=True)
        return (flat * (flat.square().mean(axes, keepdim=True) + self.epsilon).rsqrt()).reshape(h.shape)

    def normalized(self, m: Moments) -> Moments:
        if self.groups > 1 and not m.exchangeable_channels:
            raise NoLimit(
                f"GroupNorm with {self.groups} groups of channels that have different laws.",
                why="positions were flattened into channels, or channels concatenated, and each group sees others",
                fix="normalize before, or with one group",
            )
        q_x, q_y = m.variances()
        centre_x, centre_y = self._centre(m.mean_x), self._centre(m.mean_y)
        scale_x, scale_y = self._scale(q_x, centre_x), self._scale(q_y, centre_y)
        if centre_x is not None and centre_y is not None:
            m = m.plus(-centre_x, -centre_y)
        # K - mu mu' first, then each entry divided by the roots of both its ends
        return m.times(scale_x, scale_y)

    def _centre(self, mean: Tensor | None) -> Tensor | None:
        """The mean that is subtracted at each position, (n, *S); None without one."""
        if mean is None or not self.centred:
            return None
        if self.whole:
            return mean.flatten(1).mean(1).reshape(-1, *(1,) * (mean.ndim - 1)).expand_as(mean)
        return mean

    def _scale(self, q: Tensor, centre: Tensor | None) -> Tensor:
        """1 / sqrt(s + eps) at each position; (n, *S)."""
        if self.whole:
            q = q.flatten(1).mean(1).reshape(-1, *(1,) * (q.ndim - 1)).expand_as(q)
        # E h^2 - mu^2
        if centre is None:
            s = q
        else:
            s = q - centre.square()
        return (s.clamp_min(0) + self.epsilon).rsqrt()

    def describe(self) -> str:
        if self.whole:
            return "over channels and positions"
        return "over channels"


@reads("aten.group_norm.default")
@dataclass(frozen=True)
class GroupNorm(LayerNorm):
    """GroupNorm: each group has infinitely many channels, so the statistics of all groups are the same."""

    any_layout: ClassVar[bool] = False
    channels_last: ClassVar[bool] = False

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "the input of GroupNorm")
        groups, weight, bias, epsilon = call.args[1:5]
        if groups == x.shape[0] and not x.data:
            raise NoLimit(
                f"GroupNorm with a group for each of {groups} channels: the statistics of one channel stay random.",
                why="nothing averages out when the width grows",
                fix="fewer groups, each of which grows with the width",
            )
        return cls(*scale_and_shift(weight, bias), float(epsilon), True, True, groups), (x,)

    def describe(self) -> str:
        return f"{self.groups} groups"
