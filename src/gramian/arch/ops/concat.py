"""Concatenation along channels, and products of independent branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Read, reads, value
from gramian.errors import NoLimit


@reads("aten.cat.default", "aten.concat.default")
@dataclass(frozen=True)
class Concat(Op):
    r"""Channels of several values side by side, as in DenseNet: $K = \sum_k p_k K_k$ with shares $p_k$ of the channels.

    What reads all channels with i.i.d. weights sees only this average. The parts may share weights below.
    """

    any_layout: ClassVar[bool] = True

    shares: tuple[float, ...]

    @classmethod
    def read(cls, call: Call) -> Read:
        parts = [value(v, "a part of this concatenation") for v in call.args[0]]
        dim = call.args[1] if len(call.args) > 1 else 0
        first = parts[0]
        axis = first.axis(dim)
        if any(p.order != first.order for p in parts):
            raise NoLimit("The parts have their channels on different axes.", fix="transpose them alike before")
        if all(p.data for p in parts) and axis >= 0:
            return Join(axis), tuple(parts), first.layout
        if any(p.data for p in parts):
            raise NoLimit(
                "The input itself is concatenated with a random layer's values.",
                why="the input has a fixed number of channels, which vanish beside a growing width",
                fix="put a Linear or Conv on the input before",
            )
        if axis != 0:
            raise NoLimit(
                f"Values are concatenated along axis {dim}, which is not the channels'.",
                why="there is a rule for concatenation along channels",
                fix="concatenate channels, or the inputs before the first layer",
            )
        total = sum(p.shape[0] for p in parts)
        return cls(tuple(p.shape[0] / total for p in parts)), tuple(parts), first.layout

    def apply(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)

    def limit(self, *m: Moments) -> Moments:
        m = tuple(part.averaged() for part in m)
        total = _weighted(m[0], self.shares[0])
        for part, share in zip(m[1:], self.shares[1:], strict=True):
            total = _added(total, _weighted(part, share))
        return replace(
            total,
            mean_x=_mean([part.mean_x for part in m], self.shares),
            mean_y=_mean([part.mean_y for part in m], self.shares),
            gaussian=all(part.gaussian for part in m),
            alike=False,
            sources=frozenset().union(*(part.sources for part in m)),
        )

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        return sum(c)

    def describe(self) -> str:
        return "of channels, shares " + ", ".join(f"{s:.3g}" for s in self.shares)


@dataclass(frozen=True)
class Join(Op):
    """Concatenation of values that are made from the input alone, along any axis."""

    axis: int  # of (c, *S)

    def apply(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1 + self.axis)


def _mean(means: list[Tensor | None], shares: tuple[float, ...]) -> Tensor | None:
    """Over all channels; None where every part is centred."""
    given = [mean * share for mean, share in zip(means, shares, strict=True) if mean is not None]
    return torch.stack(given).sum(0) if given else None


def _weighted(m: Moments, share: float) -> Moments:
    return m.map_covariances(lambda field, _: field * share)


def _added(a: Moments, b: Moments) -> Moments:
    xx = a.xx + b.xx
    return replace(
        a,
        xx=xx,
        yy=xx if a.yy is a.xx else a.yy + b.yy,
        xy=a.xy + b.xy,
        theta=None if a.theta is None or b.theta is None else a.theta + b.theta,
    )


@dataclass(frozen=True)
class Product(Op):
    r"""The product of two values with independent weights, entry by entry: a gate.

    $K = K_1 K_2$, $\Theta = \Theta_1 K_2 + K_1 \Theta_2$, and the means multiply.
    """

    any_layout: ClassVar[bool] = True

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * x[1]

    def limit(self, *m: Moments) -> Moments:
        a, b = m[0].averaged(), m[1].averaged()
        shared = a.sources & b.sources
        if shared:
            raise NoLimit(
                f"Two factors share the random weights of {', '.join(f'`{s}`' for s in sorted(shared))}.",
                why="then they are dependent, and the moments of their product are not those of independent ones",
                fix="give each branch its own Linear or Conv; an activation such as nn.SiLU is read as a whole",
            )
        if not (a.alike and b.alike):
            raise NoLimit(
                "Two values are multiplied whose channels have different laws.",
                why="positions were flattened into channels, or channels concatenated, before",
                fix="multiply before: entry by entry, it computes the same",
            )
        xx = a.xx * b.xx
        centred = a.mean_x is None or b.mean_x is None or a.mean_y is None or b.mean_y is None
        return replace(
            a,
            xx=xx,
            yy=xx if a.yy is a.xx else a.yy * b.yy,
            xy=a.xy * b.xy,
            theta=None if a.theta is None or b.theta is None else a.theta * b.xy + a.xy * b.theta,
            mean_x=None if centred else a.mean_x * b.mean_x,  # type: ignore[operator]
            mean_y=None if centred else a.mean_y * b.mean_y,  # type: ignore[operator]
            gaussian=False,
            sources=a.sources | b.sources,
        )
