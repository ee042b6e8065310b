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

from gramian.arch.ops import Activation, Erf, Sign, Smooth, Step
from gramian.arch.ops.relu import LeakyReLU
from gramian.arch.ops.smooth import ODD, Series
from gramian.errors import NoLimit
from gramian.limit.program import Data, Dual, Plus, Program, Times, Weights

AFFINE, BIASED, SLOPES, SUM, JUMP, ERF, SERIES = range(7)  # as in native/src/vector_tile.h
FACTORS = {BIASED: 4, SUM: 4, ERF: 6}  # of a row, by kind; two for each term of a series
TERMS = 512  # longest series
LEFT_OUT = {torch.float32: 1e-9, torch.float64: 1e-13}  # of a series, as a share of its sum
REGISTERS = 16


@dataclass(frozen=True)
class Side:
    """A value at each row (or column) on its own.

    Args:
        q: variance; shape (n,), float64.
        theta: NTK of each input with itself; shape (n,).
        ratio: mean over sqrt(q), where that is the same for all inputs; 0 for no mean, NaN where it differs.
        series: Hermite coefficients of the activation and of its slope, over sqrt(q); shapes (terms, n). None if there
            is another form.
    """

    q: Tensor
    theta: Tensor
    ratio: float = 0.0
    series: tuple[Tensor, Tensor] | None = None


class TooLong(ValueError):
    """A series with more terms than the loops are made for: the values' variance is large."""


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
    """The closed form at equal inputs, or the sum of the series."""
    if not isinstance(op, Series):
        k, kdot = op.dual(below.q, below.q, below.q)
        return Side(k, below.theta * kdot, ratio(op))
    distinct, where = below.q.unique(return_inverse=True)
    try:
        a, b = (op.coefficients(distinct, order) for order in (0, 1))
    except NoLimit as error:
        raise TooLong(error.what) from None
    k, kdot = a.square().sum(0), b.square().sum(0)
    series = (a / k.sqrt())[:, where], (b * (distinct / k).sqrt())[:, where]
    return Side(k[where], below.theta * kdot[where], ratio(op), series)


def ratio(op: Activation) -> float:
    """Mean of the activation over the root of its second moment: 0, or the same for all variances, or NaN."""
    if isinstance(op, LeakyReLU):
        g, _ = slopes(op)
        return op.bend / math.sqrt(2 * math.pi * g) if g else 0.0
    if isinstance(op, Step):
        return math.sqrt(0.5)
    odd = isinstance(op, Sign | Erf) or (isinstance(op, Smooth) and op.function in ODD)
    return 0.0 if odd else math.nan


