"""A program over displacement planes as the CUDA kernel runs it: ops on one value at hand, others kept in places."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.errors import Unsupported
from gramian.limit.planes import AFFINE, AXES, ERF, INPUT, MEAN, ONE, RELU, SCALE, SERIES, SUM, TRACE, PlaneProgram

# as in planes.h
STARTS, CONVOLVES, BENDS, ERFS, ADDS, SCALES, KEEPS, TAKES = range(8)
MOST_ROWS = 32  # of an image whose columns are lanes, and whose rows are registers


@dataclass(frozen=True)
class Node:
    """A node of `native/src/planes_program.h`."""

    kind: int
    inputs: tuple[int, ...]
    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]
    step: tuple[int, int]
    p: tuple[float, ...]

    @property
    def bends(self) -> tuple[float, ...]:
        """h, lin, slope^2, cross, bend^2 / 2 pi, own: of a ReLU, as planes.h reads them."""
        slope, bend, own = self.p[:3]
        return (
            bend * bend / 2, slope * slope + slope * bend, slope * slope, slope * bend / 2, bend * bend / (2 * math.pi),
            own,
        )  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """Displacements along one axis that the kernel goes through, and whether two of them share a plane by wrapping."""

    first: int
    count: int
    wraps: bool


@dataclass(frozen=True)
class Plan:
    """What the kernel runs, and what is done with its sums.

    Args:
        nodes: all nodes of the program.
        body: the nodes with positions, in order; the last one is summed over positions and displacements.
        reduction: the node that sums; None if the last value has one position.
        scale: of each node of the body, how the displacement of the last one grows: the product of the strides since.
        axes: displacements along height and width.
        ops: the kernel's list; each is a kind, a place, and a node of the body (of which it takes the settings).
        places: how many values are kept at once.
        in_registers: whether the kernel that holds rows in registers can run it.
        masked: see `PlaneProgram`.
        channels: of the input.
    """

    nodes: tuple[Node, ...]
    body: tuple[int, ...]
    reduction: int | None
    scale: tuple[tuple[int, int], ...]
    axes: tuple[Axis, Axis]
    ops: tuple[tuple[int, int, int, tuple[float, ...]], ...]
    places: int
    in_registers: bool
    masked: bool
    channels: int

    @property
    def tail(self) -> tuple[int, ...]:
        """Nodes without positions, in order."""
        return tuple(v for v in range(len(self.nodes)) if v not in self.body and v != self.reduction)

    @property
    def all_pairs(self) -> bool:
        """Whether all displacements count."""
        return self.reduction is not None and self.nodes[self.reduction].kind == MEAN

    @property
    def places_of_variances(self) -> dict[int, int]:
        """Where the variances at the input of each activation of the body begin."""
        places, at = {}, 0
        for v in self.body:
            if self.nodes[v].kind in (RELU, ERF):
                places[v], at = at, at + math.prod(self.nodes[v].size)
        return places

    @property
    def variances(self) -> int:
        """Variances that are kept of an image."""
        return sum(math.prod(self.nodes[v].size) for v in self.places_of_variances)

    @property
    def seen(self) -> tuple[float, float]:
        """Entries at activations for each pair of images: over all displacements, and over displacement 0."""
        total = at_zero = 0.0
        for v in self.places_of_variances:
            size, scale = self.nodes[v].size, self.scale[self.body.index(v)]
            total += math.prod(_entries(*of) for of in zip(size, scale, self.axes, strict=True))
            at_zero += math.prod(size)
        return total, at_zero


def _entries(size: int, scale: int, axis: Axis) -> int:
    if axis.wraps:
        return size * axis.count
    # positions p and p + scale e that both lie within the axis
    return sum(max(0, size - scale * abs(e)) for e in range(axis.first, axis.first + axis.count))


def nodes(planes: PlaneProgram) -> tuple[Node, ...]:
    """The program's nodes; their matrices are not read."""
    every = []
    for k in range(planes.ints[2]):
        w = planes.ints[3 + 13 * k : 16 + 13 * k]
        inputs = tuple(i for i in w[1:3] if i >= 0)
        size, window, stride, before, step = ((w[at], w[at + 1]) for at in (3, 5, 7, 9, 11))
        every.append(Node(w[0], inputs, size, window, stride, before, step, planes.reals[6 * k : 6 * k + 6]))
    return tuple(every)


def plan(planes: PlaneProgram) -> Plan:
    """How the kernel runs this program; or why it does not."""
    if AXES in planes.kinds:
        raise Unsupported("its planes mix", op="a pool or another map of positions within the network")
    if SERIES in planes.kinds:
        raise Unsupported("the kernels for images have the ReLU family and erf", op="an activation by its series")
    every = nodes(planes)
    reductions = [v for v, node in enumerate(every) if node.kind in (MEAN, TRACE)]
    if len(reductions) > 1:
        raise Unsupported("it has one at the end of the convolutions", op="several sums over positions")
    if reductions:
        reduction = reductions[0]
    else:
        reduction = None
    if reduction is None:
        last = len(every) - 1
    else:
        last = every[reduction].inputs[0]
    scale = _scales(every, last, reduction is not None and every[reduction].kind == MEAN)
    if scale is None:
        raise Unsupported("their displacements differ", op="ways of different strides to one value")
    body = tuple(sorted(scale))
    tail = [v for v in range(len(every)) if v not in scale and v != reduction]
    if any(i in scale for v in tail for i in every[v].inputs):
        raise Unsupported("they are computed apart", op="a value that is read before and after the sum over positions")
    ops, places = _ops(every, body)
    scales = tuple(scale[v] for v in body)
    return Plan(
        every, body, reduction, scales, _axes(every, body, scales, last), ops, places,
        _in_registers(every, body), bool(planes.ints[1]), planes.ints[0],
    )  # fmt: skip


