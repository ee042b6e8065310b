"""Largest stable learning rates, contraction per step, and the time to an accuracy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gramian.errors import BadArgument, named_in_errors
from gramian.solve.dynamics import Theta, loss_curve, modes
from gramian.solve.modes import characteristic, check_lr, check_method, roots

NEVER_STEPS = 2**50  # steps; beyond it a float64 no longer tells a step from the next
ENVELOPE_SLACK = 1e-6  # the envelope's powers and the curve's round differently after 1e9 steps


@named_in_errors
def max_lr(lambda_max: float, method: str = "gd", beta: float = 0.0) -> float:
    r"""Largest stable learning rate under a constant kernel: at it the top mode neither grows nor shrinks.

    $2/\lambda_{max}$ for gradient descent, $2(1+\beta)/\lambda_{max}$ for heavy ball and
    $(2+2\beta)/((1+2\beta)\lambda_{max})$ for Nesterov, where a root of the mode's polynomial passes -1.

    Example:
        >>> max_lr(4.0), max_lr(4.0, "momentum", 0.9), max_lr(4.0, "nesterov", 0.5)
        (0.5, 0.95, 0.375)
    """
    check_method(method, beta)
    if not 0 < lambda_max < math.inf:
        raise BadArgument(f"lambda_max={lambda_max}", why="a positive number", fix="float(eigenvalues(gram)[-1])")
    return float(
        # a root passes -1 where 1 + T + D = 0: 2 - x, 2 (1 + beta) - x, and (2 + 2 beta) - (1 + 2 beta) x for Nesterov
        {"gd": 2.0, "momentum": 2 * (1 + beta), "nesterov": (2 + 2 * beta) / (1 + 2 * beta)}[method] / lambda_max
    )


@named_in_errors
def rate(lam: Tensor, lr: float, method: str = "gd", beta: float = 0.0) -> Tensor:
    r"""Factor by which the residual along each eigenvalue shrinks per step, in the long run; above 1 it grows.

    The spectral radius of the mode's recursion: $|1 - \eta\lambda|$ for gradient descent. The slowest mode sets the
    rate of the whole, `rate(lam, ...).max()`; the loss shrinks by its square.

    Args:
        lam: eigenvalues; any shape.
        lr, method, beta: as for `loss_curve`, without "flow".

    Returns:
        Factors; shape of `lam`, float64.

    Example:
        >>> rate(torch.tensor([1.0, 3.0]), lr=0.5).tolist()
        [0.5, 0.5]
    """
    check_method(method, beta)
    return roots(check_lr(lr) * torch.as_tensor(lam).double(), method, beta)[0]


@named_in_errors
def time_to(
    theta: Theta, r0: Tensor, accuracy: float, lr: float | None = None, method: str = "gd", beta: float = 0.0
) -> float:
    r"""First step from which on the predicted loss stays at or below `accuracy` times the initial loss.

    Momentum makes the loss oscillate: it may dip below earlier, and it is the last crossing that counts. An envelope
    that bounds all later losses gives a step that is late enough, from where the exact losses are searched backwards.
    Eigenvalues below `n * eps * largest` count as zero: what of the residual lies there stays for ever.

    Args:
        theta: NTK on the training inputs or its `eigensystem`; shape (n, n).
        r0: residual at initialization; shape (n, C) or (n,).
        accuracy: positive.
        lr: learning rate; not for "flow".
        method: "gd", "momentum", "nesterov" or "flow".
        beta: momentum.

    Returns:
        A whole number of steps (an int), the time for "flow" (a float), or `math.inf` where the loss never gets there.

    Example:
        The loss of the mode of eigenvalue 1 shrinks by 4 per step at lr 0.5:

        >>> time_to(torch.eye(1), torch.ones(1), accuracy=0.1, lr=0.5)
        2
    """
    if not accuracy > 0:
        raise BadArgument(f"accuracy={accuracy}", why="zero loss is reached by no linear rate", fix="accuracy=1e-3")
    system = modes(theta)
    lam = system.values
    lam[lam <= len(lam) * torch.finfo(system.dtype).eps * lam[-1]] = 0
    initial = float(loss_curve(system, r0, [0], lr, method, beta)[0])  # checks the arguments
    r0 = torch.as_tensor(r0).detach().to(lam).reshape(len(lam), -1)
    weight = (system.vectors.mT @ r0).square().sum(1) / 2
    if initial == 0:
        return 0
    if method == "flow":
        return _flow_time(lam, weight, accuracy * initial)
    assert lr is not None
    late = _late_enough(lr * lam, weight, (1 - ENVELOPE_SLACK) * accuracy * initial, method, beta)
    if late is None:
        return math.inf
    while late > 0:
        early = max(0, late - 4096)
        curve = loss_curve(system, r0, torch.arange(early, late), lr, method, beta)
        above = (curve > accuracy * initial).nonzero()
        if len(above):
            return early + int(above[-1]) + 1
        late = early
    return 0


def _flow_time(lam: Tensor, weight: Tensor, target: float) -> float:
    def low(t: float) -> bool:
        return float((-2 * lam * t).exp() @ weight) <= target

    if float(weight.sum()) <= target:
        return 0.0
    # what lies along eigenvalues of zero never moves
    if not bool((lam > 0).any()) or float(weight[lam == 0].sum()) > target:
        return math.inf
    return _bisect(low, 1 / float(lam[-1]), lambda a, b: (a + b) / 2, 1100) or math.inf


def _late_enough(x: Tensor, weight: Tensor, target: float, method: str, beta: float) -> int | None:
    """The first step at which the envelope of all later losses is below the target; None: there is none."""
    used = weight > 0
    x, weight = x[used], weight[used]
    large, small, gap = roots(x, method, beta)
    if bool((large > 1 + 1e-14).any()):
        return None
    trace, det, first = characteristic(x, method, beta)
    real = trace**2 >= 4 * det
    sign = torch.where(trace < 0, -1.0, 1.0)
    # real roots z, w: a_k = p z^k + q w^k, and a_0 = 1 and a_1 give p = (a_1 - w) / (z - w), q = (z - a_1) / (z - w).
    # p and q explode with opposite signs where the roots meet; there, and for complex roots, a_k is
    # (z^k + w^k) / 2 + (a_1 - T / 2) (z^k - w^k) / (z - w), the last quotient at most k |z|^(k-1) and 2 |z|^k / |z - w|
    p = (first - sign * torch.where(det < 0, -small, small)).abs() / gap
    q = (first - sign * large).abs() / gap
    p, q = (torch.where(real & c.isfinite(), c, math.inf) for c in (p, q))
    slope = (first - trace / 2).abs()
    peak = torch.where(large < 1, -1 / large.log(), math.inf).clamp(min=1)

    def low(k: float) -> bool:
        apart = torch.where(p.isfinite(), p * large**k + q * small**k, math.inf)
        at = peak.clamp(min=k)  # k z^(k-1) rises up to k = -1 / log z, and the envelope bounds all later steps too
        growth = torch.minimum(at * large ** (at - 1), (2 * large**k / gap).nan_to_num(nan=math.inf, posinf=math.inf))
        together = large**k + torch.where(slope > 0, slope * growth, 0.0)
        return float(torch.minimum(apart, together).square() @ weight) <= target

    late = _bisect(low, 1.0, lambda a, b: (a + b) // 2, 60)
    if late is None or late > NEVER_STEPS:
        return None
    return int(late)


def _bisect(low, start: float, middle, doublings: int) -> float | None:
    """The smallest k with low(k), for a condition that stays true once it is; None if no doubling makes it true."""
    a, b = 0.0, start
    for _ in range(doublings):
        if low(b):
            break
        a, b = b, 2 * b
    else:
        return None
    c = middle(a, b)
    while a < c < b:
        if low(c):
            b = c
        else:
            a = c
        c = middle(a, b)
    return b