def terms(values: list[Side], dtype: torch.dtype) -> dict[int, int]:
    """How many terms of each series count, by line.

    The terms left out change no covariance by more than LEFT_OUT of the variance, by Cauchy and Schwarz.
    """
    found = {}
    for number, value in enumerate(values):
        if value.series is not None:
            length = 1
            for coefficients in value.series:
                squares = coefficients.square()
                left = squares.flip(0).cumsum(0).flip(0) / squares.sum(0).clamp_min(1e-300)  # from this term on
                length = max(length, int((left > LEFT_OUT[dtype]).any(1).sum()))
            found[number] = length
    if max(found.values(), default=0) > TERMS:
        raise TooLong(f"A series has {max(found.values())} terms.")
    return found


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
        factors: for each op that has factors, its line, the lines of its operands, and how many factors there are.
    """

    ops: Tensor
    settings: Tensor
    out: int
    factors: tuple[tuple[int, tuple[int, ...], int], ...]


def code(p: Program, lengths: dict[int, int]) -> Code:
    """Instructions with registers: a register is free again after the last use of its value.

    `lengths` are those of the series, by line.
    """
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
    factors: list[tuple[int, tuple[int, ...], int]] = []
    for number, line in enumerate(p.lines):
        if isinstance(line.does, Times):
            continue
        operands = [root[i] for i in line.inputs]
        free += [at[i] for i in set(operands) if last[i] == number]
        at[number] = free.pop()
        if isinstance(line.does, Data):
            continue
        kind, p0 = _kind(line.does, lengths.get(number, 0))
        start, many = sum(count for *_, count in factors), FACTORS.get(kind, 2 * lengths.get(number, 0))
        if many:
            factors.append((number, line.inputs, many))
        ops.append((kind, at[number], at[operands[0]], at[operands[-1]], start if many else 0))
        settings.append((p0, 0.0))
    return Code(
        torch.tensor(ops, dtype=torch.int32).reshape(-1, 5),
        torch.tensor(settings, dtype=torch.float64).reshape(-1, 2),
        at[root[-1]],
        tuple(factors),
    )


def _kind(does: object, length: int) -> tuple[int, float]:
    """The loop that runs an instruction, and its setting."""
    if isinstance(does, Weights):
        return (BIASED if does.sigma_b2 or does.gain_b else AFFINE), does.gain_w / does.sigma_w2
    if isinstance(does, Dual):
        op = does.activation
        if isinstance(op, LeakyReLU):
            return SLOPES, slopes(op)[1]
        if isinstance(op, Sign | Step):
            return JUMP, 2.0 if isinstance(op, Sign) else 1.0
        return (ERF, 0.0) if isinstance(op, Erf) else (SERIES, float(length))
    return SUM, 0.0


def table(p: Program, c: Code, values: list[Side], pad: int) -> Tensor:
    """Factors of all ops, then sqrt(q) of the result; shape (factors + 1, n + pad), float64, ones in the padding."""
    rows: list[Tensor] = []
    for number, inputs, many in c.factors:
        does, here, below = p.lines[number].does, values[number], [values[i] for i in inputs]
        if isinstance(does, Weights):
            made = _of_bias(does, here.q, below[0].q)
        elif isinstance(does, Plus):
            made = _of_sum(does.alpha, here.q, *below)
        elif here.series is not None:
            made = [_long(coefficients, many // 2) for coefficients in here.series]
        else:
            made = _of_erf(here.q, below[0].q)
        rows += [row if row.ndim == 2 else row[None] for row in made]
    rows.append(values[-1].q.sqrt()[None])
    return torch.nn.functional.pad(torch.cat(rows).nan_to_num(0.0, 0.0, 0.0), (0, pad), value=1.0)


def _of_bias(does: Weights, q: Tensor, below: Tensor) -> list[Tensor]:
    phi = torch.atan2(torch.full_like(q, does.sigma_b2).sqrt(), (does.sigma_w2 * below).sqrt())
    rho, gain = (does.sigma_w2 * below / q).sqrt(), (does.gain_b / q).sqrt()
    return [rho, gain, (phi / 2).sin(), (phi / 2).cos()]


def _of_sum(alpha: float, q: Tensor, a: Side, b: Side) -> list[Tensor]:
    cos = math.copysign(1.0, alpha) * a.ratio * b.ratio if a.ratio and b.ratio else 0.0
    first, second = a.q.sqrt(), abs(alpha) * b.q.sqrt()
    phi = torch.atan2(math.sqrt(1 - cos * cos) * second, first + cos * second)
    return [first / q.sqrt(), second / q.sqrt(), (phi / 2).sin(), (phi / 2).cos()]


def _of_erf(q: Tensor, below: Tensor) -> list[Tensor]:
    """The arcsine's argument is the cosine of the angle between inputs with one more coordinate, at angle phi."""
    phi = torch.atan2(torch.ones_like(q), (2 * below).sqrt())
    slope = (4 / math.pi * below / q).sqrt() * phi.sin()
    return [phi.cos(), phi.sin(), (phi / 2).sin(), (phi / 2).cos(), q.rsqrt(), slope]


def _long(coefficients: Tensor, count: int) -> Tensor:
    """So many terms: the rest cut off, or zeros added."""
    return torch.nn.functional.pad(coefficients[:count], (0, 0, 0, max(0, count - len(coefficients))))
