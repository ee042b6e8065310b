"""Random parameters for a module as it stands: which law each parameter has, by the type of the layer that owns it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gramian.arch.law import Law, plain, resolve
from gramian.empirical.modules.readout import Readouts
from gramian.errors import BadArgument

Draw = Callable[[str, Tensor, Generator], Tensor | None]
NORM_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Rule:
    """One parameter's law: entries `mean` + N(0, std^2); its share of the NTK is multiplied by `gain`."""

    std: float
    gain: float
    mean: float = 0.0


def rules(module: nn.Module, readouts: Readouts, law: Law, *, standard: bool, draw: Draw | None) -> dict[str, Rule]:
    """The rule of each of the module's parameters, by its name in `named_parameters`.

    Weights are N(0, sigma_w^2 / fan-in), biases N(0, sigma_b^2), norms one and zero. In the NTK parametrization the
    gain is the variance, because $w = \\sigma \\omega$ and the gradient is taken with respect to $\\omega$; in the
    standard one it is 1.

    Raises:
        BadArgument: a parameter of an unknown layer, or one that two layers share and would draw differently.
    """
    owners: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for path, owner in module.named_modules(remove_duplicate=True):
        for attribute, p in owner.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(p), []).append((path, owner, attribute))
    names = {id(p): name for name, p in module.named_parameters()}
    by_name: dict[str, Rule] = {}
    generator = Generator().manual_seed(0)
    for i, name in names.items():
        p = owners[i][0][1]._parameters[owners[i][0][2]]
        assert p is not None
        if draw is not None and draw(name, p.detach(), generator) is not None:
            by_name[name] = Rule(math.nan, 1.0)
            continue
        if isinstance(law, Mapping) and name in law:
            by_name[name] = _rule(*resolve(law, name, fan_in=1, readout=False)[:1], standard)
            continue
        laws = {_by_type(*owner, p, name in readouts.names, law, standard) for owner in owners[i]}
        if len(laws) > 1:
            raise BadArgument(
                f"The parameter `{name}` is shared by layers that would draw it differently.",
                where=", ".join(f"{path} ({type(owner).__name__})" for path, owner, _ in owners[i]),
                why="its standard deviation cannot be that of both",
                fix=f'law={{"{name}": (sigma, 0), "*": ...}} draws its entries from N(0, sigma^2)',
            )
        by_name[name] = laws.pop()
    return by_name


def _rule(std: float, standard: bool) -> Rule:
    if standard:
        return Rule(std, 1.0)
    return Rule(std, std * std)


def _by_type(path: str, owner: nn.Module, attribute: str, p: Tensor, readout: bool, law: Law, standard: bool) -> Rule:
    if isinstance(owner, NORM_LAYERS) and attribute in ("weight", "bias"):
        if attribute == "weight":
            mean = 1.0
        else:
            mean = 0.0
        return Rule(0.0, 1.0, mean=mean)
    if isinstance(owner, nn.PReLU):
        return Rule(0.0, 1.0, mean=0.25)  # torch's own initial slope
    fan_in = _fan_in(owner, attribute, p)
    if fan_in is None:
        if path:
            name = f"{path}.{attribute}"
        else:
            name = attribute
        raise BadArgument(
            f"The parameter `{name}`, shape {tuple(p.shape)}, has no law.",
            where=f"{path or 'the module'} ({type(owner).__name__})",
            why="laws are known for torch's linear, convolutional, embedding, attention, recurrent and norm layers",
            fix=f'law={{"{name}": (sigma, 0), "*": ...}} for N(0, sigma^2), or '
            f"draw=lambda name, p, generator: p if name == {name!r} else None to keep its value",
        )
    embedding = isinstance(owner, nn.Embedding | nn.EmbeddingBag)
    sigma_w, sigma_b = resolve(law, path, fan_in=fan_in, readout=readout, embedding=embedding)
    if _is_bias(attribute):
        return _rule(plain(sigma_b), standard)
    return _rule(plain(sigma_w) / math.sqrt(max(fan_in, 1)), standard)


def _is_bias(attribute: str) -> bool:
    return attribute.startswith("bias") or attribute == "in_proj_bias"


def _fan_in(owner: nn.Module, attribute: str, p: Tensor) -> int | None:
    """Inputs of one output unit: channels times window; None if the layer is unknown here."""
    if isinstance(owner, nn.MultiheadAttention):
        known = attribute in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        if not known:
            return None
        if p.ndim == 2:
            return p.shape[1]
        return owner.embed_dim
    if isinstance(owner, nn.RNNBase | nn.RNNCellBase):
        if _is_bias(attribute):
            return owner.hidden_size
        return p.shape[1]
    if attribute not in ("weight", "bias"):
        return None
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return 1
    if isinstance(owner, nn.Bilinear):
        return owner.in1_features * owner.in2_features
    if isinstance(owner, nn.Linear):
        return owner.in_features
    if isinstance(owner, _ConvNd | _ConvTransposeNd):
        return owner.in_channels // owner.groups * math.prod(owner.kernel_size)
    return None


def redraw(module: nn.Module, rules: dict[str, Rule], generator: Generator, draw: Draw | None) -> None:
    """New values for every parameter, in place; the numbers are the same on every device and in every precision."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            rule = rules[name]
            if math.isnan(rule.std):
                assert draw is not None
                value = draw(name, p.detach().clone(), generator)
                assert value is not None
                p.copy_(value)
            elif rule.std == 0:
                p.fill_(rule.mean)
            else:
                p.copy_(rule.std * torch.randn(p.shape, generator=generator, dtype=torch.float64) + rule.mean)
        for layer in module.modules():
            if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                layer.weight[layer.padding_idx].zero_()
