r"""The networks of two theorems, with their own scalings and initializations, as plain modules.

Allen-Zhu, Li and Song 2018 (arXiv:1811.03962): $h_0 = \phi(Ax)$, $h_l = \phi(W_l h_{l-1})$, $f = B h_L$ with
$A, W_l \sim N(0, 2/m)$ and $B \sim N(0, 1/d)$, where d is the number of *outputs*; only $W_1 \dots W_L$ are trained. Du
et al. 2018 (arXiv:1811.03804): weights $N(0, 1)$ and explicit factors $1/\sqrt m$, all layers trained, a smooth
activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.errors import BadArgument

Pixels = int | tuple[int, int]


class AllenZhuNetwork(nn.Module):
    r"""ReLU network of Allen-Zhu, Li and Song, fully connected, convolutional or residual.

    - "fc": $h_l = \phi(W_l h_{l-1})$, $W_l \sim N(0, 2/m)$.
    - "cnn": the same at each of p pixels with a window of q pixels (zero padding), $W_l \sim N(0, 2/(qm))$; A acts on
      each pixel, and
      each pixel has its own readout: $f = \sum_j B_j h_{L,j}$.
    - "resnet": $h_l = \phi(h_{l-1} + W_l h_{l-1})$ for l < L with $W_l \sim N(0, 1/(L^2 m))$, then
      $h_L = \phi(W_L h_{L-1})$ with $W_L \sim N(0, 2/m)$.

    The theorem wants $\|x\| = 1$ with last coordinate $1/\sqrt2$ (`gramian.data.normalize_and_pad`).

    Args:
        in_features: length of x, channels of a pixel for "cnn".
        n_outputs: d of the paper.
        depth: L, number of trained layers.
        width: m, units or channels.
        kind: "fc", "cnn" or "resnet".
        pixels: of "cnn": p for inputs (n, in_features, p), or (height, width) for (n, in_features, height, width).
        window: side of the window of "cnn", odd; q is window, or window^2 on images.
        generator: random numbers of the initialization.

    Raises:
        BadArgument: an unknown kind, sizes that make no sense, "cnn" without pixels.

    Example:
        >>> net = AllenZhuNetwork(16, 5, depth=3, width=64)
        >>> [name for name, p in net.named_parameters() if p.requires_grad]
        ['hidden.0.weight', 'hidden.1.weight', 'hidden.2.weight']
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        depth: int,
        width: int,
        kind: str = "fc",
        *,
        pixels: Pixels | None = None,
        window: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(kind, ("fc", "cnn", "resnet"), "cnn", pixels, window, in_features, n_outputs, depth, width)
        self.kind, self.depth, self.width, self.n_outputs = kind, depth, width, n_outputs
        self.pixels = 1
        if kind != "cnn":
            pixels = None
        if pixels is not None:
            self.pixels = _count(pixels)
        layer = _layer(pixels, window)
        self.first = layer(in_features, width, 1)
        self.hidden = nn.ModuleList(layer(width, width, window) for _ in range(depth))
        self.last = nn.Linear(width * self.pixels, n_outputs, bias=False)
        _normal(self.first, math.sqrt(2 / width), generator)
        for number, hidden in enumerate(self.hidden, start=1):
            fan_in = sum(w[0].numel() for w in hidden.parameters())  # m, or q m with a window
            std = math.sqrt(2 / fan_in)
            if self._is_residual(number):
                std = 1 / (depth * math.sqrt(width))
            _normal(hidden, std, generator)
        _normal(self.last, 1 / math.sqrt(n_outputs), generator)
        self.first.requires_grad_(False)
        self.last.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs; shape (n, n_outputs)."""
        h = F.relu(self.first(x))
        for number, hidden in enumerate(self.hidden, start=1):
            z = hidden(h)
            if self._is_residual(number):
                z = h + z
            h = F.relu(z)
        return self.last(h.flatten(1))

    def _is_residual(self, number: int) -> bool:
        """Whether hidden layer `number`, from 1, adds to its input: all but the last of a "resnet"."""
        return self.kind == "resnet" and number < self.depth

    def suggested_lr(self, n_samples: int) -> float:
        r"""$d / (m n L)$ (over p for "cnn"): a step that works; the theorem's is smaller by powers of n and 1/delta."""
        return self.n_outputs / (self.width * n_samples * self.depth * self.pixels)

    def smoothness(self, n_samples: int) -> float:
        r"""$n L^2 m / d$, the factor of $\|W'\|_2^2$ in Theorem 4: `SemiSmoothness(scale=net.smoothness(n))`."""
        return n_samples * self.depth**2 * self.width / self.n_outputs


