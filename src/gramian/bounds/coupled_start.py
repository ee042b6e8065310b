r"""What a random output at the start costs in distance that weights travel; and the margin in the kernel's space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import nnls
from torch import Tensor

from gramian.bounds.label_complexity import h_infinity
from gramian.errors import BadArgument, named_in_errors
from gramian.gram import Gram, symmetric_dense
from gramian.solve import solve


@dataclass(frozen=True)
class StartCost:
    r"""Distances in the limit of wide networks, trained to the end on the squared loss.

    Attributes:
        coupled: $\sqrt{y^\top H^{-1} y}$, from output 0.
        independent: $\sqrt{y^\top H^{-1} y + \mathrm{tr}(H^{-1}\Sigma)}$, the root mean square over random starts of
            covariance $\Sigma$.
    """

    coupled: float
    independent: float

    @property
    def ratio(self) -> float:
        """The share of the way that is left with a start at 0."""
        return self.coupled / self.independent


@named_in_errors
def start_cost(x: Tensor, y: Tensor) -> StartCost:
    r"""How far the first layer of a wide two-layer ReLU network travels, from output 0 and from a random output.

    The linearized network ends at the distance $\sqrt{r_0^\top H^{-1} r_0}$ from its start, $r_0 = f_0 - y$. With
    $f_0 \sim N(0, \Sigma)$ independent of the labels, the mean of its square is
    $y^\top H^{-1} y + \mathrm{tr}(H^{-1}\Sigma)$.

    Args:
        x: inputs (n, ...), scaled to norm one here.
        y: targets (n,).

    Returns:
        StartCost.

    Example:
        >>> x = torch.eye(2)
        >>> cost = start_cost(x, torch.tensor([1.0, -1.0]))      # H = 1/2, and Sigma = 1/2 on its diagonal
        >>> round(cost.coupled**2, 12)
        4.0
    """
    rows = torch.as_tensor(x).double().flatten(1)
    gram = h_infinity(rows)
    labels = torch.as_tensor(y).double().reshape(-1)
    both = solve(gram, torch.cat([labels[:, None], _output_covariance(rows)], 1)).alpha
    own = max(float(labels @ both[:, 0]), 0.0)
    return StartCost(math.sqrt(own), math.sqrt(own + float(both[:, 1:].diagonal().sum())))


def _output_covariance(rows: Tensor) -> Tensor:
    r"""$\Sigma_{ij} = E\,\mathrm{relu}(w\cdot x_i)\,\mathrm{relu}(w\cdot x_j)$, $w \sim N(0, I)$, unit rows."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    cosine = (unit @ unit.mT).clamp(-1, 1)
    angle = cosine.arccos()
    return (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi)


@named_in_errors
def ntk_margin(gram: Gram | Tensor, y: Tensor) -> tuple[float, float]:
    r"""The margin $\gamma = \max_{\|v\|\le1} \min_i y_i \langle v, \phi(x_i)\rangle$ in the kernel's feature space.

    By duality $\gamma = \min_\alpha \sqrt{\alpha^\top Q \alpha}$ over weights of sum 1, $Q_{ij} = y_i y_j K_{ij}$: a
    hard-margin support vector machine, solved by non-negative least squares. The L2 margin; Ji and Telgarsky's, which
    bounds each neuron's part of v, is at most that.

    Args:
        gram: kernel on the training inputs, (n, n), positive definite.
        y: labels 1 and -1, (n,).

    Returns:
        A lower and an upper bound: from the direction that was found, and from its dual weights.

    Raises:
        BadArgument: other labels.

    References:
        Munteanu, Omlor, Song, Woodruff 2022, arXiv:2206.12802.

    Example:
        >>> lower, upper = ntk_margin(torch.eye(4), torch.tensor([1.0, -1.0, 1.0, 1.0]))
        >>> round(lower, 9), round(upper, 9)
        (0.5, 0.5)
    """
    labels = torch.as_tensor(y).double().reshape(-1)
    if not bool((labels.abs() == 1).all()):
        raise BadArgument("The labels are not all 1 and -1.", why="a margin is that of two classes", fix="y.sign()")
    signed = (symmetric_dense(gram) * labels[:, None] * labels).numpy()
    # min a'Qa/2 - sum a over a >= 0, with Q = L L': the least squares problem |L'a - L^-1 1|
    factor = np.linalg.cholesky(signed)
    weights, _ = nnls(factor.T, solve_triangular(factor, np.ones(len(signed)), lower=True))
    along = signed @ weights
    length = math.sqrt(float(weights @ along))
    return float(along.min()) / length, length / float(weights.sum())
