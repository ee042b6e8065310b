"""Sums, multiples and shifts of values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments, sum_if_known
from gramian.arch.ops.base import Call, Op, Parameter, Read, Value, reads, value
from gramian.duals.covariance_gap import plus_with_means
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


@reads("aten.add.Tensor", "aten.add_.Tensor", "aten.sub.Tensor")
@dataclass(frozen=True)
class Sum(Op):
    r"""`h + alpha g` of two values with independent weights.

    Fields add, plus the cross moment of the means: $E\,h_i g_i = E h_i\, E g_i$ is not zero after activations such as
    ReLU. This makes sums of post-activations exact, as in the ResNet of Du et al. 2019 (arXiv:1811.03804).
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    alpha: float = 1.0

    @classmethod
    def read(cls, call: Call) -> Read:
        a, b, alpha = call.args
        if "sub" in call.target:
            alpha = -float(alpha)
        else:
            alpha = float(alpha)
        if isinstance(a, int | float) and alpha != 0:  # c + alpha h, of which torch makes h + c / alpha elsewhere
            return Shift(float(a), alpha), (value(b, "a summand"),)
        if isinstance(b, int | float):
            return Shift(alpha * float(b), 1.0), (value(a, "a summand"),)
        if isinstance(a, Parameter) or isinstance(b, Parameter):
            raise NoLimit(
                "A parameter is added to the input itself.",
                why="the input has a fixed number of channels, and there are as many random numbers at each position",
                fix="add it after the first layer",
            )
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return _offset(a, b, alpha)
        a, b = value(a, "a summand"), value(b, "a summand")
        if a.user_shape != b.user_shape or a.order != b.order:
            raise NoLimit(
                f"Values of shapes {a.user_shape} and {b.user_shape}, channels on axes {a.channels_at} and "
                f"{b.channels_at}, are added by broadcasting.",
                why="the copies of a random value that broadcasting makes are dependent",
                fix="a sum of two values of one shape; or gramian.monte_carlo(module, x)",
            )
        if a.data != b.data:
            raise NoLimit(
                "The input itself is added to a random layer's values.",
                why="the input has a fixed number of channels, so this sum can't grow wide",
                fix="put a Linear or Conv (1x1) on the skip from the input",
            )
        return cls(alpha), (a, b)

    def apply(self, *x: Tensor) -> Tensor:
        if self.alpha != 1:
            return x[0] + self.alpha * x[1]
        return x[0] + x[1]

    def limit(self, *m: Moments, cross: Cross | None = None, joint: bool = False) -> Moments:
        """`cross` is the covariance of the summands, known (zero for None) if `joint`."""
        mixed = any(v.scale_averaged or v.scale_rate > 0 for v in m)
        a, b = m[0].averaged(), m[1].scaled(self.alpha).averaged()
        shared = a.sources & b.sources
        if shared and not joint:
            raise NoLimit(
                f"Two summands share the random weights of {', '.join(f'`{s}`' for s in sorted(shared))}.",
                why="then they are dependent, and their joint law is not in their covariances",
                fix="put a Linear or Conv on one branch, after the last layer that they share (pre-activation order)",
            )
        if (
            not shared
            and not (a.exchangeable_channels and b.exchangeable_channels)
            and a.mean_x is not None
            and b.mean_x is not None
        ):
            raise NoLimit(
                "Two post-activations are added after a Flatten or a concatenation of channels.",
                why="their means differ between channels",
                fix="add them before: it computes the same",
            )
        # E (h + g)(h' + g') = E h h' + E g g' + E h g' + E g h'; the last two are zero, products of means, or `cross`.
        xx, yy, xy, theta = a.xx + b.xx, a.yy + b.yy, a.xy + b.xy, sum_if_known(a.theta, b.theta)
        if shared:
            xx, yy, xy, theta = _with_cross((xx, yy, xy, theta), cross, self.alpha)
        elif a.mean_x is not None and b.mean_x is not None and a.mean_y is not None and b.mean_y is not None:
            xx = xx + _cross(a.spread_self(a.mean_x), a.spread_self(b.mean_x))
            yy = yy + _cross(a.spread_self(a.mean_y), a.spread_self(b.mean_y))
            xy = xy + _cross(a.spread(a.mean_x, a.mean_y), a.spread(b.mean_x, b.mean_y))
        if a.yy is a.xx:
            yy = xx
        total = replace(
            a,
            xx=xx,
            yy=yy,
            xy=xy,
            theta=theta,
            mean_x=_either(a.mean_x, b.mean_x),
            mean_y=_either(a.mean_y, b.mean_y),
            gaussian=a.gaussian and b.gaussian,
            exchangeable_channels=a.exchangeable_channels and b.exchangeable_channels,
            sources=a.sources | b.sources,
            scale_averaged=mixed,
        )
        if shared:
            return total.with_gap(None)
        return total.with_gap(_gap(a, b, total))


