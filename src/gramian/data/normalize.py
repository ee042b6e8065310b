"""Inputs on the scale that the theorems ask for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gramian.errors import BadData

from .wording import MOST_SHOWN, first_few, row_number


def unit_norm(x: Tensor, *, rows: Tensor | None = None, name: str = "x") -> Tensor:
    r"""Each row, flattened, divided by its Euclidean norm: $x_i / \lVert x_i \rVert$. Images too.

    Two rows that are multiples of one another become equal: their labels had better agree.

    Args:
        x: shape (n, *in_shape).
        rows: numbers by which an error names the rows; shape (n,), default 0 .. n - 1.
        name: what errors call `x`.

    Returns:
        Shape of `x`, rows of norm 1.

    Raises:
        BadData: a row is all zeros and has no direction; names it.

    Example:
        >>> unit_norm(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    norms = row_norms(x)
    zero = (norms == 0).nonzero().flatten()
    if len(zero):
        names = first_few([str(row_number(i, rows)) for i in zero[: MOST_SHOWN + 1]])
        raise BadData(
            f"{len(zero)} of {len(x)} rows are all zeros, and a zero row cannot be scaled to norm 1.",
            where=f"{name}, row {names} (counted from 0)",
            why="a blank image or an empty record; or the columns were centered and this row is the mean.",
            fix='normalize="standardize" or "none", or drop the row.',
        )
    return x / norms.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def row_norms(x: Tensor) -> Tensor:
    """Euclidean norm of each row, flattened, in float64 and safe from overflow; shape (n,)."""
    flat = x.flatten(1)
    size = flat.abs().amax(1).double()
    # so that 1e200 does not overflow when squared
    scale = torch.where((size > 0) & size.isfinite(), size, 1.0)
    out = torch.empty(len(x), dtype=torch.float64, device=x.device)
    # a float64 copy of a block, never of everything
    for i in range(0, len(x), 1024):
        out[i : i + 1024] = torch.linalg.vector_norm(flat[i : i + 1024].double() / scale[i : i + 1024, None], dim=1)
    return out * scale


def standardize(x: Tensor, train: Tensor | None = None) -> Tensor:
    r"""Columns of mean 0 and standard deviation 1: $(x - \mu) / \sigma$ with the training rows' $\mu$ and $\sigma$.

    Tables are standardized by column, images and sequences (rank 3 and more) by channel (dimension 1), so that the dark
    border of an image stays dark. A column that is constant in training becomes 0 in `x` too: nothing is learned on it.

    Args:
        x: shape (n, *in_shape).
        train: rows that mean and deviation (with 1/n) are taken from; shape (m, *in_shape), default `x`.

    Returns:
        Shape of `x`.

    Example:
        >>> standardize(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
        tensor([[-1., 0.],
                [ 1., 0.]])
    """
    like = x if train is None else train
    over = [0, *range(2, x.ndim)]
    mean, sigma = like.mean(over, keepdim=True), like.std(over, correction=0, keepdim=True)
    # by range, not by deviation: the mean of a constant column may be off in its last digit
    varies = like.amax(over, keepdim=True) > like.amin(over, keepdim=True)
    return torch.where(varies, (x - mean) / torch.where(varies, sigma, 1.0), 0.0)


def normalize_and_pad(x: Tensor, *, largest: float | None = None) -> Tensor:
    r"""Any data brought to the form that Allen-Zhu, Li and Song assume: norm 1 and last coordinate $1/\sqrt2$.

    Rows are scaled by one common factor so that the largest has norm $1/\sqrt2$, one coordinate is padded so that all
    have it, and $1/\sqrt2$ is appended (it acts as a random bias in the first layer). Unlike `unit_norm`, this keeps
    different rows different, whatever their norms.

    Args:
        x: shape (n, *in_shape); flattened.
        largest: the norm that becomes $1/\sqrt2$, default that of the longest row; give the same one for training and
            test rows.

    Returns:
        Shape (n, d + 2).

    Raises:
        BadData: all rows are zero, or a row is longer than `largest`.

    References:
        Allen-Zhu, Li, Song 2019, arXiv:1811.03962, section 2.

    Example:
        >>> normalize_and_pad(torch.tensor([[2.0], [0.0]]))
        tensor([[0.7071, 0.0000, 0.7071],
                [0.0000, 0.7071, 0.7071]])
    """
    norms = row_norms(x)
    longest = float(norms.max())
    largest = longest if largest is None else largest
    if not 0 < longest <= largest * (1 + 1e-12):
        raise BadData(
            f"the longest of {len(x)} rows has norm {longest:.6g}, which must be above 0, at most {largest:.6g}.",
            where=f"row {int(norms.argmax())} (counted from 0)",
            why="all rows are zero, or `largest` was taken from other rows.",
            fix="`largest` = the largest norm of the training and test rows together.",
        )
    share = norms / largest
    # 1 - share^2, factored: near 1 the square would lose digits. The padded part then has squared norm 1/2
    pad = ((1 - share) * (1 + share)).clamp(min=0).sqrt() / math.sqrt(2)
    last = torch.full_like(pad, 1 / math.sqrt(2))
    return torch.cat([x.flatten(1) / (largest * math.sqrt(2)), torch.stack([pad, last], 1).to(x.dtype)], 1)
