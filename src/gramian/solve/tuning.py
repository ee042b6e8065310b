"""Learning rate and momentum from the spectrum: what theory proves, and what is best for a quadratic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gramian.errors import BadArgument, named_in_errors
from gramian.solve.rates import rate


@dataclass(frozen=True)
class Tuning:
    """An optimizer's settings for a spectrum between two eigenvalues.

    Attributes:
        rule: name of the rule, one of `RULES`.
        method: "gd", "momentum" or "nesterov".
        lr, beta: settings; lr in units of 1 / eigenvalue.
        rate: factor per step of the slowest residual in [lambda_min, lambda_max] under a constant kernel.
        source: where the rule comes from.
    """

    rule: str
    method: str
    lr: float
    beta: float
    rate: float
    source: str


UNCHECKED_SOURCE = "Liu, Pan, Tao 2022, arXiv:2107.01832; constants not checked against the paper"
RULES = {
    "gd-theory": ("gd", "half of 1/lambda_max, as proofs for networks take it"),
    "gd-safe": ("gd", "1/lambda_max: the descent lemma"),
    "gd-best": ("gd", "2/(lambda_min + lambda_max): the best constant step for a quadratic"),
    "polyak": ("momentum", "Polyak 1964: the best heavy ball for a quadratic"),
    "nesterov": ("nesterov", "1/lambda_max and (sqrt(kappa) - 1)/(sqrt(kappa) + 1): Nesterov, strongly convex"),
    "nesterov-theory": ("nesterov", UNCHECKED_SOURCE),
    "heavy-ball-theory": ("momentum", "heavy ball at the step and momentum of nesterov-theory"),
}


@named_in_errors
def tuning(lambda_min: float, lambda_max: float, rule: str = "polyak") -> Tuning:
    r"""Learning rate and momentum by a named rule for eigenvalues in `[lambda_min, lambda_max]`.

    "polyak": $\eta = 4/(\sqrt{\lambda_{max}} + \sqrt{\lambda_{min}})^2$,
    $\beta = ((\sqrt\kappa - 1)/(\sqrt\kappa + 1))^2$, $\kappa = \lambda_{max}/\lambda_{min}$. "nesterov-theory":
    $\eta = 1/(2\lambda_{max})$, $\beta = (3\sqrt\kappa - 2)/(3\sqrt\kappa + 2)$ with $\kappa = \tfrac43
    \lambda_{max}/\lambda_{min}$. The others are said in `RULES`. No rule is best by name: compare `.rate`.

    Raises:
        BadArgument: an unknown rule, or not 0 < lambda_min <= lambda_max.

    Example:
        >>> best = tuning(1.0, 4.0)
        >>> round(best.lr, 4), round(best.beta, 4), round(best.rate, 4)
        (0.4444, 0.1111, 0.3333)
    """
    if rule not in RULES:
        raise BadArgument(f"rule={rule!r}", why="a rule is known by its name", fix=f"one of {', '.join(RULES)}")
    if not 0 < lambda_min <= lambda_max < math.inf:
        raise BadArgument(
            f"eigenvalues from {lambda_min:.2e} to {lambda_max:.2e}",
            why="without a positive smallest eigenvalue no linear rate can be tuned",
            fix="a larger separation of the inputs, or the smallest eigenvalue that matters to you",
        )
    root = math.sqrt(lambda_max / lambda_min)
    theory = math.sqrt(4 / 3) * root
    lr, beta = {
        "gd-theory": (0.5 / lambda_max, 0.0),
        "gd-safe": (1 / lambda_max, 0.0),
        "gd-best": (2 / (lambda_min + lambda_max), 0.0),
        "polyak": (4 / (math.sqrt(lambda_max) + math.sqrt(lambda_min)) ** 2, ((root - 1) / (root + 1)) ** 2),
        "nesterov": (1 / lambda_max, (root - 1) / (root + 1)),
        "nesterov-theory": (0.5 / lambda_max, (3 * theory - 2) / (3 * theory + 2)),
        "heavy-ball-theory": (0.5 / lambda_max, (3 * theory - 2) / (3 * theory + 2)),
    }[rule]
    method, source = RULES[rule]
    # the spectral radius of each of these recursions is largest at an end of the interval
    slowest = float(rate(torch.tensor([lambda_min, lambda_max]), lr, method, beta).max())
    return Tuning(rule, method, lr, beta, slowest, source)
