"""Linear maps of the positions: flatten, pools, means, padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.moments import Moments
from gramian.arch.ops.axes import AxisMaps
from gramian.arch.ops.base import Call, Op, Read, pair, reads, value
from gramian.arch.ops.groups import regrouped
from gramian.arch.positions import window_average
from gramian.errors import NoLimit


@reads(
    "aten.flatten.using_ints", "aten.view.default", "aten.reshape.default", "aten.unflatten.int",
)  # fmt: skip
@dataclass(frozen=True)
class Reshape(Op):
    """Flattening of all positions into channels, or a reshape of the positions alone, or of the channels alone (into
    heads, and back); on the input data, any reshape.

    A flattened layer's readout sees each position with weights of its own, so only equal positions correlate
    (Novak et al. 2019, arXiv:1810.05148: vectorization).
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "what is reshaped")
        before, after, last = x.user_shape, call.shape, len(call.shape) - 1
        if before == after:
            return x
        if x.data:
            if not x.plain:
                raise NoLimit("The input is reshaped after its channels were moved.", fix="reshape it before")
            return cls(before, after), (x,)
        seen = regrouped(x, after)
        if seen is not None:
            return seen
        if len(after) == 1 or (x.plain and before[0] == after[0]):
            return cls(x.shape, after), (x,), ()
        if x.order == (*range(1, len(before)), 0) and before[-1] == after[-1]:
            return cls(x.shape, (after[-1], *after[:-1])), (x,), (*range(1, last + 1), 0)
        raise NoLimit(
            f"Values of shape {before}, channels on axis {x.channels_at}, are reshaped to {after}.",
            why="this reshape mixes channels with positions, without flattening into one vector; or turns channels",
            fix="reshape the input before the first layer, or flatten whole",
        )

    def apply(self, *x: Tensor) -> Tensor:
        if len(self.after) == 1:
            return x[0].reshape(len(x[0]), -1)
        # in a finite network the channels may be more than were traced
        if x[0].shape[1:] == self.before:
            kept = self.after
        else:
            kept = (x[0].shape[1], *self.after[1:])
        return x[0].reshape(len(x[0]), *kept)

    def limit(self, *m: Moments) -> Moments:
        if len(self.after) > 1:  # positions only
            return m[0].resized(self.after[1:])
        a = m[0].equal_positions()
        positions = math.prod(self.before[1:])
        # a sum over all channels and positions meets only equal positions, each with the share 1 / positions
        flat = _averaged(a).resized(())
        return replace(flat, exchangeable_channels=a.exchangeable_channels and positions == 1)

    def needs_pairs(self, out: bool) -> bool:
        if len(self.after) > 1:
            return out
        return False

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        if len(self.after) == 1:
            return c[0] * math.prod(self.before[1:])
        return c[0]

    def describe(self) -> str:
        return f"to {'x'.join(map(str, self.after))}"


def _averaged(m: Moments) -> Moments:
    """Means over all positions, their axes kept with length one."""

    def mean(field: Tensor, axes: tuple[int, ...]) -> Tensor:
        if axes:
            return field.mean(axes, keepdim=True)
        return field

    return m.map_positions(mean)


@reads("aten.mean.dim", "aten.mean.default", "aten.sum.dim_IntList", "aten.sum.default")
@dataclass(frozen=True)
class Average(Op):
    """The mean, or `factor` times it, over some axes of the positions; `kept` leaves them with length one."""

    any_layout: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    axes: tuple[int, ...]  # of (n, c, *S)
    kept: bool
    factor: float = 1.0

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "what is averaged")
        ndim = len(x.shape) + 1
        dims = list(range(ndim))
        if len(call.args) > 2 and call.args[1]:  # else over all axes
            dims = sorted(d % ndim for d in pair(call.args[1], 1))
        axes = sorted(x.axis(d) for d in dims)
        if axes[0] < 0 or (axes[0] == 0 and not x.data):
            raise NoLimit(
                f"A mean or sum over the axes {dims} of values of shape (n, {', '.join(map(str, x.user_shape))}).",
                why="there is a rule for means over positions, not over samples or channels",
                fix="average over axes of positions only; channels are read out by nn.Linear; for sums over channels, "
                "such as the product of two branches, gramian.monte_carlo(module, x)",
            )
        if len(call.args) > 2:
            kept = bool(call.args[2])
        else:
            kept = False
        factor: float
        if "sum" in call.target:
            factor = math.prod(x.shape[a] for a in axes)
        else:
            factor = 1.0
        left = [a for a in x.order if kept or a not in axes]
        layout = tuple(sorted(left).index(a) for a in left)
        return cls(tuple(a + 1 for a in axes), kept, float(factor)), (x,), layout

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].mean(self.axes, keepdim=self.kept) * self.factor

    def limit(self, *m: Moments) -> Moments:
        # the two copies of a position are averaged independently: a mean over all their pairs
        moved = [a - 2 for a in self.axes]
        ones = m[0].map_positions(lambda field, axes: field.mean([axes[k] for k in moved], keepdim=True))
        if self.factor == 1:
            ones = ones
        else:
            ones = ones.scaled(self.factor)
        if self.kept:
            return ones
        return ones.resized(tuple(s for k, s in enumerate(m[0].positions) if k not in moved))

    def needs_pairs(self, out: bool) -> bool:
        return True

    def describe(self) -> str:
        return f"over axes {', '.join(map(str, self.axes))}"


