"""BatchNorm in eval mode at its initial state, and calls that change nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Parameter, Value, reads, value
from gramian.errors import NoLimit


@reads("aten.batch_norm.default")
@dataclass(frozen=True)
class BatchNorm(Op):
    r"""$\gamma\, h / \sqrt{1 + \epsilon} + \beta$ at $\gamma = 1$, $\beta = 0$, running mean 0 and variance 1.

    $\gamma$ and $\beta$ have no width: trained, they add $K / (1 + \epsilon)$ and 1 to the NTK, at all positions.
    """

    factor: float
    scale_trains: bool
    shift_trains: bool
    scale_name: str | None
    shift_name: str | None

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, weight, bias, mean, var, training, _, eps, *_ = call.args
        if training or mean is None:
            raise NoLimit(
                "BatchNorm in training mode has no limit here: it mixes the samples of a batch.",
                why="the module is in training mode, or keeps no running statistics",
                fix="call .eval() on the module first, or use GroupNorm-free blocks without BatchNorm",
            )
        for name, tensor, start in (
            ("weight", weight, 1),
            ("bias", bias, 0),
            ("running mean", mean, 0),
            ("running variance", var, 1),
        ):
            tensor = tensor.tensor if isinstance(tensor, Parameter) else tensor
            if isinstance(tensor, Tensor) and not torch.all(tensor == start):
                raise NoLimit(
                    f"BatchNorm's {name} is not at its initial value {start}.",
                    why="a trained normalization differs from channel to channel, and has no limit",
                    fix="call .reset_parameters() on the layer: it resets the running statistics too",
                )
        return cls(
            float((1 + eps) ** -0.5),
            isinstance(weight, Parameter) and weight.trains,
            isinstance(bias, Parameter) and bias.trains,
            weight.name if isinstance(weight, Parameter) else None,
            bias.name if isinstance(bias, Parameter) else None,
        ), (value(x, "the input of BatchNorm"),)

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor

    def limit(self, *m: Moments) -> Moments:
        a = m[0].scaled(self.factor)
        theta = a.theta
        if theta is not None and self.scale_trains:
            theta = theta + a.xy
        if theta is not None and self.shift_trains:
            theta = theta + 1
        return replace(a, theta=theta)

    def describe(self) -> str:
        return "eval, initial state"


@reads(
    "aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default", "aten.alpha_dropout.default",
    "aten.feature_alpha_dropout.default", "aten.contiguous.default", "aten.clone.default", "aten.alias.default",
    "aten.detach.default", "aten.to.dtype", "aten.to.device", "aten._to_copy.default", "aten.lift_fresh_copy.default",
    "aten._assert_tensor_metadata.default", "aten.expand_as.default",
)  # fmt: skip
@dataclass(frozen=True)
class Identity(Op):
    """Calls that change nothing: dropout in eval mode, copies."""

    any_layout: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Call) -> Value:
        if "dropout" in call.target and call.args[1] > 0 and call.args[2]:
            raise NoLimit(
                f"Dropout in training mode, p = {call.args[1]}.",
                why="the module is in training mode",
                fix="call .eval() on the module first",
            )
        x = value(call.args[0], "the input of this call")
        if "detach" in call.target and not x.data:
            raise NoLimit(
                "The values are detached: no gradient reaches the layers below.",
                why="there is no rule for a cut gradient",
                fix="freeze those layers with requires_grad_(False) instead",
            )
        if x.user_shape != call.shape:
            raise NoLimit(f"Values of shape {x.user_shape} are expanded to {call.shape}.", fix="use equal shapes")
        return x
