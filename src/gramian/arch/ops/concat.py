"""Concatenation along channels or positions, and products of independent branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments, sum_if_known
from gramian.arch.ops.base import Call, Op, Read, reads, value
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


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
        if len(call.args) > 1:
            dim = call.args[1]
        else:
            dim = 0
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
        if axis < 0 or (axis > 0 and len({p.shape[0] for p in parts}) > 1):
            if axis < 0:
                which = "the samples."
            else:
                which = "positions, with unequal numbers of channels."
            raise NoLimit(
                f"Values are concatenated along axis {dim}, {which}",
                why="there is a rule for channels side by side, and for positions of as many channels",
                fix="concatenate the inputs before the first layer",
            )
        if axis > 0:
            return Beside(axis), tuple(parts), first.layout
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
            exchangeable_channels=False,
            sources=frozenset().union(*(part.sources for part in m)),
        )

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        return sum(c)

    def describe(self) -> str:
        return "of channels, shares " + ", ".join(f"{s:.3g}" for s in self.shares)


@dataclass(frozen=True)
class Beside(Op):
    """Positions of several values side by side. The parts may share weights: their covariances are followed."""

    any_layout: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    axis: int  # of (c, *S)

    def apply(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1 + self.axis)

    def limit(self, *m: Moments, crosses: Mapping[tuple[int, int], Cross | None] | None = None) -> Moments:
        """`crosses` has the covariances of parts p < q, None for zero."""
        assert crosses is not None
        mixed = any(part.scale_averaged or part.scale_rate > 0 for part in m)
        parts = [part.averaged() for part in m]

        def field(name: str, own: Callable[[Moments], Tensor | None]) -> Tensor:
            rows = []
            for p, a in enumerate(parts):
                row = []
                for q, b in enumerate(parts):
                    if p == q:
                        row.append(own(a))
                        continue
                    cross = crosses[min(p, q), max(p, q)]
                    if cross is None:
                        row.append(a.xy.new_zeros(*_samples(name, a), *a.positions, *b.positions))
                    elif p < q:
                        row.append(getattr(cross, name))
                    else:
                        row.append(getattr(cross.swapped(), name))
                # along the second copy of the positions, and then along the first
                rows.append(torch.cat(row, row[0].ndim - a.position_axes + self.axis - 1))  # type: ignore[union-attr, arg-type]
            return torch.cat(rows, rows[0].ndim - 2 * parts[0].position_axes + self.axis - 1)

        first = parts[0]
        yy = xx = field("xx", lambda part: part.xx)
        if first.yy is not first.xx:
            yy = field("yy", lambda part: part.yy)
        return replace(
            first,
            xx=xx,
            yy=yy,
            xy=field("xy", lambda part: part.xy),
            theta=None if first.theta is None else field("theta_xy", lambda part: part.theta),
            mean_x=self._means([part.mean_x for part in parts], parts),
            mean_y=self._means([part.mean_y for part in parts], parts),
            gaussian=all(part.gaussian for part in parts),
            exchangeable_channels=all(part.exchangeable_channels for part in parts),
            sources=frozenset().union(*(part.sources for part in parts)),
            scale_averaged=mixed,
        )

    def joint(self, parts: Sequence[Cross]) -> Cross:
        """Of the whole with another value, from those of the parts."""
        first = parts[0]

        def joined(name: str, lead: int) -> Tensor | None:
            fields = [getattr(part, name) for part in parts]
            if any(f is None for f in fields):
                return None
            return torch.cat(fields, lead + self.axis - 1)

        lead = {"xx": 1, "yy": 1, "xy": 2, "yx": 2, "theta_xy": 2, "theta_yx": 2}
        return replace(first, **{name: joined(name, at) for name, at in lead.items()})  # type: ignore[arg-type]

    def _means(self, means: list[Tensor | None], parts: list[Moments]) -> Tensor | None:
        given = next((mean for mean in means if mean is not None), None)
        if given is None:
            return None
        full = [
            given.new_zeros(len(given), *part.positions) if mean is None else mean
            for mean, part in zip(means, parts, strict=True)
        ]
        return torch.cat(full, self.axis)

    def needs_pairs(self, out: bool) -> bool:
        return True

    def describe(self) -> str:
        return f"of positions, axis {self.axis + 1}"


@dataclass(frozen=True)
class Join(Op):
    """Concatenation of values that are made from the input alone, along any axis."""

    axis: int  # of (c, *S)

    def apply(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1 + self.axis)


def _mean(means: list[Tensor | None], shares: tuple[float, ...]) -> Tensor | None:
    """Over all channels; None where every part is centred."""
    given = [mean * share for mean, share in zip(means, shares, strict=True) if mean is not None]
    if given:
        return torch.stack(given).sum(0)
    return None


def _weighted(m: Moments, share: float) -> Moments:
    return m.map_covariances(lambda field, _: field * share, moves=True)


def _samples(name: str, m: Moments) -> tuple[int, ...]:
    """The axes of samples of a field of covariances with another value."""
    if name.startswith(("xy", "theta")):
        return tuple(m.xy.shape[:2])
    if name == "yy":
        return (len(m.yy),)
    return (len(m.xx),)


def _added(a: Moments, b: Moments) -> Moments:
    yy = xx = a.xx + b.xx
    if a.yy is not a.xx:
        yy = a.yy + b.yy
    total = replace(a, xx=xx, yy=yy, xy=a.xy + b.xy, theta=sum_if_known(a.theta, b.theta))
    return total.with_gap(a.gap_plus(b))


@dataclass(frozen=True)
class Product(Op):
    r"""The product of two values with independent weights, entry by entry: a gate.

    $K = K_1 K_2$, $\Theta = \Theta_1 K_2 + K_1 \Theta_2$, and the means multiply.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

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
        if not (a.exchangeable_channels and b.exchangeable_channels):
            raise NoLimit(
                "Two values are multiplied whose channels have different laws.",
                why="positions were flattened into channels, or channels concatenated, before",
                fix="multiply before: entry by entry, it computes the same",
            )
        yy = xx = a.xx * b.xx
        if a.yy is not a.xx:
            yy = a.yy * b.yy
        theta = mean_x = mean_y = None
        if a.theta is not None and b.theta is not None:
            # the product rule: the gradient goes through one factor, the other keeps its covariance
            theta = a.theta * b.xy + a.xy * b.theta
        if a.mean_x is not None and b.mean_x is not None and a.mean_y is not None and b.mean_y is not None:
            mean_x, mean_y = a.mean_x * b.mean_x, a.mean_y * b.mean_y
        return replace(
            a,
            xx=xx,
            yy=yy,
            xy=a.xy * b.xy,
            theta=theta,
            mean_x=mean_x,
            mean_y=mean_y,
            gaussian=False,
            sources=a.sources | b.sources,
        )
