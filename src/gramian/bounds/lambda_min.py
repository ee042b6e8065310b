r"""The smallest eigenvalue of a network's Gram matrix from above and below, by layer: after Nguyen et al. 2021.

A linear layer with inputs $a_i$ and back-propagated vectors $b_i$ gives $AA^\top \circ BB^\top$ to the Gram matrix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gramian.empirical import empirical_ntk
from gramian.errors import BadArgument, named_in_errors


@dataclass(frozen=True)
class LambdaMinBounds:
    """Bounds of the smallest eigenvalue of a network's Gram matrix on some inputs.

    Attributes:
        lower: the sum of what the layers guarantee.
        upper: the smaller eigenvalue of the worst pair of inputs.
        by_layer: what each linear layer guarantees by itself, by its name in the module.
    """

    lower: float
    upper: float
    by_layer: dict[str, float]

    @property
    def widest(self) -> str:
        """The layer that guarantees the most."""
        return max(self.by_layer, key=lambda name: self.by_layer[name])


@named_in_errors
def lambda_min_bounds(module: nn.Module, x: Tensor) -> LambdaMinBounds:
    r"""Bounds of $\lambda_{\min}(JJ^\top)$ of a network as it stands, and which layer they are due to.

    By Schur, $\lambda_{\min}(AA^\top \circ BB^\top) \ge \lambda_{\min}(AA^\top)\,\min_i\|b_i\|^2$, and the same with A
    and B exchanged; the sum over layers is a lower bound, and one layer of as many neurons as there are samples
    makes it positive. Every principal minor bounds it from above, here each pair of inputs.

    Args:
        module: a network of one output whose rows do not depend on one another; parameters of other layers than
            `nn.Linear` on vectors add to the Gram matrix and are left out of the lower bound.
        x: inputs (n, ...), n of at least 2.

    Returns:
        LambdaMinBounds. They are computed in floating point: a lower bound within rounding of 0 shows nothing.

    Raises:
        BadArgument: several outputs, or no linear layer that trains.

    References:
        Nguyen, Mondelli, Montufar 2021, arXiv:2012.11654.

    Example:
        >>> net = torch.nn.Linear(3, 1, bias=False)
        >>> bounds = lambda_min_bounds(net, torch.diag(torch.tensor([1.0, 2.0, 3.0])))
        >>> round(bounds.lower, 9), round(bounds.upper, 9)
        (1.0, 1.0)
    """
    with _recorded(module) as calls, torch.enable_grad():
        outputs = module(x)
        if outputs.numel() != len(x):
            raise BadArgument(
                f"outputs of shape {tuple(outputs.shape)} for {len(x)} inputs.",
                why="the Gram matrix of one output is bounded",
                fix="a module that gives one of the outputs",
            )
        linear = {name: call for name, call in calls.items() if call[0].ndim == 2 and call[1].requires_grad}
        if not linear:
            raise BadArgument("No linear layer on vectors trains.", why="nothing is guaranteed", fix="nn.Linear layers")
        gradients = torch.autograd.grad(outputs.sum(), [out for _, out in linear.values()])
    by_layer = {}
    for (name, (inputs, _)), backward in zip(linear.items(), gradients, strict=True):
        by_layer[name] = _guaranteed(module.get_submodule(name), inputs.detach().double(), backward.double())
    gram = empirical_ntk(module, x).double()
    return LambdaMinBounds(sum(by_layer.values()), _worst_pair(gram), by_layer)


@contextlib.contextmanager
def _recorded(module: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inputs and outputs of linear layers with a weight that trains, while the module is called."""
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    seen_twice: set[str] = set()
    hooks = []

    def watch(name: str):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # a layer that is called twice has one gradient from two places: it is left out
            if name in calls or name in seen_twice:
                calls.pop(name, None)
                seen_twice.add(name)
            else:
                calls[name] = (inputs[0], output)

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
            hooks.append(layer.register_forward_hook(watch(name)))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _guaranteed(layer: nn.Module, inputs: Tensor, backward: Tensor) -> float:
    """What Schur's inequality leaves of a layer's part; a bias that trains is an input of 1."""
    if layer.bias is not None and layer.bias.requires_grad:
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    candidates = []
    for whole, rows in ((inputs, backward), (backward, inputs)):
        smallest = 0.0
        # fewer columns than rows leave an eigenvalue of exactly 0
        if whole.shape[1] >= len(whole):
            smallest = float(torch.linalg.svdvals(whole)[-1]) ** 2
        candidates.append(smallest * float(rows.square().sum(1).min()))
    return max(candidates)


def _worst_pair(gram: Tensor) -> float:
    """The smallest eigenvalue of any 2 x 2 principal minor."""
    diagonal = gram.diagonal()
    half_sum = (diagonal[:, None] + diagonal) / 2
    half_difference = (diagonal[:, None] - diagonal) / 2
    smaller = half_sum - (half_difference.square() + gram.square()).sqrt()
    smaller.fill_diagonal_(float("inf"))
    return float(smaller.min())
