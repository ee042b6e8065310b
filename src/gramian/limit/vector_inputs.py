r"""What the vector engine knows of each input alone: variances, and the factors of rows and of columns.

Of a value with variances $q_1, q_2$ and $s = \sqrt{q_1 q_2}$ the loops carry $u = 1 - K / s$ and $T = \Theta / s$. A
layer without bias leaves $u$, and adds $(g_w / \sigma_w^2)(1 - u)$ to $T$. With a bias the values of an input are a
vector of length $\sqrt{\sigma_w^2 q}$ and, at right angles to it, $\sigma_b$: with $\varphi$ the angle of their sum to
the first,

    1 - K''/s'' = rho u + 1 - cos(phi_1 - phi_2),   rho = cos(phi_1) cos(phi_2),

and $1 - \cos(\varphi_1 - \varphi_2) = 2 \sin^2((\varphi_1 - \varphi_2) / 2)$ is a difference of products of sines and
cosines of half the angles: nothing cancels. Of a sum of two values, with the parts' sizes $w = \sqrt{q_a / q}$ and
means $\mu$, all over $\sqrt q$,

    1 - K/s = sum_parts w_1 w_2 u + (w_1 - w_2)^2 / 2,   + (mu_a1 - mu_a2) (mu_b1 - mu_b2) where both have means.

An activation is a closed form in u (ReLU and its kin, sign and step, erf), a power series (`series`), or a table
(`angle_tables`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.ops import Activation, Erf, Heaviside, Sign
from gramian.arch.ops.activation import odd
from gramian.arch.ops.relu import LeakyReLU
from gramian.duals import angle_tables
from gramian.duals.hermite_series import powers
from gramian.errors import Unsupported
from gramian.limit.finite import NotFinite
from gramian.limit.kernel_program import Data, Dual, Plus, Program, Times, Weights

AFFINE, BIASED, SLOPES, SUM, JUMP, ERF, SERIES, TABLE = range(8)  # as in native/src/vector_tile.h
REGISTERS = 16
OF_ODD = 64  # added to a table's kind
# arcsines in a row, each of which loses a unit of the last place: more of them are computed as series
MOST_ARCSINES = 16


@dataclass(frozen=True)
class NativeOp:
    """An instruction as `Op` of native/src/vector_tile.h has it, with its factors.

    Args:
        kind: AFFINE to TABLE.
        first: its first setting, p0 there.
        second: its second setting, p1.
        factors: numbers that each input has for itself; shape (k, n), float64. None for none.
    """

    kind: int
    first: float = 0.0
    second: float = 0.0
    factors: Tensor | None = None


@dataclass(frozen=True)
class Diagonal:
    """The diagonal of both kernels at one value of the network: each row (or column) with itself.

    Args:
        q: variance; shape (n,), float64.
        theta: NTK; shape (n,).
        mean: mean over sqrt(q), shape (n,); None for zero.
        loop: the instruction that makes it; None for the data and their multiples.
    """

    q: Tensor
    theta: Tensor
    mean: Tensor | None = None
    loop: NativeOp | None = None


def slopes(op: LeakyReLU) -> tuple[float, float]:
    r"""$E\,\phi(z)^2$ of a standard Gaussian, and the part of the kernel that depends on the angle."""
    a, b = op.slope, op.bend
    g = a * a + a * b + b * b / 2
    if not g:
        return 0.0, 0.0
    return g, b * b / 2 / g


def side(p: Program, q: Tensor, dtype: torch.dtype, pairs: float = math.inf) -> list[Diagonal]:
    """Every value at each input alone, from the variances of all inputs (rows and columns) in float64.

    `pairs` is how many are asked for: few of them do not pay for some tables.

    Raises:
        Unsupported: an activation has no series and no table for these variances.
        NotFinite: a variance or an entry of the NTK overflows.
    """
    sums = any(isinstance(line.does, Plus) for line in p.lines)
    ops = [line.does.activation for line in p.lines if isinstance(line.does, Dual)]
    # a kink above takes the root of what an arcsine's rounding has left of u
    arcsine = sum(isinstance(op, Erf) for op in ops) <= MOST_ARCSINES and not any(op.nonsmooth for op in ops)
    values: list[Diagonal] = []
    zero = torch.zeros_like(q, dtype=torch.bool)
    for line in p.lines:
        below = [values[i] for i in line.inputs]
        does = line.does
        if isinstance(does, Data):
            values.append(Diagonal(q, torch.zeros_like(q)))
        elif isinstance(does, Weights):
            values.append(_weighed(does, below[0]))
        elif isinstance(does, Dual):
            values.append(_activated(does.activation, below[0], dtype, pairs, arcsine=arcsine, mean=sums))
        elif isinstance(does, Times):
            if below[0].mean is None:
                mean = None
            else:
                mean = math.copysign(1.0, does.factor) * below[0].mean
            values.append(Diagonal(does.factor**2 * below[0].q, does.factor**2 * below[0].theta, mean))
        elif isinstance(does, Plus):
            values.append(_summed(below[0], below[1], does.alpha))
        zero |= values[-1].q == 0
        _check(values[-1], zero, torch.float64)
    _check(values[-1], zero, dtype)
    return values


def _check(value: Diagonal, zero: Tensor, dtype: torch.dtype) -> None:
    """Raises NotFinite, whose row counts the inputs of both sides, where a number has no place in this dtype.

    Inputs with a value of variance zero are left to the torch engine.
    """
    largest = torch.finfo(dtype).max
    bad = ~(torch.maximum(value.q, value.theta) <= largest) & ~zero
    if bool(bad.any()):
        at = int(torch.nonzero(bad)[0, 0])
        raise NotFinite((at, at), dtype)


def _weighed(does: Weights, below: Diagonal) -> Diagonal:
    theta = does.sigma_w2 * below.theta + does.gain_w * below.q + does.gain_b
    # T is over s'' = sigma_w^2 s: g_w K / s'' = (g_w / sigma_w^2) (1 - u)
    gain = does.gain_w / does.sigma_w2
    if not (does.sigma_b2 or does.gain_b):
        return Diagonal(does.sigma_w2 * below.q, theta, loop=NativeOp(AFFINE, gain))
    q = does.sigma_w2 * below.q + does.sigma_b2
    # rho of a pair is the product of both inputs' cos(phi), which is sqrt(sigma_w^2 q / q'')
    phi = torch.atan2(torch.full_like(q, does.sigma_b2).sqrt(), (does.sigma_w2 * below.q).sqrt())
    rho, own = (does.sigma_w2 * below.q / q).sqrt(), (does.gain_b / q).sqrt()
    return Diagonal(
        q, theta, loop=NativeOp(BIASED, gain, factors=torch.stack([rho, own, (phi / 2).sin(), (phi / 2).cos()]))
    )


def _summed(a: Diagonal, b: Diagonal, alpha: float) -> Diagonal:
    # independent a and b: E (a + alpha b)^2 = q_a + alpha^2 q_b + 2 alpha E a E b, and means are kept over sqrt(q)
    cross: float | Tensor
    if a.mean is None or b.mean is None:
        cross = 0.0
    else:
        cross = 2 * alpha * a.mean * b.mean * (a.q * b.q).sqrt()
    q = a.q + alpha**2 * b.q + cross
    sizes = (a.q / q).sqrt(), abs(alpha) * (b.q / q).sqrt()
    if a.mean is None:
        of_a = torch.zeros_like(q)
    else:
        of_a = sizes[0] * a.mean
    if b.mean is None:
        of_b = torch.zeros_like(q)
    else:
        of_b = math.copysign(1.0, alpha) * sizes[1] * b.mean
    if a.mean is None and b.mean is None:
        mean = None
    else:
        mean = of_a + of_b
    return Diagonal(q, a.theta + alpha**2 * b.theta, mean, NativeOp(SUM, factors=torch.stack([*sizes, of_a, of_b])))


def _activated(
    op: Activation, below: Diagonal, dtype: torch.dtype, pairs: float, *, arcsine: bool, mean: bool
) -> Diagonal:
    """The closed form at equal inputs, or sums."""
    q = below.q
    loop = _closed(op, q, arcsine)
    if loop is not None:
        k, slope = op.dual(q, q, q)
    else:
        k, slope, loop = _summed_up(op, q, dtype, pairs)
    if mean:
        at = op.mean(q)
    else:
        at = None
    return Diagonal(k, below.theta * slope, None if at is None else at / k.sqrt(), loop)


def _closed(op: Activation, q: Tensor, arcsine: bool) -> NativeOp | None:
    if isinstance(op, LeakyReLU):
        return NativeOp(SLOPES, slopes(op)[1])
    if isinstance(op, Sign):
        return NativeOp(JUMP, 2.0)
    if isinstance(op, Heaviside):
        return NativeOp(JUMP, 1.0)
    if isinstance(op, Erf) and arcsine:
        return NativeOp(ERF, factors=_of_erf(op.dual(q, q, q)[0], q))
    return None


def _summed_up(op: Activation, q: Tensor, dtype: torch.dtype, pairs: float) -> tuple[Tensor, Tensor, NativeOp]:
    """E phi^2, E phi'^2, and a series or a table.

    At one variance a series is a polynomial in the correlation, and shorter as a Chebyshev series.
    """
    try:
        series = powers(op, q, dtype)
    except Unsupported:
        of_angle, s, k, slope = angle_tables.tabulated(op, q, dtype, pairs)
        # a homogeneous function's table is of variance 1
        if bool((s == q.sqrt()).all()):
            second = k
        else:
            second = angle_tables.own(op, s * s)[0]
        return k, slope, _of_table(op, of_angle, s, second)
    some = torch.nonzero(q > 0).flatten()
    if len(some) and angle_tables.uniform(q, dtype):
        at = int(some[0])
        of_angle = angle_tables.of_powers(series.a[:, at], float(q[at]), float(series.squares[at]), dtype)
        return series.squares, series.slopes, _of_table(op, of_angle, q.sqrt(), series.squares)
    first, which, factors = series.factors()
    return series.squares, series.slopes, NativeOp(SERIES, first, which, factors)


def _of_table(op: Activation, table: angle_tables.AngleTable, s: Tensor, second: Tensor) -> NativeOp:
    # three facts in one number, which the loops take apart again
    kind = 3 * len(table.apart) + table.form + OF_ODD * odd(op)
    return NativeOp(TABLE, table.rest.shape[2], kind, table.factors(s, second))


def _of_erf(k: Tensor, below: Tensor) -> Tensor:
    """The arcsine's argument is the cosine of the angle between inputs with one more coordinate, at angle phi."""
    phi = torch.atan2(torch.ones_like(k), (2 * below).sqrt())
    slope = (4 / math.pi * below / k).sqrt() * phi.sin()
    return torch.stack([phi.cos(), phi.sin(), (phi / 2).sin(), (phi / 2).cos(), k.rsqrt(), slope])


