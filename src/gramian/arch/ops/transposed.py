"""Transposed convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gramian.arch.moments import Moments
from gramian.arch.ops.affine import Affine, check_alike, check_groups, check_width, common, own_parameters
from gramian.arch.ops.base import Call, Read, pair, reads, value
from gramian.arch.positions import window_average


@reads("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
@dataclass(frozen=True)
class ConvTranspose(Affine):
    """A transposed convolution: zeros between the positions, then a convolution of stride 1.

    The fan-in is channels times window, so that at stride 1 it is a convolution of the same law; with a stride s only
    about one of s^d taps meets a value, the others meet zeros.
    """

    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    extra: tuple[int, ...] = ()  # output_padding
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def read(cls, call: Call) -> Read:
        x, weight, bias, stride, padding, extra, groups, dilation = call.args
        x = value(x, "the input of this transposed convolution")
        weight, bias = own_parameters(weight, bias, "This transposed convolution")
        check_groups(groups, x)
        axes, fan_in = len(weight.shape) - 2, weight.shape[0] // groups * math.prod(weight.shape[2:])
        return cls(
            **{**common(weight, bias, weight.shape[1] * groups), "fan_in": fan_in},
            window=weight.shape[2:],
            stride=pair(stride, axes),
            padding=pair(padding, axes),
            extra=pair(extra, axes),
            dilation=pair(dilation, axes),
            groups=groups,
        ), (x,)

    def average(self, m: Moments) -> Moments:
        check_alike(self.groups, m)
        ones = (1,) * len(self.window)
        # of the zeros around: a window overlaps the outermost value by one place at least, less the padding
        around = tuple(
            (d * (w - 1) - p, d * (w - 1) - p + e)
            for w, p, e, d in zip(self.window, self.padding, self.extra, self.dilation, strict=True)
        )

        def slide(field: Tensor, axes: tuple[tuple[int, ...], ...]) -> Tensor:
            for moved, s in zip(axes, self.stride, strict=True):
                for axis in moved:
                    # a transposed convolution is one of stride 1 over the values with s - 1 zeros between them
                    field = _spaced(field, axis, s)
            return window_average(field, axes, self.window, ones, around, self.dilation)

        return m.shift_average(slide)

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        check_width(self.groups, in_channels, out_channels)
        conv: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[len(self.window)]
        return conv(
            in_channels, out_channels, self.window, self.stride, self.padding, self.extra, bias=bias,
            groups=self.groups, dilation=self.dilation,
        )  # fmt: skip

    def fan_in_of(self, weight: Tensor) -> int:
        return len(weight) // self.groups * math.prod(self.window)

    def describe(self) -> str:
        return f"{'x'.join(map(str, self.window))}, stride {'x'.join(map(str, self.stride))} {super().describe()}"


def _spaced(field: Tensor, axis: int, step: int) -> Tensor:
    """The field with `step - 1` zeros between neighbours along an axis."""
    if step == 1:
        return field
    size = list(field.shape)
    size[axis] = (size[axis] - 1) * step + 1
    index: list[slice] = [slice(None)] * field.ndim
    index[axis] = slice(None, None, step)
    spaced = torch.zeros(size, dtype=field.dtype, device=field.device)
    spaced[tuple(index)] = field
    return spaced
