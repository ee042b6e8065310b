"""Linear maps along the axes of the positions: padding, slices, interpolation, a fixed matrix."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.moments import Moments
from gramian.arch.ops.base import GROUPED, Call, Op, Read, Value, pair, reads, renumbered, value
from gramian.arch.ops.groups import channels_taken
from gramian.arch.positions import take
from gramian.errors import NoLimit

Index = tuple[int, ...]


@reads("aten.slice.Tensor", "aten.select.int", "aten.flip.default", "aten.roll.default", "aten.narrow.default",
       "aten.index_select.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default")  # fmt: skip
@dataclass(frozen=True)
class Take(Op):
    """Positions by number: slices, single positions, flips, rolls, padding by zeros or copies."""

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    index: tuple[Index | None, ...]  # for each axis of (c, *S): old number of each new one, -1 a zero; None keeps all
    dropped: tuple[int, ...] = ()  # of these axes, those that go, of length one by then

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "what is indexed")
        kind = call.target.split(".")[1]
        if kind in ("squeeze", "unsqueeze"):
            return _resize(x, call)
        index: list[Index | None] = [None] * len(x.shape)
        for dim, chosen in _dims(call, kind):
            axis = x.axis(dim)
            if not x.data and (axis == 0 or axis >= GROUPED):
                size = x.user_shape[dim % (len(x.order) + 1) - 1]
                if kind in ("flip", "roll"):
                    part = None
                else:
                    part = channels_taken(x, dim, chosen(size), drop=kind == "select")
                if part is not None:
                    return part
            if axis < 0:
                raise NoLimit(
                    f"`{kind}` acts on the samples (axis 0).",
                    why="each sample goes through the network by itself, and a kernel has entries for pairs of them",
                    fix="call the layers on the whole batch, without a loop over it and without choosing from it",
                )
            if axis >= GROUPED or (axis == 0 and not x.data):
                raise NoLimit(
                    f"`{kind}` acts on the channels (axis {dim}).",
                    why="there is a rule for choosing positions, and two or more of the channels in their order",
                    fix="choose positions, or read out the channels you want with nn.Linear",
                )
            index[axis] = chosen(x.shape[axis])
        dropped: tuple[int, ...]
        if kind == "select":
            dropped = (x.axis(call.args[1]),)
        else:
            dropped = ()
        left = [a for a in x.order if a not in dropped]
        return cls(tuple(index), dropped), (x,), renumbered(left)

    def apply(self, *x: Tensor) -> Tensor:
        taken = _taken(x[0], tuple(range(1, 1 + len(self.index))), self.index)
        if self.dropped:
            return taken.squeeze([d + 1 for d in self.dropped])
        return taken

    def limit(self, *m: Moments) -> Moments:
        taken = m[0].map_positions(lambda field, axes: _taken(field, axes, self.index[1:]), moves=True)
        if not self.dropped:
            return taken
        return taken.resized(tuple(s for k, s in enumerate(taken.positions, 1) if k not in self.dropped))

    def describe(self) -> str:
        return "to " + "x".join(_kept(index) for index in self.index[1:])


def _taken(field: Tensor, axes: tuple[int, ...], index: tuple[Index | None, ...]) -> Tensor:
    for axis, chosen in zip(axes, index, strict=True):
        if chosen is not None:
            field = take(field, axis, chosen)
    return field


def _resize(x: Value, call: Call) -> Read:
    """An axis of length one comes or goes."""
    ndim = len(x.order) + 1
    if "unsqueeze" in call.target:
        at = call.args[1] % (ndim + 1)
        if at == 0:
            raise NoLimit("An axis is added before the samples.", fix="keep the samples first")
        order = list(x.order)
        order.insert(at - 1, len(x.shape))  # the new axis is the last of the stored ones
        if x.data and x.plain:  # of the input, where no axis is the channels' yet
            return Resize(call.shape, True), (x,), ()
        return Resize((*x.shape, 1)), (x,), tuple(order)
    dims = list(range(ndim))
    if len(call.args) > 1:
        dims = [d % ndim for d in pair(call.args[1], 1)]
    gone = [x.axis(d) for d in dims if d and x.user_shape[d - 1] == 1]
    if x.data and x.plain:
        return Resize(call.shape, True), (x,), ()
    if 0 in gone or any(a >= GROUPED for a in gone):
        raise NoLimit("The channels' axis, of length one here, is dropped.", fix="keep the channels' axis")
    left = [a for a in x.order if a not in gone]
    shape = tuple(s for a, s in enumerate(x.shape) if a not in gone)
    return Resize(shape), (x,), renumbered(left)


@dataclass(frozen=True)
class Resize(Op):
    """Axes of length one come or go."""

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    after: tuple[int, ...]  # (c, *S)
    whole: bool = False  # whether the channels' axis may change as well, as that of the input may

    def apply(self, *x: Tensor) -> Tensor:
        # in a finite network the channels may be more
        if self.whole:
            c = self.after[:1]
        else:
            c = x[0].shape[1:2]
        return x[0].reshape(len(x[0]), *c, *self.after[1:])

    def limit(self, *m: Moments) -> Moments:
        return m[0].resized(self.after[1:])


def _dims(call: Call, kind: str) -> list[tuple[int, Any]]:
    """(axis, size -> old positions) of each axis that a call acts on."""
    a = call.args
    if kind == "slice":
        dim, start, end, step = a[1], a[2], a[3], a[4]
        return [(dim, lambda size: tuple(range(size))[slice(start, end, step)])]
    if kind == "narrow":
        return [(a[1], lambda size: tuple(range(size))[a[2] :][: a[3]])]
    if kind == "select":
        return [(a[1], lambda size: (a[2] % size,))]
    if kind == "flip":
        return [(d, lambda size: tuple(range(size))[::-1]) for d in a[1]]
    if kind == "roll":
        shifts, dims = pair(a[1], 1), a[2]
        if not dims:
            raise NoLimit("`roll` without axes mixes samples and channels.", fix="name its axes: dims=")
        return [
            (d, lambda size, by=by: tuple((i - by) % size for i in range(size)))
            for by, d in zip(shifts, pair(dims, 1), strict=True)
        ]
    if not isinstance(a[2], Tensor):
        raise NoLimit("The index depends on the input.", fix="a constant index")
    return [(a[1], lambda size: tuple(int(i) % size for i in a[2]))]


@reads("aten.pad.default")
@dataclass(frozen=True)
class Pad(Take):
    """Padding: each new position is a zero, or copies an old one (circular, reflected, replicated)."""

    any_layout: ClassVar[bool] = False
    any_groups: ClassVar[bool] = False

    @classmethod
    def read(cls, call: Call) -> Read:
        x, sizes, mode, number = call.args
        x = value(x, "what is padded")
        space = x.shape[1:]
        pads = list(zip(sizes[::2], sizes[1::2], strict=True))[::-1]
        if len(pads) > len(space) or (mode == "constant" and number):
            raise NoLimit(
                f"Padding {sizes} in mode {mode!r} with value {number} on values of shape {x.shape}.",
                why="there is a rule for padding positions, by zeros or by copies",
                fix="pad spatial axes only, with zeros",
            )
        pads = [(0, 0)] * (len(space) - len(pads)) + pads
        return cls((None, *(_padded(s, p, mode) for s, p in zip(space, pads, strict=True)))), (x,)


def _padded(size: int, p: tuple[int, int], mode: str) -> Index:
    if mode == "constant":
        line = (-1,) * p[0] + tuple(range(size)) + (-1,) * p[1]
        return line[max(-p[0], 0) : len(line) - max(-p[1], 0)]
    # torch pads the numbers of the positions: what stands at a new place is the number of the old one
    numbers = torch.arange(size, dtype=torch.float64)[None, None]
    return tuple(int(i) for i in functional.pad(numbers, p, mode=mode).flatten())


@reads("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec",
       "aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_trilinear3d.vec",
       "aten.upsample_bicubic2d.vec")  # fmt: skip
@dataclass(frozen=True, eq=False)
class AxisMaps(Op):
    """A fixed matrix along each axis of the positions: interpolation, adaptive pooling."""

    each_channel: ClassVar[bool] = True

    matrices: tuple[Tensor | None, ...]  # for each axis of S, (new, old), float64; None leaves it

    @classmethod
    def read(cls, call: Call) -> Read:
        x = value(call.args[0], "what is interpolated")
        mode = call.target.split(".")[1].removeprefix("upsample_")[:-2]
        if mode == "nearest":
            corners = {}
        else:
            corners = {"align_corners": bool(call.args[2])}
        scales = call.args[-1]
        shapes = zip(x.shape[1:], call.shape[1:], scales or [None] * len(x.shape[1:]), strict=True)
        return cls(tuple(_interpolation(size, new, scale, mode, corners) for size, new, scale in shapes)), (x,)

    def apply(self, *x: Tensor) -> Tensor:
        return self._map(x[0], tuple(range(2, 2 + len(self.matrices))))

    def limit(self, *m: Moments) -> Moments:
        return m[0].map_positions(self._map)

    def needs_pairs(self, out: bool) -> bool:
        return True

    def _map(self, field: Tensor, axes: tuple[int, ...]) -> Tensor:
        for axis, matrix in zip(axes, self.matrices, strict=True):
            if matrix is not None:
                field = _along(field, axis, matrix)
        return field

    def describe(self) -> str:
        return "to " + "x".join(_kept(matrix) for matrix in self.matrices)


def _kept(entries: Sized | None) -> str:
    """How many positions an axis has afterwards, in words."""
    if entries is None:
        return "all"
    return str(len(entries))


def _interpolation(size: int, new: int, scale: float | None, mode: str, corners: dict[str, bool]) -> Tensor | None:
    """The matrix of torch's interpolation along one axis, (new, size): what it makes of unit vectors."""
    if size == new and mode == "nearest":
        return None
    eye = torch.eye(size, dtype=torch.float64)
    if mode == "bicubic":  # along one axis of an image; the other, of length one, stays as it is
        wanted: dict[str, Any]
        if scale is None:
            wanted = {"size": (new, 1)}
        else:
            wanted = {"scale_factor": (scale, 1.0)}
        # the channels are the unit vectors, so that each becomes a column of the matrix
        lines = functional.interpolate(eye[None, :, :, None], mode="bicubic", **wanted, **corners)
        return lines[0, :, :, 0].T.contiguous()
    if mode == "nearest":
        kind = "nearest"
    else:
        kind = "linear"
    if scale is None:
        wanted = {"size": new}
    else:
        wanted = {"scale_factor": scale}
    return functional.interpolate(eye[None], mode=kind, **wanted, **corners)[0].T.contiguous()


@dataclass(frozen=True, eq=False)
class Aggregate(Op):
    """A fixed matrix times the values along one axis of the positions, as a graph's adjacency in a GCN."""

    any_layout: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    matrix: Tensor  # (new, old)
    at: int  # axis of S

    def apply(self, *x: Tensor) -> Tensor:
        return _along(x[0], self.at + 2, self.matrix)

    def limit(self, *m: Moments) -> Moments:
        return m[0].map_positions(lambda field, axes: _along(field, axes[self.at], self.matrix))

    def needs_pairs(self, out: bool) -> bool:
        return True

    def describe(self) -> str:
        return f"by {self.matrix.shape[0]}x{self.matrix.shape[1]} along axis {self.at + 2}"


def _along(field: Tensor, axis: int, matrix: Tensor) -> Tensor:
    return (field.movedim(axis, -1) @ matrix.to(field).mT).movedim(-1, axis)
