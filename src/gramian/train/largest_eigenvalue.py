"""Largest eigenvalue of the Gram matrix, without the Gram matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical.jacobian_products.pushforward import along
from gramian.empirical.modules.arguments import Samples, in_parts
from gramian.gram.krylov import top_eigenvalue
from gramian.train.forward import evaluating, outputs_of, rows_per_pass

TOLERANCE, MOST_BATCHES = 1e-2, 32


def largest_eigenvalue(module: nn.Module, x: Samples, *, outputs: int = 0, tolerance: float = TOLERANCE) -> float:
    r"""Largest eigenvalue of $J J^\top$, the Gram matrix over all samples and outputs, by Lanczos.

    $J$ is the Jacobian of the outputs in the trainable parameters. One product costs one backward pass and one pass
    of forward-mode differentiation, and a dozen will mostly do; no Gram matrix is formed. The result is a Ritz value:
    never above the true one, and below it by more than `tolerance` in one case of a thousand.

    Args:
        module: the network, taken in eval mode.
        x: inputs; shape (n, *in_shape), or several tensors.
        outputs: numbers of a sample on its way out, for `rows_per_pass`.
        tolerance: relative accuracy.

    Example:
        A linear model without bias has J J^T = x x^T:

        >>> x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> round(largest_eigenvalue(nn.Linear(2, 1, bias=False).to(x.dtype), x), 6)
        25.0
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    parts = in_parts(x, rows_per_pass(x, outputs))
    with evaluating(module):
        with torch.no_grad():
            shape = (len(x), outputs_of(module, x[:2]).shape[1])
        start = torch.Generator().manual_seed(0)  # ours, so that a run's own random numbers stay as they are
        g = torch.randn(shape, generator=start, dtype=torch.float64).flatten().to(x.device)

        def gram(u: Tensor) -> Tensor:
            # J J^T u in two passes: backward gives J^T u, forward-mode differentiation J of that
            return _push(module, parameters, parts, _pull(module, parameters, parts, u.reshape(shape))).flatten()

        return top_eigenvalue(gram, g, tolerance)


def _pull(module: nn.Module, parameters: dict[str, nn.Parameter], parts: list[Any], u: Tensor) -> dict[str, Tensor]:
    """J^T u, by name."""
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    with torch.enable_grad():
        for part, weight in zip(parts, u.split([len(part) for part in parts]), strict=True):
            # the gradient of <f(w), u> in w is J^T u; it is a sum over rows, so parts add up
            # the outputs' dtype, not that of the inputs, which may be whole numbers
            out = outputs_of(module, part)
            product = (out * weight.to(out)).sum()
            grads = torch.autograd.grad(product, list(parameters.values()), allow_unused=True)
            for name, g in zip(total, grads, strict=True):
                total[name] += 0 if g is None else g
    return total


def _push(module: nn.Module, parameters: dict[str, nn.Parameter], parts: list[Any], v: dict[str, Tensor]) -> Tensor:
    """J v; shape (n, C)."""
    here = {name: p.detach() for name, p in parameters.items()}
    with torch.no_grad():
        return torch.cat([along(module, here, v, part)[1].reshape(len(part), -1) for part in parts])


def largest_eigenvalue_of_batches(module: nn.Module, x: Samples, batches: list[Tensor]) -> float:
    r"""Largest eigenvalue that a minibatch step sees: $\max_S (n/|S|)\, \lambda_{\max}(J_S J_S^\top)$.

    A step is (n/|S|) times the gradient over S, so this is what has to stay below 2/lr for each batch by itself. It is
    never below the full one (for batches of one size that share out the data), and far above it where samples are
    nearly orthogonal. At most 32 batches are looked at.
    """
    return max(len(x) / len(rows) * largest_eigenvalue(module, x[rows]) for rows in batches[:MOST_BATCHES])
