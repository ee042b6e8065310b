"""A few plain torch networks, for the command line and for examples; the user's own are as good."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def mlp(
    in_shape: Shape, n_outputs: int, depth: int = 3, width: int = 512, activation: str = "relu", bias: bool = False
):
    """Fully connected network with `depth` affine layers, `depth - 1` of them hidden; flattens images."""
    widths = [math.prod(in_shape)] + [width] * (depth - 1)
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs, bias=bias))


def cnn(in_shape: Shape, n_outputs: int, depth: int = 3, width: int = 64, activation: str = "relu", bias: bool = False):
    """Convolutional network: `depth - 1` layers of 3x3, the second and each later one with stride 2 while the image
    has 7 pixels or more; then flattened and read out. Takes images (channels, height, width), or (channels, length).
    """
    convolution = {2: nn.Conv1d, 3: nn.Conv2d}[len(in_shape)]
    c, size, layers = in_shape[0], min(in_shape[1:]), []
    shape = list(in_shape[1:])
    for number in range(depth - 1):
        if number and size >= 7:
            stride = 2
        else:
            stride = 1
        layers += [convolution(c, width, 3, stride, 1, bias=bias), ACTIVATIONS[activation]()]
        c, size, shape = width, -(-size // stride), [-(-s // stride) for s in shape]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(c * math.prod(shape), n_outputs, bias=bias))


class ResNet(nn.Module):
    """Fully connected pre-activation residual network: h <- h + W phi(h) / sqrt(L) for L = depth - 2 blocks.

    The skip carries Gaussian values, so the limit is exact; the branches' factor keeps the variance below e.
    """

    def __init__(
        self,
        in_shape: Shape,
        n_outputs: int,
        depth: int = 5,
        width: int = 512,
        activation: str = "relu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = max(depth - 2, 1)
        self.flatten = nn.Flatten()
        self.first = nn.Linear(math.prod(in_shape), width, bias=bias)
        self.branches = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(self.blocks))
        self.activations = nn.ModuleList(ACTIVATIONS[activation]() for _ in range(self.blocks + 1))
        self.readout = nn.Linear(width, n_outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.flatten(x))
        for branch, phi in zip(self.branches, self.activations, strict=False):
            h = h + branch(phi(h)) / math.sqrt(self.blocks)
        return self.readout(self.activations[-1](h))


class ConvResNet(nn.Module):
    """Convolutional pre-activation residual network, flattened and read out."""

    def __init__(
        self,
        in_shape: Shape,
        n_outputs: int,
        depth: int = 5,
        width: int = 64,
        activation: str = "relu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = max(depth - 2, 1)
        self.first = nn.Conv2d(in_shape[0], width, 3, padding=1, bias=bias)
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=bias) for _ in range(self.blocks))
        self.activations = nn.ModuleList(ACTIVATIONS[activation]() for _ in range(self.blocks + 1))
        self.readout = nn.Linear(width * math.prod(in_shape[1:]), n_outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for branch, phi in zip(self.branches, self.activations, strict=False):
            h = h + branch(phi(h)) / math.sqrt(self.blocks)
        return self.readout(torch.flatten(self.activations[-1](h), 1))


class DuResNet(nn.Module):
    r"""The residual network of Du et al. 2019 (arXiv:1811.03804, section 6), a sum of post-activations.

    $x_1 = \sqrt{c_\sigma}\,\sigma(W_1 x)$, $x_h = x_{h-1} + (c_{res}/H)\,\sigma(W_h x_{h-1})$, $f = a^\top x_H$, with
    the paper's $1/\sqrt m$ in the NTK parametrization of the layers: read it with `law=(1, 0)`.
    """

    def __init__(
        self, in_shape: Shape, n_outputs: int, depth: int = 5, width: int = 512, activation: str = "softplus",
        bias: bool = False, c_res: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.H, self.c_res = max(depth - 1, 2), c_res
        self.flatten = nn.Flatten()
        self.first = nn.Linear(math.prod(in_shape), width, bias=bias)
        self.branches = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(self.H - 1))
        self.activations = nn.ModuleList(ACTIVATIONS[activation]() for _ in range(self.H))
        self.readout = nn.Linear(width, n_outputs, bias=bias)
        with torch.no_grad():  # 1 / E sigma(z)^2, by the trapezoidal rule
            z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
            density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
            second = torch.trapezoid(self.activations[0](z) ** 2 * density, z)
        self.c_sigma = float(1 / second)

    def forward(self, x: Tensor) -> Tensor:
        h = math.sqrt(self.c_sigma) * self.activations[0](self.first(self.flatten(x)))
        for branch, phi in zip(self.branches, list(self.activations)[1:], strict=True):
            h = h + self.c_res / self.H * phi(branch(h))
        return self.readout(h)


ZOO: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": ResNet,
    "conv-resnet": ConvResNet,
    "du-resnet": DuResNet,
}
