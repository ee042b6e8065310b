"""Attention without a softmax whose scores are divided by the root of the width of a head: many heads average it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Op
from gramian.errors import BadArgument, NoLimit


@dataclass(frozen=True)
class LinearAttention(Op):
    r"""`scale * q @ k.mT @ v` for each head, of independent queries, keys and values, as the number of heads grows.

    The scores of one head stay random, of covariance $E\,G_{ij}(x) G_{kl}(y) = s^2 d\, K^q_{ik} K^k_{jl}$ at any width
    d of a head; what reads all heads sees their average, $K_{ik} = s^2 d\, K^q_{ik} \sum_{jl} K^k_{jl} K^v_{jl}$, and
    $\Theta$ by the product rule (Hron et al. 2020, arXiv:2006.10540). In networks of another width the heads are as
    wide as they were, and there are more of them.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    scale: float
    width: int  # of a head

    def apply(self, *x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(1, (-1, self.width)) for t in x)
        scores = torch.einsum("nhds,nhdt->nhst", q, k) * self.scale
        return torch.einsum("nhst,nhdt->nhds", scores, v).flatten(1, 2)

    def limit(self, *m: Moments) -> Moments:
        mixed = any(part.scale_averaged or part.scale_rate > 0 for part in m)
        q, k, v = (part.averaged() for part in m)
        if q.mean_x is not None or k.mean_x is not None:
            raise NoLimit(
                "Linear attention of queries or keys that have a mean.",
                why="the scores of a head then have a part that all heads share, and the heads do not average it",
                fix="make queries and keys by a Linear each",
            )
        if not (q.exchangeable_channels and k.exchangeable_channels and v.exchangeable_channels):
            raise NoLimit(
                "Linear attention of values whose channels have different laws.",
                why="channels were concatenated before, and each head sees others of them",
                fix="put a Linear between the concatenation and the attention",
            )
        # The result is s sum_d q_d sum_t k_dt v_t; only equal channels d are correlated, so its covariance is
        # s^2 d q sum_tu k_tu v_tu.
        unit = self.scale**2 * self.width

        def total(a: Tensor, b: Tensor) -> Tensor:
            return (a * b).sum((-2, -1), keepdim=True) * unit

        theta = None
        if q.theta is not None and k.theta is not None and v.theta is not None:
            # the product rule: each factor's NTK with the other two covariances
            theta = q.theta * total(k.xy, v.xy) + q.xy * (total(k.theta, v.xy) + total(k.xy, v.theta))
        xx = q.xx * total(k.xx, v.xx)
        if q.yy is q.xx:
            yy = xx
        else:
            yy = q.yy * total(k.yy, v.yy)
        return replace(
            q,
            xx=xx,
            yy=yy,
            xy=q.xy * total(k.xy, v.xy),
            theta=theta,
            mean_x=None,
            mean_y=None,
            gaussian=False,
            sources=q.sources | k.sources | v.sources,
            scale_averaged=mixed,
        )

    def needs_pairs(self, out: bool) -> bool:
        return True

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        if any(n % self.width for n in c):
            raise BadArgument(
                f"Heads of {self.width} channels do not fill {', '.join(map(str, c))} channels.",
                where="Architecture.network",
                why="there are more heads in a wider network, each as wide as it was",
                fix=f"a multiple of {self.width}: width={max(max(c) // self.width, 1) * self.width}",
            )
        return c[2]

    def describe(self) -> str:
        return f"heads of {self.width}, scale {self.scale:.4g}"


def refuse_dependence() -> NoLimit:
    """The refusal of queries, keys and values that share random weights."""
    return NoLimit(
        "Linear attention of queries, keys and values that share random weights.",
        why="its limit is a product of their moments, which are those of independent ones",
        fix="give queries, keys and values a Linear each; or divide the scores by the width, q @ k.mT / q.shape[-1]",
    )
