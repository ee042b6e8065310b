"""The network at finite width: plain torch layers, their parameters multiplied as the parametrization says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from gramian.arch.ops import Affine, Concat, Copies, Dropout, Normalization
from gramian.arch.ops.affine import LayerScaling, initialize
from gramian.arch.ops.input_function import apply_to_data
from gramian.arch.structure import Structure
from gramian.errors import BadArgument


class Scaled(nn.Module):
    r"""An affine layer in the NTK parametrization: $s_w\, W x + s_b\, b$ with W and b of unit variance.

    Both are plain layers without bias, fed with $s_w x$ and with the constant $s_b$: whatever reads torch layers
    (hooks, per-layer contractions, quantizers) reads these.
    """

    def __init__(self, layer: nn.Module, bias: nn.Linear | None, scaling: LayerScaling) -> None:
        super().__init__()
        self.layer, self.bias, self.scaling = layer, bias, scaling

    def forward(self, x: Tensor) -> Tensor:
        s = self.scaling.weight
        # s_w is on the input, so that the weight itself has unit variance
        # tokens are looked up
        if x.is_floating_point():
            out = self.layer(x * s)
        else:
            out = self.layer(x) * s
        if self.bias is None:
            return out
        shift = self.bias(x.new_full((1, 1), self.scaling.bias))
        if isinstance(self.layer, nn.Linear):
            return out + shift
        if shift.shape[1] != out.shape[1]:  # one for each position
            return out + shift.reshape(1, *out.shape[1:])
        return out + shift.reshape(1, -1, *(1,) * (out.ndim - 2))


class Normalized(nn.Module):
    """A normalization with its scale and shift, per channel, trainable where they are."""

    def __init__(self, op: Normalization, channels: int) -> None:
        super().__init__()
        self.op = op
        self.scaling = LayerScaling(math.sqrt(op.rate_scale) or 1.0, math.sqrt(op.rate_shift) or 1.0)
        # a rate r is a parameter sqrt(r) times smaller, multiplied by sqrt(r) more: its gradient step counts r times
        self.weight = nn.Parameter(torch.ones(channels) / self.scaling.weight, op.scale_trains and op.rate_scale > 0)
        self.bias = nn.Parameter(torch.zeros(channels), op.shift_trains and op.rate_shift > 0)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        scale, shift = self.scaling.weight * self.weight, self.scaling.bias * self.bias
        return self.op.apply(x) * scale.reshape(shape) + shift.reshape(shape)


class Network(nn.Module):
    """A finite network of an architecture; made by `Architecture.network`.

    Parameters are named after the user's layers: `layers.0.layer.weight` for the weight of layer `0`, and
    `layers.0.bias.weight` for its bias; what takes the channels of layer `0` apart makes a layer of each part,
    `layers.0.rows_0_8`. A bias with sigma_b = 0 in the NTK parametrization is left out: it is
    multiplied by zero, in value and in gradient. Dropout that was in training mode is drawn in training mode, which a
    new network is in, and does nothing after `.eval()`.

    With "mup" and "mean_field" of width n, the widest hidden layer's, the output is that of the NTK parametrization
    over root n, and all learning rates n times as large: each parameter is root n times smaller, and multiplied by as
    much more. So a plain optimizer at the rate of a narrow network has the limit.
    """

    def __init__(
        self,
        architecture: Structure,
        *,
        width: int | None = None,
        widen: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_number("width", width, "width=1024")
        _check_number("widen", widen, "widen=4")
        self.architecture = architecture
        self.layers = nn.Module()
        self._at: dict[int, nn.Module] = {}
        channels = {-1 - k: _channels(leaf.shape) for k, leaf in enumerate(architecture.inputs.leaves)}
        largest = _largest_width(architecture)
        grown = _hidden_width(architecture, lambda own: _width(own, largest, width, widen))
        self.output_scale = 1 / math.sqrt(grown)
        by_name: dict[str, nn.Module] = {}
        for number, step in enumerate(architecture.steps):
            c = [channels[i] for i in step.inputs]
            hidden = isinstance(step.op, Affine) and architecture.hidden(number)
            if step.data:
                channels[number] = _channels(step.shape)
            else:
                channels[number] = step.op.channels(
                    *c, width=lambda own: _width(own, largest, width, widen), hidden=hidden
                )
            if isinstance(step.op, Dropout):
                self._at[number] = step.op.layer()
                _attach(self.layers, f"dropout{number}", self._at[number])
            if not isinstance(step.op, Affine | Normalization):
                continue
            name = step.op.path or f"norm{number}"
            if isinstance(step.op, Affine) and step.op.rows:
                name += f".rows_{step.op.span}".replace(":", "_").replace(",", "_")
            if name not in by_name:
                op = _faster(step.op, grown)
                if isinstance(op, Affine):
                    by_name[name] = _affine(op, c[0], channels[number], dtype, device, generator)
                else:
                    by_name[name] = Normalized(op, c[0]).to(device, dtype)
                _attach(self.layers, name, by_name[name])
            self._at[number] = by_name[name]  # a module that is used twice is one

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        values = {-1 - k: leaf for k, leaf in enumerate(self.architecture.inputs.bind(args, kwargs))}
        steps = self.architecture.steps
        dtype = next(self.parameters()).dtype
        for number, step in enumerate(steps):
            inputs = [values[i] for i in step.inputs]
            if step.data:
                values[number] = apply_to_data(step.op, inputs, dtype)
            elif number not in self._at:
                values[number] = step.op.apply(*inputs)
            elif isinstance(step.op, Affine):
                values[number] = step.op.run(self._at[number], *inputs)
            else:
                values[number] = self._at[number](*inputs)
        out = values[self.architecture.output]
        if self.output_scale == 1:
            return out
        return out * self.output_scale


def _channels(shape: tuple[int, ...]) -> int:
    """Of numbers of the input; a number of each sample counts as one."""
    if shape:
        return shape[0]
    return 1


def _check_number(name: str, number: int | None, fix: str) -> None:
    if number is not None and (not isinstance(number, int) or number < 1):
        raise BadArgument(
            f"`{name}` is {number!r}.",
            where="Architecture.network",
            why="a number of channels is a whole number, 1 or more",
            fix=fix,
        )


def _hidden_width(architecture: Structure, width: Callable[[int], int]) -> int:
    """The widest hidden layer's channels where features are learned, by which rates are multiplied; else 1."""
    if not architecture.learns_features:
        return 1
    hidden = [s.op for n, s in enumerate(architecture.steps) if isinstance(s.op, Affine) and architecture.hidden(n)]
    return max(width(op.out_channels) for op in hidden if isinstance(op, Affine))


