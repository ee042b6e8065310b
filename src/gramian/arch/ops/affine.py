"""Linear and convolutional layers: the only ops with random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from gramian.arch.law import plain
from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Parameter, Value, pair, reads, value
from gramian.arch.positions import window_average
from gramian.duals.covariance_gap import opposite_plus_constant, plus_constant
from gramian.errors import BadArgument, NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


@dataclass(frozen=True)
class Affine(Op):
    r"""`W * x + b` with i.i.d. weights: the rule that linear and convolutional layers share.

    $K \mapsto \sigma_w^2\, \mathrm{avg}(K) + \sigma_b^2$, and $\Theta \mapsto \sigma_w^2\, \mathrm{avg}(\Theta)
    + [W \text{ trains}]\, g_w\, \mathrm{avg}(K) + [b \text{ trains}]\, g_b$,
    with gains $g_w = \sigma_w^2, g_b = \sigma_b^2$ in the NTK parametrization (Jacot et al. 2018, arXiv:1806.07572)
    and $g_w$ = fan-in, $g_b = 1$ in the standard one, whose NTK grows with the width.
    """

    random: ClassVar[bool] = True

    out_channels: int
    fan_in: int
    weight_name: str
    bias_name: str | None
    weight_trains: bool
    bias_trains: bool
    sigma_w: float = math.nan
    sigma_b: float = math.nan
    standard: bool = False
    turned: bool = False  # whether the weight is used transposed
    rate_w: float = 1.0  # multiplies the learning rate of the weight
    rate_b: float = 1.0
    rows: tuple[int, ...] = ()  # of the user's weight, where the layer's channels are taken apart; () for all
    torch_fan: int = 0  # what PyTorch's default law goes by instead of the fan-in; 0 for the fan-in

    @property
    def gains(self) -> tuple[float, float]:
        """What the weight adds to the NTK, per unit of K, and what the bias adds; zero where they do not train."""
        if self.standard:
            w, b = (float(self.fan_in), 1.0)
        else:
            w, b = (self.sigma_w**2, self.sigma_b**2)
        return w * self.rate_w * self.weight_trains, b * self.rate_b * self.bias_trains

    def average(self, m: Moments) -> Moments:
        """Moments averaged over the window."""
        raise NotImplementedError

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        """The layer as a torch module."""
        raise NotImplementedError

    def fan_in_of(self, weight: Tensor) -> int:
        """Fan-in of a finite layer's weight."""
        return weight[0].numel()

    def n_biases(self, out_channels: int) -> int:
        """Entries of a finite layer's bias."""
        return out_channels

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A finite layer on values with channels first."""
        return layer(x)

    def limit(self, *m: Moments) -> Moments:
        below = self.average(m[0].averaged())
        sw, sb = self.sigma_w**2, self.sigma_b**2
        gain_w, gain_b = self.gains
        theta = None
        if below.theta is not None:
            # f = W h: what flows through W gives sigma_w^2 Theta, W's own gradient gives its gain times K, that of b
            # its gain.
            theta = sw * below.theta
            if gain_w:
                theta = theta + gain_w * below.xy
            if gain_b:
                theta = theta + gain_b
        xx = sw * below.xx + sb
        if below.yy is below.xx:
            yy = xx
        else:
            yy = sw * below.yy + sb
        gap = opposite = None
        if below.gap is not None:
            q = below.spread(*below.variances())
            # both variances get the constant sigma_b^2 as well, so the gap is not sigma_w^2 times that below
            gap = plus_constant(below.gap.size, *q, sw, sb)
            if below.gap.opposite is not None:
                opposite = opposite_plus_constant(below.gap.opposite, *q, sw, sb)
        moments = replace(
            below,
            xx=xx,
            yy=yy,
            xy=sw * below.xy + sb,
            theta=theta,
            mean_x=None,
            mean_y=None,
            gaussian=True,
            exchangeable_channels=True,
            sources=frozenset({self.source}),
            scale_averaged=False,
        )
        return moments.with_gap(gap, opposite)

    def joint(self, below: Cross) -> Cross:
        """Of two values that this layer makes of others; their covariances are averaged over the window already."""
        sw, sb = self.sigma_w**2, self.sigma_b**2
        gain_w, gain_b = self.gains

        def theta(old: Tensor | None, k: Tensor) -> Tensor | None:
            if old is None:
                return None
            return sw * old + gain_w * k + gain_b

        covariances = below.fields(lambda field, _: sw * field + sb)
        return replace(
            covariances, theta_xy=theta(below.theta_xy, below.xy), theta_yx=theta(below.theta_yx, below.yx)
        )  # fmt: skip

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        if hidden:
            return width(self.out_channels)
        return self.out_channels

    @property
    def path(self) -> str:
        """The layer's path in the user's module."""
        return self.weight_name.removesuffix(".weight")

    @property
    def source(self) -> str:
        """The random weights: the name of the weight, and its rows where they are not all of them."""
        if self.rows:
            return f"{self.weight_name}[{self.span}]"
        return self.weight_name

    @property
    def span(self) -> str:
        """`rows` in words."""
        first, last, by = self.rows[0], self.rows[-1], 1
        if len(self.rows) > 1:
            by = self.rows[1] - first
        if self.rows == tuple(range(first, last + 1, by)):
            if by > 1:
                return f"{first}:{last + 1}:{by}"
            return f"{first}:{last + 1}"
        return ",".join(map(str, self.rows))

    def describe(self) -> str:
        if self.weight_trains:
            frozen = ""
        else:
            frozen = ", frozen"
        if self.bias_name:
            bias = f", b {plain(self.sigma_b):.4g}"
        else:
            bias = ", no bias"
        if self.rows:
            rows = f", rows {self.span}"
        else:
            rows = ""
        return f"-> {self.out_channels}, sigma_w {plain(self.sigma_w):.4g}{bias}{frozen}{rows}"


def own_parameters(weight: object, bias: object, what: str) -> tuple[Parameter, Parameter | None]:
    """The weight and the bias as parameters that stand for themselves, or a refusal."""
    if not isinstance(weight, Parameter):
        raise NoLimit(
            f"{what} has a weight that is not a parameter as it stands, but computed from others or constant.",
            why="the limit is over i.i.d. random weights; a computed weight (weight norm, a scaled copy) is not",
            fix="use the parameter itself as the weight, and scale the layer's output instead",
        )
    if bias is not None and not isinstance(bias, Parameter):
        raise NoLimit(f"{what} has a bias that is not a parameter as it stands.", fix="use the parameter itself")
    return weight, bias


def common(weight: Parameter, bias: Parameter | None, out_channels: int) -> dict[str, Any]:
    """The fields that all affine layers share."""
    return {
        "out_channels": out_channels,
        "fan_in": math.prod(weight.shape) // out_channels,
        "weight_name": weight.name,
        "bias_name": None if bias is None else bias.name,
        "turned": weight.turned,
        "weight_trains": weight.trains,
        "bias_trains": bias is not None and bias.trains,
    }


@reads("aten.linear.default")
@dataclass(frozen=True)
class Linear(Affine):
    """A fully connected layer on the last axis, the same at each position: `nn.Linear`, `F.linear`, or `x @ W`."""

    any_layout: ClassVar[bool] = True
    channels_last: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x = value(call.args[0], "the input of this product")
        weight, bias = own_parameters(call.args[1], call.argument(2), "This product")
        if x.order[-1] != 0:
            raise NoLimit(
                f"A Linear layer acts on positions: the channels of its input are on axis {x.order.index(0) + 1}.",
                why="positions stay as many as they are when the width grows, and random weights between them do not "
                "average out",
                fix="transpose so that the channels come last; to mix positions, a Conv1d or a fixed matrix A @ x; for "
                "a token-mixing layer as it stands, gramian.monte_carlo(module, x)",
            )
        return cls(**common(weight, bias, call.shape[-1])), (x,)

    def average(self, m: Moments) -> Moments:
        return m

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        return nn.Linear(in_channels, out_channels, bias=bias)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return layer(x)
        return layer(x.movedim(1, -1)).movedim(-1, 1)


@reads(
    "aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default",
    "aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding",
)  # fmt: skip
@dataclass(frozen=True)
class Conv(Affine):
    """A convolution in 1, 2 or 3 dimensions, with zero padding, stride and dilation.

    Both positions move through the window together, because the weights are shared over space (Novak et al. 2019,
    arXiv:1810.05148; Arora et al. 2019, arXiv:1904.11955). Padding counts in the fan-in. A fixed number of `groups`
    changes nothing: each averages over infinitely many channels of one law.
    """

    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, weight, bias, stride, padding, dilation, groups = call.args
        x = value(x, "the input of this convolution")
        weight, bias = own_parameters(weight, bias, "This convolution")
        check_groups(groups, x)
        axes = len(weight.shape) - 2
        window, dilation = weight.shape[2:], pair(dilation, axes)
        return cls(
            **common(weight, bias, weight.shape[0]),
            window=window,
            stride=pair(stride, axes),
            padding=_padding(padding, window, dilation),
            dilation=dilation,
            groups=groups,
        ), (x,)

    def average(self, m: Moments) -> Moments:
        check_alike(self.groups, m)
        return m.shift_average(
            lambda field, axes: window_average(field, axes, self.window, self.stride, self.padding, self.dilation)
        )

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        check_width(self.groups, in_channels, out_channels)
        conv: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(self.window)]
        even = all(before == after for before, after in self.padding)
        # torch pads unevenly only there
        padding: str | tuple[int, ...]
        if even:
            padding = tuple(before for before, _ in self.padding)
        else:
            padding = "same"
        return conv(in_channels, out_channels, self.window, self.stride, padding, self.dilation, self.groups, bias=bias)

    def describe(self) -> str:
        size = "x".join(map(str, self.window))
        extra = "".join(
            f", {name} {'x'.join(map(str, number))}"
            for name, number in (("stride", self.stride), ("dilation", self.dilation), ("groups", (self.groups,)))
            if set(number) != {1}
        )
        return f"{size}{extra} {super().describe()}"


def check_groups(groups: int, x: Value) -> None:
    """Refuses a convolution whose groups do not grow with the width, or are not of one law."""
    if groups == 1:
        return
    if x.data:
        raise NoLimit(
            f"A convolution with groups={groups} of the input itself.",
            why="each group sees other channels of the input, so the channels above have different laws",
            fix="groups=1 in the first layer; or gramian.monte_carlo(module, x)",
        )
    if groups == x.shape[0]:
        raise NoLimit(
            f"A depthwise convolution: a group for each of {groups} channels.",
            why="a channel is not averaged with others, so it stays random when the width grows",
            fix="fewer groups, each of which grows with the width, or groups=1; or gramian.monte_carlo(module, x)",
        )


def check_alike(groups: int, m: object) -> None:
    """Refuses groups of channels that have different laws."""
    if groups > 1 and isinstance(m, Moments) and not m.exchangeable_channels:
        raise NoLimit(
            f"A convolution with groups={groups} acts on channels that have different laws.",
            why="channels were concatenated, and each group sees others",
            fix="groups=1 after a concatenation",
        )


def check_width(groups: int, *channels: int) -> None:
    """Raises BadArgument where a finite layer's channels do not split into its groups."""
    for c in channels:
        if c % groups:
            raise BadArgument(
                f"A convolution with groups={groups} cannot have {c} channels.",
                where="Architecture.network",
                why="each group has as many channels as the others",
                fix=f"a width that is a multiple of {groups}, such as {groups * max(1, round(c / groups))}",
            )


