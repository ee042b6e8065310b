r"""Covariances between two values of one network that share random weights.

A Gaussian value is a linear image of fresh weights, so two of them are correlated only through a weight that both use
(Yang 2020, arXiv:2006.14548: tied weights have a limit too). Every other value is a known function of Gaussians.
Covariances between values are therefore found by going down from both until a weight, an activation or the data is met:

- $W h$ and $W g$: $\sigma_w^2\, \mathrm{avg}\, E[h g] + \sigma_b^2$, and the same for the NTK as in one layer;
- $W h$ and $V g$: zero;
- $\phi(u)$ and a Gaussian v: $E\,\phi'(u)\, E[u v]$ (Stein's lemma);
- $\phi(u)$ and $\phi(v)$: the dual at the covariance of u and v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops import Activation, Affine, Beside, Concat, Normalization, Product, Reshape, Shift, Sum
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.architecture import Step


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
        space: number of axes of `S`.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    yx: Tensor
    theta_xy: Tensor | None
    theta_yx: Tensor | None
    space: int

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape `S`."""
        return tuple(self.xx.shape[1 : 1 + self.space])

    def fields(self, apply: Callable[[Tensor, int], Tensor], space: int | None = None) -> Cross:
        """`apply(field, number of leading sample axes)` on every field."""
        return Cross(
            apply(self.xx, 1),
            apply(self.yy, 1),
            apply(self.xy, 2),
            apply(self.yx, 2),
            None if self.theta_xy is None else apply(self.theta_xy, 2),
            None if self.theta_yx is None else apply(self.theta_yx, 2),
            self.space if space is None else space,
        )

    def map_positions(self, apply: Callable[[Tensor, tuple[int, ...]], Tensor], *, moves: bool = False) -> Cross:
        """A linear map of the positions of h; see `Moments.map_positions`."""

        def on_first(field: Tensor, lead: int) -> Tensor:
            return apply(field, tuple(range(lead - field.ndim, lead - field.ndim + self.space)))

        return self.fields(on_first)

    def resized(self, after: tuple[int, ...]) -> Cross:
        """Positions of h in another shape."""
        return self.fields(
            lambda field, lead: field.reshape(*field.shape[:lead], *after, *field.shape[lead + self.space :]),
            len(after),
        )

    def permuted(self, order: tuple[int, ...]) -> Cross:
        """Positions of h with their axes in another order."""

        def moved(field: Tensor, lead: int) -> Tensor:
            rest = range(lead + self.space, field.ndim)
            return field.permute(*range(lead), *(lead + axis for axis in order), *rest)

        return self.fields(moved)

    def shift_average(self, average: Callable[[Tensor, tuple[tuple[int, ...], ...]], Tensor]) -> Cross:
        """Averages over a window that moves the positions of h and g together; see `Moments.shift_average`."""
        pairs = range(self.space)
        return self.fields(
            lambda field, lead: average(field, tuple((lead + k, lead + self.space + k) for k in pairs)), self.space
        )

    def scaled(self, factor: float) -> Cross:
        """`factor` times h."""
        return self.fields(lambda field, _: field * factor)

    def plus(self, other: Cross) -> Cross:
        """The sum of h and another value, against the same g."""
        theta_xy, theta_yx = (
            None if a is None or b is None else a + b
            for a, b in ((self.theta_xy, other.theta_xy), (self.theta_yx, other.theta_yx))
        )
        xx, yy, xy, yx = self.xx + other.xx, self.yy + other.yy, self.xy + other.xy, self.yx + other.yx
        return Cross(xx, yy, xy, yx, theta_xy, theta_yx, self.space)

    def swapped(self) -> Cross:
        """Of g with h."""

        def turned(field: Tensor, lead: int) -> Tensor:
            rest = range(lead + self.space, field.ndim)
            return field.permute(*range(lead), *rest, *range(lead, lead + self.space))

        c = self.fields(turned, self.xx.ndim - 1 - self.space)
        return replace(c, xy=c.yx, yx=c.xy, theta_xy=c.theta_yx, theta_yx=c.theta_xy)


