"""The native engine for networks with positions: covariances by displacement planes.

A plane holds the covariances of one displacement between the two positions. Convolutions and activations map planes
to planes, so that a pair of images streams through all layers plane by plane; the words are those of
native/src/planes_program.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.axes import Resize
from gramian.arch.ops.erf import Erf
from gramian.arch.ops.norm import BatchNorm
from gramian.arch.ops.pool import Average, AveragePool, Reshape
from gramian.arch.ops.relu import LeakyReLU
from gramian.arch.structure import Structure
from gramian.duals.hermite_tables import HermiteTable, at_zero, hermite_table, octaves_of
from gramian.errors import Unsupported
from gramian.library import library
from gramian.limit import torch_engine
from gramian.limit.axis_maps import matrices, two
from gramian.limit.kernel_program import (
    Data,
    Dual,
    Plus,
    Program,
    ProgramLine,
    Times,
    Weights,
    Window,
    instruction_name,
)
from gramian.limit.tile_starts import tile_starts

INPUT, AFFINE, RELU, ERF, SUM, SCALE, AXES, MEAN, TRACE, SERIES = range(10)  # as in native/src/planes_program.h
ONE, ZERO = (1, 1), (0, 0)
POINT = (ONE, ONE, ZERO, ONE)  # window, stride, padding before, dilation of a layer without window
WORKING_BYTES = 2**27  # of the variances of a tile's rows; and of a pair's covariance in the oracle
NEAR = 1e-6  # 1 - |cosine| of a pair of images, from which on float64 keeps 12 digits of the angle
ROWS, ROWS_OF_ALL = 1024, 64  # of a tile; where all pairs of positions count, so few that Ctrl-C is heard in time


@dataclass(frozen=True)
class PlaneProgram:
    """What native/src/planes_program.h reads.

    Args:
        ints: kinds, inputs, positions and windows; see there.
        reals: the constants of each node, and the matrices of linear maps.
        data: the step whose result, made from the input alone, the program starts from; -1 is the input.
        series: activations by their Hermite series, whose tables are to be put into `reals`: the node, its place there
            and the activation.
    """

    ints: tuple[int, ...]
    reals: tuple[float, ...]
    data: int
    series: tuple[tuple[int, int, Activation], ...] = ()

    @property
    def kinds(self) -> tuple[int, ...]:
        """Kind of each node."""
        return self.ints[3::13]

    @property
    def variances(self) -> int:
        """Variances that are kept of an input."""
        nodes = [self.ints[3 + 13 * k : 16 + 13 * k] for k in range(self.ints[2])]
        return sum(node[3] * node[4] for node in nodes if node[0] in (RELU, ERF, SERIES))

    def with_tables(self, tables: list[HermiteTable]) -> np.ndarray:
        """`reals` with the tables of `series`."""
        parts, done = [], 0
        for (_, place, op), table in zip(self.series, tables, strict=True):
            head = (*at_zero(op), 0.0, table.first, table.octaves, table.terms)
            parts += [np.array(self.reals[done:place]), np.array(head), table.numbers.ravel()]
            done = place + 6
        return np.concatenate([*parts, np.array(self.reals[done:])])


def kernels(
    arch: Structure, planes: PlaneProgram, x: Tensor, x2: Tensor | None, *, ntk: bool, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)`, see `gramian.limit.kernels`; `rows` of a tile, if not as many as its variances allow."""
    left = _images(arch, planes, x)
    if x2 is None:
        right = left
    else:
        right = _images(arch, planes, x2)
    shape = len(left), len(right)
    nngp, theta = x.new_empty(shape), x.new_empty(shape if ntk else 0)
    tables = _Tables(planes, x.dtype)
    rows = rows if rows is not None else _rows(planes)
    for i, j in tile_starts(shape, (rows, rows), symmetric=x2 is None):
        own, here, there = x2 is None and i == j, slice(i, i + rows), slice(j, j + rows)
        tiles = [nngp[here, there]]
        if ntk:
            tiles.append(theta[here, there])
        _tile(planes, tables, left[here], None if own else right[there], tiles)
        if x2 is None and not own:
            for k, tile in zip((nngp, theta), tiles, strict=False):
                k[there, here] = tile.mT
    if x.dtype == torch.float64:
        _patch_near(arch, left, right, (x, x2), (nngp, theta), ntk)
    return nngp, theta


