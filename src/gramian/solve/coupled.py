"""Predicted runs under a constant kernel that couples the outputs, as that of a finite network does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def coupled_descent(
    gram: Tensor,
    r0: Tensor,
    lr: float,
    batches: Iterable[Tensor | None],
    steps: Sequence[int],
    *,
    beta: float = 0.0,
    nesterov: bool = False,
) -> Tensor:
    r"""Training residual under a constant Gram matrix over samples *and* outputs, step by step.

    At infinite width the outputs are independent and one (n, n) kernel serves all of them. At finite width
    $\Theta_{(i,c),(j,c')}$ has entries of order $1/\sqrt m$ between outputs, which a prediction from the mean over
    outputs misses. The recursion is that of `torch.optim.SGD`: $u \leftarrow \beta u + g$, $r \leftarrow r - \eta u$
    (Nesterov: $r \leftarrow r - \eta (g + \beta u)$) with $g = \frac{n}{|S|} \Theta_{\cdot S}\, r_S$.

    Args:
        gram: NTK with all outputs, symmetric, sample by sample; shape (n, n, C, C).
        r0: residual at initialization; shape (n, C).
        lr: learning rate of the sum over all samples.
        batches: rows of each step's minibatch, None for all; as many as the last of `steps`.
        steps: whole numbers, ascending, at which to return the residual; shape (s,).
        beta: momentum.
        nesterov: torch's form of Nesterov's method instead of heavy ball.

    Returns:
        Residuals; shape (s, n, C), float64.

    Example:
        Without coupling it is gradient descent under the kernel:

        >>> from gramian.solve import gradient_descent
        >>> theta, r0 = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([[1.0, 0.5], [0.0, 1.0]])
        >>> full = theta[:, :, None, None] * torch.eye(2)
        >>> found = coupled_descent(full, r0, 0.1, [None] * 5, [0, 5])
        >>> torch.allclose(found, gradient_descent(theta, r0, 0.1, [0, 5]).double())
        True
    """
    n, c = r0.shape
    blocks = gram.double().permute(0, 2, 1, 3).reshape(n, c, n * c)  # a sample's rows lie together: no gather
    r = r0.double().flatten()
    u = torch.zeros_like(r)
    wanted = set(steps)
    if 0 in wanted:
        kept = [r]
    else:
        kept = []
    for step, rows in enumerate(batches, 1):
        if rows is None:
            g = blocks.view(n * c, n * c) @ r
        else:
            g = torch.zeros_like(r)
            for i in rows.tolist():
                g.addmv_(blocks[i].T, r[i * c : (i + 1) * c], alpha=n / len(rows))
        u = beta * u + g
        move = u
        if nesterov:  # u is the new buffer already, as torch's Nesterov takes it
            move = g + beta * u
        r = r - lr * move
        if step in wanted:
            kept.append(r)
    return torch.stack(kept).reshape(len(kept), n, c)
