"""Kernels of modules that see the whole batch at once: batch normalization in training mode, dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.batch_dependent import BATCH_DEPENDENT, RANDOM, dependence
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.empirical.modules.plain_gradients import dense, right_batch_norm
from gramian.module_state.random_numbers import kept_random_states


def samples_are(module: nn.Module, x: Samples) -> str:
    """Whether an output is "independent" of other samples, "batch-dependent", or "random"."""
    layers = list(module.modules())
    if any(isinstance(m, _BatchNorm) and (m.training or m.running_mean is None) for m in layers):
        return BATCH_DEPENDENT
    if any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in layers):
        return RANDOM
    with kept_random_states(x.device), differentiable_math():
        return dependence(module, x)


def ntk_together(module: nn.Module, x: Samples, gains: dict[str, float], max_bytes: int = 2**30) -> Tensor:
    r"""$\frac1C \sum_c \sum_p g_p\, \langle \nabla_p f_c(x_i), \nabla_p f_c(x_j) \rangle$, f evaluated on all of x.

    One backward pass for each sample and output, with the parameters in groups whose gradients fit `max_bytes`.

    Args:
        module: maps (n, *in_shape) to (n, ...).
        x: inputs; shape (n, *in_shape).
        gains: factor of each trainable parameter's share, by name.

    Returns:
        Shape (n, n).
    """
    # a root of the gain on each gradient: their products then carry the gain
    parameters = [(gains[name] ** 0.5, p) for name, p in module.named_parameters() if p.requires_grad]
    groups: list[list[tuple[float, Tensor]]] = [[]]
    itemsize = max((p.element_size() for _, p in parameters), default=8)
    room = most = max(1, max_bytes // (len(x) * itemsize))
    for item in parameters:
        if groups[-1] and item[1].numel() > room:
            groups.append([])
            room = most
        groups[-1].append(item)
        room -= item[1].numel()
    with differentiable_math():
        out = call_at(module, {}, x).flatten(1)
        right_batch_norm(out)
        n, outputs = out.shape
        theta = out.new_zeros(n, n, requires_grad=False)
        for group in groups:
            for c in range(outputs):
                rows = torch.stack([_row(out[i, c], group) for i in range(n)])
                # parameters add up: the Gram matrix of all gradients is the sum of the groups'
                theta += rows @ rows.mT
    return theta.detach() / outputs


def _row(out: Tensor, group: list[tuple[float, Tensor]]) -> Tensor:
    grads = torch.autograd.grad(out, [p for _, p in group], retain_graph=True, materialize_grads=True)
    return torch.cat([root * dense(g).flatten() for (root, _), g in zip(group, grads, strict=True)])
