"""The trace of a matrix that is only known by its products."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.errors import BadArgument, named_in_errors
from gramian.gram.estimate import Estimate, generator, mean_of
from gramian.gram.operator import Operator, check_operator, check_probes, device_of, signs

TRACE_METHODS = ("hutch++", "hutchinson")


@named_in_errors
def trace(operator: Operator, *, products: int = 60, method: str = "hutch++", seed: int = 0) -> Estimate:
    r"""The trace by random vectors, with its standard error.

    Hutchinson: the mean of $v^\top K v$ over random signs v, unbiased; the relative error falls like one over the root
    of their number, whatever the size of the matrix. Hutch++ spends a third of the products on finding the range Q of
    the largest eigenvalues, a third on their exact trace $\operatorname{tr} Q^\top K Q$, and estimates only the rest:
    for the fast falling spectrum of a tangent kernel the error is far smaller. With as many products as rows, or where
    Q takes in the whole range of the matrix, it is exact.

    Args:
        operator: symmetric; for Hutch++'s advantage positive semidefinite.
        products: products with the matrix that may be made; Hutch++ keeps products / 3 vectors of its size in float64.
        method: "hutch++" or "hutchinson".
        seed: of the random vectors.

    Raises:
        BadArgument: not square, an unknown method, or too few products for an error bar.

    References:
        Hutchinson 1990, 'A stochastic estimator of the trace of the influence matrix'; Meyer et al. 2021,
        arXiv:2010.09649, Algorithm 1.

    Example:
        The trace of a diagonal matrix has no error, because the signs cancel:

        >>> from gramian.gram import trace
        >>> trace(torch.diag(torch.arange(100.0)), method="hutchinson", products=2).value
        4950.0
    """
    n = check_operator(operator, "trace(operator, ...)")
    if method not in TRACE_METHODS:
        raise BadArgument(
            f"method={method!r}", why="no such method", fix=f"one of {', '.join(map(repr, TRACE_METHODS))}"
        )
    fewest = {"hutch++": 6}.get(method, 2)
    check_probes(products, fewest, "trace(..., products=...)")
    draw = generator(seed)
    device = device_of(operator)
    if method == "hutchinson":
        samples = torch.stack([_form(operator, signs(n, 1, draw).to(device))[0] for _ in range(products)])
        return mean_of(samples, products)
    rank, probes = min(products // 3, n), products - 2 * (products // 3)
    q, _ = torch.linalg.qr(_by_columns(operator, signs(n, rank, draw).to(device)))
    q = q[:, :rank]
    top = _form(operator, q).sum()
    if rank == n:
        return mean_of(torch.zeros(0), 2 * n, add=float(top))
    # tr K = tr Q'KQ + tr PKP for the projector P = 1 - QQ': g stands for P g, and only the second part is random
    rest = []
    for _ in range(probes):
        g = signs(n, 1, draw).to(device)
        g -= q @ (q.mT @ g)
        rest.append(_form(operator, g)[0])
    return mean_of(torch.stack(rest), 2 * rank + probes, add=float(top))


def _form(operator: Operator, v: Tensor) -> Tensor:
    """v^T K v of each column, in float64."""
    return (v * _by_columns(operator, v)).sum(0)


def _by_columns(operator: Operator, v: Tensor) -> Tensor:
    dtype = torch.promote_types(operator.dtype, torch.float64)
    matrix: Operator | Tensor
    if isinstance(operator, Tensor):
        matrix = operator.to(dtype)
    else:
        matrix = operator
    return (matrix @ v).double()