def _faster(op: Affine | Normalization, factor: int) -> Affine | Normalization:
    """The op with its learning rates multiplied."""
    if isinstance(op, Affine):
        return replace(op, rate_w=factor * op.rate_w, rate_b=factor * op.rate_b)
    return replace(op, rate_scale=factor * op.rate_scale, rate_shift=factor * op.rate_shift)


def _largest_width(architecture: Structure) -> int | None:
    """The largest hidden width where layers of different widths must keep their shares: they are concatenated, or heads
    of keys are shared; else None."""
    if not any(isinstance(step.op, Concat | Copies) for step in architecture.steps):
        return None
    return max(s.op.out_channels for n, s in enumerate(architecture.steps)
               if isinstance(s.op, Affine) and architecture.hidden(n))  # fmt: skip


def _width(own: int, largest: int | None, width: int | None, widen: int) -> int:
    """A hidden layer's channels: `width`, in proportion where there is a largest one, or `widen` times its own."""
    if width is None:
        return own * widen
    if largest is None:
        return width
    return max(1, round(width * own / largest))


def _affine(
    op: Affine,
    c_in: int,
    c_out: int,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> nn.Module:
    """One affine layer with its parameters drawn, in the op's parametrization."""
    layer = op.layer(c_in, c_out, bias=op.standard and op.bias_name is not None).to(device, dtype)
    scaling = initialize(op, layer, generator)
    trains_w, trains_b = (bool(gain > 0) for gain in op.gains)
    layer.weight.requires_grad_(trains_w)
    if op.standard:
        if op.bias_name is not None:
            layer.bias.requires_grad_(trains_b)
        return layer
    bias = None
    if op.sigma_b > 0:
        bias = nn.Linear(1, op.n_biases(c_out), bias=False).to(device, dtype)
        nn.init.normal_(bias.weight, 0, 1 / (math.sqrt(op.rate_b) or 1.0), generator=generator)
        bias.weight.requires_grad_(trains_b)
    return Scaled(layer, bias, scaling)


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Registers a module under a dotted path, making the modules between."""
    *between, last = path.split(".")
    for name in between:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)