class Joint:
    """The covariances between the values of one network on one tile of inputs, each computed once.

    Args:
        steps: of the architecture.
        values: moments of each step so far, all pairs of positions; a list that grows while the network is walked.
        data: covariances of two values that are made of the input alone, by their step numbers.
    """

    def __init__(
        self, steps: Sequence[Step], values: list[Moments | None], data: Callable[[int, int, bool], Cross]
    ) -> None:
        self.steps, self.values, self.data = steps, values, data
        self.known: dict[tuple[int, int], Cross | None] = {}

    def cross(self, s: int, t: int) -> Cross | None:
        """Of the values of steps s and t; None where it is zero."""
        if (s, t) not in self.known:
            found = self._cross(s, t) if s >= t else None if (c := self.cross(t, s)) is None else c.swapped()
            self.known[s, t] = found
        return self.known[s, t]

    def _cross(self, s: int, t: int) -> Cross | None:
        """Of step s with an earlier step t, or with itself."""
        if s == t:
            return _itself(self._value(s))
        if self._is_data(s) or self._is_data(t):
            return self.data(s, t, self._has_ntk()) if self._is_data(s) and self._is_data(t) else self._with_data(s, t)
        op = self.steps[s].op
        if isinstance(op, Affine | Activation) and t >= 0 and not isinstance(self.steps[t].op, Affine | Activation):
            other = self._through(t, s)
            return None if other is None else other.swapped()
        if isinstance(op, Affine):
            return self._affine(s, t)
        if isinstance(op, Activation):
            return self._activation(s, t)
        return self._through(s, t)

    def _through(self, s: int, t: int) -> Cross | None:
        """By the linear op of step s, whichever of s and t is the later one."""
        op, inputs = self.steps[s].op, self.steps[s].inputs
        flattens = isinstance(op, Reshape) and len(op.after) == 1
        if isinstance(op, Product | Normalization | Concat | Beside) or flattens:
            raise NoLimit(
                f"Two values that share random weights, one of them through {'Flatten' if flattens else op.name}.",
                where=self.steps[s].where,
                why="there is a rule for shared weights through layers, activations, sums and maps of the positions",
                fix="add them before the Flatten: it computes the same"
                if flattens
                else "give each branch its own weights; or gramian.monte_carlo(module, x)",
            )
        parts = [self.cross(i, t) for i in inputs]
        if isinstance(op, Sum):
            a, b = parts[0], None if parts[1] is None else parts[1].scaled(op.alpha)
            return b if a is None else a if b is None else a.plus(b)
        if isinstance(op, Shift):
            return self._shifted(None if parts[0] is None else parts[0].scaled(op.factor), op.constant, s, t)
        return None if parts[0] is None else op.limit(parts[0])  # type: ignore[arg-type, return-value]

    def _shifted(self, c: Cross | None, constant: float, s: int, t: int) -> Cross | None:
        """Step s, a constant plus what has the covariances `c` with step t: the constant meets the mean of t."""
        h, g = self._value(s), self._value(t)
        if g.mean_x is None or g.mean_y is None:
            return c
        c = self._zero(s, t) if c is None else c
        of_x, of_y = (xx.new_full((len(xx), *h.positions), constant) for xx in (h.xx, h.yy))
        return replace(
            c,
            xx=c.xx + _outer(of_x, g.mean_x, "xx"),
            yy=c.yy + _outer(of_y, g.mean_y, "yy"),
            xy=c.xy + _outer(of_x, g.mean_y, "xy"),
            yx=c.yx + _outer(of_y, g.mean_x, "yx"),
        )

    def _affine(self, s: int, t: int) -> Cross | None:
        """A layer with a layer or an activation below it."""
        op, other = self.steps[s].op, self.steps[t].op
        assert isinstance(op, Affine)
        if isinstance(other, Activation):
            c = self._stein(t, s)
            return None if c is None else c.swapped()
        if not isinstance(other, Affine) or other.weight_name != op.weight_name:
            return None
        below = self.cross(self.steps[s].inputs[0], self.steps[t].inputs[0])
        if below is not None:
            return op.joint(op.average(below))  # type: ignore[arg-type]
        return op.joint(self._zero(s, t)) if op.sigma_b else None

    def _activation(self, s: int, t: int) -> Cross | None:
        """An activation with a layer or an activation below it."""
        op, other = self.steps[s].op, self.steps[t].op
        assert isinstance(op, Activation)
        if isinstance(other, Affine):
            return self._stein(s, t)
        assert isinstance(other, Activation)
        u, v = self.steps[s].inputs[0], self.steps[t].inputs[0]
        below = self.cross(u, v)
        (ux, uy), (vx, vy) = self._value(u).variances(), self._value(v).variances()
        if below is None:
            return self._means(s, t)
        if other != op:
            raise NoLimit(
                f"{op.name} and {other.name} of values that share random weights are added or read together.",
                where=self.steps[s].where,
                why="the covariance of two different functions of correlated Gaussians has no rule here",
                fix="use the same activation in both, or give each branch its own weights",
            )
        sides = {"xx": (ux, vx), "yy": (uy, vy), "xy": (ux, vy), "yx": (uy, vx)}
        made = {}
        for name, (q1, q2) in sides.items():
            field = getattr(below, name)
            made[name] = op.dual(_first(q1, field, name), field, _second(q2, name, below.space))
        theta_xy, theta_yx = (
            None if old is None else old * made[name][1]
            for old, name in ((below.theta_xy, "xy"), (below.theta_yx, "yx"))
        )
        return Cross(made["xx"][0], made["yy"][0], made["xy"][0], made["yx"][0], theta_xy, theta_yx, below.space)

    def _stein(self, s: int, t: int) -> Cross | None:
        """The activation of step s with the Gaussian value of step t."""
        op, u = self.steps[s].op, self.steps[s].inputs[0]
        assert isinstance(op, Activation)
        below = self.cross(u, t)
        if below is None:
            return None
        at_x, at_y = (op.mean_slope(q) for q in self._value(u).variances())

        def times(field: Tensor, at: Tensor, name: str) -> Tensor:
            return field * _first(at, field, name)

        return Cross(
            times(below.xx, at_x, "xx"),
            times(below.yy, at_y, "yy"),
            times(below.xy, at_x, "xy"),
            times(below.yx, at_y, "yx"),
            None if below.theta_xy is None else times(below.theta_xy, at_x, "xy"),
            None if below.theta_yx is None else times(below.theta_yx, at_y, "yx"),
            below.space,
        )

    def _means(self, s: int, t: int) -> Cross | None:
        """Of two independent values: the product of their means."""
        a, b = self._value(s), self._value(t)
        if a.mean_x is None or a.mean_y is None or b.mean_x is None or b.mean_y is None:
            return None
        like = {
            name: _outer(f, g, name)
            for name, f, g in (
                ("xx", a.mean_x, b.mean_x),
                ("yy", a.mean_y, b.mean_y),
                ("xy", a.mean_x, b.mean_y),
                ("yx", a.mean_y, b.mean_x),
            )
        }
        zero = torch.zeros_like(like["xy"]) if self._has_ntk() else None
        return Cross(like["xx"], like["yy"], like["xy"], like["yx"], zero, zero, a.space)

    def _zero(self, s: int, t: int) -> Cross:
        """Zeros, shaped as the covariance of two values."""
        a, b = self._value(s), self._value(t)
        ends = (*a.positions, *b.positions)
        n, m = a.xy.shape[:2]
        xx, yy, xy = (a.xy.new_zeros(*lead, *ends) for lead in ((n,), (m,), (n, m)))
        theta = xy if a.theta is not None else None
        return Cross(xx, yy, xy, xy, theta, theta, a.space)

    def _with_data(self, s: int, t: int) -> Cross | None:
        random = t if self._is_data(s) else s
        if self._value(random).mean_x is None:
            return None
        raise NoLimit("A random value with a mean is compared with the input itself.", where=self.steps[s].where)

    def _is_data(self, s: int) -> bool:
        return s < 0 or self.steps[s].data

    def _has_ntk(self) -> bool:
        return any(v is not None and v.theta is not None for v in self.values)

    def _value(self, s: int) -> Moments:
        found = self.values[s]
        assert found is not None
        return found