def _patch_near(
    arch: Structure, left: Tensor, right: Tensor, given: tuple[Tensor, Tensor | None],
    kernels: tuple[Tensor, Tensor], ntk: bool,
) -> None:  # fmt: skip
    """Images that are nearly the same or opposite up to a factor, or so small that a bias makes them the same, by the
    oracle: it carries how far they are apart, of which a subtraction in the compiled loops leaves half the digits."""
    other = given[0] if given[1] is None else given[1]
    if any(torch_engine.demand(arch)):
        most = max(math.prod(step.shape[1:]) for step in arch.steps) ** 2
    else:
        most = 1
    if most * kernels[0].element_size() > WORKING_BYTES:
        return
    first, size = arch.affine[0], left[0].numel()
    # to the first layer a bias is one more coordinate of every image, sqrt(size) sigma_b / sigma_w; small images nearly
    # point along it, and are then near to each other
    if first.sigma_w:
        bias = math.sqrt(size) * first.sigma_b / first.sigma_w
    else:
        bias = 0.0
    near = torch.zeros_like(kernels[0], dtype=torch.bool)
    for constant in {0.0, bias}:
        unit = []
        for t in (left, right):
            whole = torch.cat([t.flatten(1), t.new_full((len(t), 1), constant)], 1)
            unit.append(whole / torch.linalg.vector_norm(whole, dim=1, keepdim=True).clamp_min(1e-300))
        near |= 1 - (unit[0] @ unit[1].mT).abs() < NEAR
    if given[1] is None:
        near.fill_diagonal_(False)
    for i in near.any(1).nonzero().flatten().tolist():
        columns = near[i].nonzero().flatten()
        exact = torch_engine.kernels(arch, given[0][i : i + 1], other[columns], ntk=ntk)
        for k, row in zip(kernels, exact, strict=True):
            if k.numel():
                k[i, columns] = row[0]
    if given[1] is None:  # the two ways round may differ in the last digit
        for k in kernels:
            if k.numel():
                k.copy_(torch.where(near, (k + k.mT) / 2, k))


def _images(arch: Structure, planes: PlaneProgram, x: Tensor) -> Tensor:
    return torch_engine.values_of_data(arch, (x,), x.dtype)[planes.data].flatten(2).contiguous()


