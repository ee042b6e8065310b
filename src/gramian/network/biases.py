"""Biases that a module has and its kernel does not, and what a kernel without biases cannot tell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gramian.arch.law import Law, plain
from gramian.arch.structure import Structure

FEW_COLUMNS = 10  # up to here rows in about the same direction are common, and homogeneous networks are warned of
MOST_ROWS_COMPARED = 500  # of nearest neighbors: a matrix of 2 MB
NEIGHBORS_WORSE = 0.2  # share of rows whose nearest neighbor in direction is of another class, beyond that in distance


def uncounted_biases(arch: Structure) -> int:
    """Layers that have a bias of standard deviation 0 under the law, which adds nothing to the kernels by training.

    Example:
        >>> import torch
        >>> from gramian.network import architecture
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1, bias=False))
        >>> uncounted_biases(architecture(net, torch.ones(1, 2))), uncounted_biases(
        ...     architecture(net, torch.ones(1, 2), law="torch")
        ... )
        (1, 0)
    """
    # in the standard parametrization a bias of deviation 0 trains, and is in the NTK
    biased = [op for op in arch.affine if op.bias_name is not None]
    return sum(plain(op.sigma_b) == 0 and plain(op.gains[1]) == 0 for op in biased)


def says_uncounted(arch: Structure, law: Law) -> str:
    """What to say of a module whose biases do not count, and how to make them count; "" if all do."""
    n = uncounted_biases(arch)
    if not n:
        return ""
    if isinstance(law, str):
        named = f"law {law!r}"
    else:
        named = "this law"
    if n == 1:
        biases = "The bias of the module does"
    else:
        biases = f"The {n} biases of the module do"
    return (
        f"{biases} not count under {named}, which gives biases the standard deviation 0: the kernel is that of a "
        "network without them. --law torch (law='torch'), or a pair such as --law 1.4,0.1 (law=(1.4, 0.1)), makes "
        "them count."
    )


def biases_in_words(arch: Structure) -> str:
    """Which biases a network has, and whether they are in its kernel.

    Example:
        >>> import torch
        >>> from gramian.network import architecture
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> biases_in_words(architecture(net, torch.ones(1, 2)))
        '2 in the network, NONE in the kernel: --law torch puts them in'
        >>> biases_in_words(architecture(net, torch.ones(1, 2), law=(1.4, 0.1)))
        '2, of standard deviation 0.1'
    """
    deviations = [plain(op.sigma_b) for op in arch.affine if op.bias_name is not None]
    uncounted = uncounted_biases(arch)
    if not deviations:
        return "none in the network"
    if uncounted == len(deviations):
        return f"{uncounted} in the network, NONE in the kernel: --law torch puts them in"
    low, high = min(deviations), max(deviations)
    if low == high:
        size = f"{low:.3g}"
    else:
        size = f"{low:.3g} to {high:.3g}"
    if uncounted:
        left = f"; {uncounted} of them not in the kernel: --law torch puts them in"
    else:
        left = ""
    return f"{len(deviations)}, of standard deviation {size}{left}"


def is_homogeneous(kernel: Callable[..., Tensor], x: Tensor) -> bool:
    """Whether k(2 x, x') = 2 k(x, x') on the first rows: then f(2 x) = 2 f(x) for whatever the kernel predicts."""
    rows = x[:4]
    once, twice = kernel(rows, rows), kernel(2 * rows, rows)
    # half of the digits: rounding must not hide that the kernel is homogeneous
    digits = torch.finfo(once.dtype).eps ** 0.5
    return bool(((twice - 2 * once).abs() <= digits * once.abs().max()).all()) and bool(once.abs().max() > 0)


def says_homogeneous(kernel: Callable[..., Tensor], x: Tensor, way_out: str) -> str:
    """What a homogeneous kernel cannot learn, for rows of few columns; "" for other kernels and rows."""
    if x.ndim != 2 or x.shape[1] > FEW_COLUMNS or not is_homogeneous(kernel, x):
        return ""
    return (
        "This kernel has no biases, so predictions at a multiple of a row are that multiple of the predictions at the "
        f"row: it can't learn what only the length of a row tells (rings around 0); {way_out}."
    )


def lengths_tell(x: Tensor, y: Tensor) -> bool:
    """Whether the lengths of rows tell labels that their directions do not, by the labels of nearest neighbors.

    Args:
        x: rows; shape (n, d).
        y: class numbers of shape (n,), or targets (n, C).

    Example:
        >>> angle, ring = torch.linspace(0, 6.2, 60), torch.arange(60) % 2
        >>> x = torch.stack([angle.cos(), angle.sin()], 1)
        >>> lengths_tell(x * (1 + ring)[:, None], ring), lengths_tell(x, (angle > 3).long())
        (True, False)
    """
    x, y = x[:MOST_ROWS_COMPARED].double(), y[:MOST_ROWS_COMPARED]
    if len(x) < 3:
        return False
    direction = x / x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    wrong = []
    for rows in (direction, x):
        distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
        wrong.append(_disagreement(y, y[distance.argmin(1)]))
    return wrong[0] > wrong[1] + NEIGHBORS_WORSE


def _disagreement(y: Tensor, other: Tensor) -> float:
    """Share of other classes; or of the variance, where 1 is as bad as the mean (pairs at random give 2)."""
    if not y.is_floating_point():
        return float((y != other).double().mean())
    spread = float((y - y.mean(0)).square().mean())
    if spread > 0:
        return float((y - other).square().mean()) / (2 * spread)
    return 0.0
