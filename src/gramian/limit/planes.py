"""Convolutional networks as programs over displacement planes, for the engine `native`.

A plane holds the covariances of one displacement between the two positions. Convolutions and activations map planes
to planes, so that a pair of images streams through all layers plane by plane; native/src/planes_program.h has the words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from gramian.arch.architecture import Architecture, Step
from gramian.arch.ops import Affine, Conv, Linear, Sum
from gramian.arch.ops.activation import Activation
from gramian.arch.ops.axes import Aggregate, AxisMaps, Resize, Take
from gramian.arch.ops.combine import Scale
from gramian.arch.ops.erf import Erf
from gramian.arch.ops.norm import BatchNorm
from gramian.arch.ops.pool import Average, AveragePool, Reshape
from gramian.arch.ops.relu import LeakyReLU

INPUT, AFFINE, RELU, ERF, SUM, SCALE, AXES, MEAN, TRACE = range(9)
ONE, ZERO = (1, 1), (0, 0)


class NotPlanes(Exception):
    """Why a network is not a program over planes; torch then computes it, or says what has no limit."""


@dataclass(frozen=True)
class PlaneProgram:
    """What native/src/planes_program.h reads.

    Args:
        ints: kinds, inputs, positions and windows; see there.
        reals: the constants of each node, and the matrices of linear maps.
        data: the step whose result, made from the input alone, the program starts from; -1 is the input.
    """

    ints: tuple[int, ...]
    reals: tuple[float, ...]
    data: int


@dataclass(frozen=True)
class _Made:
    """A value as a node, with what `Moments` says of it apart from numbers."""

    node: int
    size: tuple[int, int]
    own: float = 0.0
    gaussian: bool = False
    alike: bool = True
    mean: bool = False
    mixed: bool = False


def plane_program(arch: Architecture) -> PlaneProgram:
    """The network over displacement planes; raises NotPlanes with the reason where it is none."""
    if arch.joint:
        raise NotPlanes("values that share random weights")
    return _Compiler(arch).program()


class _Compiler:
    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self.ints: list[int] = []
        self.reals: list[float] = []
        self.count = 0
        self.mask = False

    def program(self) -> PlaneProgram:
        starts = {i for step in self.arch.steps if not step.data for i in step.inputs if self._is_data(i)}
        if len(starts) != 1:
            raise NotPlanes("several values made from the input alone")
        (data,) = starts
        shape = self.arch.in_shape if data < 0 else self.arch.steps[data].shape
        if len(shape) == 1:
            raise NotPlanes("an input without positions")
        made = {data: _Made(self._node(INPUT, (), _size(shape)), _size(shape))}
        for number, step in enumerate(self.arch.steps):
            if not step.data:
                made[number] = self._step(step, [made[i] for i in step.inputs])
        last = made[self.arch.output]
        if last.size != ONE:
            raise NotPlanes("an output with positions")
        self._linear(SCALE, last, ONE, p=(1.0, 0.0, last.own, 0.0))
        head = (shape[0], int(self.mask), self.count)
        return PlaneProgram((*head, *self.ints), tuple(self.reals), data)

    def _is_data(self, i: int) -> bool:
        return i < 0 or self.arch.steps[i].data

    def _node(
        self,
        kind: int,
        inputs: tuple[int, ...],
        size: tuple[int, int],
        p: tuple[float, ...] = (),
        window: tuple[tuple[int, int], ...] = (ONE, ONE, ZERO, ONE),
    ) -> int:
        self.ints += [kind, *inputs, *(-1,) * (2 - len(inputs)), *size, *(n for pair in window for n in pair)]
        self.reals += [*p, *(0.0,) * (6 - len(p))]
        self.count += 1
        return self.count - 1

    def _linear(
        self, kind: int, below: _Made, size: tuple[int, int], p: tuple[float, ...],
        window: tuple[tuple[int, int], ...] = (ONE, ONE, ZERO, ONE),
    ) -> _Made:  # fmt: skip
        self.mask = self.mask or (p[3] > 0 and p[1] == 0)
        return replace(below, node=self._node(kind, (below.node,), size, p, window), size=size)

    def _step(self, step: Step, m: list[_Made]) -> _Made:
        op, a = step.op, m[0]
        size = _size(step.shape)
        if isinstance(op, Conv | Linear):
            return self._affine(op, a, size)
        if isinstance(op, Activation):
            return self._activation(op, a)
        if isinstance(op, Sum):
            return self._sum(op, a, m[1])
        if isinstance(op, Scale):
            return self._linear(SCALE, a, size, (op.factor**2, 0.0, 0.0, 0.0))
        if isinstance(op, BatchNorm):
            own = a.own + op.scale_trains * op.rate_scale
            now = 0.0 if a.gaussian else own * op.factor**2
            made = self._linear(SCALE, a, size, (op.factor**2, 0.0, now, op.shift_trains * op.rate_shift))
            return replace(made, own=own if a.gaussian else 0.0)
        if isinstance(op, Reshape | Resize):
            return self._reshape(op, a, size)
        return self._positions(op, a, size)

    def _affine(self, op: Affine, a: _Made, size: tuple[int, int]) -> _Made:
        window = (ONE, ONE, ZERO, ONE)
        if isinstance(op, Conv):
            before = tuple(p for p, _ in op.padding)
            window = (_two(op.window, 1), _two(op.stride, 1), _two(before, 0), _two(op.dilation, 1))
        taps, (gain_w, gain_b) = math.prod(window[0]), op.gains
        sw = op.sigma_w**2
        p = (sw / taps, op.sigma_b**2, (gain_w + sw * a.own) / taps, gain_b)
        made = self._linear(AFFINE, a, size, p, window)
        return replace(made, own=0.0, gaussian=True, alike=True, mean=False, mixed=False)

    def _activation(self, op: Activation, a: _Made) -> _Made:
        if not a.gaussian or not a.alike or a.mixed:
            raise NotPlanes("an activation where it has no rule")
        if isinstance(op, LeakyReLU):
            node = self._node(RELU, (a.node,), a.size, (op.slope, op.bend, a.own))
        elif isinstance(op, Erf) and not a.own:
            node = self._node(ERF, (a.node,), a.size)
        else:
            raise NotPlanes(f"the activation {op.name}" + (" on a trained scale" if a.own else ""))
        return replace(a, node=node, own=0.0, gaussian=False, mean=not isinstance(op, Erf))

    def _sum(self, op: Sum, a: _Made, b: _Made) -> _Made:
        if a.mean and b.mean:
            raise NotPlanes("a sum of two activations")
        node = self._node(SUM, (a.node, b.node), a.size, (op.alpha**2, a.own, b.own))
        mixed = a.mixed or b.mixed or a.own > 0 or b.own > 0
        gaussian, alike = a.gaussian and b.gaussian, a.alike and b.alike
        return _Made(node, a.size, gaussian=gaussian, alike=alike, mean=a.mean or b.mean, mixed=mixed)

    def _reshape(self, op: Reshape | Resize, a: _Made, size: tuple[int, int]) -> _Made:
        if isinstance(op, Reshape) and len(op.after) == 1:
            positions = math.prod(a.size)
            made = a if positions == 1 else self._linear(TRACE, a, ONE, (1.0 / positions, 0.0, 0.0, 0.0))
            return replace(made, alike=a.alike and positions == 1)
        if size != a.size:
            raise NotPlanes("positions in another shape")
        return a

    def _positions(self, op: object, a: _Made, size: tuple[int, int]) -> _Made:
        """Linear maps of the positions: a mean over all, or a matrix along each axis."""
        if isinstance(op, Average) and size == ONE:
            return self._linear(MEAN, a, ONE, ((op.factor / math.prod(a.size)) ** 2, 0.0, 0.0, 0.0))
        if isinstance(op, AveragePool) and size == ONE and _two(op.window, 1) == a.size and not any(op.padding):
            return self._linear(MEAN, a, ONE, (math.prod(a.size) ** -2.0, 0.0, 0.0, 0.0))
        matrices = _matrices(op, a.size)
        size = len(matrices[0]), len(matrices[1])
        made = replace(a, node=self._node(AXES, (a.node,), size), size=size)
        for matrix in matrices:
            self.reals += matrix.flatten().tolist()
        return made


def _matrices(op: object, size: tuple[int, int]) -> list[Tensor]:
    """What an op that is linear along each axis of the positions does, as (new, old) matrices, float64."""
    eyes = [torch.eye(s, dtype=torch.float64) for s in size]
    if isinstance(op, Average):
        ndim = 1 if size[0] == 1 and max(op.axes) == 2 and len(op.axes) == 1 else 2
        for axis in op.axes:
            k = axis - 2 + 2 - ndim
            eyes[k] = eyes[k].mean(0, keepdim=True)
        eyes[0] = eyes[0] * op.factor
        return eyes
    if isinstance(op, AveragePool):
        window, stride, padding = _two(op.window, 1), _two(op.stride, 1), _two(op.padding, 0)
        pooled = zip(eyes, window, stride, padding, strict=True)
        return [functional.avg_pool1d(eye[None], w, s, p)[0].T for eye, w, s, p in pooled]
    if isinstance(op, AxisMaps):
        given = (None,) * (2 - len(op.matrices)) + op.matrices
        return [eye if m is None else m for eye, m in zip(eyes, given, strict=True)]
    if isinstance(op, Take):
        index = (None,) * (3 - len(op.index)) + op.index[1:]
        return [eye if i is None else _rows(eye, i) for eye, i in zip(eyes, index, strict=True)]
    if isinstance(op, Aggregate) and size[0] == 1:
        return [eyes[0], op.matrix.double()]
    raise NotPlanes(f"{type(op).__name__}")


def _rows(eye: Tensor, index: tuple[int, ...]) -> Tensor:
    return torch.cat([eye, torch.zeros_like(eye[:1])])[list(index)]  # -1 is a zero


def _two(numbers: tuple[int, ...], missing: int) -> tuple[int, int]:
    return (missing, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Positions as height and width."""
    if len(shape) > 3:
        raise NotPlanes("more than two axes of positions")
    height, width = (*(1,) * (3 - len(shape)), *shape[1:])
    return height, width