class DuNetwork(nn.Module):
    r"""Network of Du et al. 2018, fully connected, residual or convolutional residual; all layers are trained.

    - "fc": $x^{(h)} = \sqrt{c_\sigma/m}\, \sigma(W^{(h)} x^{(h-1)})$ for h = 1..H, $f = a^\top x^{(H)}$.
    - "resnet": $x^{(1)}$ the same, then $x^{(h)} = x^{(h-1)} + \frac{c_{res}}{H \sqrt m} \sigma(W^{(h)} x^{(h-1)})$.
    - "conv-resnet": the same recursion on patches of the pixels (zero padding), $f = \langle a, x^{(H)} \rangle$ over
      channels and pixels.

    All entries of W and a are N(0, 1), and $c_\sigma = 1 / E_{z \sim N(0,1)}[\sigma(z)^2]$. With several outputs, each
    has its own a.

    Args:
        in_features: length of x, channels of a pixel for "conv-resnet".
        n_outputs: 1 in the paper.
        depth: H, number of layers before the readout.
        width: m, units or channels.
        kind: "fc", "resnet" or "conv-resnet".
        activation: smooth, analytic and no polynomial in the theorem: softplus.
        residual: c_res, in (0, 1).
        pixels, window: as in `AllenZhuNetwork`, for "conv-resnet".
        generator: random numbers of the initialization.

    Raises:
        BadArgument: an unknown kind, sizes that make no sense, "conv-resnet" without pixels.

    Example:
        >>> net = DuNetwork(8, 1, depth=3, width=32, kind="resnet")
        >>> net(torch.ones(4, 8)).shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        depth: int,
        width: int,
        kind: str = "fc",
        *,
        activation: Callable[[Tensor], Tensor] = F.softplus,
        residual: float = 0.5,
        pixels: Pixels | None = None,
        window: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(
            kind, ("fc", "resnet", "conv-resnet"), "conv-resnet", pixels, window, in_features, n_outputs, depth, width
        )
        if not 0 < residual < 1:
            raise BadArgument(f"residual={residual!r} is not between 0 and 1.", where="DuNetwork(residual=)", fix="0.5")
        count = 1
        if kind != "conv-resnet":
            pixels = None
        if pixels is not None:
            count = _count(pixels)
        layer = _layer(pixels, window)
        self.kind, self.activation = kind, activation
        self.first_scale = math.sqrt(second_moment_inverse(activation) / width)
        self.residual_scale = residual / (depth * math.sqrt(width))
        self.first = layer(in_features, width, window)
        self.hidden = nn.ModuleList(layer(width, width, window) for _ in range(depth - 1))
        self.last = nn.Linear(width * count, n_outputs, bias=False)
        for module in (self.first, *self.hidden, self.last):
            _normal(module, 1.0, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs; shape (n, n_outputs)."""
        h = self.first_scale * self.activation(self.first(x))
        for hidden in self.hidden:
            z = self.activation(hidden(h))
            if self.kind == "fc":
                h = self.first_scale * z
            else:
                h = h + self.residual_scale * z
        return self.last(h.flatten(1))


def second_moment_inverse(activation: Callable[[Tensor], Tensor], nodes: int = 100) -> float:
    r"""$c_\sigma = 1 / E_{z \sim N(0,1)}[\sigma(z)^2]$ by Gauss-Hermite quadrature.

    Example:
        >>> round(second_moment_inverse(torch.relu), 6)
        2.0
    """
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    value = activation(torch.from_numpy(z)).square() @ torch.from_numpy(weight)
    # the weights belong to e^{-z^2/2} and add up to sqrt(2 pi), which makes a mean of the sum
    return math.sqrt(2 * math.pi) / float(value)


def _layer(pixels: Pixels | None, window: int) -> Callable[[int, int, int], nn.Linear | nn.Conv1d | nn.Conv2d]:
    """Makes a layer (in, out, window) without bias: linear, or a convolution that keeps the pixels."""
    if pixels is None:
        return lambda i, o, _: nn.Linear(i, o, bias=False)
    convolution: type[nn.Module]
    if isinstance(pixels, int):
        convolution = nn.Conv1d
    else:
        convolution = nn.Conv2d
    return lambda i, o, w: convolution(i, o, w, padding=w // 2, bias=False)


def _normal(module: nn.Module, std: float, generator: torch.Generator | None) -> None:
    for weight in module.parameters():
        nn.init.normal_(weight, 0.0, std, generator=generator)


def _count(pixels: Pixels) -> int:
    if isinstance(pixels, int):
        return pixels
    return math.prod(pixels)


def _check(kind: str, known: tuple[str, ...], on_pixels: str, pixels: Pixels | None, window: int, *sizes: int) -> None:
    if kind not in known:
        raise BadArgument(f"kind={kind!r} is not known.", where="kind=", fix=f"one of {', '.join(known)}")
    if any(not isinstance(size, int) or size < 1 for size in sizes):
        numbers = ", ".join(map(str, sizes))
        raise BadArgument(
            f"in_features, n_outputs, depth, width are {numbers}.",
            where="the network's sizes",
            fix="whole numbers, 1 or more",
        )
    if kind == on_pixels and pixels is None:
        raise BadArgument(f"kind={kind!r} without pixels.", where="pixels=", fix="their number, or (height, width)")
    if window < 1 or window % 2 == 0:
        raise BadArgument(f"window={window} has no middle.", where="window=", fix="an odd number: 3")