@dataclass(frozen=True)
class Code:
    """A program as the compiled loops read it.

    Args:
        ops: kind, result, first and second operand (registers), number of the first factor; shape (k, 5), int32.
        settings: two numbers each; shape (k, 2), float64.
        out: register of the result.
        lines: the line of each op that has factors.
    """

    ops: Tensor
    settings: Tensor
    out: int
    lines: tuple[int, ...]


def code(p: Program, values: list[Diagonal]) -> Code:
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
    lines: list[int] = []
    count = 0
    for number, line in enumerate(p.lines):
        if isinstance(line.does, Times):
            continue
        operands = [root[i] for i in line.inputs]
        free += [at[i] for i in set(operands) if last[i] == number]
        at[number] = free.pop()
        loop = values[number].loop
        if loop is None:
            continue
        many = first = 0
        if loop.factors is not None:
            many, first = len(loop.factors), count
        ops.append((loop.kind, at[number], at[operands[0]], at[operands[-1]], first))
        settings.append((loop.first, loop.second))
        count += many
        if many:
            lines.append(number)
    return Code(
        torch.tensor(ops, dtype=torch.int32).reshape(-1, 5),
        torch.tensor(settings, dtype=torch.float64).reshape(-1, 2),
        at[root[-1]],
        tuple(lines),
    )


def table(c: Code, values: list[Diagonal], at: slice, pad: int) -> Tensor:
    """Factors of all ops at some inputs, then sqrt(q) of the result; shape (factors + 1, n + pad), float64, ones in the
    padding."""
    rows = [values[number].loop.factors[:, at] for number in c.lines]  # type: ignore[union-attr, index]
    rows.append(values[-1].q[at].sqrt()[None])
    return torch.nn.functional.pad(torch.cat(rows).nan_to_num(0.0, 0.0, 0.0), (0, pad), value=1.0)
