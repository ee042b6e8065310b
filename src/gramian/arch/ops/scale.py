"""A constant times the values, a trained scale, and the product of two values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Parameter, Read, Value, reads, value
from gramian.arch.ops.combine import Shift
from gramian.arch.ops.concat import Product
from gramian.arch.ops.norm import channel_scale
from gramian.arch.ops.weighted import per_position, weighted
from gramian.errors import NoLimit


@reads("aten.mul.Tensor", "aten.mul_.Tensor", "aten.div.Tensor", "aten.neg.default", "aten.rsub.Scalar")
@dataclass(frozen=True)
class Scale(Op):
    """A constant times the values; a parameter of one number for each channel, LayerScale, is a trained scale."""

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True

    factor: float

    @classmethod
    def read(cls, call: Call) -> Read:
        if "neg" in call.target:
            return cls(-1.0), (value(call.args[0], "what is negated"),)
        if "rsub" in call.target:  # c - alpha h
            return Shift(float(call.args[1]), -float(call.args[2])), (value(call.args[0], "what is subtracted"),)
        a, b = (_number(arg) for arg in call.args[:2])
        if isinstance(a, Value) and isinstance(b, Value) and ("mul" in call.target or b.data > a.data):
            return _product(a, b, "mul" in call.target)
        if "mul" in call.target and {type(a), type(b)} == {Value, Parameter}:
            if isinstance(b, Value):
                a, b = b, a
            op, inputs, layout = channel_scale(a, b)  # type: ignore[arg-type]
            if op.scale_trains:
                return op, inputs, layout
            return cls(op.factor), inputs, layout
        if isinstance(a, Value) and not a.data and isinstance(b, Tensor):
            return per_position(a, b, inverse="div" in call.target)
        if "mul" in call.target and isinstance(a, float | Tensor):
            return cls.read(replace(call, args=(b, a)))
        if not isinstance(b, float) or isinstance(a, float):
            raise NoLimit(
                "Two tensors are multiplied or divided element by element.",
                why="there is a rule for a constant times the values only; a trained or computed factor is not one",
                fix="multiply by a plain Python number, a buffer or a mask alike for all channels; weights of "
                'each position are read as torch.einsum("bkl,okl->bol", h, weight)',
            )
        if "div" in call.target:
            b = 1 / b
        return cls(b), (value(a, "what is multiplied"),)

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor

    def limit(self, *m: Moments) -> Moments:
        return m[0].scaled(self.factor)

    def describe(self) -> str:
        return f"by {self.factor:g}"


def _product(a: Value, b: Value, times: bool) -> Read:
    if times and a.user_shape == b.user_shape and a.order == b.order and a.data == b.data:
        return Product(), (a, b)
    if a.data > b.data:
        return weighted(b, a, "as is")
    if times:
        return weighted(a, b, "as is")
    return weighted(a, b, "inverse")


def _number(arg: object) -> object:
    """A constant as a float; anything else as it is."""
    if isinstance(arg, int | float) and not isinstance(arg, bool):
        return float(arg)
    if isinstance(arg, Tensor) and arg.numel() == 1:
        return float(arg)
    return arg
