"""Kernels by Monte Carlo: finite networks drawn from the law, none of gramian's rules between."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


Kernels = dict[str, Tensor]


def judge(
    network: nn.Module,
    law: tuple[float, float],
    x: Tensor,
    draws: int,
    control: tuple[nn.Module, Kernels] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard error over draws of the NNGP (of all outputs) and the NTK (of the first output).

    `control` is a network of the same layers and the kernels of its limit: with equal weights, what the two networks
    differ by varies less than each, and the means differ by what the limits do.
    """
    torch.manual_seed(0)
    found: dict[str, list[Tensor]] = {"nngp": [], "ntk": []}
    for _ in range(draws):
        made = kernels(network, draw(network, law), x)
        if control is not None:
            other, limit = control
            for w, own in zip(other.parameters(), network.parameters(), strict=True):
                w.data = own.data
            near = kernels(other, gains_of(other, law), x)
            made = {key: made[key] - near[key] + limit[key] for key in made}
        for key, value in made.items():
            found[key].append(value)
    stacks = {key: torch.stack(values) for key, values in found.items()}
    return {key: (s.mean(0), s.std(0) / draws**0.5) for key, s in stacks.items()}


def kernels(network: nn.Module, gains: dict[nn.Parameter, float], x: Tensor) -> Kernels:
    """Of one finite network."""
    out = network(x)
    rows = []
    for f in out[:, 0]:
        grads = torch.autograd.grad(f, list(gains), retain_graph=True)
        rows.append(torch.cat([g.flatten() * gain**0.5 for g, gain in zip(grads, gains.values(), strict=True)]))
    jacobian = torch.stack(rows)
    return {"nngp": (out @ out.mT / out.shape[1]).detach(), "ntk": jacobian @ jacobian.mT}


def draw(network: nn.Module, law: tuple[float, float]) -> dict[nn.Parameter, float]:
    """Draws all weights from the law; `gains_of` the network."""
    gains = gains_of(network, law)
    for parameter, gain in gains.items():
        nn.init.normal_(parameter, std=gain**0.5)
    return gains


def gains_of(network: nn.Module, law: tuple[float, float]) -> dict[nn.Parameter, float]:
    """The variance of each parameter, by which its squared slope counts in the NTK parametrization."""
    gains: dict[nn.Parameter, float] = {}
    for layer in network.modules():
        if isinstance(layer, LAYERS):
            w, turned = layer.weight, isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
            gains[w] = law[0] ** 2 / (w.numel() // w.shape[1] if turned else w[0].numel())
            if layer.bias is not None:
                gains[layer.bias] = law[1] ** 2
    return gains