def _scales(every: tuple[Node, ...], last: int, shifted: bool) -> dict[int, tuple[int, int]] | None:
    """For each node below `last`, the factor of the displacement; None if ways to it disagree."""
    scale = {last: (0, 0)}
    if shifted:
        scale[last] = ONE
    for v in range(last, -1, -1):
        if v not in scale:
            continue
        if every[v].kind == AFFINE:
            stride = every[v].stride
        else:
            stride = ONE
        for i in every[v].inputs:
            # positions p and p + e of a layer's output read windows that are stride times e apart
            below = scale[v][0] * stride[0], scale[v][1] * stride[1]
            if scale.setdefault(i, below) != below:
                return None
    return scale


def _axes(
    every: tuple[Node, ...], body: tuple[int, ...], scales: tuple[tuple[int, int], ...], last: int
) -> tuple[Axis, Axis]:
    axes = []
    for axis in (0, 1):
        size = every[last].size[axis]
        if not any(s[axis] for s in scales):
            axes.append(Axis(0, 1, False))
        elif all(every[v].size[axis] == s[axis] * size for v, s in zip(body, scales, strict=True)):
            axes.append(Axis(0, size, True))
        else:
            axes.append(Axis(1 - size, 2 * size - 1, False))
    return axes[0], axes[1]


def _in_registers(every: tuple[Node, ...], body: tuple[int, ...]) -> bool:
    """Images of at most 32 x 32; windows of 3 x 3 with padding, or 1 x 1, with stride 1 or 2 along both axes."""
    for v in body:
        node = every[v]
        if node.kind == AFFINE and not _pointwise(node):
            padding = {(1, 1): (0, 0), (3, 3): (1, 1)}.get(node.window)
            known = node.before == padding and node.stride in ((1, 1), (2, 2))
            below = every[node.inputs[0]].size
            fits = node.size == tuple(-(-s // n) for s, n in zip(below, node.stride, strict=True))
            if not known or not fits or (node.window == (3, 3) and node.step != ONE):
                return False
    return max(max(every[v].size) for v in body) <= MOST_ROWS


def _pointwise(node: Node) -> bool:
    return node.window == ONE and node.stride == ONE and node.before == (0, 0)


def _ops(
    every: tuple[Node, ...], body: tuple[int, ...]
) -> tuple[tuple[tuple[int, int, int, tuple[float, ...]], ...], int]:
    """The nodes as ops: what is read again, later than by the next op, is kept in a place until its last reader."""
    readers = {v: [u for u in body if v in every[u].inputs] for v in body}
    place: dict[int, int] = {}
    ops: list[tuple[int, int, int, tuple[float, ...]]] = []
    at_hand, places = -1, 0
    for number, v in enumerate(body):
        node = every[v]
        if node.inputs and at_hand not in node.inputs:
            at_hand = node.inputs[0]
            ops.append((TAKES, place[at_hand], at_hand, ()))
        ops.append(_op(node, v, at_hand, place))
        at_hand = v
        for i in set(node.inputs):
            if readers[i][-1] == v:
                place.pop(i, None)
        if number + 1 < len(body):
            following = body[number + 1]
        else:
            following = -1
        again = [u for u in readers[v] if u != following or every[u].inputs.count(v) == 2]
        if again:
            place[v] = min(set(range(len(body))) - set(place.values()))
            places = max(places, place[v] + 1)
            ops.append((KEEPS, place[v], v, ()))
    return tuple(ops), places


def _op(node: Node, v: int, at_hand: int, place: dict[int, int]) -> tuple[int, int, int, tuple[float, ...]]:
    if node.kind == INPUT:
        return STARTS, 0, v, ()
    if node.kind == RELU:
        return BENDS, 0, v, node.bends
    if node.kind == ERF:
        return ERFS, 0, v, ()
    if node.kind == SUM:
        (a, b), (weight, own_a, own_b) = node.inputs, node.p[:3]
        if at_hand == a:  # K = Ka + w Kb, T = Ta + own_a Ka + w (Tb + own_b Kb)
            return ADDS, place[b], v, (1.0, weight, own_a, weight * own_b)
        return ADDS, place[a], v, (weight, 1.0, weight * own_b, own_a)
    assert node.kind in (AFFINE, SCALE)
    kind = CONVOLVES
    if node.kind == SCALE or _pointwise(node):
        kind = SCALES
    return kind, 0, v, node.p[:4]
