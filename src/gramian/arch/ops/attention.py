"""Attention whose scores are divided by the width of a head: at infinite width its weights are no longer random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import GROUPED, Call, EarlierStep, Op, Result, Value, reads, value
from gramian.arch.ops.linear_attention import LinearAttention
from gramian.arch.ops.pointwise import LineResult
from gramian.arch.ops.scale import Scale
from gramian.arch.ops.score_program import CAUSAL, SOFTMAX, InputOperand, ScoreProgram, run_on_scores
from gramian.errors import BadArgument, NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


@reads("aten.scaled_dot_product_attention.default")
@dataclass(frozen=True, eq=False)
class Attention(Op):
    r"""`softmax(c / d * q @ k.mT + mask) @ v` over the positions, for each head of d channels.

    As d grows, the scores come to $L_{ij}(x) = c\, E[q_i k_j]$, which is not random: zero for keys and queries of
    different weights, $c\,K_{ij}(x, x)$ where one layer makes both. So the weights are a matrix $A(x)$ =
    softmax(L(x) + mask), or another function of the scores, that maps positions:
    $K(x, y) \mapsto A(x)\,K(x, y)\,A(y)^\top$, and $\Theta$ the same, because what flows back through the scores
    vanishes like 1/d (Hron et al. 2020, arXiv:2006.10540, where the scaling by 1/d is Yang 2019's, arXiv:1910.12478).
    A scale that is given as a number s is read as c/d with c = s d, and c is kept when the width changes; the default,
    $1/\sqrt d$, leaves the scores random, and is refused.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    factor: float  # c
    lines: ScoreProgram
    heads: int
    head_at: int  # the axis of the heads in the user's weights, (n, ..., S, T); 0 for none
    orders: tuple[tuple[int, ...], ...]  # of the positions of q, k, v, as stored: the axes with one attention each, S
    given: tuple[tuple[int, ...], ...] = ()  # layouts of what the lines take from the input

    @classmethod
    def read(cls, call: Call) -> Attended:  # type: ignore[override]
        q, k, v, mask, dropout, causal, scale, shared_keys = (*call.args, None, False)[:8]
        q, k, v = (value(x, f"the {name} of attention") for x, name in ((q, "query"), (k, "key"), (v, "value")))
        if dropout:
            raise NoLimit(
                f"Dropout of attention weights in training mode, p = {dropout}.",
                why="which weights are dropped differs for each sample, and no rule here covers their products",
                fix="call .eval() on the module first, and pass dropout_p=self.p if self.training else 0.0",
            )
        if shared_keys and q.groups != k.groups:
            raise NoLimit(
                "Heads share their keys and values by enable_gqa.",
                why="copies of heads are read where they are made",
                fix="k.repeat_interleave(heads // k.shape[1], dim=1) and the same of v before, without enable_gqa: it "
                "computes the same",
            )
        lines: list[tuple[str, tuple[Any, ...]]] = []
        if causal:
            allowed = torch.ones(q.user_shape[-2], k.user_shape[-2], dtype=torch.bool).tril()
            lines.append((CAUSAL, (LineResult(-1), allowed)))
        given: tuple[Value, ...] = ()
        if mask is not None:
            if isinstance(mask, Value) and mask.data:
                given = (mask,)
            if isinstance(mask, Value):
                hides = mask.boolean
            else:
                hides = isinstance(mask, Tensor) and mask.dtype == torch.bool
            if given:
                arg = InputOperand(0)
            else:
                arg = mask
            at = LineResult(len(lines) - 1)
            name = "aten.add.Tensor"
            if hides:
                name = CAUSAL
            lines.append((name, (at, arg)))
        lines.append((SOFTMAX, (LineResult(len(lines) - 1), -1)))
        if scale is None:
            scale = q.user_shape[-1] ** -0.5
        return Attended(q, k, v, float(scale), tuple(lines), given)

    def apply(self, *x: Tensor) -> Tensor:
        q, k, v = (self._split(t, order) for t, order in zip(x, self.orders, strict=False))
        # c / d, with the d of this width: the sum over d channels becomes c times their average
        scores = torch.einsum("nhdbs,nhdbt->nhbst", q, k) * (self.factor / q.shape[2])
        batch = x[0].permute(0, 1, *(2 + a for a in self.orders[0])).shape[2:-1]
        scores = scores.reshape(*scores.shape[:2], *batch, *scores.shape[-2:])
        a = self._weights(scores, x[3:])
        out = torch.einsum("nhbst,nhdbt->nhdbs", a.expand(-1, self.heads, -1, -1, -1), v)
        return out.reshape(len(out), x[2].shape[1], *batch, out.shape[-1])

    def _split(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        """Channels in heads, positions in those that attend and those that do not; (n, h, d, b, s)."""
        x = x.permute(0, 1, *(2 + a for a in order))
        return x.reshape(len(x), self.heads, x.shape[1] // self.heads, -1, x.shape[-1])

    def _weights(self, scores: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        """Attention weights of scores (n, heads or 1, *batch, s, t): (n, heads or 1, b, s, t)."""
        if self.head_at:
            seen = scores.movedim(1, self.head_at)
        else:
            seen = scores.squeeze(1)
        views = [g.permute(0, *(1 + axis for axis in order)) for g, order in zip(given, self.given, strict=True)]
        a = run_on_scores(self.lines, seen, views)
        if self.head_at:
            a = a.movedim(self.head_at, 1)
        else:
            a = a.unsqueeze(1)
        return a.reshape(len(a), a.shape[1], -1, *a.shape[-2:])

    def weights(
        self, cross: Cross | None, q: Moments, k: Moments, given: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The weights for each x and each y, from the covariances of q with k; (n, heads or 1, b, s, t), and (m, ...).

        `given` are the numbers that the lines take from the input, at x and at y.
        """
        if self.heads > 1 and not (q.exchangeable_channels and k.exchangeable_channels):
            raise _unlike("queries and keys")
        weights = []
        for side, (name, of) in enumerate((("xx", q.xx), ("yy", q.yy))):
            if cross is None:
                covariances = of.new_zeros(len(of), *q.positions, *k.positions)
            else:
                covariances = getattr(cross, name)
            field = self._equal(covariances) * self.factor
            weights.append(self._weights(field.unsqueeze(1), tuple(numbers[side] for numbers in given)))
        return weights[0], weights[1]

    def _equal(self, field: Tensor) -> Tensor:
        """Covariances at equal positions on the axes with one attention each, of covariances (n, *Sq, *Sk)."""
        q_order, k_order, _ = self.orders
        position_axes = len(q_order)
        field = field.permute(0, *(1 + a for a in q_order), *(1 + position_axes + a for a in k_order))
        batch, s, t = field.shape[1:position_axes], field.shape[position_axes], field.shape[-1]
        b = math.prod(batch)
        equal = field.reshape(len(field), b, s, b, t).diagonal(dim1=1, dim2=3).movedim(-1, 1)
        return equal.reshape(len(field), *batch, s, t)

    def limit(self, *m: Moments, weights: tuple[Tensor, Tensor] | None = None) -> Moments:
        """`weights` are the matrices for each x and each y."""
        assert weights is not None
        v = m[2]
        a_x, a_y = weights
        if a_x.shape[1] > 1 and not v.exchangeable_channels:
            raise _unlike("values")
        same = v.yy is v.xx
        ordered = v.permuted(self.orders[2])
        xx = _transformed(ordered.xx, a_x, None)
        if same:
            yy, second = xx, a_x
        else:
            yy, second = _transformed(ordered.yy, a_y, None), a_y
        moments = replace(
            ordered,
            xx=xx,
            yy=yy,
            xy=_transformed(ordered.xy, a_x, second),
            theta=None if ordered.theta is None else _transformed(ordered.theta, a_x, second),
            exchangeable_channels=ordered.exchangeable_channels and a_x.shape[1] == 1,
        )
        if ordered.mean_x is None or ordered.mean_y is None:
            return moments
        return replace(moments, mean_x=_of_mean(ordered.mean_x, a_x), mean_y=_of_mean(ordered.mean_y, a_y))

    def first(self, cross: Cross, weights: tuple[Tensor, Tensor]) -> Cross:
        """Covariances of the result with another value, from those of v with it."""
        c = cross.permuted(self.orders[2])
        a_x, a_y = weights

        def mapped(field: Tensor, a: Tensor, at: int) -> Tensor:
            """`a` on the first positions of a field, its samples on the field's axis `at`."""
            positions = field.shape[field.ndim - (c.xx.ndim - 1) :][: c.position_axes]
            lead = field.shape[: field.ndim - (c.xx.ndim - 1)]
            rest = field.shape[len(lead) + c.position_axes :]
            flat = field.reshape(*lead, a.shape[2], positions[-1], -1)
            # linear in the values, so the mean over the heads may be taken of the weights
            if len(lead) == 1:
                matrix = a.mean(1)
            else:
                matrix = a.mean(1).unsqueeze(1 - at)
            return (matrix @ flat).reshape(*lead, *positions[:-1], a.shape[-2], *rest)

        return replace(
            c,
            xx=mapped(c.xx, a_x, 0),
            yy=mapped(c.yy, a_y, 0),
            xy=mapped(c.xy, a_x, 0),
            yx=mapped(c.yx, a_y, 1),
            theta_xy=None if c.theta_xy is None else mapped(c.theta_xy, a_x, 0),
            theta_yx=None if c.theta_yx is None else mapped(c.theta_yx, a_y, 1),
        )

    def needs_pairs(self, out: bool) -> bool:
        return True

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        if any(n % self.heads for n in c[:3]):
            raise BadArgument(
                f"Attention with {self.heads} heads does not split {', '.join(map(str, c[:3]))} channels evenly.",
                where="Architecture.network",
                why="each head has as many channels as the others",
                fix=f"a width that {self.heads} divides: width={max(c[:3]) // self.heads * self.heads or self.heads}",
            )
        return c[2]

    def describe(self) -> str:
        # of "aten.add.Tensor" the "add"
        named = [name.removeprefix("aten.").split(".")[0].strip("_") for name, _ in self.lines]
        if self.head_at:
            heads = f", {self.heads} heads"
        else:
            heads = ""
        return f"{', '.join(n.replace('safe_', '') for n in named) or 'linear'}{heads}, scale {self.factor:.4g} / width"


@dataclass(frozen=True)
class Attended:
    """`lines(scale * q @ k.mT) @ v` as it was read; channels, or those of a head, are on the last axes.

    `after` is the order in which the user has the axes of the result, None for that of the queries.
    """

    q: Value
    k: Value
    v: Value
    scale: float
    lines: ScoreProgram
    given: tuple[Value, ...] = ()
    after: tuple[int, ...] | None = None

    def result(self, steps: Sequence[EarlierStep]) -> Result:
        """The op, or a refusal. A constant that multiplies queries or keys counts in the scale."""
        scale, values = self.scale, [self.q, self.k]
        for at, x in enumerate(values):
            while x.index >= 0:
                op = steps[x.index].op
                if not isinstance(op, Scale):
                    break
                scale *= op.factor
                x = values[at] = replace(x, index=steps[x.index].inputs[0])
        attention = _attention(values[0], values[1], self.v, scale, self.lines, self.given)
        if self.after is None:
            return attention
        return replace(attention, layout=tuple(attention.layout[k] for k in self.after))


def _attention(q: Value, k: Value, v: Value, scale: float, lines: ScoreProgram, given: tuple[Value, ...]) -> Result:
    for x, name in ((q, "queries"), (k, "keys"), (v, "values")):
        if x.data:
            raise NoLimit(
                f"The {name} of attention are made from the input alone.",
                why="they have a fixed number of channels, and there is a rule for a number that grows",
                fix="put a Linear on the input before",
            )
        channels = 0
        if x.groups:
            channels = GROUPED + 1
        if x.order[-1] != channels or len(x.groups) not in (0, 2):
            raise NoLimit(
                f"The {name} of attention have shape (n, {', '.join(map(str, x.user_shape))}), where the last axis is "
                "not the channels, or those of a head.",
                why="the scores are sums over channels, of which each head has as many as the others",
                fix="h.unflatten(-1, (heads, -1)).transpose(1, 2), of shape (n, heads, positions, channels)",
            )
    if {x.order[:-2] for x in (k, v)} != {q.order[:-2]} or {x.user_shape[:-2] for x in (k, v)} != {q.user_shape[:-2]}:
        shapes = ", ".join(str(("n", *x.user_shape)).replace("'", "") for x in (q, k, v))
        raise NoLimit(
            f"Queries, keys and values of shapes {shapes}, whose axes before the last two differ.",
            why="there is a rule for as many heads of each, without broadcasting",
            fix="as many heads of keys and values as of queries, and no broadcasting",
        )
    for _, args in lines:
        if any(not isinstance(a, LineResult | InputOperand | Tensor | float | int | None) for a in args):
            raise NoLimit(
                "A parameter, or a value of the network, acts on the scores of attention.",
                why="there is one number for a pair of positions, which stays random when the width grows",
                fix="a mask that is fixed or made from the input; learned positions are added to the values",
            )
    shape, layout = _result_axes(q, v)
    many = not lines and len(q.shape) == 2 and q.groups and q.groups == k.groups == v.groups
    if many and _by_root(scale, q.groups[1]):
        return Result(LinearAttention(scale, q.groups[1]), (q, k, v), shape, layout, v.groups)
    factor = _factor(scale, q.user_shape[-1], lines)
    heads, head_at = 1, 0
    if q.groups:
        heads, head_at = q.groups[0], 1 + q.order.index(GROUPED)
    orders = tuple(tuple(a - 1 for a in x.order[:-1] if a < GROUPED) for x in (q, k, v))
    op = Attention(factor, lines, heads, head_at, orders, tuple(g.order for g in given))
    return Result(op, (q, k, v, *given), shape, layout, v.groups)


def _result_axes(q: Value, v: Value) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape, channels first, and layout of weights times values, in the order of the queries."""
    # positions are numbered in the order of the queries
    place = {a: k for k, a in enumerate((a for a in q.order[:-1] if a < GROUPED), 1)}
    layout = tuple(place.get(a, a) for a in q.order[:-1]) + v.order[-1:]
    return (v.shape[0], *(n for a, n in zip(q.order[:-1], q.user_shape, strict=False) if a < GROUPED)), layout


def _by_root(scale: float, d: int) -> bool:
    """Whether a scale is one over the root of the width."""
    return math.isclose(scale * math.sqrt(d), 1, rel_tol=1e-6)


def _factor(scale: float, d: int, lines: ScoreProgram) -> float:
    """c of a scale c / d, or a refusal of scores that stay random as d grows."""
    softmax = any("softmax" in name for name, _ in lines)
    if softmax:
        kind = "Softmax attention"
    else:
        kind = "Attention"
    if _by_root(scale, d):
        raise NoLimit(
            f"{kind} with its scores divided by the square root of the width of a head, here {d}.",
            why="however wide the network is, these scores stay random, and what they weight is a mixture of Gaussians",
            fix="divide by the width itself, F.scaled_dot_product_attention(q, k, v, scale=1 / q.shape[-1]), also "
            "in place of nn.MultiheadAttention; or gramian.monte_carlo(module, x), any module's mean kernel with its "
            "standard error, or its empirical_ntk",
        )
    if scale == 1:
        raise NoLimit(
            f"{kind} whose scores are not divided by the width of a head, here {d}.",
            why="they grow with the width without bound",
            fix="divide by the width, q @ k.mT / q.shape[-1]; or gramian.monte_carlo(module, x)",
        )
    return scale * d


def _unlike(which: str) -> NoLimit:
    return NoLimit(
        f"Heads of attention are made of {which} whose channels have different laws.",
        why="channels were concatenated before, and each head sees others of them",
        fix="put a Linear between the concatenation and the attention",
    )


def _transformed(field: Tensor, a_x: Tensor, a_y: Tensor | None) -> Tensor:
    """`A K A'`, averaged over the heads, on the last axes of a field; with one matrix for (n, *S, *S)."""
    if a_y is None:
        lead, sides, second = 1, "nbij,nbjcl,nckl->nbick", a_x
    else:
        lead, sides, second = 2, "nbij,nmbjcl,mckl->nmbick", a_y
    batch = field.shape[lead : lead + (field.ndim - lead) // 2 - 1]
    (b, s, t), heads = a_x.shape[2:], a_x.shape[1]
    flat = field.reshape(*field.shape[:lead], b, t, b, t)
    # each head has weights of its own, and a layer on top averages over the heads
    total = torch.stack([torch.einsum(sides, a_x[:, h], flat, second[:, h]) for h in range(heads)]).mean(0)
    return total.reshape(*field.shape[:lead], *batch, s, *batch, s)


def _of_mean(mean: Tensor, a: Tensor) -> Tensor:
    """Weights times means; (n, *S)."""
    weighted = torch.einsum("nhbst,nbt->nbs", a, mean.reshape(len(mean), a.shape[2], -1)) / a.shape[1]
    return weighted.reshape(*mean.shape[:-1], a.shape[-2])