@reads("aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool3d.default")
@dataclass(frozen=True)
class AdaptivePool(Op):
    """Average pooling to a given size: read as a mean over all positions, or as a pool with equal windows."""

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "what is averaged")
        positions = x.shape[1:]
        size = tuple(s if t is None else t for s, t in zip(positions, pair(call.args[1], len(positions)), strict=True))
        if size == positions:
            return x
        if set(size) == {1}:
            return Average(tuple(range(2, 2 + len(positions))), True), (x,)
        if all(s % t == 0 for s, t in zip(positions, size, strict=True)):
            window = tuple(s // t for s, t in zip(positions, size, strict=True))
            return AveragePool(window, window, (0,) * len(positions)), (x,)
        return AxisMaps(tuple(_adaptive(s, t) for s, t in zip(positions, size, strict=True))), (x,)


def _adaptive(size: int, out: int) -> Tensor | None:
    """The matrix of adaptive average pooling along one axis, (out, size); windows of unequal length overlap."""
    eye = torch.eye(size, dtype=torch.float64)
    # pooling is linear along each axis: its values on unit vectors are the columns of its matrix
    if size == out:
        return None
    return functional.adaptive_avg_pool1d(eye[None], out)[0].T.contiguous()


def _pooled(size: int, window: int, stride: int, padding: int, ceil_mode: bool, include_pad: bool) -> Tensor:
    """The matrix of average pooling along one axis, (out, size); a window's divisor is a product over the axes."""
    eye = torch.eye(size, dtype=torch.float64)
    return functional.avg_pool1d(eye[None], window, stride, padding, ceil_mode, include_pad)[0].T.contiguous()


@reads("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
@dataclass(frozen=True)
class AveragePool(Op):
    """Means over windows; both positions move through their windows independently."""

    each_channel: ClassVar[bool] = True

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> Read:
        x, window, stride, padding, ceil_mode, include_pad, *divisor = call.args
        axes = len(x.shape) - 1
        padding = pair(padding, axes)
        if any(d is not None for d in divisor):
            raise NoLimit(
                "Average pooling with a divisor of its own has no rule.",
                why="there is a rule for windows that are divided by their sizes",
                fix="divisor_override=None, and multiply by a number after",
            )
        window = pair(window, axes)
        if stride:
            stride = pair(stride, axes)
        else:
            stride = window
        x = value(x, "what is pooled")
        if ceil_mode or (any(padding) and not include_pad):  # windows at the edge count less, along each axis apart
            given = zip(x.shape[1:], window, stride, padding, strict=True)
            return AxisMaps(tuple(_pooled(*sizes, bool(ceil_mode), bool(include_pad)) for sizes in given)), (x,)
        return cls(window, stride, padding), (x,)

    def apply(self, *x: Tensor) -> Tensor:
        pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(self.window)]
        return pool(x[0], self.window, self.stride, self.padding)

    def limit(self, *m: Moments) -> Moments:
        ones, padding = (1,) * len(self.window), tuple((p, p) for p in self.padding)
        return m[0].map_positions(
            lambda field, axes: window_average(
                field, tuple((a % field.ndim,) for a in axes), self.window, self.stride, padding, ones
            )
        )

    def needs_pairs(self, out: bool) -> bool:
        if set(self.window) != {1}:
            return True
        return out

    def describe(self) -> str:
        return f"{'x'.join(map(str, self.window))}, stride {'x'.join(map(str, self.stride))}"
