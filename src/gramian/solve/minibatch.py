"""Stochastic gradient descent under a constant kernel, minibatch by minibatch: no expectation over the batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gramian.solve.dynamics import Cross


def minibatch_descent(
    theta: Tensor, r0: Tensor, lr: float, batches: Iterable[Tensor], steps: Sequence[int], *, cross: Cross | None = None
):
    r"""Training residual of SGD under a constant kernel, for these very minibatches.

    $r \leftarrow r - \eta \frac{n}{|S|} \Theta_{\cdot S}\, r_S$, and the same with the test rows of the kernel. Cost:
    O(n |S| C) a step.

    Args:
        theta: NTK on the training inputs; shape (n, n).
        r0: residual at initialization; shape (n, C).
        lr: learning rate of the sum over all samples, as in `gramian.train`.
        batches: row numbers of each step's minibatch; as many as the last of `steps`.
        steps: whole numbers, ascending, at which to return the residual; shape (s,).
        cross: kernel of the test with the training rows, (m, n), and test residual at initialization, (m, C).

    Returns:
        Residuals, shape (s, n, C), float64; with `cross` the pair (training, test).

    References:
        The step is that of Allen-Zhu, Li and Song 2018, arXiv:1811.03962.

    Example:
        All rows in each batch make it gradient descent:

        >>> from gramian.solve import gradient_descent
        >>> theta, r0 = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([[1.0], [0.0]])
        >>> sgd = minibatch_descent(theta, r0, 0.1, [torch.arange(2)] * 5, [0, 5])
        >>> torch.allclose(sgd, gradient_descent(theta, r0, 0.1, [0, 5]))
        True
    """
    theta, r = theta.double(), r0.double().clone()
    if cross is None:
        k, f = (None, None)
    else:
        k, f = (cross[0].double(), cross[1].double().clone())
    wanted, kept, kept_test = set(steps), [], []

    def keep(step: int) -> None:
        if step in wanted:
            kept.append(r.clone())
            if f is not None:
                kept_test.append(f.clone())

    keep(0)
    for step, rows in enumerate(batches, 1):
        # of rows that are drawn alike, n / |S| times the batch's sum is an unbiased estimate of the sum over all
        move = lr * len(r) / len(rows) * r[rows]
        r -= theta[:, rows] @ move
        if k is not None and f is not None:
            f -= k[:, rows] @ move
        keep(step)
    train = torch.stack(kept)
    if cross is None:
        return train
    return (train, torch.stack(kept_test))
