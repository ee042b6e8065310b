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
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gramian.arch.cross_covariances import Cross, at_first, at_second, itself, outer
from gramian.arch.moments import Moments
from gramian.arch.ops import (
    Activation,
    Affine,
    Attention,
    Beside,
    Concat,
    Copies,
    Graph,
    Masked,
    Normalization,
    Product,
    Reshape,
    Shift,
    Sum,
)  # fmt: skip
from gramian.arch.ops.linear_attention import LinearAttention, refuse_dependence
from gramian.arch.ops.weighted import masked_cross
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.structure import Step


class Joint:
    """The covariances between the values of one network on one tile of inputs, each computed once.

    Args:
        steps: of the architecture.
        values: moments of each step so far, all pairs of positions; a list that grows while the network is walked.
        data: covariances of two values that are made of the input alone, by their step numbers.
        numbers: such a value itself, at x and at y.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        values: list[Moments | None],
        data: Callable[[int, int, bool], Cross],
        numbers: Callable[[int], tuple[Tensor, Tensor]],
    ) -> None:
        self.steps, self.values, self.data, self.numbers = steps, values, data, numbers
        self.attended: dict[int, tuple[Tensor, Tensor]] = {}
        self.known: dict[tuple[int, int], Cross | None] = {}

    def cross(self, s: int, t: int) -> Cross | None:
        """Of the values of steps s and t; None where it is zero."""
        if (s, t) not in self.known:
            if s >= t:
                self.known[s, t] = self._cross(s, t)
            else:
                turned = self.cross(t, s)
                if turned is None:
                    self.known[s, t] = None
                else:
                    self.known[s, t] = turned.swapped()
        return self.known[s, t]

    def attention(self, number: int) -> tuple[Tensor, Tensor]:
        """The weights of the attention of this step, at x and at y."""
        op, (q, k, _, *given) = self.steps[number].op, self.steps[number].inputs
        assert isinstance(op, Attention)
        if number not in self.attended:
            numbers = [self.numbers(i) for i in given]
            self.attended[number] = op.weights(self.cross(q, k), self._value(q), self._value(k), numbers)
        return self.attended[number]

    def check_independent(self, numbers: tuple[int, ...]) -> None:
        """Raises NoLimit where two of these steps' values are correlated."""
        if any(self.cross(a, b) is not None for a, b in combinations(numbers, 2)):
            raise refuse_dependence()

    def _cross(self, s: int, t: int) -> Cross | None:
        """Of step s with an earlier step t, or with itself."""
        if s == t and s >= 0:  # of the network's input there are only numbers, no moments
            return itself(self._value(s))
        if self._is_data(s) or self._is_data(t):
            if self._is_data(s) and self._is_data(t):
                return self.data(s, t, self._has_ntk())
            return self._with_data(s, t)
        op = self.steps[s].op
        if isinstance(op, Concat) and t >= 0 and self.steps[t].op == op:
            return self._channel_by_channel(s, t, op.shares)
        leaves: tuple[type, ...]
        if isinstance(op, Concat):
            leaves = (Affine, Activation, Concat)
        else:
            leaves = (Affine, Activation)
        if isinstance(op, leaves) and t >= 0 and not isinstance(self.steps[t].op, leaves):
            other = self._through(t, s)
            if other is None:
                return None
            return other.swapped()
        if isinstance(op, Affine):
            return self._affine(s, t)
        if isinstance(op, Activation):
            return self._activation(s, t)
        return self._through(s, t)

    def _through(self, s: int, t: int) -> Cross | None:
        """By the linear op of step s, whichever of s and t is the later one."""
        op, inputs = self.steps[s].op, self.steps[s].inputs
        self._refuse_mixing(s)
        if isinstance(op, Copies):
            if self.cross(inputs[0], t) is None:
                return None
            raise NoLimit(
                "Two values that share random weights, one of them of heads that are copied.",
                where=self.steps[s].where,
                why="a channel then meets copies of others, for which there is no rule",
                fix="give queries, keys and values a Linear each; or gramian.monte_carlo(module, x)",
            )
        if isinstance(op, Masked | Graph):
            c, by = self.cross(inputs[0], t), self._value(inputs[1])
            assert by.mean_x is not None
            assert by.mean_y is not None
            if isinstance(op, Graph):
                act = op.first
            else:
                act = masked_cross
            if c is None:
                return None
            return act(c, by.mean_x, by.mean_y)
        if isinstance(op, Attention):
            below = self.cross(inputs[2], t)
            if below is None:
                return None
            return op.first(below, self.attention(s))
        parts = [self.cross(i, t) for i in inputs]
        if isinstance(op, Sum):
            a, b = parts[0], None if parts[1] is None else parts[1].scaled(op.alpha)
            if a is None or b is None:
                return b if a is None else a
            return a.plus(b)
        if isinstance(op, Beside):
            whole = [self._zero(i, t) if part is None else part for i, part in zip(inputs, parts, strict=True)]
            if any(part is not None for part in parts):
                return op.joint(whole)
            return None
        if isinstance(op, Shift):
            return self._shifted(None if parts[0] is None else parts[0].scaled(op.factor), op.constant, s, t)
        return None if parts[0] is None else op.limit(parts[0])  # type: ignore[arg-type, return-value]

    def _refuse_mixing(self, s: int) -> None:
        """Raises NoLimit for a step through which no rule follows shared weights."""
        op = self.steps[s].op
        flattens = isinstance(op, Reshape) and len(op.after) == 1
        if not isinstance(op, Product | LinearAttention | Normalization | Concat) and not flattens:
            return
        through, fix = op.name, "give each branch its own weights; or gramian.monte_carlo(module, x)"
        if flattens:
            through, fix = "Flatten", "add them before the Flatten: it computes the same"
        raise NoLimit(
            f"Two values that share random weights, one of them through {through}.",
            where=self.steps[s].where,
            why="there is a rule for shared weights through layers, activations, sums and maps of the positions",
            fix=fix,
        )

    def _channel_by_channel(self, s: int, t: int, shares: tuple[float, ...]) -> Cross | None:
        """Of two concatenations of channels with the same shares: each part meets its counterpart."""
        total = None
        for a, b, share in zip(self.steps[s].inputs, self.steps[t].inputs, shares, strict=True):
            part = self.cross(a, b)
            if part is not None:
                part = part.scaled(share)
                if total is None:
                    total = part
                else:
                    total = total.plus(part)
        return total

    def _shifted(self, c: Cross | None, constant: float, s: int, t: int) -> Cross | None:
        """Step s, a constant plus what has the covariances `c` with step t: the constant meets the mean of t."""
        h, g = self._value(s), self._value(t)
        if g.mean_x is None or g.mean_y is None:
            return c
        c = self._zero(s, t) if c is None else c
        # E (c + h) g = E h g + c E g
        of_x, of_y = (xx.new_full((len(xx), *h.positions), constant) for xx in (h.xx, h.yy))
        return replace(
            c,
            xx=c.xx + outer(of_x, g.mean_x, "xx"),
            yy=c.yy + outer(of_y, g.mean_y, "yy"),
            xy=c.xy + outer(of_x, g.mean_y, "xy"),
            yx=c.yx + outer(of_y, g.mean_x, "yx"),
        )

    def _affine(self, s: int, t: int) -> Cross | None:
        """A layer with a layer or an activation below it."""
        op, other = self.steps[s].op, self.steps[t].op
        assert isinstance(op, Affine)
        if isinstance(other, Activation):
            c = self._stein(t, s)
            if c is None:
                return None
            return c.swapped()
        if not isinstance(other, Affine) or other.source != op.source:
            return None
        # The same weight twice: sigma_w^2 avg E[h g] + sigma_b^2. Different weights are independent, with mean zero.
        below = self.cross(self.steps[s].inputs[0], self.steps[t].inputs[0])
        if below is not None:
            return op.joint(op.average(below))  # type: ignore[arg-type]
        if op.sigma_b:
            return op.joint(self._zero(s, t))
        return None

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
        # E phi(u) phi(v) is the dual at the covariance of u and v, and the NTK below is multiplied by E phi'(u)
        # phi'(v).
        sides = {"xx": (ux, vx), "yy": (uy, vy), "xy": (ux, vy), "yx": (uy, vx)}
        duals = {}
        for name, (q1, q2) in sides.items():
            field = getattr(below, name)
            duals[name] = op.dual(at_first(q1, field, name), field, at_second(q2, name, below.position_axes))
        theta_xy, theta_yx = (
            None if old is None else old * duals[name][1]
            for old, name in ((below.theta_xy, "xy"), (below.theta_yx, "yx"))
        )
        return Cross(
            duals["xx"][0], duals["yy"][0], duals["xy"][0], duals["yx"][0], theta_xy, theta_yx, below.position_axes
        )

    def _stein(self, s: int, t: int) -> Cross | None:
        """The activation of step s with the Gaussian value of step t."""
        op, u = self.steps[s].op, self.steps[s].inputs[0]
        assert isinstance(op, Activation)
        below = self.cross(u, t)
        if below is None:
            return None
        # Stein's lemma: E phi(u) v = E phi'(u) E[u v]
        at_x, at_y = (op.mean_slope(q) for q in self._value(u).variances())

        def times(field: Tensor, at: Tensor, name: str) -> Tensor:
            return field * at_first(at, field, name)

        return Cross(
            times(below.xx, at_x, "xx"),
            times(below.yy, at_y, "yy"),
            times(below.xy, at_x, "xy"),
            times(below.yx, at_y, "yx"),
            None if below.theta_xy is None else times(below.theta_xy, at_x, "xy"),
            None if below.theta_yx is None else times(below.theta_yx, at_y, "yx"),
            below.position_axes,
        )

    def _means(self, s: int, t: int) -> Cross | None:
        """Of two independent values: the product of their means."""
        a, b = self._value(s), self._value(t)
        if a.mean_x is None or a.mean_y is None or b.mean_x is None or b.mean_y is None:
            return None
        like = {
            name: outer(f, g, name)
            for name, f, g in (
                ("xx", a.mean_x, b.mean_x),
                ("yy", a.mean_y, b.mean_y),
                ("xy", a.mean_x, b.mean_y),
                ("yx", a.mean_y, b.mean_x),
            )
        }
        if self._has_ntk():
            zero = torch.zeros_like(like["xy"])
        else:
            zero = None
        return Cross(like["xx"], like["yy"], like["xy"], like["yx"], zero, zero, a.position_axes)

    def _zero(self, s: int, t: int) -> Cross:
        """Zeros, shaped as the covariance of two values."""
        a, b = self._value(s), self._value(t)
        ends = (*a.positions, *b.positions)
        n, m = a.xy.shape[:2]
        xx, yy, xy = (a.xy.new_zeros(*lead, *ends) for lead in ((n,), (m,), (n, m)))
        if a.theta is not None:
            theta = xy
        else:
            theta = None
        return Cross(xx, yy, xy, xy, theta, theta, a.position_axes)

    def _with_data(self, s: int, t: int) -> Cross | None:
        if self._is_data(s):
            random = t
        else:
            random = s
        if self._value(random).mean_x is None:
            return None
        raise NoLimit("A random value with a mean is compared with the input itself.", where=self.steps[s].where)

    def _is_data(self, s: int) -> bool:
        return s < 0 or self.steps[s].data

    def _has_ntk(self) -> bool:
        return any(v is not None and v.theta is not None for v in self.values)

    def _value(self, s: int) -> Moments:
        moments = self.values[s]
        assert moments is not None
        return moments