def _padding(padding: object, window: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each axis; torch puts the odd one of "same" after."""
    if padding == "valid":
        return ((0, 0),) * len(window)
    if padding == "same":
        # a window of w entries d apart covers d (w - 1) positions beside its own
        total = [d * (w - 1) for w, d in zip(window, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    return tuple((p, p) for p in pair(padding, len(window)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class LayerScaling:
    """How a finite layer multiplies its parameters: the NTK parametrization as two numbers."""

    weight: float
    bias: float


def initialize(op: Affine, layer: nn.Module, generator: torch.Generator | None) -> LayerScaling:
    """Draws a finite layer's parameters and returns what multiplies them."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    fan_in = op.fan_in_of(weight)
    unit, sigma_b = plain(op.sigma_w) / math.sqrt(fan_in), plain(op.sigma_b)
    std_w, std_b, scaling = unit, sigma_b, LayerScaling(1.0, 1.0)
    if not op.standard:  # a rate r is a parameter sqrt(r) times smaller, multiplied by sqrt(r) more
        root_w, root_b = math.sqrt(op.rate_w) or 1.0, math.sqrt(op.rate_b) or 1.0
        std_w, std_b, scaling = 1 / root_w, 1 / root_b, LayerScaling(unit * root_w, sigma_b * root_b)
    with torch.no_grad():
        weight.normal_(0, std_w, generator=generator)
        if getattr(layer, "bias", None) is not None:
            layer.bias.normal_(0, std_b, generator=generator)  # type: ignore[operator]
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            weight[layer.padding_idx].zero_()
    return scaling
