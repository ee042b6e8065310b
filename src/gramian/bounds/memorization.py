"""How many samples the widths of a network allow it to memorize: after Bombari, Amani, Mondelli 2022."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gramian.errors import BadArgument


@dataclass(frozen=True)
class MemorizationCapacity:
    """Numbers of samples up to which a Gram matrix can be positive definite.

    Attributes:
        by_layer: of each trained linear layer alone: the numbers in its weight, as its part of the Gram matrix is a sum
            of so many matrices of rank one.
        parameters: of the whole network: the number of its trained parameters.
    """

    by_layer: dict[str, int]
    parameters: int

    @property
    def largest(self) -> int:
        """What the best single layer allows."""
        return max(self.by_layer.values())


def memorization_capacity(module: nn.Module) -> MemorizationCapacity:
    r"""The largest numbers of samples that the widths of a network of one output allow.

    The part that a layer of $n_{in} \times n_{out}$ weights adds to the Gram matrix has at most that rank: beyond it
    the smallest eigenvalue is 0. Up to it, and up to factors log n, the eigenvalue is of the order of
    $n_{in} n_{out}$ for smooth activations that are not linear, so that about $\sqrt n$ neurons memorize n samples.

    Args:
        module: any network with trained `nn.Linear` layers.

    Raises:
        BadArgument: no linear layer trains.

    References:
        Bombari, Amani, Mondelli 2022, arXiv:2205.10217.

    Example:
        >>> net = nn.Sequential(nn.Linear(5, 30, bias=False), nn.Tanh(), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 1))
        >>> memorization_capacity(net).by_layer, memorization_capacity(net).parameters
        ({'0': 150, '2': 930, '4': 31}, 1111)
    """
    by_layer = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            numbers = sum(p.numel() for p in layer.parameters() if p.requires_grad)
            if numbers:
                by_layer[name] = numbers
    if not by_layer:
        raise BadArgument("No linear layer trains.", where="memorization_capacity", fix="nn.Linear layers that train")
    return MemorizationCapacity(by_layer, sum(p.numel() for p in module.parameters() if p.requires_grad))
