r"""The limit kernel of a two-layer ReLU network whose biases are all equal at the start: after Yang et al. 2023."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtr, owens_t
from torch import Tensor

from gramian.errors import BadData, named_in_errors


@named_in_errors
def bias_ntk(x: Tensor, threshold: float, *, bias_trained: bool = True) -> Tensor:
    r"""$H_{ij} = (x_i\cdot x_j + 1)\,P(u \ge B, v \ge B)$, (u, v) Gaussian with correlation $x_i\cdot x_j$.

    The kernel of $f(x) = \frac1{\sqrt m}\sum_r a_r\,\mathrm{relu}(w_r\cdot x - b_r)$ with all $b_r = B$ at the start,
    $w_r \sim N(0, I)$ and fixed signs. A share $\Phi(-B)$ of the neurons is active on an input: the larger B, the
    fewer, and the smaller the eigenvalues. Two thresholds that are equal make the probability one of Owen's T:
    $P = \Phi(-B) - 2\,T(B, \tan(\theta/2))$, $\theta$ the angle.

    Args:
        x: inputs (n, ...), scaled to norm one here.
        threshold: B; any sign.
        bias_trained: without training the biases, the 1 beside the inner product is not there.

    Returns:
        Shape (n, n), float64.

    Raises:
        BadData: an input is 0 or not finite.

    References:
        Yang, Jiang, Zhang, Wang, Liang 2023, arXiv:2301.00327.

    Example:
        >>> bias_ntk(torch.eye(2), 0.0).tolist()          # the +1 of the biases, times P(u >= 0, v >= 0) = 1/4
        [[1.0, 0.25], [0.25, 1.0]]
    """
    rows = torch.as_tensor(x).detach().double().flatten(1).numpy()
    lengths = np.linalg.norm(rows, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise BadData("An input is 0 or not finite.", why="it has no direction", fix="leave the row out")
    unit = rows / lengths[:, None]
    # tan(theta / 2) = |u - v| / |u + v|, which keeps its digits for close rows
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    together = np.linalg.norm(unit[:, None] + unit[None], axis=2)
    with np.errstate(divide="ignore"):
        tangent = np.where(together > 0, apart / together, math.inf)
    both_active = ndtr(-threshold) - 2 * owens_t(threshold, tangent)
    inner = (unit @ unit.T) + float(bias_trained)
    return torch.from_numpy(inner * both_active)
