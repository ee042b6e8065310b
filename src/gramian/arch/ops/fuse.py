"""Fusion: several elementwise calls on one value become one activation, in closed form where it is a known one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.base import READERS, Call, EarlierStep, Op, Value, replaced
from gramian.arch.ops.combine import Shift
from gramian.arch.ops.exponential import Exp, Gaussian
from gramian.arch.ops.pointwise import ELEMENTWISE, Line, LineResult, Pointwise
from gramian.arch.ops.polynomial import Polynomial, RectifiedPower
from gramian.arch.ops.relu import LeakyReLU, ReLU, TwoSlopes
from gramian.arch.ops.scale import Scale

Program = tuple[Line, ...]
Coefficients = tuple[float, ...]
MOST_DEGREE = 16


def fuse(call: Call, steps: Sequence[EarlierStep]) -> tuple[Op, tuple[Value, ...]] | None:
    """One op for an elementwise call whose tensors are all functions of one value; None where another rule applies.

    A sum of two branches, a multiple of an activation and an activation of a Gaussian keep their own rules. What is
    fused is an activation of an activation or of a shifted value, a product or sum of functions of the same value,
    and any elementwise call that no op reads.

    Args:
        call: the outer call.
        steps: the steps read so far, which the call's values count.

    Returns:
        The op and the one value that it acts on.
    """
    base = call.target.removeprefix("aten.").split(".")[0].rstrip("_")
    values = [a for a in call.args if isinstance(a, Value)]
    if base not in ELEMENTWISE or not values or any(v.user_shape != call.shape for v in values):
        return None
    if any(v.order != values[0].order for v in values):  # one value and its transpose
        return None
    if (
        len(values) == 1
        and call.target in READERS
        and not (_nonlinear(READERS[call.target]) and _bent(values[0], steps))
    ):
        return None
    args = [_number(a) for a in call.args]
    if any(not isinstance(a, Value | int | float | str | None) for a in args):
        return None
    traces = [_trace(v.index, steps) for v in values]
    roots = {root for root, _ in traces}
    if len(roots) != 1:
        return None
    lines: list[Line] = []
    ends = iter([_append(lines, program) for _, program in traces])
    lines.append((_out_of_place(call.target), tuple(replaced(args, Value, lambda _: next(ends)))))
    return simplest(tuple(lines)), (replace(values[0], index=roots.pop()),)


def simplest(lines: Program) -> Op:
    """The op with a closed form that the expression is, or itself."""
    p = _polynomial(lines)
    if p is not None:
        if len(p) == 2:
            if p[0] == 0:
                return Scale(p[1])
            return Shift(p[0], p[1])
        return Polynomial(p)
    name, args = lines[-1]
    if isinstance(name, Exp) or name == "aten.exp.default":
        p = _polynomial(lines[:-1], args[0])
        # exp(b - a x^2)
        if p is not None and len(p) == 3 and p[1] == 0 and p[2] < 0:
            return Gaussian(-p[2], math.exp(p[0]))
    n = _rectified(lines, LineResult(len(lines) - 1))
    if n:
        if n > 1:
            return RectifiedPower(n)
        return ReLU()
    if _homogeneous(lines):
        whole = Pointwise(lines)
        # of f(t x) = t f(x) the values at -1 and 1 are all
        left, right = (float(s * whole.phi(torch.tensor(s, dtype=torch.float64))) for s in (-1.0, 1.0))
        return TwoSlopes(left, right)
    return Pointwise(lines)


def _homogeneous(lines: Program) -> bool:
    """Whether the expression is made of such parts alone that it is f(t x) = t f(x) for t > 0: bent once, at 0."""
    for name, args in lines:
        values = [a for a in args if isinstance(a, LineResult)]
        if isinstance(name, Op):
            base = ""
        else:
            base = name.split(".")[1]
        alike = isinstance(name, LeakyReLU | Scale) or base in ("relu", "leaky_relu", "abs", "neg")
        multiple = base in ("mul", "div") and len(values) == 1 and isinstance(args[0], LineResult)
        if not (alike or multiple or (base in ("add", "sub") and len(values) == 2)):
            return False
    return True


def _nonlinear(reader: type[Op]) -> bool:
    return issubclass(reader, Activation)


def _bent(value: Value, steps: Sequence[EarlierStep]) -> bool:
    """Whether a value is a function of another that leaves no Gaussian."""
    return any(not isinstance(op, Scale) for op, _ in _trace(value.index, steps)[1])


def _trace(index: int, steps: Sequence[EarlierStep]) -> tuple[int, Program]:
    """The value that a step is an elementwise function of, and that function."""
    ops: list[Op] = []
    while index >= 0 and isinstance(steps[index].op, Activation | Scale | Shift):
        ops.append(steps[index].op)
        (index,) = steps[index].inputs
    lines: list[Line] = []
    end = LineResult(-1)
    for op in reversed(ops):
        if isinstance(op, Pointwise):
            end = _append(lines, op.lines, end)
        else:
            lines.append((op, (end,)))
            end = LineResult(len(lines) - 1)
    return index, tuple(lines)


def _append(lines: list[Line], program: Program, start: LineResult = LineResult(-1)) -> LineResult:
    """Adds a program that acts on `start`, line by line unless it is there already; where its result is."""
    place: dict[int, LineResult] = {-1: start}
    for number, (name, args) in enumerate(program):
        line = (name, tuple(replaced(args, LineResult, lambda result: place[result.index])))
        if line not in lines:
            lines.append(line)
        place[number] = LineResult(lines.index(line))
    return place[len(program) - 1]


def _out_of_place(target: str) -> str:
    aten, base, overload = target.split(".")
    return f"{aten}.{base.rstrip('_')}.{overload}"


def _number(a: Any) -> Any:
    if isinstance(a, Tensor) and a.numel() == 1:
        return float(a)
    return a


def _polynomial(lines: Program, of: Any = None) -> Coefficients | None:
    """Coefficients of what the expression, or one of its arguments, is as a polynomial; None if it is none."""
    of = LineResult(len(lines) - 1) if of is None else of
    if isinstance(of, int | float):
        return (float(of),)
    if not isinstance(of, LineResult):
        return None
    if of.index < 0:
        return (0.0, 1.0)
    name, args = lines[of.index]
    inner = [_polynomial(lines, a) for a in args[:2] if a is not None]
    if any(p is None for p in inner):
        return None
    p, q = [*inner, (1.0,)][:2]
    assert p is not None
    assert q is not None
    result = _arithmetic(name, args, p, q)
    if result is None or len(result) <= MOST_DEGREE + 1:
        return result
    return None


def _arithmetic(name: str | Op, args: tuple[Any, ...], p: Coefficients, q: Coefficients) -> Coefficients | None:
    if isinstance(name, Scale):
        return _times(p, (name.factor,))
    if isinstance(name, Shift):
        return _plus((name.constant,), _times(p, (name.factor,)))
    if isinstance(name, Polynomial):
        total: Coefficients = (0.0,)
        # Horner, with polynomials in place of numbers
        for c in reversed(name.coefficients):
            total = _plus(_times(total, p), (c,))
        return total
    if isinstance(name, Op):
        base = ""
    else:
        base = name.split(".")[1]
    if base == "mul":
        return _times(p, q)
    if base in ("add", "sub", "rsub"):
        if len(args) > 2:
            alpha = float(args[2])
        else:
            alpha = 1.0
        if base == "rsub":
            return _plus(q, _times(p, (-alpha,)))
        if base == "sub":
            alpha = -alpha
        return _plus(p, _times(q, (alpha,)))
    if base == "neg":
        return _times(p, (-1.0,))
    if base == "div" and len(args) == 2 and len(q) == 1 and q[0]:
        return _times(p, (1 / q[0],))
    if base == "square":
        power = 2
    else:
        power = None
    if base == "pow" and isinstance(args[0], LineResult):
        power = args[1]
    if isinstance(power, int | float) and power == int(power) and 1 <= power <= MOST_DEGREE:
        total = (1.0,)
        for _ in range(int(power)):
            total = _times(total, p)
        return total
    return None


def _times(p: Coefficients, q: Coefficients) -> Coefficients:
    total = [0.0] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            total[i + j] += a * b
    return _trimmed(total)


def _plus(p: Coefficients, q: Coefficients) -> Coefficients:
    return _trimmed([a + b for a, b in zip_longest(p, q, fillvalue=0.0)])


def _trimmed(p: list[float]) -> Coefficients:
    while len(p) > 1 and p[-1] == 0:
        p.pop()
    return tuple(p)


def _rectified(lines: Program, of: Any) -> int | None:
    """n where the argument is relu(x)^n, 0 where it is x itself; None otherwise."""
    if not isinstance(of, LineResult):
        return None
    if of.index < 0:
        return 0
    name, args = lines[of.index]
    if isinstance(name, Op):
        base = ""
    else:
        base = name.split(".")[1]
    inner = _rectified(lines, args[0])
    if inner is None:
        return None
    if isinstance(name, ReLU | RectifiedPower) or base == "relu":
        power = 1
        if isinstance(name, RectifiedPower):
            power = name.power
        return max(inner, 1) * power
    if inner == 0:
        return None
    if isinstance(name, Polynomial) and not any(name.coefficients[:-1]) and name.coefficients[-1] == 1:
        return inner * (len(name.coefficients) - 1)
    if base == "mul":
        other = _rectified(lines, args[1])
        # relu(x)^n relu(x)^m, or relu(x)^n x, which is one power more
        if other is None:
            return None
        return inner + max(other, 1)
    if base == "square":
        power = 2
    else:
        power = 0
    if base == "pow":
        power = args[1]
    if isinstance(power, int | float) and power == int(power) and 1 <= power <= MOST_DEGREE:
        return inner * int(power)
    return None
