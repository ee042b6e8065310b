"""Sums, products and activations in the checker's steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from gramian.errors import Unsupported
from gramian.prove.handler_table import handles
from gramian.prove.reading import ProgramReading, StepValue, Weight


@handles("add", "add_")
def added(reading: ProgramReading, x: Any, y: Any, alpha: float = 1) -> StepValue | None:
    if isinstance(x, int | float | Tensor):
        return _shifted(reading, reading.value(y), float(alpha), x)
    return added_values(reading, reading.value(x), y, alpha)


@handles("rsub")
def subtracted_from(reading: ProgramReading, x: Any, y: Any, alpha: float = 1) -> StepValue | None:
    if not isinstance(y, int | float | Tensor):
        return None
    return _shifted(reading, reading.value(x), -float(alpha), y)


@handles("sub", "sub_")
def subtracted(reading: ProgramReading, x: Any, y: Any, alpha: float = 1) -> StepValue | None:
    return added(reading, x, y, -alpha)


def added_values(reading: ProgramReading, x: StepValue, y: Any, alpha: float = 1) -> StepValue:
    if isinstance(y, Tensor | int | float):
        return _shifted(reading, x, 1.0, alpha * y)
    other = reading.value(y)
    if alpha != 1:
        other = reading.scaled(other, float(alpha))
    shape = torch.broadcast_shapes(x.shape, other.shape)
    return reading.sum(reading.expanded(x, shape), reading.expanded(other, shape))


def _shifted(reading: ProgramReading, x: StepValue, factor: float, constant: Any) -> StepValue:
    """factor x + constant, both as they stand: found from columns, as (1 + c) - c, the factor would be rounded."""
    offset = torch.as_tensor(constant, dtype=torch.float64)
    shape = torch.broadcast_shapes(x.shape, offset.shape)
    x = reading.expanded(x, shape)
    matrix = sparse.identity(x.size, format="csr") * factor
    return reading.linear(x, matrix, shape, offset.expand(shape).reshape(-1).numpy())


@handles("mul", "mul_")
def multiplied(reading: ProgramReading, x: Any, y: Any) -> Any:
    for a, b in ((x, y), (y, x)):
        if isinstance(a, Weight) and isinstance(b, int | float):
            return Weight(a.name, a.tensor, a.scale * b)
    if isinstance(x, int | float | Tensor) or isinstance(y, int | float | Tensor):
        return None
    a, b = reading.value(x), reading.value(y)
    if a == b:
        return reading.function("square", a)
    shape = torch.broadcast_shapes(a.shape, b.shape)
    return reading.product(reading.expanded(a, shape), reading.expanded(b, shape))


@handles("div", "div_")
def divided(reading: ProgramReading, x: Any, y: Any) -> Any:
    if isinstance(x, Weight) and isinstance(y, int | float):
        return Weight(x.name, x.tensor, x.scale / y)
    if not isinstance(y, StepValue | Weight):
        return None
    inverse = reading.function("reciprocal", reading.value(y))
    if isinstance(x, int | float):
        return reading.scaled(inverse, float(x))
    return multiplied(reading, x, inverse)


@handles("pow")
def power(reading: ProgramReading, x: Any, exponent: Any) -> StepValue:
    value = reading.value(x)
    if exponent == 2:
        return reading.function("square", value)
    if exponent == -0.5:
        return reading.function("rsqrt", value)
    if exponent == -1:
        return reading.function("reciprocal", value)
    if exponent == 3:
        return reading.product(reading.function("square", value), value)
    raise Unsupported(f"the power {exponent} has no rule (2, 3, -1, -0.5 have)")


@handles("gelu", "gelu_")
def gelu(reading: ProgramReading, x: Any, approximate: str = "none") -> StepValue:
    z = reading.value(x)
    if approximate == "none":
        return reading.function("gelu", z)
    # z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
    cube = reading.product(reading.function("square", z), z)
    root = math.sqrt(2 / math.pi)
    inner = reading.sum(reading.scaled(z, root), reading.scaled(cube, root * 0.044715))
    bent = reading.mapped(reading.function("tanh", inner), lambda t: 0.5 * t + 0.5)
    return reading.product(z, bent)


SOFTPLUS_THRESHOLD = 20.0  # torch takes the identity above


@handles("softplus")
def softplus(reading: ProgramReading, x: Any, beta: float = 1, threshold: float = 20) -> StepValue:
    if threshold != SOFTPLUS_THRESHOLD:
        raise Unsupported("softplus with another threshold than 20 has no rule")
    z = reading.value(x)
    if beta == 1:
        return reading.function("softplus", z)
    return reading.scaled(reading.function("softplus", reading.scaled(z, float(beta))), 1 / beta)


@handles("elu", "elu_")
def elu(reading: ProgramReading, x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> StepValue:
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise Unsupported("ELU with another alpha than 1 has a kink, and no rule")
    return reading.function("elu", reading.value(x))


@handles("leaky_relu", "leaky_relu_")
def leaky_relu(reading: ProgramReading, x: Any, slope: float = 0.01) -> StepValue:
    z = reading.value(x)  # relu(z) - slope relu(-z)
    negative = reading.function("relu", reading.scaled(z, -1.0))
    return reading.sum(reading.function("relu", z), reading.scaled(negative, -float(slope)))


@handles("abs")
def absolute(reading: ProgramReading, x: Any) -> StepValue:
    z = reading.value(x)
    return reading.sum(reading.function("relu", z), reading.function("relu", reading.scaled(z, -1.0)))