def _itself(m: Moments) -> Cross:
    """A value with itself."""

    def turned(field: Tensor) -> Tensor:  # E[h_i(y_b) h_j(x_a)] from E[h_j(x_a) h_i(y_b)]
        return field.permute(0, 1, *range(2 + m.space, field.ndim), *range(2, 2 + m.space))

    theta = None if m.theta is None else turned(m.theta)
    return Cross(m.xx, m.yy, m.xy, turned(m.xy), m.theta, theta, m.space)


def _outer(a: Tensor, b: Tensor, name: str) -> Tensor:
    """Products of numbers of h (at a's inputs and positions) and of g, shaped as the field of this name."""
    s, t = a.shape[1:], b.shape[1:]
    ones_s, ones_t = (1,) * len(s), (1,) * len(t)
    if name in ("xx", "yy"):
        return a.reshape(len(a), *s, *ones_t) * b.reshape(len(b), *ones_s, *t)
    if name == "xy":
        return a.reshape(len(a), 1, *s, *ones_t) * b.reshape(1, len(b), *ones_s, *t)
    return a.reshape(1, len(a), *s, *ones_t) * b.reshape(len(b), 1, *ones_s, *t)


def _first(at: Tensor, field: Tensor, name: str) -> Tensor:
    """Numbers of h, to broadcast against the field of this name."""
    lead = 1 if name in ("xx", "yy") else 2
    samples = (len(at),) if lead == 1 else (len(at), 1) if name == "xy" else (1, len(at))
    ones = (1,) * (field.ndim - lead - (at.ndim - 1))
    return at.reshape(*samples, *at.shape[1:], *ones)


