"""Two networks that differ in trained weights alone: where training began, or a prior stands, and where it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.empirical.modules.module_copy import copied
from gramian.errors import BadArgument


@dataclass(frozen=True, eq=False)
class Paired:
    """A copy of the trained network, in evaluation mode on the CPU, and how far it is from the other.

    Attributes:
        module: the copy.
        parameters: those of it that train.
        distance: Euclidean distance of all trained weights, rounded up.
        typical_weight: root mean square of the other's trained weights; 1 if all are 0.
    """

    module: nn.Module
    parameters: list[nn.Parameter]
    distance: float
    typical_weight: float


def paired(module: nn.Module, other: nn.Module) -> Paired:
    """Compare two networks number by number.

    Raises:
        BadArgument: they differ in shapes, in what trains, in frozen weights, or in buffers.
    """
    own = copied(module).cpu().eval()
    trained = {name: p for name, p in own.named_parameters() if p.requires_grad}
    there = {name: p for name, p in other.named_parameters() if p.requires_grad}
    if not trained:
        raise _differ("no parameter of the network trains", "the bound measures how far trained weights moved")
    if {n: p.shape for n, p in trained.items()} != {n: p.shape for n, p in there.items()}:
        raise _differ("the trained parameters have other names or shapes", "their distance has no meaning")
    kept, others = _kept(own), _kept(other)
    for name in sorted(kept.keys() | others.keys()):
        same = name in kept and name in others and torch.equal(kept[name].cpu(), others[name].detach().cpu())
        if not same:
            raise _differ(f"{name} differs and does not train", "it may carry the samples into the network unmeasured")
    square = sum(float((p.detach().double() - there[n].detach().cpu().double()).square().sum())
                 for n, p in trained.items())  # fmt: skip
    count = sum(p.numel() for p in there.values())
    typical = math.sqrt(sum(float(p.detach().double().square().sum()) for p in there.values()) / count)
    return Paired(own, list(trained.values()), math.sqrt(square) * (1 + 1e-9), typical or 1.0)


def _kept(module: nn.Module) -> dict[str, Tensor]:
    """Buffers and frozen parameters."""
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return {**frozen, **dict(module.named_buffers())}


def _differ(what: str, why: str) -> BadArgument:
    return BadArgument(
        f"The two networks cannot be compared: {what}.",
        where="module and prior (or initial)",
        why=why,
        fix="a copy.deepcopy of the network before training; layers that keep statistics of their batches "
        "(BatchNorm) frozen or replaced by LayerNorm",
    )
