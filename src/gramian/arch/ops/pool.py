"""Linear maps of the positions: flatten, pools, means, padding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Value, pair, reads, value
from gramian.arch.positions import take, window_average
from gramian.errors import NoLimit


@reads(
    "aten.flatten.using_ints", "aten.view.default", "aten.reshape.default", "aten.squeeze.dims", "aten.squeeze.dim",
    "aten.unsqueeze.default", "aten.unflatten.int",
)  # fmt: skip
@dataclass(frozen=True)
class Reshape(Op):
    """Flattening of all positions into channels; on the input data, any reshape.

    A flattened layer's readout sees each position with weights of its own, so only equal positions correlate
    (Novak et al. 2019, arXiv:1810.05148: vectorization).
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]] | Value:
        x = value(call.args[0], "what is reshaped")
        if x.shape == call.shape:
            return x
        if not x.data and len(call.shape) != 1 and not _only_ones_differ(x.shape, call.shape):
            raise NoLimit(
                f"Values of shape {x.shape} are reshaped to {call.shape}.",
                why="apart from flattening into one vector, a reshape mixes channels with positions",
                fix="reshape the input before the first layer, or flatten whole",
            )
        return cls(x.shape, call.shape), (x,)

    def apply(self, *x: Tensor) -> Tensor:
        kept = (
            (-1,)
            if len(self.after) == 1
            else self.after
            if x[0].shape[1:] == self.before
            else (x[0].shape[1], *self.after[1:])
        )
        return x[0].reshape(len(x[0]), *kept)  # in a finite network the channels may be more than were traced

    def limit(self, *m: Moments) -> Moments:
        if len(self.after) > 1:  # only axes of length one come or go
            return _resized(m[0], self.after[1:])
        a = m[0].equal_positions()
        positions = math.prod(self.before[1:])
        flat = _resized(_averaged(a), ())
        return replace(flat, alike=a.alike and positions == 1)

    def needs_pairs(self, out: bool) -> bool:
        return out if len(self.after) > 1 else False

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        return c[0] * math.prod(self.before[1:]) if len(self.after) == 1 else c[0]

    def describe(self) -> str:
        return f"to {'x'.join(map(str, self.after))}"