def _second(at: Tensor, name: str, space: int) -> Tensor:
    """Numbers of g, to broadcast against the field of this name; `space` axes are those of h."""
    samples = (len(at),) if name in ("xx", "yy") else (1, len(at)) if name == "xy" else (len(at), 1)
    return at.reshape(*samples, *(1,) * space, *at.shape[1:])


def data_cross(x_h: Tensor, x_g: Tensor, y_h: Tensor, y_g: Tensor, *, ntk: bool) -> Cross:
    """Covariances of two values h and g made of the input alone: products over channels; (n, c, *S) and (m, ...)."""
    c, space = x_h.shape[1], x_h.ndim - 2
    ends = (*x_h.shape[2:], *x_g.shape[2:])
    (xh, xg, yh, yg) = (v.flatten(2) if v.ndim > 2 else v[..., None] for v in (x_h, x_g, y_h, y_g))
    xx, yy = torch.einsum("acp,acq->apq", xh, xg) / c, torch.einsum("acp,acq->apq", yh, yg) / c
    xy, yx = torch.einsum("acp,bcq->abpq", xh, yg) / c, torch.einsum("bcp,acq->abpq", yh, xg) / c
    n, m = len(x_h), len(y_h)
    xy, yx = xy.reshape(n, m, *ends), yx.reshape(n, m, *ends)
    zero = torch.zeros_like(xy) if ntk else None
    return Cross(xx.reshape(n, *ends), yy.reshape(m, *ends), xy, yx, zero, zero, space)


def is_joint(steps: Sequence[Step]) -> bool:
    """Whether covariances between values matter: of summands that share weights, of parts side by side."""
    sources: list[frozenset[str]] = []
    for step in steps:
        below = [sources[i] for i in step.inputs if i >= 0]
        if not step.data and (isinstance(step.op, Beside) or (isinstance(step.op, Sum) and bool(below[0] & below[1]))):
            return True
        sources.append(frozenset({step.op.weight_name}) if isinstance(step.op, Affine) else frozenset().union(*below))
    return False
