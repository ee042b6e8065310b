r"""What the vector engine knows of each input alone: variances, and the factors of rows and of columns.

Of a value with variances $q_1, q_2$ and $s = \sqrt{q_1 q_2}$ the loops carry $u = 1 - K / s$ and $T = \Theta / s$. A
layer without bias leaves $u$, and adds $(g_w / \sigma_w^2)(1 - u)$ to $T$. With a bias the values of an input are a
vector of length $\sqrt{\sigma_w^2 q}$ and, at right angles to it, $\sigma_b$: with $\varphi$ the angle of their sum to
the first,

    1 - K''/s'' = rho u + 1 - cos(phi_1 - phi_2),   rho = cos(phi_1) cos(phi_2),

and $1 - \cos(\varphi_1 - \varphi_2) = 2 \sin^2((\varphi_1 - \varphi_2) / 2)$ is a difference of products of sines and
cosines of half the angles: nothing cancels. A sum of two values is the same, the angle between the parts being
$\arccos(\mu_a \mu_b)$ where both have means $\mu \sqrt q$ (after activations such as ReLU), and a right one otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.ops import Activation, Sign, Step
from gramian.arch.ops.relu import LeakyReLU
from gramian.limit.program import Data, Dual, Plus, Program, Times, Weights

AFFINE, BIASED, SLOPES, SUM, JUMP = range(5)  # as in native/src/vector_tile.h
PER_OP = 4  # factors
REGISTERS = 16


@dataclass(frozen=True)
class Side:
    """A value at each row (or column) on its own.

    Args:
        q: variance; shape (n,), float64.
        theta: NTK of each input with itself; shape (n,).
        ratio: mean over sqrt(q), where that is the same for all inputs; 0 for no mean, NaN where it differs.
    """

    q: Tensor
    theta: Tensor
    ratio: float = 0.0


def slopes(op: LeakyReLU) -> tuple[float, float]:
    r"""$E\,\phi(z)^2$ of a standard Gaussian, and the part of the kernel that depends on the angle."""
    a, b = op.slope, op.bend
    g = a * a + a * b + b * b / 2
    return g, b * b / 2 / g if g else 0.0


def side(p: Program, q: Tensor) -> list[Side]:
    """Every value at each input alone, from the inputs' variances in float64."""
    values: list[Side] = []
    for line in p.lines:
        below = [values[i] for i in line.inputs]
        does = line.does
        if isinstance(does, Data):
            values.append(Side(q, torch.zeros_like(q)))
        elif isinstance(does, Weights):
            theta = does.sigma_w2 * below[0].theta + does.gain_w * below[0].q + does.gain_b
            values.append(Side(does.sigma_w2 * below[0].q + does.sigma_b2, theta))
        elif isinstance(does, Dual):
            values.append(_activated(does.activation, below[0]))
        elif isinstance(does, Times):
            sign = math.copysign(1.0, does.factor)
            values.append(Side(does.factor**2 * below[0].q, does.factor**2 * below[0].theta, sign * below[0].ratio))
        elif isinstance(does, Plus):
            values.append(_summed(below[0], below[1], does.alpha))
    return values


def _activated(op: Activation, below: Side) -> Side:
    k, kdot = op.dual(below.q, below.q, below.q)
    return Side(k, below.theta * kdot, ratio(op))


def ratio(op: Activation) -> float:
    """Mean of the activation over the root of its second moment, for those where no variance changes it."""
    if isinstance(op, LeakyReLU):
        g, _ = slopes(op)
        return op.bend / math.sqrt(2 * math.pi * g) if g else 0.0
    return math.sqrt(0.5) if isinstance(op, Step) else 0.0


def _summed(a: Side, b: Side, alpha: float) -> Side:
    cross = math.copysign(1.0, alpha) * a.ratio * b.ratio * (a.q * b.q).sqrt()
    q = a.q + alpha**2 * b.q + 2 * abs(alpha) * cross
    both = math.nan if a.ratio or b.ratio else 0.0
    return Side(q, a.theta + alpha**2 * b.theta, both)