def _only_ones_differ(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Same channels, and positions that differ by axes of length one."""
    return a[0] == b[0] and [s for s in a[1:] if s != 1] == [s for s in b[1:] if s != 1]


def _averaged(m: Moments) -> Moments:
    """Means over all positions, their axes kept with length one."""
    return m.map_positions(lambda field, axes: field.mean(axes, keepdim=True) if axes else field)


def _resized(m: Moments, after: tuple[int, ...]) -> Moments:
    """Moments with their positions' axes of length one dropped or added."""
    copies = 2 if m.pairs else 1

    def covariance(field: Tensor, lead: int) -> Tensor:
        return field.reshape(*field.shape[:lead], *after * copies)

    resized = m.map_covariances(covariance).map_means(lambda mean: mean.reshape(len(mean), *after))
    return replace(resized, space=len(after))


@reads("aten.mean.dim", "aten.adaptive_avg_pool1d.default", "aten.adaptive_avg_pool2d.default",
       "aten.adaptive_avg_pool3d.default")  # fmt: skip
@dataclass(frozen=True)
class GlobalAverage(Op):
    """The mean over all positions; `kept` leaves each of their axes with length one."""

    space: int
    kept: bool

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]] | Value:
        x = value(call.args[0], "what is averaged")
        axes = len(x.space)
        if "adaptive" in call.target:
            size = pair(call.args[1], axes)
            if tuple(size) == x.space:
                return x
            if set(size) == {1}:
                return cls(axes, True), (x,)
            if any(s % t for s, t in zip(x.space, size, strict=True)):
                raise NoLimit(
                    f"Adaptive pooling from {x.space} to {size} has windows of unequal size.",
                    why="there is a rule for equal windows only",
                    fix="an output size that divides the input size",
                )
            window = tuple(s // t for s, t in zip(x.space, size, strict=True))
            return AveragePool(window, window, (0,) * axes), (x,)
        dims = sorted(d % (axes + 2) for d in pair(call.args[1] or list(range(axes + 2)), 1))
        if dims != list(range(2, axes + 2)) or not axes:
            raise NoLimit(
                f"A mean over the axes {dims} of values of shape (n, {', '.join(map(str, x.shape))}).",
                why="there is a rule for the mean over all positions, axes 2 and up",
                fix="average over all spatial axes at once",
            )
        return cls(axes, bool(call.args[2])), (x,)

    def apply(self, *x: Tensor) -> Tensor:
        return x[0].mean(tuple(range(2, 2 + self.space)), keepdim=self.kept)

    def limit(self, *m: Moments) -> Moments:
        ones = _averaged(m[0])
        return ones if self.kept else _resized(ones, ())

    def needs_pairs(self, out: bool) -> bool:
        return True


@reads("aten.avg_pool1d.default", "aten.avg_pool2d.default", "aten.avg_pool3d.default")
@dataclass(frozen=True)
class AveragePool(Op):
    """Means over windows; both positions move through their windows independently."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, window, stride, padding, ceil_mode, include_pad, *divisor = call.args
        axes = len(x.space)
        padding = pair(padding, axes)
        if ceil_mode or (any(padding) and not include_pad) or any(d is not None for d in divisor):
            raise NoLimit(
                "Average pooling with ceil_mode, count_include_pad=False with padding, or a divisor has no rule.",
                why="its windows are not all weighted alike",
                fix="ceil_mode=False, count_include_pad=True, divisor_override=None",
            )
        window = pair(window, axes)
        return cls(window, pair(stride, axes) if stride else window, padding), (value(x, "what is pooled"),)

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
        return True if set(self.window) != {1} else out

    def describe(self) -> str:
        return f"{'x'.join(map(str, self.window))}, stride {'x'.join(map(str, self.stride))}"


@reads("aten.pad.default")
@dataclass(frozen=True)
class Pad(Op):
    """Padding: each new position is a zero, or copies an old one (circular, reflected, replicated)."""

    index: tuple[tuple[int, ...], ...]  # for each spatial axis, the old position of each new one; -1 is a zero

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, sizes, mode, number = call.args
        x = value(x, "what is padded")
        pads = list(zip(sizes[::2], sizes[1::2], strict=True))[::-1]
        if len(pads) > len(x.space) or (mode == "constant" and number):
            raise NoLimit(
                f"Padding {sizes} in mode {mode!r} with value {number} on values of shape {x.shape}.",
                why="there is a rule for padding positions, by zeros or by copies",
                fix="pad spatial axes only, with zeros",
            )
        pads = [(0, 0)] * (len(x.space) - len(pads)) + pads
        return cls(tuple(_old_positions(s, p, mode) for s, p in zip(x.space, pads, strict=True))), (x,)

    def apply(self, *x: Tensor) -> Tensor:
        return self._take(x[0], tuple(range(2, 2 + len(self.index))))

    def limit(self, *m: Moments) -> Moments:
        return m[0].map_positions(self._take)

    def _take(self, field: Tensor, axes: tuple[int, ...]) -> Tensor:
        for axis, index in zip(axes, self.index, strict=True):
            field = take(field, axis, index)
        return field

    def describe(self) -> str:
        return f"to {'x'.join(str(len(i)) for i in self.index)}"


def _old_positions(size: int, p: tuple[int, int], mode: str) -> tuple[int, ...]:
    if mode == "constant":
        return (-1,) * p[0] + tuple(range(size)) + (-1,) * p[1]
    line = torch.arange(size, dtype=torch.float64)[None, None]
    return tuple(int(i) for i in functional.pad(line, p, mode=mode).flatten())