def _gap(a: Moments, b: Moments, total: Moments) -> Tensor | None:
    if a.gap is None or b.gap is None or a.mean_x is None or b.mean_x is None or a.mean_y is None or b.mean_y is None:
        return a.gap_plus(b)
    parts = [(m.gap.size, m.spread(*m.variances()), m.spread(m.mean_x, m.mean_y)) for m in (a, b)]  # type: ignore[union-attr, arg-type]
    return plus_with_means(parts, total.spread(*total.variances()))


def _offset(a: object, b: object, alpha: float) -> Read:
    """A constant tensor added: to the input it is numbers, to values of the network it has no channels to grow with."""
    x: Any
    if isinstance(a, Value):
        x, constant = (a, b)
    else:
        x, constant = (b, a)
    x = value(x, "a summand")
    if not x.data:
        raise NoLimit(
            "A fixed tensor is added to the network's values.",
            why="it has a fixed number of channels, which differ, and says nothing of the channels of a wider network",
            fix="pass it through a Linear of its own, h + self.place(self.encoding), which keeps their inner "
            "products; or add them to the input before its first layer; or make it an nn.Parameter with an entry in "
            "the law",
        )
    assert isinstance(constant, Tensor)
    samples: tuple[int, ...]
    if constant.ndim <= len(x.order):
        samples = (1,)
    else:
        samples = ()
    whole = constant.detach().expand(*samples, *x.user_shape)
    stored = whole.permute(0, *(1 + x.order.index(axis) for axis in range(len(x.order))))
    if constant is b:
        return Offset(stored, 1.0, alpha), (x,)
    return Offset(stored, alpha, 1.0), (x,)


@dataclass(frozen=True, eq=False)
class Offset(Op):
    """A fixed tensor added to the input, such as fixed positions."""

    any_layout: ClassVar[bool] = True

    numbers: Tensor  # (1, c, *S)
    factor: float
    alpha: float

    def apply(self, *x: Tensor) -> Tensor:
        return self.factor * x[0] + self.alpha * self.numbers.to(x[0])


def _with_cross(
    fields: tuple[Tensor, Tensor, Tensor, Tensor | None], cross: Cross | None, alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The fields of a sum plus the covariances of its summands, h with alpha g and alpha g with h."""
    xx, yy, xy, theta = fields
    if cross is None:
        return fields
    back = cross.swapped()  # of g with h
    if theta is not None and cross.theta_xy is not None and back.theta_xy is not None:
        # both orders: the gradient of h with that of alpha g, and the other way round
        theta = theta + alpha * (cross.theta_xy + back.theta_xy)
    return (
        xx + alpha * (cross.xx + back.xx),
        yy + alpha * (cross.yy + back.yy),
        xy + alpha * (cross.xy + back.xy),
        theta,
    )


def _cross(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """E h(x) E g(y) + E g(x) E h(y)."""
    return a[0] * b[1] + b[0] * a[1]


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


@dataclass(frozen=True)
class Shift(Op):
    """`constant + factor h`: a mean."""

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    constant: float
    factor: float

    def apply(self, *x: Tensor) -> Tensor:
        return self.constant + self.factor * x[0]

    def limit(self, *m: Moments) -> Moments:
        a = m[0].scaled(self.factor)
        q_x, q_y = a.variances()
        return a.plus(torch.full_like(q_x, self.constant), torch.full_like(q_y, self.constant))

    def describe(self) -> str:
        return f"{self.constant:g} + {self.factor:g} h"
