"""Locally connected layers: patches by `F.unfold`, then weights for each position, or for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gramian.arch.moments import Moments
from gramian.arch.ops.affine import Affine, common, own_parameters
from gramian.arch.ops.base import Call, EarlierStep, Op, Parameter, Value, pair, reads, value
from gramian.arch.positions import window_average
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross

WAY_OUT = 'torch.einsum("bkl,okl->bol", F.unfold(h, 3), weight), or a Linear on its patches'
New = tuple[Op, tuple[Value, ...], tuple[int, ...], tuple[int, ...]]  # op, inputs, shape, layout


@reads("aten.im2col.default")
@dataclass(frozen=True)
class Unfold(Op):
    """Patches of an image as channels, `F.unfold`: of the input, or where a layer with weights reads them."""

    window: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        x, *settings = call.args[:5]
        return cls(*(pair(s, 2) for s in settings)), (value(x, "what is unfolded"),)

    def apply(self, *x: Tensor) -> Tensor:
        return functional.unfold(x[0], self.window, self.dilation, self.padding, self.stride)


@dataclass(frozen=True)
class Local(Affine):
    r"""A locally connected layer: each position has its `own_weights`, or all have the same, as in a convolution.

    With weights of their own two positions are independent: $K_{ij} \mapsto \sigma_w^2\, \mathrm{avg}(K)_{ij}
    + \sigma_b^2$ at $i = j$ and zero elsewhere, and so for $\Theta$ (Novak et al. 2019, arXiv:1810.05148).
    """

    patches: Unfold | None = None  # None: each position by itself
    own_weights: bool = True
    own_bias: bool = False
    places: tuple[int, ...] = ()  # positions of the result

    def average(self, m: Moments) -> Moments:
        if isinstance(m, Moments):
            m = replace(m, mean_x=None, mean_y=None)
        else:
            m = m
        if self.patches is not None:
            p = self.patches
            zeros = tuple((by, by) for by in p.padding)
            m = _flat(
                m.shift_average(lambda f, axes: window_average(f, axes, p.window, p.stride, zeros, p.dilation)),
                math.prod(self.places),
            )
        if self.own_weights:
            return self._apart(m)
        return m

    def limit(self, *m: Moments) -> Moments:
        moments = super().limit(*m)
        if self.own_bias:
            return self._apart(moments)
        return moments

    def joint(self, below: Cross) -> Cross:
        covariances = super().joint(below)
        if self.own_bias:
            return self._apart(covariances)
        return covariances

    def _apart(self, m: Any) -> Any:
        """Covariances of different positions are zero."""
        if isinstance(m, Moments) and not m.all_pairs:
            return m
        size = math.prod(self.places)
        # weights of different positions are independent with mean zero, so only equal positions are correlated
        equal = torch.eye(size, device=m.xx.device).reshape(*self.places, *self.places).to(m.xx.dtype)
        if isinstance(m, Moments):
            return m.map_covariances(lambda field, _: field * equal)
        return m.fields(lambda field, _: field * equal)

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        return LocalLayer(self, in_channels, out_channels, bias)

    def fan_in_of(self, weight: Tensor) -> int:
        return weight.shape[1]

    def n_biases(self, out_channels: int) -> int:
        if self.own_bias:
            return out_channels * math.prod(self.places)
        return out_channels

    def describe(self) -> str:
        size, weights = "", "shared"
        if self.patches is not None:
            size = "x".join(map(str, self.patches.window)) + ", "
        if self.own_weights:
            weights = "own weights"
        return f"{size}{weights} {super().describe()}"


def _flat(m: Any, size: int) -> Any:
    """Positions in one axis; of covariances with another value, the other's too."""
    if isinstance(m, Moments):
        return m.resized((size,))
    return m.fields(lambda field, lead: field.reshape(*field.shape[:lead], size, size), 1)


class LocalLayer(nn.Module):
    """A finite locally connected layer; weight (out, channels times window, positions), or 1 for the last if shared."""

    def __init__(self, op: Local, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        self.op = op
        fan_in, n_weights, n_biases = in_channels, 1, 1  # sets of weights, and biases, of an output channel
        if op.patches is not None:
            fan_in *= math.prod(op.patches.window)
        if op.own_weights:
            n_weights = math.prod(op.places)
        if op.own_bias:
            n_biases = math.prod(op.places)
        self.weight = nn.Parameter(torch.empty(out_channels, fan_in, n_weights))
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, n_biases))

    def forward(self, x: Tensor) -> Tensor:
        if self.op.patches is None:
            patches = x.flatten(2)
        else:
            patches = self.op.patches.apply(x)
        if self.op.own_weights:
            out = torch.einsum("bkl,okl->bol", patches, self.weight)
        else:
            out = torch.einsum("bkl,ok->bol", patches, self.weight[..., 0])
        if self.bias is None:
            out = out
        else:
            out = out + self.bias
        return out.reshape(*out.shape[:2], *self.op.places)


