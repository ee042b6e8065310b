r"""How wide a two-layer ReLU network must be, with no constant left open: after the proof of Du et al. 2019.

$f(x) = \frac{1}{\sqrt m}\sum_r a_r\,\mathrm{relu}(w_r\cdot x)$, $w_r \sim N(0, \kappa^2 I)$ trained by gradient
descent on half the squared error, $a_r = \pm 1$ fixed. Derived here after the paper's argument (few neurons change
their sign, so the Gram matrix keeps its smallest eigenvalue, so the loss falls, so the neurons move little) with
a matrix Chernoff bound in place of one for each entry, and norms in place of sums: docs/proofs/other-theorems.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from gramian.bounds.certificate import NumericCertificate
from gramian.checker import checked
from gramian.checker.certificate_file import Content
from gramian.checker.du2019 import DU2019
from gramian.checker.program import NetworkProgram
from gramian.checker.relu_limit import ReluLimit, relu_limit
from gramian.checker.sentences import assumptions, sentence
from gramian.conditions import TRAINING, Condition
from gramian.errors import BadArgument

LOST_SHARES = np.geomspace(0.005, 0.9, 60)  # epsilon: of the limit's eigenvalue, lost by drawing m neurons
FLIP_SHARES = np.geomspace(1e-3, 0.6, 90)  # q / sqrt(lambda_0): of its root, lost by neurons that change sign
EXCESSES = np.geomspace(0.01, 20.0, 60)  # t: more neurons near their kink than expected, as a share
SLACK = 1 + 1e-9  # for rounding in a few operations
OTHER_MACHINES = 1 + 1e-7  # above what sums in another order may change in a norm
REFERENCE = "arXiv:1810.02054"


@dataclass(frozen=True)
class Width:
    """The smallest width that the proof allows, and what asks for it.

    Attributes:
        width: m.
        kernel: neurons that the initial Gram matrix asks for.
        flips: neurons that the count of sign changes asks for.
        movement: neurons that keep each one's movement small.
        rate: p of (1 - lr p)^k, by which the residual's norm falls.
        scale: the smallest kappa at which `movement` asks for no more than the other two.
        lost, flipped, excess, reach: epsilon, q, t, and how near a counted neuron is to its kink, over kappa.
    """

    width: float
    kernel: float
    flips: float
    movement: float
    rate: float
    scale: float
    lost: float
    flipped: float
    excess: float
    reach: float


def required_width(
    limit: ReluLimit, residual: float, *, kappa: float, failure_probability: float, step: float, antisymmetric: bool
) -> Width:
    r"""The smallest m for which the proof's three events have probability $1 - \delta$ and imply convergence.

    Args:
        limit: of the inputs.
        residual: at least the norm of outputs minus targets at the start.
        kappa: standard deviation of the weights.
        failure_probability: delta of these events.
        step: lr times $\|X\|^2$, at most 1.
        antisymmetric: neurons come in pairs of opposite signs, half of them independent.
    """
    lam, copies = limit.smallest, 1.0
    if antisymmetric:
        copies = 2.0
    infinite = Width(math.inf, math.inf, math.inf, math.inf, 0.0, math.inf, 0.0, 0.0, 0.0, 0.0)
    if lam <= 0:
        return infinite
    each, n = failure_probability / 2, len(limit.matrix)
    lost, flip, excess = np.meshgrid(LOST_SHARES, FLIP_SHARES, EXCESSES, indexing="ij")
    root = np.sqrt(lam)
    s = root * (np.sqrt(1 - lost) - flip)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - flip * root / s - step / 2
        allowed = (s > 0) & (share > 0)
        rate = np.where(allowed, s**2 * share, 0.0)
        kernel = copies * limit.norm**2 * math.log(n / each) / (lam * (lost + (1 - lost) * np.log1p(-lost)))
        near = flip**2 * lam / ((1 + excess) * limit.frobenius**2)  # p: chance that a neuron can change its sign
        flips = copies * math.log(1 / each) / (near * ((1 + excess) * np.log1p(excess) - excess))
        reach = math.sqrt(2) * special.erfinv(np.minimum(near, 1.0))
        movement = (limit.norm * residual / (rate * kappa * reach)) ** 2
    movement = np.where(allowed, movement, np.inf)
    width = np.maximum(np.maximum(kernel, flips), movement) * SLACK**4
    best = np.unravel_index(int(np.argmin(width)), width.shape)
    rest = max(kernel[best], flips[best])
    return Width(
        float(width[best]), float(kernel[best]), float(flips[best]), float(movement[best]), float(rate[best]),
        float(kappa * math.sqrt(movement[best] / rest)), float(lost[best]), float(flip[best] * root),
        float(excess[best]), float(reach[best]) / SLACK,
    )  # fmt: skip


def du2019(
    x: Any,
    y: Any,
    width: int,
    *,
    kappa: float = 1.0,
    lr: float | None = None,
    failure_probability: float = 0.05,
    antisymmetric: bool = False,
) -> NumericCertificate:
    r"""Whether this width is enough for these data, by Du et al.'s proof with all its constants.

    With probability at least $1 - \delta$ over the initialization, at every step
    $\|r_k\| \le (1 - \eta p)^k \|r_0\|$, p in `numbers["rate"]`, if m is at least `numbers["width"]`.

    Args:
        x: inputs (n, ...), of any norms, none of them 0.
        y: targets (n,).
        width: m.
        kappa: standard deviation of the first layer's weights.
        lr: the step on half the sum of squared errors; None: $1/\|X\|^2$.
        failure_probability: delta.
        antisymmetric: neurons r and r + m/2 have equal weights and opposite signs, so that f = 0 at the start. Then
            a large kappa makes a width of about $\log(n/\delta)\,(\|X\|^2 + n)/\lambda_0$ enough.

    Returns:
        Certificate with status "proved" or "not proved"; the checker judges. `numbers`: width, kernel, flips, movement
        (what each part of the proof asks for), rate, lambda_0, scale. `paper`: $n^6/(\lambda_0^4\kappa^2\delta^3)$,
        constant 1.

    References:
        Du, Zhai, Poczos, Singh 2019, arXiv:1810.02054; Tropp 2012, arXiv:1004.4389 (matrix Chernoff bound).

    Example:
        >>> x = torch.eye(3).double()
        >>> enough = du2019(x, torch.ones(3), width=10**9, antisymmetric=True)
        >>> enough.status, du2019(x, torch.ones(3), width=10**3, antisymmetric=True).status
        ('proved', 'not proved')
    """
    if not (kappa > 0 and 0 < failure_probability < 1):
        raise BadArgument(
            f"`kappa` is {kappa!r} and `failure_probability` {failure_probability!r}.",
            why="the first is a standard deviation, the second a probability",
            fix="kappa=1.0, failure_probability=0.05",
        )
    limit = relu_limit(np.asarray(x))
    limit = replace(limit, norm=limit.norm * OTHER_MACHINES, frobenius=limit.frobenius * OTHER_MACHINES)
    targets = np.asarray(y, dtype=np.float64).reshape(-1)
    step = 1.0
    if lr is not None:
        step = lr * limit.norm**2
    residual, events = start_residual(limit, targets, kappa, failure_probability, antisymmetric)
    needed = required_width(
        limit, residual, kappa=kappa, failure_probability=events, step=min(step, 1.0), antisymmetric=antisymmetric
    )
    n = len(targets)
    paper = math.inf
    if limit.smallest > 0:
        paper = n**6 / (limit.smallest**4 * kappa**2 * failure_probability**3)
    claims = {
        "width": float(width), "kappa": kappa, "step": lr or 1 / limit.norm**2, "failure": failure_probability,
        "antisymmetric": float(antisymmetric), "sigma": math.sqrt(limit.smallest), "inputs": limit.norm,
        "frobenius": limit.frobenius, "labels": float(np.linalg.norm(targets)) * OTHER_MACHINES, "lost": needed.lost,
        "flips": needed.flipped, "excess": needed.excess, "reach": needed.reach,
    }  # fmt: skip
    rows = np.asarray(x, dtype=np.float64).reshape(n, -1)
    content = Content(
        DU2019, sentence(DU2019, claims, n), assumptions(DU2019), claims, NetworkProgram((), {}, frozenset()), rows,
        targets.reshape(n, 1),
    )  # fmt: skip
    premises = (
        Condition("smallest eigenvalue of the limit Gram matrix, proved", 0.0, limit.smallest, ">"),
        Condition("width m", needed.width, float(width), ">=", f"the paper's, with constant 1: {paper:.3g}"),
        Condition("learning rate times the squared norm of the inputs", 1.0, step, "<="),
    )
    numbers = {
        "width": needed.width, "kernel": needed.kernel, "flips": needed.flips, "movement": needed.movement,
        "rate": needed.rate, "lambda_0": limit.smallest, "scale": needed.scale, "residual": residual,
    }  # fmt: skip
    return NumericCertificate(
        "Gradient descent on a two-layer ReLU network of this width converges, after Du et al. 2019",
        REFERENCE,
        premises,
        (),
        summary=f"These {n:,} rows ask for {needed.width:.3g} neurons: {needed.kernel:.3g} for the Gram matrix, "
        f"{needed.flips:.3g} for the sign changes, {needed.movement:.3g} for the movement; with probability "
        f"{1 - failure_probability:g} over the initialization.",
        about=TRAINING,
        numbers=numbers,
        paper={"width": paper},
        statement=DU2019,
        content=content,
        checked=checked(content),
        fix="a larger width, or a larger kappa with neurons in pairs of opposite signs",
    )


def start_residual(
    limit: ReluLimit, y: np.ndarray, kappa: float, delta: float, antisymmetric: bool
) -> tuple[float, float]:
    r"""An upper bound of $\|f_0 - y\|$, and what is left of delta for the other events.

    $E\|f_0\|^2 = \kappa^2\|X\|_F^2/2$, as the signs are independent; Markov's inequality with $\delta/3$.
    """
    size = float(np.linalg.norm(y)) * OTHER_MACHINES
    if antisymmetric:
        return size, delta
    return size + kappa * limit.frobenius * math.sqrt(1.5 / delta) * SLACK, 2 * delta / 3
