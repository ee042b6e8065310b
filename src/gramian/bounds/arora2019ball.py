r"""The population error of a two-layer ReLU network after training, with all constants: after Arora et al. 2019.

The infinitely wide network moves by $\sqrt{y^\top(H^\infty)^{-1}y}$, and the class of all networks that near has a
small Rademacher complexity. Derived here after the paper's argument, on top of the proof in du2019relu.py, with the
remainders of a finite width carried along: docs/proofs/other-theorems.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.du2019relu import OTHER_MACHINES, SLACK, start_residual
from gramian.checker import checked
from gramian.checker.arora2019 import ARORA2019
from gramian.checker.certificate_file import Content
from gramian.checker.program import NetworkProgram
from gramian.checker.relu_limit import ReluLimit, relu_limit
from gramian.checker.sentences import assumptions, sentence
from gramian.conditions import OTHER, Condition
from gramian.errors import BadArgument

REFERENCE = "arXiv:1901.08584"
GROWTH = 2.0**0.25  # of the grid of distances
FLIP_SHARES = np.geomspace(1e-14, 0.5, 400)  # q / sqrt(lambda_0)
LOST_SHARES = np.geomspace(1e-6, 0.5, 40)  # epsilon
SHORTER = 1 - 1e-9
EVENTS = 5  # kernel, flips, trace, start, deviation: delta is shared equally


@dataclass(frozen=True)
class _Ball:
    r"""Weights within `distance` of the start, each neuron within $\kappa 2^{\text{power}}$.

    Attributes:
        distance: B.
        trace: at least tr H(0).
        excess: the mean over samples of what the linearization errs by.
        power: of the neurons' reach.
        lost, flips: epsilon and q that the proof chose.
    """

    distance: float
    trace: float
    excess: float = 0.0
    power: int = 0
    lost: float = 0.0
    flips: float = 0.0

    def complexity(self, n: int) -> float:
        if math.isinf(self.distance):
            return math.inf
        return self.distance * math.sqrt(self.trace) / n + self.excess


def arora2019(
    x: Any,
    y: Any,
    width: float,
    *,
    kappa: float = 1.0,
    failure_probability: float = 0.05,
    antisymmetric: bool = False,
) -> NumericCertificate:
    r"""A bound of the error on new samples after training to the end, by Arora et al.'s proof with all its constants.

    Labels 1 and -1; gradient descent on half the sum of squared errors with a step of at most $1/\|X\|^2$; with
    probability at least $1 - \delta$ over samples and initialization. `numbers["value"]` is the bound at this width,
    `numbers["limit"]` what it comes to for a large one, `numbers["complexity"]` the paper's
    $\sqrt{2\,y^\top(H^\infty)^{-1}y/n}$ (of unit inputs).

    Args:
        x: inputs (n, ...), none of them 0.
        y: 1 and -1, (n,).
        width: m; math.inf for the limit.
        kappa: standard deviation of the first layer's weights.
        failure_probability: delta.
        antisymmetric: as for `du2019`.

    Returns:
        Certificate, "proved" if the checker finds the bound at this width below the error of guessing, 1/2; of infinite
        width, which no network has, "implied" by premises in float64 with room for rounding.

    References:
        Arora, Du, Hu, Li, Wang 2019, arXiv:1901.08584.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
        >>> c = arora2019(x, torch.tensor([1.0, -1.0]), width=math.inf, antisymmetric=True)
        >>> c.status, round(c.numbers["complexity"], 6)                       # H is the unit matrix over 2
        ('not proved', 2.0)
    """
    targets = np.asarray(y, dtype=np.float64).reshape(-1)
    if not (np.abs(targets) == 1).all() or not (kappa > 0 and 0 < failure_probability < 1):
        raise BadArgument(
            "The labels are not all 1 and -1, or `kappa` or `failure_probability` is out of range.",
            where="arora2019",
            why="the bound is one of the share of misclassified samples, at margin 1",
            fix="y of 1 and -1, kappa > 0, 0 < failure_probability < 1",
        )
    limit = relu_limit(np.asarray(x))
    limit = replace(limit, norm=limit.norm * OTHER_MACHINES, frobenius=limit.frobenius * OTHER_MACHINES)
    n, each = len(targets), failure_probability / EVENTS
    label_norm = math.sqrt(limit.complexity(targets)) * OTHER_MACHINES
    ball = _ball(limit, targets, width, kappa, each, antisymmetric, label_norm)
    value, parts = _bound(n, ball, each)
    infinite, _ = _bound(n, _Ball(label_norm, limit.frobenius**2 / 2), each)
    complexity = 2 * label_norm * limit.frobenius / (math.sqrt(2) * n)
    premises = (
        Condition("smallest eigenvalue of the limit Gram matrix, proved", 0.0, limit.smallest, ">"),
        Condition("bound of the error on new samples", 0.5, value, "<", "0.5 is the error of guessing"),
    )
    content, judged = None, None
    if math.isfinite(value) and math.isfinite(width):
        claims = {
            "width": float(width), "kappa": kappa, "failure": failure_probability,
            "antisymmetric": float(antisymmetric), "sigma": math.sqrt(limit.smallest), "inputs": limit.norm,
            "frobenius": limit.frobenius, "labels": math.sqrt(n) * OTHER_MACHINES, "length": label_norm,
            "shortest": SHORTER / _longest(limit), "lost": ball.lost, "flips": ball.flips, "power": ball.power,
            "grid": _place(ball), "value": value * OTHER_MACHINES,
        }  # fmt: skip
        content = _content(claims, np.asarray(x, dtype=np.float64).reshape(n, -1), targets)
        judged = checked(content)
    verdict = f"{value:.3g}"
    if value >= 0.5:
        verdict = f"vacuous ({value:.3g})"
    return NumericCertificate(
        "A two-layer ReLU network trained to the end errs seldom on new samples, after Arora et al. 2019",
        REFERENCE,
        premises,
        (),
        summary=f"The bound of the error at width {width:.3g} is {verdict}; at infinite width and f = 0 at the "
        f"start it is {infinite:.3g}, of which {complexity:.3g} are the labels' complexity and the rest the "
        f"deviation of {n:,} samples; with probability {1 - failure_probability:g}.",
        about=OTHER,
        numbers={"value": value, "limit": infinite, "complexity": complexity, "distance": ball.distance, **parts},
        paper={"complexity": complexity},
        statement=ARORA2019,
        content=content,
        checked=judged,
        fix="more samples, labels that agree with their neighbours', or a larger width",
    )


def _content(claims: dict[str, float], x: np.ndarray, y: np.ndarray) -> Content:
    says = sentence(ARORA2019, claims, len(x))
    no_network = NetworkProgram((), {}, frozenset())
    return Content(ARORA2019, says, assumptions(ARORA2019), claims, no_network, x, y.reshape(-1, 1))


def _place(ball: _Ball) -> int:
    """Of a distance on the grid: the first that is at least this one."""
    return math.ceil(math.log(max(ball.distance, 1e-9), GROWTH) - 1e-9)


def _ball(
    limit: ReluLimit, y: np.ndarray, width: float, kappa: float, each: float, antisymmetric: bool, label_norm: float
) -> _Ball:
    """The ball that training stays in, at the best q and epsilon; an infinite one where the width is too small."""
    if limit.smallest <= 0:
        return _Ball(math.inf, math.inf)
    residual, _ = start_residual(limit, y, kappa, 3 * each, antisymmetric)
    start = residual - float(np.linalg.norm(y)) * OTHER_MACHINES  # exactly 0 where the first outputs are
    root, n = math.sqrt(limit.smallest), len(y)
    if math.isinf(width):
        return _Ball(label_norm + start / root, limit.frobenius**2 / 2)
    independent = width
    if antisymmetric:
        independent = width / 2
    trace = limit.frobenius**2 * (0.5 + math.sqrt(math.log(1 / each) / (2 * independent)))
    best = _Ball(math.inf, math.inf)
    for lost in LOST_SHARES:
        room = lost + (1 - lost) * math.log1p(-lost)
        if independent * limit.smallest * room < limit.norm**2 * math.log(n / each):
            continue
        initial = root * math.sqrt(1 - lost)
        for q in FLIP_SHARES * root:
            s = initial - q
            if s <= 2 * q:  # 1/2 - q/s must be positive
                break
            total = residual / (s**2 * (0.5 - q / s))  # sum of lr ||r_k||
            power = math.ceil(math.log2(limit.norm * total / math.sqrt(width) / kappa) + 1e-9)
            near = math.erf(2.0**power / math.sqrt(2))
            # Chernoff: the share of neurons near their kink, of expectation p, exceeds max(2p, p + 3 log(1/delta)/m)
            # with probability at most delta
            allowed = max(2 * near, near + 3 * math.log(1 / each) / independent)
            if allowed * limit.frobenius**2 > q**2:
                continue
            distance = label_norm / math.sqrt(1 - lost) + start / initial + (q + 2 * q * limit.norm / initial) * total
            excess = kappa * 2.0**power * math.sqrt(width) * q**2 / n * _longest(limit)
            ball = _Ball(float(distance) * SLACK, trace, float(excess) * SLACK, power, float(lost), float(q))
            if ball.complexity(n) < best.complexity(n):
                best = ball
            break  # the smallest q that holds is the best for this epsilon
    return best


def _longest(limit: ReluLimit) -> float:
    r"""$1 / \min_i\|x_i\|$: sums of $|S_i|\|x_i\|$ by those of $|S_i|\|x_i\|^2$."""
    return 1 / math.sqrt(2 * float(np.diag(limit.matrix).min()))


def _bound(n: int, ball: _Ball, each: float) -> tuple[float, dict[str, float]]:
    """The Rademacher bound of the first ball of a grid that holds this one."""
    if not math.isfinite(ball.distance):
        return math.inf, {}
    step = _place(ball)
    chance = each / (2 * (abs(step) + 1) * (abs(step) + 2))
    if ball.flips > 0:  # of a finite width; the neurons' reach is on a grid as well
        chance /= 2 * (abs(ball.power) + 1) * (abs(ball.power) + 2)
    parts = {
        "complexity at this width": 2 * GROWTH**step * math.sqrt(ball.trace) / n,
        "linearization": 2 * ball.excess,
        "deviation": 3 * math.sqrt(math.log(1 / chance) / (2 * n)),
    }
    return sum(parts.values()) * SLACK, parts
