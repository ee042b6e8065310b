r"""Allen-Zhu, Li, Song 2019, "A Convergence Theory for Deep Learning via Over-Parameterization", Theorems 1 and 2.

With d outputs, L trained hidden layers of width m, n samples of norm one at distance delta: from width
$m \ge n^{24} L^{12} d / \delta^8$ on, gradient descent with $\eta = d\delta / (n^4 L^2 m)$ reaches loss eps in
$T = n^6 L^2 / \delta^2 \cdot \log(1/\epsilon)$ steps; SGD with batches of b takes
$\eta = b\delta d / (n^5 L^2 m \log^2 m)$ and $T = n^7 L^2 \log^2 m / (b\delta^2) \cdot \log(1/\epsilon)$. The
convolutional network has p pixels as a further polynomial factor, here taken to be p in the width.

The exponents are not checked against the appendix (n^24 is confirmed by Zou and Gu 2019, arXiv:1906.04688).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.certify.conditions import TRAINING, Certificate, Condition
from gramian.certify.evidence import Evidence

REFERENCE = "arXiv:1811.03962"


@dataclass(frozen=True)
class Budget:
    """What the theorem asks for: width, learning rate in the paper's parametrization, steps."""

    width: float
    lr: float
    steps: float


def budget(n: int, L: int, delta: float, d: int, accuracy: float, m: float, b: int | None = None, p: int = 1) -> Budget:
    r"""Width, rate and steps of Theorem 1, or of Theorem 2 with batches of b; every open constant is 1.

    Example:
        >>> round(math.log10(budget(n=500, L=3, delta=0.2, d=10, accuracy=0.01, m=512).width))
        77
    """
    if not 0 < delta < math.inf:
        return Budget(math.inf, 0.0, math.inf)
    width = n**24 * L**12 * d / delta**8 * p * (b or 1)
    log = math.log(1 / accuracy)
    if b is None:
        return Budget(width, d * delta / (n**4 * L**2 * m), n**6 * L**2 / delta**2 * log)
    square = math.log(max(m, 2)) ** 2
    rate = b * delta * d / (n**5 * L**2 * m * square)
    return Budget(width, rate, n**7 * L**2 * square / (b * delta**2) * log)


def certificate(e: Evidence) -> Certificate | None:
    """Theorem 1 for full-batch gradient descent, Theorem 2 for SGD; None for other optimizers and other networks."""
    if e.optimizer not in ("gd", "sgd") or e.family == "other":
        return None
    b = e.batch_size if e.optimizer == "sgd" else None
    asked = budget(e.n, max(e.depth, 1), e.separation, e.n_outputs, e.accuracy, e.width, b, e.pixels)
    their_lr = e.lr / e.unit  # a rate times a squared gradient has no unit
    steps, losses = e.losses
    method = "gradient descent" if b is None else f"SGD with batches of {b}"
    premises = (
        Condition("inputs have norm one", 1e-6, e.norm_error, "<=", "largest relative deviation"),
        Condition("separation delta of the inputs", 0.0, e.separation, ">"),
        Condition("activations are ReLU", True, set(e.activations) == {"ReLU"}),
        Condition("initialized as in the paper, only the hidden layers trained", True, e.paper_initialization,
                  note=e.initialization),
        Condition("squared loss", True, e.loss == "squared"),
        Condition("width m", asked.width, float(e.width), ">=", "n^24 L^12 d / delta^8, constant 1"),
        Condition("learning rate", asked.lr, their_lr, "<=", "in the paper's parametrization, constant 1"),
    )  # fmt: skip
    conclusion = (
        Condition(
            f"steps until the loss is {e.accuracy:g} of the first", asked.steps, _float(e.accuracy_steps), "<=",
            "the theorem's T at this accuracy, constant 1",
        ),
        Condition(
            "loss over its bound (1 - eta delta m / (d n^2))^t", 1 + 1e-9,
            e.contracts(min(1.0, their_lr * e.separation * e.width / (e.n_outputs * e.n**2))), "<=",
            "worst measured step",
        ),
        Condition(
            "||W_t - W_0||_F", e.n**3 * math.sqrt(e.n_outputs) / (e.separation * math.sqrt(e.width))
            if e.separation > 0 else math.inf, _times(e.extreme("distance"), e.stretch), "<=",
            "largest layer, n^3 sqrt(d) / (delta sqrt(m)), constant 1",
        ),
    )  # fmt: skip
    fell = f"the loss fell to {losses[-1] / losses[0]:.2g} of its start in {steps[-1]} steps" if losses else "no run"
    return Certificate(
        f"Allen-Zhu, Li, Song 2019: {method}, {e.family} network",
        REFERENCE,
        premises,
        conclusion,
        "every constant hidden in O, Omega and Theta is taken to be 1; exponents not checked against the appendix",
        f"It asks for width {asked.width:.0e} and grants {asked.steps:.0e} steps; here, at width {e.width}, {fell}.",
        TRAINING,
    )


def _float(number: int | None) -> float | None:
    return None if number is None else float(number)


def _times(number: float | None, factor: float) -> float | None:
    return None if number is None else number * factor
