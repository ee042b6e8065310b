"""The network at finite width: plain torch layers, their parameters multiplied as the parametrization says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gramian.arch.architecture import Architecture
from gramian.arch.ops import Affine, BatchNorm
from gramian.arch.ops.affine import Scaling, initialize
from gramian.errors import BadArgument


class Scaled(nn.Module):
    r"""An affine layer in the NTK parametrization: $s_w\, W x + s_b\, b$ with W and b of unit variance.

    Both are plain layers without bias, fed with $s_w x$ and with the constant $s_b$: whatever reads torch layers
    (hooks, per-layer contractions, quantizers) reads these.
    """

    def __init__(self, layer: nn.Module, bias: nn.Linear | None, scaling: Scaling) -> None:
        super().__init__()
        self.layer, self.bias, self.scaling = layer, bias, scaling

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x * self.scaling.weight)
        if self.bias is None:
            return out
        shift = self.bias(x.new_full((1, 1), self.scaling.bias))
        if isinstance(self.layer, nn.Linear):
            return out + shift
        return out + shift.reshape(1, -1, *(1,) * (out.ndim - 2))


class ChannelScale(nn.Module):
    """BatchNorm in eval mode at its initial state, its scale and shift trainable."""

    def __init__(self, op: BatchNorm, channels: int) -> None:
        super().__init__()
        self.factor = op.factor
        self.weight = nn.Parameter(torch.ones(channels), op.scale_trains)
        self.bias = nn.Parameter(torch.zeros(channels), op.shift_trains)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.ndim - 2))
        return x * (self.factor * self.weight.reshape(shape)) + self.bias.reshape(shape)


class Network(nn.Module):
    """A finite network of an architecture; made by `Architecture.network`.

    Parameters are named after the user's layers: `layers.0.layer.weight` for the weight of layer `0`, and
    `layers.0.bias.weight` for its bias. A bias with sigma_b = 0 in the NTK parametrization is left out: it is
    multiplied by zero, in value and in gradient.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        width: int | None = None,
        widen: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("widen", widen)):
            if number is not None and (not isinstance(number, int) or number < 1):
                raise BadArgument(
                    f"`{name}` is {number!r}.",
                    where="Architecture.network",
                    why="a number of channels is a whole number, 1 or more",
                    fix=f"{name}=1024" if name == "width" else f"{name}=4",
                )
        self.architecture = architecture
        self.layers = nn.Module()
        self._at: dict[int, nn.Module] = {}
        channels = {-1: architecture.in_shape[0]}
        for number, step in enumerate(architecture.steps):
            c = [channels[i] for i in step.inputs]
            hidden = isinstance(step.op, Affine) and architecture.hidden(number)
            channels[number] = (
                step.shape[0]
                if step.data
                else step.op.channels(*c, width=lambda own: width or own * widen, hidden=hidden)
            )
            if isinstance(step.op, Affine):
                made: nn.Module = _affine(step.op, c[0], channels[number], dtype, device, generator)
                _attach(self.layers, step.op.path, made)
            elif isinstance(step.op, BatchNorm):
                made = ChannelScale(step.op, c[0]).to(device, dtype)
                _attach(self.layers, (step.op.scale_name or f"norm{number}").removesuffix(".weight"), made)
            else:
                continue
            self._at[number] = made

    def forward(self, x: Tensor) -> Tensor:
        values = {-1: x}
        steps = self.architecture.steps
        for number, step in enumerate(steps):
            made = self._at.get(number)
            inputs = [values[i] for i in step.inputs]
            if made is None:
                values[number] = step.op.apply(*inputs)
            else:
                values[number] = step.op.run(made, *inputs) if isinstance(step.op, Affine) else made(*inputs)
        return values[self.architecture.output]


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
    layer.weight.requires_grad_(op.weight_trains)
    if op.standard:
        if layer.bias is not None:
            layer.bias.requires_grad_(op.bias_trains)
        return layer
    bias = None
    if op.sigma_b > 0:
        bias = nn.Linear(1, c_out, bias=False).to(device, dtype)
        nn.init.normal_(bias.weight, generator=generator)
        bias.weight.requires_grad_(op.bias_trains)
    return Scaled(layer, bias, scaling)


def _attach(root: nn.Module, path: str, made: nn.Module) -> None:
    """Registers a module under a dotted path, making the modules between."""
    *between, last = path.split(".")
    for name in between:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, made)
