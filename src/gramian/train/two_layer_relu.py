r"""The two-layer ReLU network with fixed signs as its readout, as Du et al. 2018 and Arora et al. 2019 have it."""

from __future__ import annotations

import math

import torch
from torch import nn

from gramian.errors import BadArgument

SCALINGS = ("1/sqrt(m)", "1/m")


def two_layer_relu(
    in_features: int,
    width: int,
    *,
    kappa: float = 1.0,
    antisymmetric: bool = False,
    scaling: str = "1/sqrt(m)",
    threshold: float | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    r"""$f(x) = \frac{1}{\sqrt m} \sum_r a_r\,\mathrm{relu}(w_r \cdot x)$ with $a_r = \pm1$ fixed, as a plain module.

    Args:
        in_features: length of x.
        width: m, neurons; even if `antisymmetric`.
        kappa: standard deviation of the entries of w.
        antisymmetric: neurons r and r + m/2 start with equal weights and opposite signs, so that f = 0 at the start.
        scaling: "1/sqrt(m)", where the kernel stays as it is at a large width, or "1/m" (mean field), where it moves.
        threshold: B of $\mathrm{relu}(w_r \cdot x - b_r)$, where all b_r start at B and are trained; None: no biases.
        generator: random numbers of the initialization.
        dtype: of the weights.

    Raises:
        BadArgument: an odd width for pairs, an unknown scaling.

    References:
        Du, Zhai, Poczos, Singh 2018, arXiv:1810.02054; Arora et al. 2019, arXiv:1901.08584.

    Example:
        >>> net = two_layer_relu(3, 8, antisymmetric=True)
        >>> float(net(torch.ones(1, 3)).detach().abs())
        0.0
    """
    if scaling not in SCALINGS:
        raise BadArgument(f"scaling={scaling!r} is not known.", where="two_layer_relu", fix=f"one of {SCALINGS}")
    if antisymmetric and width % 2:
        raise BadArgument(
            f"{width} neurons do not come in pairs.",
            where="two_layer_relu(antisymmetric=True)",
            why="each neuron has a partner with the opposite sign",
            fix=f"width={width + 1}",
        )
    independent = width
    if antisymmetric:
        independent = width // 2
    weight = kappa * torch.randn(independent, in_features, generator=generator, dtype=dtype)
    signs = 2.0 * torch.randint(0, 2, (independent,), generator=generator).to(dtype) - 1
    if antisymmetric:
        weight, signs = torch.cat([weight, weight]), torch.cat([signs, -signs])
    factor = 1 / math.sqrt(width)
    if scaling == "1/m":
        factor = 1 / width
    first = nn.Linear(in_features, width, bias=threshold is not None, dtype=dtype)
    last = nn.Linear(width, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        first.weight.copy_(weight)
        if threshold is not None:
            first.bias.fill_(-threshold)
        last.weight.copy_(factor * signs)
    last.requires_grad_(False)
    return nn.Sequential(first, nn.ReLU(), last)
