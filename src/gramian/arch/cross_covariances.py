"""Covariances of one value of a network with another, with those methods of `Moments` that linear ops use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gramian.arch.moments import Moments, sum_if_known


@dataclass(frozen=True)
class Cross:
    r"""Covariances of a value h with another value g, of positions `S` and `T`, at all pairs of positions.

    It has those methods of `Moments` by which linear ops act, and they act on h alone: an op's `limit` serves both.

    Args:
        xx: $E[h_i(x_a)\, g_j(x_a)]$; shape (n, *S, *T).
        yy: the same of each y; shape (m, *S, *T).
        xy: $E[h_i(x_a)\, g_j(y_b)]$; shape (n, m, *S, *T).
        yx: $E[h_i(y_b)\, g_j(x_a)]$; shape (n, m, *S, *T).
        theta_xy, theta_yx: the NTK, shaped as these; None where it was not asked for.
        position_axes: number of axes of `S`.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    yx: Tensor
    theta_xy: Tensor | None
    theta_yx: Tensor | None
    position_axes: int

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape `S`."""
        return tuple(self.xx.shape[1 : 1 + self.position_axes])

    def fields(self, apply: Callable[[Tensor, int], Tensor], position_axes: int | None = None) -> Cross:
        """`apply(field, number of leading sample axes)` on every field."""
        return Cross(
            apply(self.xx, 1),
            apply(self.yy, 1),
            apply(self.xy, 2),
            apply(self.yx, 2),
            None if self.theta_xy is None else apply(self.theta_xy, 2),
            None if self.theta_yx is None else apply(self.theta_yx, 2),
            self.position_axes if position_axes is None else position_axes,
        )

    def map_positions(self, apply: Callable[[Tensor, tuple[int, ...]], Tensor], *, moves: bool = False) -> Cross:
        """A linear map of the positions of h; see `Moments.map_positions`."""

        def on_first(field: Tensor, lead: int) -> Tensor:
            return apply(field, tuple(range(lead - field.ndim, lead - field.ndim + self.position_axes)))

        return self.fields(on_first)

    def resized(self, after: tuple[int, ...]) -> Cross:
        """Positions of h in another shape."""
        return self.fields(
            lambda field, lead: field.reshape(*field.shape[:lead], *after, *field.shape[lead + self.position_axes :]),
            len(after),
        )

    def permuted(self, order: tuple[int, ...]) -> Cross:
        """Positions of h with their axes in another order."""

        def moved(field: Tensor, lead: int) -> Tensor:
            rest = range(lead + self.position_axes, field.ndim)
            return field.permute(*range(lead), *(lead + axis for axis in order), *rest)

        return self.fields(moved)

    def shift_average(self, average: Callable[[Tensor, tuple[tuple[int, ...], ...]], Tensor]) -> Cross:
        """Averages over a window that moves the positions of h and g together; see `Moments.shift_average`."""
        pairs = range(self.position_axes)
        return self.fields(
            lambda field, lead: average(field, tuple((lead + k, lead + self.position_axes + k) for k in pairs)),
            self.position_axes,
        )

    def scaled(self, factor: float) -> Cross:
        """`factor` times h."""
        return self.fields(lambda field, _: field * factor)

    def plus(self, other: Cross) -> Cross:
        """The sum of h and another value, against the same g."""
        theta_xy = sum_if_known(self.theta_xy, other.theta_xy)
        theta_yx = sum_if_known(self.theta_yx, other.theta_yx)
        xx, yy, xy, yx = self.xx + other.xx, self.yy + other.yy, self.xy + other.xy, self.yx + other.yx
        return Cross(xx, yy, xy, yx, theta_xy, theta_yx, self.position_axes)

    def swapped(self) -> Cross:
        """Of g with h."""

        def turned(field: Tensor, lead: int) -> Tensor:
            rest = range(lead + self.position_axes, field.ndim)
            return field.permute(*range(lead), *rest, *range(lead, lead + self.position_axes))

        # what was at (x, y) for h with g is at (y, x) for g with h, so xy and yx are exchanged
        c = self.fields(turned, self.xx.ndim - 1 - self.position_axes)
        return replace(c, xy=c.yx, yx=c.xy, theta_xy=c.theta_yx, theta_yx=c.theta_xy)


def itself(m: Moments) -> Cross:
    """A value with itself."""

    def turned(field: Tensor) -> Tensor:  # E[h_i(y_b) h_j(x_a)] from E[h_j(x_a) h_i(y_b)]
        return field.permute(0, 1, *range(2 + m.position_axes, field.ndim), *range(2, 2 + m.position_axes))

    if m.theta is None:
        theta = None
    else:
        theta = turned(m.theta)
    return Cross(m.xx, m.yy, m.xy, turned(m.xy), m.theta, theta, m.position_axes)


def outer(a: Tensor, b: Tensor, name: str) -> Tensor:
    """Products of numbers of h (at a's inputs and positions) and of g, shaped as the field of this name."""
    s, t = a.shape[1:], b.shape[1:]
    ones_s, ones_t = (1,) * len(s), (1,) * len(t)
    if name in ("xx", "yy"):
        return a.reshape(len(a), *s, *ones_t) * b.reshape(len(b), *ones_s, *t)
    if name == "xy":
        return a.reshape(len(a), 1, *s, *ones_t) * b.reshape(1, len(b), *ones_s, *t)
    return a.reshape(1, len(a), *s, *ones_t) * b.reshape(len(b), 1, *ones_s, *t)


def at_first(at: Tensor, field: Tensor, name: str) -> Tensor:
    """Numbers of h, to broadcast against the field of this name."""
    samples: tuple[int, ...] = (len(at),)
    if name == "xy":
        samples = (len(at), 1)
    elif name not in ("xx", "yy"):
        samples = (1, len(at))
    ones = (1,) * (field.ndim - len(samples) - (at.ndim - 1))
    return at.reshape(*samples, *at.shape[1:], *ones)


def at_second(at: Tensor, name: str, position_axes: int) -> Tensor:
    """Numbers of g, to broadcast against the field of this name; `position_axes` axes are those of h."""
    samples: tuple[int, ...] = (len(at),)
    if name == "xy":
        samples = (1, len(at))
    elif name not in ("xx", "yy"):
        samples = (len(at), 1)
    return at.reshape(*samples, *(1,) * position_axes, *at.shape[1:])


def _in_a_row(x: Tensor) -> Tensor:
    """All positions on one axis; (n, c, p)."""
    if x.ndim > 2:
        return x.flatten(2)
    return x[..., None]


def data_cross(x_h: Tensor, x_g: Tensor, y_h: Tensor, y_g: Tensor, *, ntk: bool) -> Cross:
    """Covariances of two values h and g made of the input alone: products over channels; (n, c, *S) and (m, ...)."""
    c, position_axes = x_h.shape[1], x_h.ndim - 2
    ends = (*x_h.shape[2:], *x_g.shape[2:])
    xh, xg, yh, yg = (_in_a_row(v) for v in (x_h, x_g, y_h, y_g))
    xx, yy = torch.einsum("acp,acq->apq", xh, xg) / c, torch.einsum("acp,acq->apq", yh, yg) / c
    xy, yx = torch.einsum("acp,bcq->abpq", xh, yg) / c, torch.einsum("bcp,acq->abpq", yh, xg) / c
    n, m = len(x_h), len(y_h)
    xy, yx = xy.reshape(n, m, *ends), yx.reshape(n, m, *ends)
    if ntk:
        zero = torch.zeros_like(xy)
    else:
        zero = None
    return Cross(xx.reshape(n, *ends), yy.reshape(m, *ends), xy, yx, zero, zero, position_axes)
