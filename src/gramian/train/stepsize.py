"""Largest eigenvalue of the Gram matrix, without the Gram matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gramian.empirical.forward import along
from gramian.train.forward import ROWS_PER_PASS, evaluating, outputs_of

TOLERANCE, ITERATIONS, BATCHES = 1e-3, 100, 32


def largest_eigenvalue(module: nn.Module, x: Tensor, *, tolerance: float = TOLERANCE) -> float:
    r"""Largest eigenvalue of $J J^\top$, the Gram matrix over all samples and outputs, by power iteration.

    $J$ is the Jacobian of the outputs in the trainable parameters. One iteration costs one backward pass and one pass
    of forward-mode differentiation; no Gram matrix is formed. The result is a Rayleigh quotient: never above the
    true value, and below it by a few times `tolerance`.

    Args:
        module: the network, taken in eval mode.
        x: inputs; shape (n, *in_shape).
        tolerance: relative change at which the iteration ends (after 100 at the latest).

    Example:
        A linear model without bias has J J^T = x x^T:

        >>> x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> round(largest_eigenvalue(nn.Linear(2, 1, bias=False).to(x.dtype), x), 6)
        25.0
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    with evaluating(module):
        with torch.no_grad():
            shape = outputs_of(module, x[:2]).shape[1]
        start = torch.Generator().manual_seed(0)  # ours, so that a run's own random numbers stay as they are
        u = torch.randn(len(x), shape, generator=start, dtype=torch.float64).to(x)
        value = 0.0
        for _ in range(ITERATIONS):
            u = u / u.norm()
            ju = _pull(module, parameters, x, u)
            last, value = value, float(sum(g.double().square().sum() for g in ju.values()))
            if value == 0 or abs(value - last) <= tolerance * value:
                break
            u = _push(module, parameters, x, ju)
    return value


def _pull(module: nn.Module, parameters: dict[str, nn.Parameter], x: Tensor, u: Tensor) -> dict[str, Tensor]:
    """J^T u, by name."""
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    with torch.enable_grad():
        for part, weight in zip(x.split(ROWS_PER_PASS), u.split(ROWS_PER_PASS), strict=True):
            out = (outputs_of(module, part) * weight).sum()
            grads = torch.autograd.grad(out, list(parameters.values()), allow_unused=True)
            for name, g in zip(total, grads, strict=True):
                total[name] += 0 if g is None else g
    return total


def _push(module: nn.Module, parameters: dict[str, nn.Parameter], x: Tensor, v: dict[str, Tensor]) -> Tensor:
    """J v; shape (n, C)."""
    here = {name: p.detach() for name, p in parameters.items()}
    with torch.no_grad():
        parts = [along(module, here, v, part)[1].reshape(len(part), -1) for part in x.split(ROWS_PER_PASS)]
        return torch.cat(parts)


def largest_eigenvalue_of_batches(module: nn.Module, x: Tensor, batches: list[Tensor]) -> float:
    r"""Largest eigenvalue that a minibatch step sees: $\max_S (n/|S|)\, \lambda_{\max}(J_S J_S^\top)$.

    A step is (n/|S|) times the gradient over S, so this is what has to stay below 2/lr for each batch by itself. It is
    never below the full one (for batches of one size that share out the data), and far above it where samples are
    nearly orthogonal. At most 32 batches are looked at.
    """
    return max(len(x) / len(rows) * largest_eigenvalue(module, x[rows]) for rows in batches[:BATCHES])
