"""Each image with itself, and values without positions: in float64, by torch, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gramian.arch.ops.erf import Erf
from gramian.duals.angle import area_and_angle
from gramian.limit.cuda.plane_schedule import Node, Plan
from gramian.limit.planes import AFFINE, ERF, INPUT, RELU, SUM, TRACE

Pair = tuple[Tensor, Tensor]  # K and Theta


def variances(plan: Plan, x: Tensor) -> tuple[Tensor, Pair | None]:
    """What the kernel reads of each image's variances, (n, variances), and the last value's sums of displacement 0.

    `x` has shape (n, channels, positions). The sums are None where all displacements count.
    """
    values: dict[int, Pair] = {}
    spread = []
    for v in plan.body:
        node = plan.nodes[v]
        below = [values[i] for i in node.inputs]
        if node.kind == INPUT:
            q = x.double().square().mean(1).reshape(len(x), *node.size)
            values[v] = q, torch.zeros_like(q)
            continue
        if node.kind in (RELU, ERF):
            q = below[0][0]
            read = (1 + 2 * q).rsqrt()
            if node.kind == RELU:
                read = q.sqrt()
            spread.append(read.flatten(1))
        if node.kind == AFFINE:
            values[v] = _convolved(node, *below[0])
        else:
            values[v] = step(node, below)
    if plan.all_pairs:
        sums = None
    else:
        sums = tuple(t.sum((1, 2)) for t in values[plan.body[-1]])
    whole = x.new_empty(len(x), 0).double()
    if spread:
        whole = torch.cat(spread, 1)
    return whole, sums  # type: ignore[return-value]


def _convolved(node: Node, k: Tensor, theta: Tensor) -> Pair:
    return _affine(node, _window(node, k), _window(node, theta))


def _affine(node: Node, k: Tensor, theta: Tensor) -> Pair:
    p = node.p
    return p[0] * k + p[1], p[0] * theta + p[2] * k + p[3]


def _window(node: Node, t: Tensor) -> Tensor:
    """Sums over the window, zeros outside."""
    pad = []
    for axis in (1, 0):
        reach = node.stride[axis] * (node.size[axis] - 1) + node.step[axis] * (node.window[axis] - 1) + 1
        pad += [node.before[axis], reach - node.before[axis] - t.shape[1 + axis]]
    t = torch.nn.functional.pad(t, pad)
    out = t.new_zeros(len(t), *node.size)
    spans = [stride * (size - 1) + 1 for size, stride in zip(node.size, node.stride, strict=True)]
    for i in range(node.window[0]):
        for j in range(node.window[1]):
            y, x = i * node.step[0], j * node.step[1]
            out += t[:, y : y + spans[0] : node.stride[0], x : x + spans[1] : node.stride[1]]
    return out


def finish(plan: Plan, sums: Pair, q: Sequence[dict[int, Tensor]] | None = None) -> tuple[Pair, dict[int, Tensor]]:
    """The network's output from the sums over positions; and the variances that this took.

    Args:
        plan: what was run.
        sums: of K and Theta; shape (n,) of each input with itself, or (pairs,).
        q: of each pair, the variances of its first and of its second input, as this returns them. None: the inputs
            with themselves.
    """
    values: dict[int, Pair] = {}
    last = plan.body[-1]
    if plan.reduction is None:
        values[last] = sums
    else:
        values[plan.reduction] = _affine(plan.nodes[plan.reduction], *sums)
    q_of: dict[int, Tensor] = {}
    for v in plan.tail:
        node = plan.nodes[v]
        below = [values[i] for i in node.inputs]
        if node.kind in (RELU, ERF):
            q_of[v] = below[0][0]
            if q is None:
                sides = None
            else:
                sides = (q[0][v], q[1][v])
            values[v] = step(node, below, sides)
        else:
            if node.kind in (AFFINE, TRACE):
                values[v] = _affine(node, *below[0])
            else:
                values[v] = step(node, below)
    return values[len(plan.nodes) - 1], q_of


def step(node: Node, below: list[Pair], sides: Pair | None = None) -> Pair:
    """A node without window, at each entry; `sides` are the two variances, None at equal inputs."""
    k, theta = below[0]
    if node.kind == SUM:
        (weight, own, other), (k2, theta2) = node.p[:3], below[1]
        return k + weight * k2, theta + own * k + weight * (theta2 + other * k2)
    if node.kind not in (RELU, ERF):
        return _affine(node, k, theta)
    dual, own = _erf, 0.0
    if node.kind == RELU:
        dual, own = _relu, node.p[2]
    out, slope = dual(node, k, *(sides or (k, k)))
    return out, theta * slope + own * out


def _relu(node: Node, k: Tensor, q1: Tensor, q2: Tensor) -> Pair:
    """See `gramian.arch.ops.relu.LeakyReLU`."""
    a, b = node.p[:2]
    if q1 is k and q2 is k:
        return k * (a * a + a * b + b * b / 2), torch.where(k > 0, a * a + a * b + b * b / 2, a * a)
    area, theta = area_and_angle(q1, k, q2)
    half = (math.pi - theta) / (2 * math.pi)
    on1, on2 = (q1 > 0).double() / 2, (q2 > 0).double() / 2
    relu_kernel = area / (2 * math.pi) + half * k
    slope = a * a + a * b * (on1 + on2) + b * b * half * ((q1 > 0) & (q2 > 0))
    # phi(u) = a u + b max(u, 0), and E u max(v, 0) = k / 2 twice: a^2 k + a b k + b^2 E max(u, 0) max(v, 0)
    return (a * a + a * b) * k + b * b * relu_kernel, slope


def _erf(node: Node, k: Tensor, q1: Tensor, q2: Tensor) -> Pair:
    return Erf().dual(q1, k, q2)