def local(call: Call, steps: Sequence[EarlierStep]) -> New | None:
    """A layer made of several calls: weights on patches, or weights of each position's own; None for other calls.

    Raises:
        NoLimit: patches of the network's values that anything else reads.
    """
    values = [a for a in call.args if isinstance(a, Value)]
    if call.target == "aten.einsum.default":
        layer = _einsum(call, steps)
        values += [a for a in call.args[1] if isinstance(a, Value)]
    else:
        reader: dict[str, Callable[[Call, Sequence[EarlierStep]], New | None]] = {
            "aten.linear.default": _linear, "aten.matmul.default": _matmul, "aten.add.Tensor": _bias,
        }  # fmt: skip
        if call.target in reader:
            layer = reader[call.target](call, steps)
        else:
            layer = None
    if layer is None and call.target.split(".")[1] not in ("permute", "transpose", "mT", "swapaxes", "movedim"):
        for v in values:
            if not v.data and v.index >= 0 and isinstance(steps[v.index].op, Unfold):
                raise NoLimit(
                    f"Patches of the network's values, by F.unfold, are read by `{call.target.split('.')[1]}`.",
                    why="their channels are those of several positions, and have no law in common",
                    fix=WAY_OUT,
                )
    return layer


def _own_or_shared_layer(
    x: Value, weight: object, bias: object, out: int, own: bool, places: tuple[int, ...], layout: tuple[int, ...],
    steps: Sequence[EarlierStep],
) -> New:  # fmt: skip
    weight, bias = own_parameters(weight, bias, "This locally connected layer")
    patches = None
    if x.index >= 0 and isinstance(steps[x.index].op, Unfold):
        step = steps[x.index]
        patches, (below,) = step.op, step.inputs
        if below >= 0:
            x = Value(below, steps[below].shape, steps[below].data)
        else:
            x = Value(below, x.shape, step.data)
    fields = common(weight, bias, out)
    fan_in = fields["fan_in"]
    if own:
        # `common` counts all numbers of an output channel, and there are as many sets of weights as positions
        fan_in //= math.prod(places)
    op = Local(**{**fields, "fan_in": fan_in}, patches=patches, own_weights=own, places=places)  # type: ignore[arg-type]
    return op, (x,), (out, *places), layout


def _einsum(call: Call, steps: Sequence[EarlierStep]) -> New | None:
    """`bkl,okl->bol`: letters of the samples, the channels, the positions, and the new channels."""
    equation, operands = call.args[0].replace(" ", ""), call.args[1]
    if len(operands) != 2 or "->" not in equation or "." in equation:
        return None
    inputs, result = equation.split("->")
    terms = dict(zip(("x", "w"), inputs.split(","), strict=True))
    x, weight = operands
    if isinstance(x, Parameter):
        (x, weight), terms = (weight, x), {"x": terms["w"], "w": terms["x"]}
    if not isinstance(x, Value) or not isinstance(weight, Parameter):
        return None
    batch, axes = terms["x"][0], terms["x"][1:]
    stored = [axes[x.order.index(k)] for k in range(len(axes))]  # channels first
    channel, places = stored[0], stored[1:]
    new = [letter for letter in terms["w"] if letter not in terms["x"]]
    kept = [letter for letter in result[1:] if letter not in new]
    own = bool(places) and all(letter in terms["w"] for letter in places)
    in_weight = {*new, channel}
    if own:
        in_weight |= set(places)
    fits = (
        len(new) == 1
        and set(terms["w"]) == in_weight
        and result[:1] == batch
        and sorted(kept) == sorted(places)
        and len(result) == len(places) + 2
    )
    if not fits:
        raise NoLimit(
            f'The product "{call.args[0]}" of a parameter with values whose channels are "{channel}".',
            why="there is a rule for weights on the channels, the same or others at each position",
            fix=WAY_OUT,
        )
    out = weight.shape[terms["w"].index(new[0])]
    order = [new[0], *places]
    layout = tuple(order.index(letter) for letter in result[1:])
    return _own_or_shared_layer(x, weight, None, out, own, x.shape[1:], layout, steps)


def _linear(call: Call, steps: Sequence[EarlierStep]) -> New | None:
    x = call.args[0]
    if not _patched(x, steps) or x.order[-1] != 0:
        return None
    return _own_or_shared_layer(x, call.args[1], call.args[2], call.shape[-1], False, x.shape[1:], x.layout, steps)


def _matmul(call: Call, steps: Sequence[EarlierStep]) -> New | None:
    weight, x = call.args[:2]
    if not _patched(x, steps) or not isinstance(weight, Parameter) or len(weight.shape) != 2 or x.axis(-2) != 0:
        return None
    return _own_or_shared_layer(x, weight, None, call.shape[0], False, x.shape[1:], x.layout, steps)


def _patched(x: object, steps: Sequence[EarlierStep]) -> bool:
    return isinstance(x, Value) and x.index >= 0 and isinstance(steps[x.index].op, Unfold) and not x.data


def _bias(call: Call, steps: Sequence[EarlierStep]) -> New | None:
    """A parameter that is added to a locally connected layer: its bias, of each position or of all."""
    x, bias, alpha = call.args
    if isinstance(x, Parameter):
        x, bias = bias, x
    if not isinstance(x, Value) or not isinstance(bias, Parameter) or x.index < 0 or alpha != 1:
        return None
    step = steps[x.index]
    if not isinstance(step.op, Local) or step.op.bias_name is not None:
        return None
    if len(bias.shape) == len(x.shape) + 1:
        shape = bias.shape[1:]
    else:
        shape = bias.shape
    shape = (1,) * (len(x.shape) - len(shape)) + shape
    whole, ones = x.user_shape, x.of_channels
    if shape not in (whole, ones):
        return None
    op = replace(step.op, bias_name=bias.name, bias_trains=bias.trains, own_bias=shape == whole != ones)
    below, shape_below = step.inputs[0], x.shape
    if below >= 0:
        shape_below = steps[below].shape
    return op, (Value(below, shape_below),), step.shape, x.layout
