"""Second moments of a layer's values over the random weights: all that an infinitely wide network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gramian.duals import covariance_gap


@dataclass(frozen=True)
class Gap:
    """`sqrt(q1 q2) - k` of one covariance, the field `of`, and `sqrt(q1 q2) + k`; see `duals.covariance_gap`."""

    of: Tensor
    size: Tensor
    opposite: Tensor | None = None  # None where a sum has its digits, or where it was not carried

    def moved(self, of: Tensor, apply: Callable[[Tensor, int], Tensor]) -> Gap:
        """Both after a map that only moves entries or takes all times one number."""
        return Gap(of, apply(self.size, 2), None if self.opposite is None else apply(self.opposite, 2))


@dataclass(frozen=True)
class Moments:
    r"""Covariances of one channel between positions and inputs, at infinite width.

    `S` is the shape of the positions, `()` for a vector. With `all_pairs` the fields hold every pair of positions,
    $K[a, b, i, j] = E[h_i(x_a)\, h_j(y_b)]$, and a field's last axes are `(*S, *S)`; without, only equal positions
    $K[a, b, i, i]$, and the last axes are `(*S)`: all that a network which ends in Flatten ever needs.

    Args:
        xx: covariances of each x with itself; shape (n, *S, *S) or (n, *S).
        yy: the same of each y; shape (m, *S, *S) or (m, *S).
        xy: covariances of each x with each y, the NNGP kernel; shape (n, m, *S, *S) or (n, m, *S).
        theta: the NTK, shaped as `xy`; None where it was not asked for.
        mean_x: mean of each x's values; shape (n, *S). None means zero.
        mean_y: the same of each y; shape (m, *S).
        position_axes: number of axes of `S`.
        all_pairs: whether all pairs of positions are held.
        gaussian: whether the values are jointly Gaussian with mean zero.
        exchangeable_channels: whether all channels have the same law; flattening positions into channels ends that.
        sources: the affine layers whose random weights make the values random, given the layers below.
        scale_rate: sum of rates of the trained scales per channel that act on these values. Each adds its rate times
            $h_c(x)\, h_c(y)$ to the NTK of channel c, which is not a number yet: an activation above sees the same
            $h_c$. What averages over channels sees K.
        scale_averaged: whether such products of other values were counted in `theta` by their averages.
        one_sample: whether y is x, so that entry (a, a) is of one sample with itself, and not of two equal ones: all
            that is drawn for a sample, such as dropout's masks, is the same in both.
        still: whether no input requires a gradient, so that equal ones stay equal, whatever is differentiated.
        gap: how far `xy` is below its bound, with more digits than a subtraction gives; None where that is not known.
            It is dropped with the `xy` that it belongs to: an op that knows nothing of it leaves none behind.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    theta: Tensor | None
    mean_x: Tensor | None = None
    mean_y: Tensor | None = None
    position_axes: int = 0
    all_pairs: bool = False
    gaussian: bool = False
    exchangeable_channels: bool = True
    sources: frozenset[str] = frozenset()
    scale_rate: float = 0.0
    scale_averaged: bool = False
    one_sample: bool = False
    still: bool = False
    gap: Gap | None = None

    def __post_init__(self) -> None:
        if self.gap is not None and self.gap.of is not self.xy:
            object.__setattr__(self, "gap", None)

    @property
    def gap_size(self) -> Tensor | None:
        """The numbers of `gap`."""
        if self.gap is None:
            return None
        return self.gap.size

    def with_gap(self, size: Tensor | None, opposite: Tensor | None = None) -> Moments:
        """The same with the gap of `xy`, or without one."""
        return replace(self, gap=None if size is None else Gap(self.xy, size, opposite))

    def gap_plus(self, other: Moments) -> Tensor | None:
        """Gap of the sum of both fields `xy`."""
        if self.gap is None or other.gap is None:
            return None
        q1, q2 = (m.spread(*m.variances()) for m in (self, other))
        return covariance_gap.plus(self.gap.size, q1, other.gap.size, q2)

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape `S`."""
        return tuple(self.xx.shape[1 : 1 + self.position_axes])

    def shift_average(self, average: Callable[[Tensor, tuple[tuple[int, ...], ...]], Tensor]) -> Moments:
        """Fields averaged over a window that moves both positions together, as shared weights do.

        `average(field, axes)` gets one tuple of axes for each axis of `S`: those that the shift moves at once.
        """
        after_average = self.map_covariances(lambda field, lead: average(field, self._axes(lead)))
        if self.gap is None:
            return after_average
        before, after = self.spread(*self.variances()), after_average.spread(*after_average.variances())

        def averaged(field: Tensor) -> Tensor:
            return average(field, self._axes(2))

        # a sum of squared distances stays accurate where variances minus covariances would cancel
        size = covariance_gap.averaged(self.gap.size, before, after, averaged)
        if self.all_pairs:  # where one of two positions leaves the image before the other
            inside = averaged(self.xy.new_ones(1, 1, *self.positions, *self.positions))
            own = _diagonal(inside, 2, self.position_axes)[0]
            (one, two), (r, t) = self.spread(own, own), (covariance_gap.safe_sqrt(q) for q in after)
            size = torch.where((inside == one) & (inside == two), size, (r * t - after_average.xy).clamp_min(0))
        return after_average.with_gap(size)

    def map_positions(self, apply: Callable[[Tensor, tuple[int, ...]], Tensor], *, moves: bool = False) -> Moments:
        """A linear map of the positions, `apply(field, axes of one copy of S)`, on every copy in every field.

        `moves` says that it only moves, copies or drops positions, or makes new ones zero.
        """

        def on_every_copy(field: Tensor, lead: int) -> Tensor:
            ndim = field.ndim
            for first in range(lead, ndim, max(self.position_axes, 1)):
                field = apply(field, tuple(range(first - ndim, first - ndim + self.position_axes)))
            return field

        return self.map_covariances(on_every_copy, moves=moves).map_means(lambda mean: on_every_copy(mean, 1))

    def resized(self, after: tuple[int, ...]) -> Moments:
        """Positions in another shape, in the same order."""
        if self.all_pairs:
            copies = 2
        else:
            copies = 1
        reshaped = self.map_covariances(
            lambda field, lead: field.reshape(*field.shape[:lead], *after * copies), moves=True
        )
        return replace(reshaped.map_means(lambda mean: mean.reshape(len(mean), *after)), position_axes=len(after))

    def permuted(self, order: tuple[int, ...]) -> Moments:
        """Positions with their axes in another order: axis k of the result was axis `order[k]` of `S`."""

        def moved(field: Tensor, lead: int) -> Tensor:
            axes = list(range(lead))
            for first in range(lead, field.ndim, max(self.position_axes, 1)):
                axes += [first + axis for axis in order]
            return field.permute(axes)

        return self.map_covariances(moved, moves=True).map_means(lambda mean: moved(mean, 1))

    def scaled(self, factor: float) -> Moments:
        """Moments of `factor` times the values."""
        scaled = self.map_covariances(lambda field, _: field * factor**2, moves=True)
        return scaled.map_means(lambda mean: mean * factor)

    def averaged(self) -> Moments:
        """The same with the products of trained scales counted by their averages, as sums over channels see them."""
        if not self.scale_rate or self.theta is None:
            return self
        # E over the channels of h_c(x) h_c(y) is K
        return replace(self, theta=self.theta + self.scale_rate * self.xy, scale_rate=0.0)

    def times(self, at_x: Tensor, at_y: Tensor) -> Moments:
        """Moments of the values times a number at each (input, position); shapes (n, *S) and (m, *S)."""
        (x1, x2), (y1, y2), (l, r) = self.spread_self(at_x), self.spread_self(at_y), self.spread(at_x, at_y)
        # E (a h)(b g) = a b E h g: each entry gets the numbers of both its ends
        if not self.all_pairs:  # both ends are at one position
            x2, y2 = x1, y1
        xx, factor = self.xx * (x1 * x2), l * r
        yy = xx
        if self.yy is not self.xx:
            yy = self.yy * (y1 * y2)
        product = replace(
            self,
            xx=xx,
            yy=yy,
            xy=self.xy * factor,
            theta=None if self.theta is None else self.theta * factor,
            mean_x=None if self.mean_x is None else self.mean_x * at_x,
            mean_y=None if self.mean_y is None else self.mean_y * at_y,
        )
        # a gap belongs to factors of one sign
        kept = self.gap is not None and bool((at_x >= 0).all() & (at_y >= 0).all())
        if kept and self.gap is not None:
            return product.with_gap(self.gap.size * factor)
        return product

    def plus(self, at_x: Tensor, at_y: Tensor) -> Moments:
        """Moments of the values plus a number at each (input, position); shapes (n, *S) and (m, *S)."""
        self = self.averaged()
        mean_x = torch.zeros_like(at_x) if self.mean_x is None else self.mean_x
        mean_y = torch.zeros_like(at_y) if self.mean_y is None else self.mean_y
        add_x, add_y = self.spread_self(at_x), self.spread_self(at_y)
        of_x, of_y = self.spread_self(mean_x), self.spread_self(mean_y)
        (l, r), (ml, mr) = self.spread(at_x, at_y), self.spread(mean_x, mean_y)
        # E (h + a)(g + b) = E h g + a E g + b E h + a b
        xx = self.xx + add_x[0] * of_x[1] + of_x[0] * add_x[1] + add_x[0] * add_x[1]
        yy = xx
        if self.yy is not self.xx:
            yy = self.yy + add_y[0] * of_y[1] + of_y[0] * add_y[1] + add_y[0] * add_y[1]
        return replace(
            self,
            xx=xx,
            yy=yy,
            xy=self.xy + l * mr + ml * r + l * r,
            mean_x=mean_x + at_x,
            mean_y=mean_y + at_y,
            gaussian=False,
        )

    def equal_positions(self) -> Moments:
        """The same moments, held for equal positions only."""
        if not self.all_pairs:
            return self
        diagonal = self.map_covariances(lambda field, lead: _diagonal(field, lead, self.position_axes), moves=True)
        return replace(diagonal, all_pairs=False)

    def variances(self) -> tuple[Tensor, Tensor]:
        """Variance at each position of each x and of each y; shapes (n, *S) and (m, *S)."""
        if not self.all_pairs:
            return self.xx, self.yy
        return _diagonal(self.xx, 1, self.position_axes), _diagonal(self.yy, 1, self.position_axes)

    def spread(self, at_x: Tensor, at_y: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers at each (x, position) and (y, position), shaped to broadcast against `xy`."""
        shape = at_x.shape[1:]
        if self.all_pairs:
            ones = (1,) * self.position_axes
        else:
            ones = ()
        return at_x.reshape(len(at_x), 1, *shape, *ones), at_y.reshape(1, len(at_y), *ones, *shape)

    def spread_self(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers at each (input, position), shaped to broadcast against `xx`, as first and as second factor."""
        if self.all_pairs:
            ones = (1,) * self.position_axes
        else:
            ones = ()
        return at.reshape(len(at), *at.shape[1:], *ones), at.reshape(len(at), *ones, *at.shape[1:])

    def _axes(self, lead: int) -> tuple[tuple[int, ...], ...]:
        if self.all_pairs:
            copies = 2
        else:
            copies = 1
        # both positions shift together, so the axes of the first and of the second copy of S are paired
        return tuple(tuple(lead + s + c * self.position_axes for c in range(copies)) for s in range(self.position_axes))

    def map_covariances(self, apply: Callable[[Tensor, int], Tensor], *, moves: bool = False) -> Moments:
        """`apply(field, number of leading sample axes)` on every covariance.

        `moves` says that each entry of the result is an entry of the field, times one number, zero or more, for all.
        """
        xx, xy = apply(self.xx, 1), apply(self.xy, 2)
        if self.yy is self.xx:
            yy = xx
        else:
            yy = apply(self.yy, 1)
        if moves and self.gap is not None:
            gap = self.gap.moved(xy, apply)
        else:
            gap = None
        return replace(
            self,
            xx=xx,
            yy=yy,
            xy=xy,
            theta=None if self.theta is None else apply(self.theta, 2),
            gap=gap,
        )

    def map_means(self, apply: Callable[[Tensor], Tensor]) -> Moments:
        """`apply(mean)` on both means, where there are any."""
        if self.mean_x is None or self.mean_y is None:
            return self
        return replace(self, mean_x=apply(self.mean_x), mean_y=apply(self.mean_y))


def _diagonal(field: Tensor, lead: int, position_axes: int) -> Tensor:
    """Entries at equal positions of a field that ends in (*S, *S)."""
    if position_axes == 0:
        return field
    shape = field.shape[lead : lead + position_axes]
    return (
        field.reshape(*field.shape[:lead], shape.numel(), shape.numel()).diagonal(dim1=-2, dim2=-1).unflatten(-1, shape)
    )


def input_moments(x: Tensor, x2: Tensor | None, *, all_pairs: bool, ntk: bool, gap: bool = False) -> Moments:
    r"""Moments of the inputs, which are not random: $\langle x_i, y_j \rangle / c$ over the c channels.

    Args:
        x: inputs; shape (n, c, *S).
        x2: inputs; shape (m, c, *S), or None for `x` itself: then the diagonal is exact.
        all_pairs: hold all pairs of positions, not only equal ones.
        ntk: start an NTK (at zero) beside the NNGP kernel.
        gap: hold how far the covariances are below their bounds.
    """
    other = x if x2 is None else x2
    c, position_axes = x.shape[1], x.ndim - 2
    all_pairs = all_pairs and position_axes > 0
    xx = _self_product(x, all_pairs) / c
    if x2 is None:
        yy = xx
    else:
        yy = _self_product(other, all_pairs) / c
    size = opposite = None
    if position_axes == 0:
        size, xy = covariance_gap.of_vectors(x, other, xx, x @ other.mT / c, yy)
        if x2 is None:
            index = torch.arange(len(x), device=x.device)
            xy = xy.index_put((index, index), xx)  # the diagonal exactly, differentiably
        if gap:
            # s + k is the gap of x and -y
            opposite = covariance_gap.of_vectors(x, -other, xx, -xy, yy)[0]
    else:
        xy = _product(x[:, None], other[None], all_pairs, position_axes) / c
        if gap:
            ones: tuple[int, ...] = ()
            if all_pairs:
                ones = (1,) * position_axes
            size = covariance_gap.of_positions(x.reshape(len(x), 1, *x.shape[1:], *ones), _at_last(other, ones))
    theta = starting_ntk(xy, ntk)
    moments = Moments(xx, yy, xy, theta, position_axes=position_axes, all_pairs=all_pairs, one_sample=x2 is None)
    if not gap:
        return moments
    return moments.with_gap(size, opposite)


def starting_ntk(xy: Tensor, ntk: bool) -> Tensor | None:
    """The NTK below the first layer: zero where it is asked for."""
    if ntk:
        return torch.zeros_like(xy)
    return None


def sum_if_known(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two tangent kernels; None where one was not asked for."""
    if a is None or b is None:
        return None
    return a + b


def _at_last(x2: Tensor, ones: tuple[int, ...]) -> Tensor:
    return x2.reshape(1, len(x2), x2.shape[1], *ones, *x2.shape[2:])


def _self_product(x: Tensor, all_pairs: bool) -> Tensor:
    if x.ndim > 2:
        return _product(x, x, all_pairs, x.ndim - 2)
    return (x * x).sum(1)


def _product(x: Tensor, x2: Tensor, all_pairs: bool, position_axes: int) -> Tensor:
    """Products over channels, one channel after the other: equal pixels get equal bits in `xx` and in `xy`."""
    total = None
    for x_c, y_c in zip(x.unbind(-position_axes - 1), x2.unbind(-position_axes - 1), strict=True):
        if all_pairs:
            term = x_c.reshape(*x_c.shape, *(1,) * position_axes) * y_c.reshape(
                *y_c.shape[:-position_axes], *(1,) * position_axes, *y_c.shape[-position_axes:]
            )
        else:
            term = x_c * y_c
        if total is None:
            total = term
        else:
            total = total + term
    assert total is not None
    return total
