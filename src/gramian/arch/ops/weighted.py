"""Values times numbers that are known: masks and lengths of the inputs, constants of each position."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments, starting_ntk
from gramian.arch.ops.base import Call, Op, Parameter, Pending, Read, Value, reads, value
from gramian.arch.ops.combine import Sum
from gramian.errors import BadData, NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


@dataclass(frozen=True)
class Factor(Op):
    """Numbers made of the inputs, one at each position, that multiply the network's values; shape (n, 1, *S).

    Args:
        order: axis k of (c, *S) is axis `order[k]` of what they are made of, whose channels have length one.
        positions: S.
        how: "as is", "inverse" (1 / number) or "other" (1 - number, the other side of a mask).
    """

    order: tuple[int, ...]
    positions: tuple[int, ...]
    how: str = "as is"

    def apply(self, *x: Tensor) -> Tensor:
        f = x[0].permute(0, *(1 + axis for axis in self.order)).expand(len(x[0]), 1, *self.positions)
        if self.how == "as is":
            return f
        if not f.is_floating_point():
            f = f.double()
        if self.how == "inverse":
            return 1 / f
        return 1 - f

    def data_moments(
        self, x: Tensor, x2: Tensor | None, *, all_pairs: bool, ntk: bool, dtype: torch.dtype, gap: bool = False
    ) -> Moments:
        """The numbers themselves are the mean."""
        x = x[:, 0].to(dtype)
        if x2 is None:
            other = x
        else:
            other = x2[:, 0].to(dtype)
        for at, name in ((x, "x"), (other, "x2")):
            bad = ~torch.isfinite(at).reshape(len(at), -1).all(1)
            if bool(bad.any()):
                raise BadData(
                    f"The network's values are divided by zero in row {int(bad.nonzero()[0])} of `{name}`.",
                    where=f"argument `{name}` of a kernel",
                    why="a length, or a count of the positions that a mask keeps, is zero",
                    fix="drop empty rows, or divide by count.clamp(min=1)",
                )
        # not random: second moments are products of the numbers
        xx = x * x
        if x2 is None:
            yy = xx
        else:
            yy = other * other
        xy = x[:, None] * other
        return Moments(xx, yy, xy, starting_ntk(xy, ntk), x, other, position_axes=len(self.positions))

    def describe(self) -> str:
        return self.how


@reads(
    "aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar",
    "aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.masked_fill_.Scalar", "aten.masked_fill_.Tensor",
)  # fmt: skip
@dataclass(frozen=True)
class Masked(Op):
    r"""Values times numbers of the input: `h * mask`, `h / lengths`, `where(mask, h, 0.)`, `h.masked_fill(~mask, 0.)`.

    $K[i, j] \mapsto m_i(x)\, m_j(y)\, K[i, j]$ and the same for the NTK; the numbers are the same for all channels.
    """

    any_layout: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Call) -> Read:
        if "where" in call.target:
            mask, on, off = call.args
        else:
            on, mask, off = call.args
        mask = value(mask, "the mask")
        if not mask.data:
            raise NoLimit(
                "A mask is computed from random values.",
                why="then it is not independent of what it masks, and no function of one value alone",
                fix="compute the mask from the input; or gramian.monte_carlo(module, x)",
            )
        if "fill" in call.target:  # where the mask is True, the filling
            return _chosen(mask, on, off, inside="other")
        return _chosen(mask, on, off, inside="as is")

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * x[1].to(x[0].dtype)

    def limit(self, *m: Moments) -> Moments:
        at_x, at_y = m[1].mean_x, m[1].mean_y
        assert at_x is not None
        assert at_y is not None
        return m[0].times(at_x, at_y)


def _chosen(mask: Value, on: Any, off: Any, inside: str) -> Read:
    """`on` where the mask is True, else `off`; one of them may be zero."""
    if inside == "other":
        outside = "as is"
    else:
        outside = "other"
    parts: list[tuple[Value, str]] = []
    for part, how in ((on, inside), (off, outside)):
        number = _constant(part)
        if number is None:
            parts.append((value(part, "what is masked"), how))
        elif number != 0:
            if math.isfinite(number):
                why = "there is a rule for zeros, which are the same for all channels and samples"
            else:
                why = "there is a rule for zeros; an infinity is for a softmax, or for a maximum"
            raise NoLimit(
                f"Masked positions are filled with {number:g}.",
                why=why,
                fix="fill with 0., where the mask is the same for all channels",
            )
    if len(parts) == 1:
        return weighted(parts[0][0], mask, parts[0][1])
    (a, of_a), (b, of_b) = parts
    if a.shape != b.shape or a.order != b.order:
        raise NoLimit(
            f"Values of shapes {a.user_shape} and {b.user_shape} on the two sides of a mask.",
            why="a mask chooses between two values at each position, and these have others",
            fix="two values of one shape, or a plain number on one side",
        )
    sides = []
    for h, how in ((a, of_a), (b, of_b)):
        op, inputs, layout = weighted(h, mask, how)
        sides.append(Pending(op, inputs, h.shape, layout))
    return Sum(1.0), tuple(sides), a.layout


def _constant(part: Any) -> float | None:
    """A number, given as such, as a tensor or by zeros_like; None for values."""
    if isinstance(part, Value):
        return part.number
    if isinstance(part, Tensor):
        if part.numel():
            same = bool((part == part.flatten()[0]).all())
        else:
            same = False
        if same:
            return float(part.flatten()[0])
        return math.nan
    if isinstance(part, Parameter) or part is None:
        return None
    return float(part)


def weighted(h: Value, numbers: Value, how: str) -> tuple[Op, tuple[Value | Pending, ...], tuple[int, ...]]:
    """The product of the network's values and numbers of the input, or of the numbers' inverse."""
    mine, theirs = h.user_shape, numbers.user_shape
    channel = h.order.index(0)
    wanted = [*mine]
    wanted[channel] = 1
    fits = len(mine) == len(theirs) and all(t in (1, s) for s, t in zip(wanted, theirs, strict=True))
    if h.data or not numbers.data or not fits:
        if h.data != numbers.data:
            how_else = ", one of them the input itself."
        else:
            how_else = " by broadcasting."
        raise NoLimit(
            f"Values of shapes {mine} and {theirs} are multiplied or divided{how_else}",
            why="a product has a rule for two values of one shape that both grow with the width, and for numbers of "
            f"the input that are the same for all channels, of shape (n, {', '.join(map(str, wanted))}) here",
            fix="a mask has length one on the channels' axis, mask[:, :, None]; put a Linear or Conv on the "
            "input; for a gate of each channel that all positions share (squeeze and excitation), "
            "gramian.monte_carlo(module, x)",
        )
    order = tuple(numbers.order[h.order.index(axis)] for axis in range(len(mine)))
    factor = Pending(Factor(order, h.shape[1:], how), (numbers,), (1, *h.shape[1:]))
    return Masked(), (h, factor), h.layout


@dataclass(frozen=True, eq=False)
class PerPosition(Op):
    """Values times a constant at each position, the same for all samples and channels: a buffer."""

    any_layout: ClassVar[bool] = True

    factor: Tensor  # shape S

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor.to(x[0])

    def limit(self, *m: Moments) -> Moments:
        def times(field: Tensor, axes: tuple[int, ...]) -> Tensor:
            shape = [1] * field.ndim
            for axis, size in zip(axes, self.factor.shape, strict=True):
                shape[axis] = size
            return field * self.factor.to(field).reshape(shape)

        return m[0].map_positions(times)


def per_position(h: Value, constant: Tensor, inverse: bool) -> tuple[Op, tuple[Value, ...], tuple[int, ...]]:
    """The product, or the quotient, of the network's values and a constant tensor."""
    if h.groups:
        raise NoLimit(
            f"Channels that are split into {' x '.join(map(str, h.groups))} are multiplied by a constant of shape "
            f"{tuple(constant.shape)}.",
            why="its numbers, such as the angles of rotary positions, are not those of a head of another width",
            fix="leave it out if this rotates queries and keys of a layer each, with scores over the width of a head: "
            "their limit is zero with it and without it, and so the kernel is the same",
        )
    shape = (1,) * (len(h.shape) + 1 - constant.ndim) + tuple(constant.shape)
    mine = (1, *h.user_shape)
    channel = h.order.index(0) + 1
    if len(shape) != len(mine) or any(t not in (1, s) for s, t in zip(mine, shape, strict=True)) or shape[channel] != 1:
        raise NoLimit(
            f"Values of shape {h.user_shape} are multiplied by a constant of shape {tuple(constant.shape)}.",
            why="there is a rule for a constant at each position, the same for all samples and channels",
            fix="a buffer with length one on the channels' axis, or a plain Python number",
        )
    sizes = [*mine]
    sizes[channel] = 1
    full = constant.detach().reshape(shape).expand(sizes)[0]
    by_axis = full.permute(*(h.order.index(axis) for axis in range(len(h.shape))))[0]
    if inverse:
        return PerPosition(by_axis.reciprocal()), (h,), h.layout
    return PerPosition(by_axis.clone()), (h,), h.layout


def masked_cross(c: Cross, at_x: Tensor, at_y: Tensor) -> Cross:
    """Covariances of h with another value, where h is multiplied by numbers at its inputs and positions."""

    def times(field: Tensor, at: Tensor, samples: tuple[int, ...]) -> Tensor:
        ones = (1,) * (field.ndim - len(samples) - c.position_axes)
        return field * at.reshape(*samples, *at.shape[1:], *ones)

    of_xy, of_yx = (len(at_x), 1), (1, len(at_y))
    return replace(
        c,
        xx=times(c.xx, at_x, (len(at_x),)),
        yy=times(c.yy, at_y, (len(at_y),)),
        xy=times(c.xy, at_x, of_xy),
        yx=times(c.yx, at_y, of_yx),
        theta_xy=None if c.theta_xy is None else times(c.theta_xy, at_x, of_xy),
        theta_yx=None if c.theta_yx is None else times(c.theta_yx, at_y, of_yx),
    )
