"""BatchNorm in eval mode at its initial state, and calls that change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Parameter, Value, reads, value
from gramian.errors import NoLimit


@dataclass(frozen=True)
class Normalization(Op):
    r"""A normalization, times a scale $\gamma$ per channel and plus a shift $\beta$, at $\gamma = 1$, $\beta = 0$.

    $\beta_c$ adds 1 to the NTK of channel c, and $\gamma_c$ adds $h_c(x)\, h_c(y)$, at all positions: K on average,
    but an activation $\phi$ on top makes it $E[u \phi'(u)\, v \phi'(v)]$, not $K \dot K$.
    """

    scale_trains: bool
    shift_trains: bool
    scale_name: str | None
    shift_name: str | None
    rate_scale: float = field(default=1.0, kw_only=True)  # multiply the learning rate
    rate_shift: float = field(default=1.0, kw_only=True)

    @property
    def path(self) -> str:
        """The layer's path in the user's module; empty where it has no parameters."""
        return (self.scale_name or "").removesuffix(".weight")

    def normalized(self, m: Moments) -> Moments:
        """Moments before scale and shift."""
        raise NotImplementedError

    def limit(self, *m: Moments) -> Moments:
        a = self.normalized(m[0])
        theta = a.theta
        if theta is not None and self.shift_trains:
            # the gradient by beta_c is 1
            theta = theta + self.rate_shift
        # h_c(x) h_c(y) is not added as K yet: an activation on top needs u phi'(u) v phi'(v) of it
        a = replace(a, theta=theta, scale_rate=a.scale_rate + self.scale_trains * self.rate_scale)
        if a.gaussian:
            return a
        return a.averaged()


def scale_and_shift(weight: object, bias: object, **statistics: object) -> tuple[bool, bool, str | None, str | None]:
    """Which of scale and shift train, and their names; they and the statistics must be at their initial values."""
    held = {"weight": weight, "bias": bias} | {name.replace("_", " "): v for name, v in statistics.items()}
    for name, tensor in held.items():
        if name in ("weight", "running variance"):
            start = 1
        else:
            start = 0
        if isinstance(tensor, Parameter):
            tensor = tensor.tensor
        if isinstance(tensor, Tensor) and not torch.all(tensor == start):
            raise NoLimit(
                f"The normalization's {name} is not at its initial value {start}.",
                why="a trained normalization differs from channel to channel, and has no limit",
                fix="call .reset_parameters() on the layer: it resets running statistics too",
            )
    scale_trains, scale_name = _of_parameter(weight)
    shift_trains, shift_name = _of_parameter(bias)
    return scale_trains, shift_trains, scale_name, shift_name


def _of_parameter(given: object) -> tuple[bool, str | None]:
    """Whether it trains, and its name; of a constant neither."""
    if isinstance(given, Parameter):
        return given.trains, given.name
    return False, None


@reads("aten.batch_norm.default")
@dataclass(frozen=True)
class BatchNorm(Normalization):
    r"""$\gamma\, h / \sqrt{1 + \epsilon} + \beta$ in eval mode at its initial state: running mean 0 and variance 1."""

    factor: float

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, weight, bias, mean, var, training, _, eps, *_ = call.args
        if training or mean is None:
            raise NoLimit(
                "BatchNorm in training mode has no limit here: it mixes the samples of a batch.",
                why="the module is in training mode, or keeps no running statistics",
                fix="call .eval() on the module first, or use GroupNorm",
            )
        affine = scale_and_shift(weight, bias, running_mean=mean, running_variance=var)
        # running mean 0 and variance 1 at the initial state
        return cls(*affine, float((1 + eps) ** -0.5)), (value(x, "the input of BatchNorm"),)

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor

    def normalized(self, m: Moments) -> Moments:
        return m.scaled(self.factor)

    def describe(self) -> str:
        return "eval, initial state"


@dataclass(frozen=True)
class ChannelScale(Normalization):
    r"""$\gamma_c\, h_c$ with a trained number for each channel, all equal at the start: LayerScale.

    $K \mapsto \gamma^2 K$, $\Theta \mapsto \gamma^2 \Theta$, and $\gamma_c$ adds $h_c(x)\, h_c(y)$ to the NTK of its
    channel: as the scale of a normalization whose learning rate is $\gamma^{-2}$ times as large.
    """

    any_layout: ClassVar[bool] = True
    each_channel: ClassVar[bool] = False

    factor: float

    def apply(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor

    def normalized(self, m: Moments) -> Moments:
        return m.scaled(self.factor)

    def describe(self) -> str:
        return f"by {self.factor:g} at the start"


def channel_scale(x: Value, p: Parameter) -> tuple[ChannelScale, tuple[Value, ...], tuple[int, ...]]:
    """The product of the network's values with a parameter of one number for each channel."""
    shape = (1,) * (len(x.order) - len(p.shape)) + p.shape
    wanted = x.of_channels
    if x.data or x.groups or shape[-len(wanted) :] != wanted or set(shape[: -len(wanted)]) - {1}:
        raise NoLimit(
            f"Values are multiplied by the parameter `{p.name}` of shape {p.shape}.",
            why="there is a rule for a number of each channel; numbers that channels share stay random in the NTK, "
            "however wide the network is",
            fix=f"one number for each of the channels, of shape {wanted}; or a plain Python number",
        )
    start = float(p.tensor.flatten()[0])
    if start == 0 or not bool((p.tensor == start).all()):
        if start == 0:
            raise NoLimit(
                f"The scale `{p.name}` starts at zero.",
                why="what it multiplies then adds to the NTK alone, by a rule that is not here",
                fix="a start that is not zero, such as 1e-5",
            )
        raise NoLimit(
            f"The scale `{p.name}` is not the same for all channels, as it was at the start.",
            why="a trained scale differs from channel to channel, and has no limit",
            fix="the module as it was made, before training",
        )
    return ChannelScale(p.trains, False, p.name, None, start), (x,), x.layout


@reads(
    "aten.contiguous.default", "aten.clone.default", "aten.alias.default", "aten.detach.default", "aten.to.dtype",
    "aten.to.device", "aten._to_copy.default", "aten.lift_fresh_copy.default", "aten._assert_tensor_metadata.default",
    "aten.expand_as.default", "aten.type_as.default",
)  # fmt: skip
@dataclass(frozen=True)
class Identity(Op):
    """Calls that change nothing: copies, views, other precisions."""

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Call) -> Value:
        x = value(call.args[0], "the input of this call")
        if "detach" in call.target and not x.data:
            raise NoLimit(
                "The values are detached: no gradient reaches the layers below.",
                why="there is no rule for a cut gradient",
                fix="freeze those layers with requires_grad_(False) instead",
            )
        if x.user_shape != call.shape:
            raise NoLimit(
                f"Values of shape {x.user_shape} are expanded to {call.shape}.",
                why="the copies of a random value are dependent, and there is a rule for one value at each position",
                fix="multiply without expanding: numbers of the input that are the same for all channels broadcast; "
                "for a gate of each channel, gramian.monte_carlo(module, x)",
            )
        return x