@dataclass(frozen=True)
class Code:
    """A program as the compiled loops read it.

    Args:
        ops: kind, result, first and second operand (registers), number of the first factor; shape (k, 5), int32.
        settings: two numbers each; shape (k, 2), float64.
        out: register of the result.
        factors: for each op that has factors, the lines that they are computed from.
    """

    ops: Tensor
    settings: Tensor
    out: int
    factors: tuple[tuple[int, ...], ...]


def code(p: Program) -> Code:
    """Instructions with registers: a register is free again after the last use of its value."""
    root = list(range(len(p.lines)))  # a multiple shares its value's register: u and T stay as they are
    for number, line in enumerate(p.lines):
        if isinstance(line.does, Times):
            root[number] = root[line.inputs[0]]
    last = {root[i]: number for number, line in enumerate(p.lines) for i in line.inputs}
    last[root[-1]] = len(p.lines)
    free = list(range(REGISTERS - 1, -1, -1))  # register 0 is taken first, by the input
    at: dict[int, int] = {}
    ops: list[tuple[int, ...]] = []
    settings: list[tuple[float, float]] = []
    factors: list[tuple[int, ...]] = []
    for number, line in enumerate(p.lines):
        if isinstance(line.does, Times):
            continue
        operands = [root[i] for i in line.inputs]
        free += [at[i] for i in set(operands) if last[i] == number]
        at[number] = free.pop()
        if isinstance(line.does, Data):
            continue
        kind, p0 = _kind(line.does)
        start = 0
        if kind in (BIASED, SUM):
            start = PER_OP * len(factors)
            factors.append((number, *line.inputs))
        ops.append((kind, at[number], at[operands[0]], at[operands[-1]], start))
        settings.append((p0, 0.0))
    return Code(
        torch.tensor(ops, dtype=torch.int32).reshape(-1, 5),
        torch.tensor(settings, dtype=torch.float64).reshape(-1, 2),
        at[root[-1]],
        tuple(factors),
    )


def _kind(does: object) -> tuple[int, float]:
    if isinstance(does, Weights):
        return (BIASED if does.sigma_b2 or does.gain_b else AFFINE), does.gain_w / does.sigma_w2
    if isinstance(does, Dual):
        op = does.activation
        if isinstance(op, LeakyReLU):
            return SLOPES, slopes(op)[1]
        return JUMP, 2.0 if isinstance(op, Sign) else 1.0
    return SUM, 0.0


def table(p: Program, c: Code, values: list[Side], pad: int) -> Tensor:
    """Factors of all ops, then sqrt(q) of the result; shape (4 k + 5, n + pad), float64, ones in the padding."""
    rows: list[Tensor] = []
    for number, *inputs in c.factors:
        does, q = p.lines[number].does, values[number].q
        if isinstance(does, Weights):
            below = does.sigma_w2 * values[inputs[0]].q
            phi = torch.atan2(torch.full_like(q, does.sigma_b2).sqrt(), below.sqrt())
            rows += [(below / q).sqrt(), (does.gain_b / q).sqrt(), (phi / 2).sin(), (phi / 2).cos()]
        elif isinstance(does, Plus):
            a, b = values[inputs[0]], values[inputs[1]]
            cos = math.copysign(1.0, does.alpha) * a.ratio * b.ratio if a.ratio and b.ratio else 0.0
            first, second = a.q.sqrt(), abs(does.alpha) * b.q.sqrt()
            phi = torch.atan2(math.sqrt(1 - cos * cos) * second, first + cos * second)
            rows += [first / q.sqrt(), second / q.sqrt(), (phi / 2).sin(), (phi / 2).cos()]
    while len(rows) < PER_OP:
        rows.append(torch.ones_like(values[-1].q))
    rows.append(values[-1].q.sqrt())
    made = torch.stack([row.nan_to_num(0.0, 0.0, 0.0) for row in rows])
    return torch.nn.functional.pad(made, (0, pad), value=1.0)