def _rows(planes: PlaneProgram) -> int:
    """Rows of a tile: the variances of an image are computed once for each tile that it is in."""
    if {MEAN, AXES} & set(planes.kinds):
        most = ROWS_OF_ALL
    else:
        most = ROWS
    if planes.series:
        terms = 64
    else:
        terms = 1
    return max(16, min(most, WORKING_BYTES // (12 * max(1, planes.variances * terms))))


class _Tables:
    """Tables of the series of one kernel, which grow as its variances are met."""

    def __init__(self, planes: PlaneProgram, dtype: torch.dtype) -> None:
        self.planes, self.dtype = planes, dtype
        self.ranges = [(-1, 0)] * len(planes.series)
        self.reals = self._reals()

    def _reals(self) -> np.ndarray:
        tables = [
            hermite_table(op, low, high, self.dtype)
            for (_, _, op), (low, high) in zip(self.planes.series, self.ranges, strict=True)
        ]
        return self.planes.with_tables(tables)

    def grow(self, missing: np.ndarray) -> None:
        """Takes in the lowest and the highest variance that each node lacked."""
        for at, (node, _, _) in enumerate(self.planes.series):
            if missing[node, 1]:
                low, high = octaves_of(missing[node])
                self.ranges[at] = min(low, self.ranges[at][0]), max(high, self.ranges[at][1])
        self.reals = self._reals()


def _tile(planes: PlaneProgram, tables: _Tables, x: Tensor, x2: Tensor | None, tiles: list[Tensor]) -> None:
    module = library().module
    assert module is not None
    ints = np.array(planes.ints, np.int64)
    for _ in range(64):  # each activation may show those above it new variances
        missing = np.zeros((len(planes.kinds), 2))
        if module.planes(
            ints, tables.reals, x.numpy(), None if x2 is None else x2.numpy(), tiles[0].numpy(),
            tiles[1].numpy() if len(tiles) > 1 else None, torch.get_num_threads(), missing,
        ):  # fmt: skip
            return
        tables.grow(missing)
    raise Unsupported("the variances do not settle")


@dataclass(frozen=True)
class _Value:
    """A value as a node, with what `Moments` says of it apart from numbers."""

    node: int
    size: tuple[int, int]
    scale_rate: float = 0.0
    gaussian: bool = False
    exchangeable_channels: bool = True
    mean: bool = False
    scale_averaged: bool = False


def prepare(p: Program) -> PlaneProgram:
    """The network over displacement planes.

    Raises:
        Unsupported: it is no program over planes; torch then computes it, or says what has no limit.
    """
    if p.joint:
        raise Unsupported(
            "only the torch engine keeps their covariances", op="a sum of values that share random weights"
        )
    return _Compiler().program(p)


class _Compiler:
    def __init__(self) -> None:
        self.ints: list[int] = []
        self.reals: list[float] = []
        self.series: list[tuple[int, int, Activation]] = []
        self.count = 0
        self.mask = False
        self.window = POINT  # of the affine layer that comes next

    def program(self, p: Program) -> PlaneProgram:
        starts = [line for line in p.lines if isinstance(line.does, Data)]
        if len(starts) != 1:
            raise Unsupported("it starts from one of them", op="several values made from the input")
        values: list[_Value] = []
        for line in p.lines:
            try:
                values.append(self._line(line, [values[i] for i in line.inputs]))
            except Unsupported as error:
                raise Unsupported(error.why, op=instruction_name(line.does), where=line.where) from None
        last = values[-1]
        if last.size != ONE or len(values) < 2:
            raise Unsupported("it has positions", op="the output", where=p.lines[-1].where)
        self._linear(SCALE, last, ONE, (1.0, 0.0, last.scale_rate, 0.0))
        if self.series and not {MEAN, AXES} & set(
            self.ints[::13]
        ):  # the terms of each position cost more than they save
            reason = "of one plane the loops have the ReLU family and erf; series pay where positions are averaged"
            raise Unsupported(reason, op=self.series[0][2].name)
        does = starts[0].does
        assert isinstance(does, Data)
        head = (starts[0].shape[0], int(self.mask), self.count)
        return PlaneProgram((*head, *self.ints), tuple(self.reals), does.step, tuple(self.series))

    def _node(
        self,
        kind: int,
        inputs: tuple[int, ...],
        size: tuple[int, int],
        p: tuple[float, ...] = (),
        window: tuple[tuple[int, int], ...] = POINT,
    ) -> int:
        self.ints += [kind, *inputs, *(-1,) * (2 - len(inputs)), *size, *(n for pair in window for n in pair)]
        self.reals += [*p, *(0.0,) * (6 - len(p))]
        self.count += 1
        return self.count - 1

    def _linear(
        self, kind: int, below: _Value, size: tuple[int, int], p: tuple[float, ...],
        window: tuple[tuple[int, int], ...] = POINT,
    ) -> _Value:  # fmt: skip
        self.mask = self.mask or (p[3] > 0 and p[1] == 0)
        return replace(below, node=self._node(kind, (below.node,), size, p, window), size=size)

    def _line(self, line: ProgramLine, m: list[_Value]) -> _Value:
        does, size = line.does, _size(line.shape)
        if isinstance(does, Data):
            if len(line.shape) == 1:
                raise Unsupported("it computes with positions, this has none")
            return _Value(self._node(INPUT, (), size), size)
        a = m[0]
        if isinstance(does, Window):
            before = tuple(p for p, _ in does.padding)
            self.window = (two(does.window, 1), two(does.stride, 1), two(before, 0), two(does.dilation, 1))
            return a
        if isinstance(does, Weights):
            return self._affine(does, a, size)
        if isinstance(does, Dual):
            return self._activation(does.activation, a)
        if isinstance(does, Plus):
            return self._sum(does.alpha, a, m[1])
        if isinstance(does, Times):
            return self._linear(SCALE, a, size, (does.factor**2, 0.0, 0.0, 0.0))
        return self._other(does.op, a, size)

    def _affine(self, does: Weights, a: _Value, size: tuple[int, int]) -> _Value:
        taps, window, self.window = math.prod(self.window[0]), self.window, POINT
        # of a value with `scale_rate` the NTK below is Theta + rate K: it becomes sigma_w^2 (Theta + rate K) + gain_w K
        # + gain_b. The loops sum over the window where a mean is meant.
        p = (does.sigma_w2 / taps, does.sigma_b2, (does.gain_w + does.sigma_w2 * a.scale_rate) / taps, does.gain_b)
        value = self._linear(AFFINE, a, size, p, window)
        return _Value(value.node, value.size, gaussian=True)

    def _activation(self, op: Activation, a: _Value) -> _Value:
        if not a.gaussian or not a.exchangeable_channels or a.scale_averaged:
            raise Unsupported("its input is not what the closed form is for")
        if isinstance(op, LeakyReLU):
            node = self._node(RELU, (a.node,), a.size, (op.slope, op.bend, a.scale_rate))
        elif isinstance(op, Erf) and not a.scale_rate:
            node = self._node(ERF, (a.node,), a.size)
        elif _has_series(op) and not a.scale_rate:
            self.series.append((self.count, len(self.reals), op))
            node = self._node(SERIES, (a.node,), a.size)
        else:
            reason = "the compiled loops have the ReLU family, erf and smooth functions"
            if a.scale_rate > 0:
                reason += ", but of a trained scale only the ReLU family"
            raise Unsupported(reason)
        return replace(a, node=node, scale_rate=0.0, gaussian=False, mean=op.mean(torch.ones(1)) is not None)

    def _sum(self, alpha: float, a: _Value, b: _Value) -> _Value:
        if a.mean and b.mean:
            raise Unsupported("it adds two values with means")
        node = self._node(SUM, (a.node, b.node), a.size, (alpha**2, a.scale_rate, b.scale_rate))
        mixed = a.scale_averaged or b.scale_averaged or a.scale_rate > 0 or b.scale_rate > 0
        gaussian, mean = a.gaussian and b.gaussian, a.mean or b.mean
        same = a.exchangeable_channels and b.exchangeable_channels
        return _Value(node, a.size, gaussian=gaussian, exchangeable_channels=same, mean=mean, scale_averaged=mixed)

    def _other(self, op: object, a: _Value, size: tuple[int, int]) -> _Value:
        if isinstance(op, BatchNorm):
            own = a.scale_rate + op.scale_trains * op.rate_scale
            if a.gaussian:
                now = 0.0
            else:
                now = own * op.factor**2
            value = self._linear(SCALE, a, size, (op.factor**2, 0.0, now, op.shift_trains * op.rate_shift))
            return replace(value, scale_rate=own if a.gaussian else 0.0)
        if isinstance(op, Reshape | Resize):
            return self._reshape(op, a, size)
        return self._positions(op, a, size)

    def _reshape(self, op: Reshape | Resize, a: _Value, size: tuple[int, int]) -> _Value:
        if isinstance(op, Reshape) and len(op.after) == 1:
            positions = math.prod(a.size)
            if positions == 1:
                value = a
            else:
                value = self._linear(TRACE, a, ONE, (1.0 / positions, 0.0, 0.0, 0.0))
            return replace(value, exchangeable_channels=a.exchangeable_channels and positions == 1)
        if size != a.size:
            raise Unsupported("positions in another shape")
        return a

    def _positions(self, op: object, a: _Value, size: tuple[int, int]) -> _Value:
        """Linear maps of the positions: a mean over all, or a matrix along each axis."""
        if isinstance(op, Average) and size == ONE:
            return self._linear(MEAN, a, ONE, ((op.factor / math.prod(a.size)) ** 2, 0.0, 0.0, 0.0))
        if isinstance(op, AveragePool) and size == ONE and two(op.window, 1) == a.size and not any(op.padding):
            return self._linear(MEAN, a, ONE, (math.prod(a.size) ** -2.0, 0.0, 0.0, 0.0))
        along = matrices(op, a.size)
        if along is None:
            raise Unsupported("only the torch engine has this op")
        if (len(along[0]), len(along[1])) != size:
            raise Unsupported("it turns height into width")
        value = replace(a, node=self._node(AXES, (a.node,), size), size=size)
        for matrix in along:
            self.reals += matrix.flatten().tolist()
        return value


def _has_series(op: Activation) -> bool:
    """Whether its Hermite series may be short: it is smooth, and in closed form or summed as that series."""
    return not op.nonsmooth and (op.by_series or not op.integrated)


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Positions as height and width."""
    if len(shape) > 3:
        raise Unsupported("it has at most two axes of positions")
    height, width = (*(1,) * (3 - len(shape)), *shape[1:])
    return height, width
