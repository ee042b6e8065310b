r"""What the data alone say of how well labels can be learned: the complexity measure of Arora et al. 2019.

$\sqrt{2\,y^\top (H^\infty)^{-1} y / n}$ is, but for the deviation of n samples, their bound of the error on new
samples (Theorem 5.1). It is computed before any training: small for labels that follow the data, large for random ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData, named_in_errors
from gramian.gram import Eigensystem, Gram, eigensystem
from gramian.solve import Solution, solve

CLOSE = 1e-3  # 1 - |cosine| below which angles are taken from differences of rows
PAIRS_AT_ONCE = 100_000


@named_in_errors
def h_infinity(x: Tensor, x2: Tensor | None = None) -> Tensor:
    r"""$H^\infty_{ij} = \frac{1}{2\pi}\,x_i\cdot x_j\,(\pi - \theta_{ij})$, $\theta_{ij}$ the angle between two inputs.

    The limit NTK of a two-layer ReLU network whose first layer trains, with fixed signs as readout. Inputs are scaled
    to norm one, as the papers have them.

    Args:
        x: inputs (n, ...), none of them 0.
        x2: other inputs (m, ...); None takes `x`.

    Returns:
        Shape (n, n) or (n, m), float64.

    Raises:
        BadData: an input is 0 or not finite.

    References:
        Du, Zhai, Poczos, Singh 2018, arXiv:1810.02054; Arora et al. 2019, arXiv:1901.08584.

    Example:
        >>> h_infinity(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    rows = _unit_rows(x, "x")
    columns = rows
    if x2 is not None:
        columns = _unit_rows(x2, "x2")
    cosine = (rows @ columns.mT).clamp_(-1, 1)
    angle = torch.arccos(cosine)
    # arccos loses half the digits near 1 and -1; there sin(angle / 2) = |u - v| / 2 and cos(angle / 2) = |u + v| / 2
    pairs = (1 - cosine.abs() < CLOSE).nonzero()
    for some in pairs.split(PAIRS_AT_ONCE):
        u, v = rows[some[:, 0]], columns[some[:, 1]]
        angle[some[:, 0], some[:, 1]] = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))
    return cosine.mul_(math.pi - angle).div_(2 * math.pi)


@named_in_errors
def complexity_measure(
    x: Tensor | None, y: Tensor, gram: Gram | Tensor | None = None, *, solution: Solution | None = None
) -> Tensor:
    r"""$\sqrt{2\,y^\top (H^\infty)^{-1} y / n}$, for each column of labels.

    For labels of size 1 it is about the bound of the population loss of Theorem 5.1 (a loss that is 1-Lipschitz and at
    most 1), so that a number above 1 promises nothing; its order between two labelings of the same inputs is what it is
    good for. Several labelings cost one factorization. For a bound with every constant see `gramian.bounds.arora2019`.

    Args:
        x: inputs (n, ...); not used if `gram` is given.
        y: labels, 1 and -1 or any numbers; (n,) or (n, k) for k labelings.
        gram: another kernel on the training inputs than $H^\infty$, (n, n): that of your own architecture.
        solution: `gramian.solve(gram, y)` without a ridge, where it is there already: nothing is factorized then.

    Returns:
        float64, shape () or (k,).

    Raises:
        BadArgument: neither inputs nor a kernel, or shapes that do not fit.
        NotPositive: two inputs are equal up to their length, so that the kernel has no inverse.

    References:
        Arora, Du, Hu, Li, Wang 2019, arXiv:1901.08584, Theorem 5.1 and Figure 2.

    Example:
        >>> float(complexity_measure(torch.eye(2), torch.tensor([1.0, -1.0])))
        2.0
    """
    labels = torch.as_tensor(y).double()
    if solution is None:
        solution = solve(_kernel(x, gram), labels)
    # y^T H^-1 y is positive, but rounding may leave less than 0 of labels that are 0
    return (2 * (labels * solution.alpha).sum(0).clamp(min=0) / len(labels)).sqrt()


def _kernel(x: Tensor | None, gram: Gram | Tensor | None) -> Gram | Tensor:
    if gram is not None:
        return gram
    if x is None:
        raise BadArgument("Neither inputs nor a kernel.", why="the measure is one of labels on inputs", fix="x=inputs")
    return h_infinity(x)


@named_in_errors
def label_projections(gram: Gram | Tensor | Eigensystem, y: Tensor) -> Tensor:
    r"""The share of the labels along each eigenvector of the kernel, the fastest learned first.

    $(u_j \cdot y)^2 / \|y\|^2$ in the order of descending eigenvalues. Labels that are learned fast have most of it
    at the front; random ones spread it evenly.

    Args:
        gram: kernel on the training inputs (n, n), or its `eigensystem`.
        y: labels (n,).

    Returns:
        Shares (n,), float64, of sum 1.

    References:
        Arora et al. 2019, arXiv:1901.08584, Theorem 4.1.

    Example:
        >>> label_projections(torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([3.0, 4.0])).tolist()
        [0.64, 0.36]
    """
    system = gram
    if not isinstance(system, Eigensystem):
        system = eigensystem(system)
    labels = torch.as_tensor(y).to(system.vectors).reshape(-1)
    shares = (system.vectors.mT @ labels).square() / labels.square().sum()
    return shares.flip(0)


def _unit_rows(x: Tensor, name: str) -> Tensor:
    rows = torch.as_tensor(x).detach().double().flatten(1)
    lengths = rows.norm(dim=1)
    bad = (~(lengths > 0) | ~lengths.isfinite()).nonzero()
    if len(bad):
        raise BadData(
            f"Row {int(bad[0])} of {name} is 0 or not finite.",
            why="it has no direction, and the kernel is one of the angles between inputs",
            fix="leave the row out, or append a constant column",
        )
    return rows / lengths[:, None]
