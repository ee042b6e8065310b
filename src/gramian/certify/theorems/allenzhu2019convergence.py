r"""Allen-Zhu, Li, Song 2019, "A Convergence Theory for Deep Learning via Over-Parameterization", Theorems 1 and 2.

Setting: `allenzhu2019setting`, with $\|y_i\| = O(1)$ and the squared loss summed over n samples. Theorem 1: from width
$m \ge \Omega(n^{24} L^{12} d \log^5 m / \delta^8)$ on, with probability $1 - e^{-\Omega(\log^2 m)}$, gradient descent
with $\eta = \Theta(d\delta / (n^4 L^2 m))$ reaches loss eps in $T = \Theta(n^6 L^2 / \delta^2 \cdot \log(1/\epsilon))$
steps; on the way each step contracts the loss by $1 - \Omega(\eta\delta m/(d n^2))$, and
$\|W_t - W_0\|_F \le O(n^3 \sqrt d \log m / (\delta \sqrt m))$. Theorem 2: SGD with independent batches of b samples,
from width $n^{24} L^{12} b d \log^5 m / \delta^8$ on, takes $\eta = \Theta(b\delta d / (n^5 L^2 m \log^2 m))$ and
$T = \Theta(n^7 L^2 \log^2 m / (b\delta^2) \cdot \log(1/\epsilon))$. The convolutional network has a polynomial in its p
pixels as a further factor, here taken to be p in the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.allenzhu2019setting import REFERENCE, delta, network, separated
from gramian.certify.theorems.premises import FAILURE, bounded_labels, full_descent, plain_updates, squared_loss
from gramian.conditions import TRAINING, Certificate, Condition

MOST_STEPS = 1e12  # that anyone could make: a bound on the steps above it can't be violated


@dataclass(frozen=True)
class Budget:
    """What the theorem asks for: width, learning rate in the paper's parametrization, steps."""

    width: float
    lr: float
    steps: float


def budget(n: int, L: int, delta: float, d: int, accuracy: float, m: float, b: int | None = None, p: int = 1) -> Budget:
    r"""Width, rate and steps of Theorem 1, or of Theorem 2 with batches of b; every open constant is 1.

    Args:
        n, L, d: samples, hidden layers, outputs.
        delta: separation of the inputs, at most 1 / L.
        accuracy: share of the initial loss to reach.
        m: width of the network, of which rate and steps depend.
        b: samples in a batch; None for gradient descent.
        p: pixels.

    Example:
        >>> round(math.log10(budget(n=500, L=3, delta=0.2, d=10, accuracy=0.01, m=512).width))
        89
    """
    if not 0 < delta < math.inf:
        return Budget(math.inf, 0.0, math.inf)
    width = _with_log(n**24 * L**12 * d / delta**8 * p * (b or 1))
    if accuracy > 0:
        log = math.log(1 / accuracy)
    else:
        log = math.inf
    if b is None:
        return Budget(width, d * delta / (n**4 * L**2 * m), n**6 * L**2 / delta**2 * log)
    square = math.log(max(m, 2)) ** 2
    rate = b * delta * d / (n**5 * L**2 * m * square)
    return Budget(width, rate, n**7 * L**2 * square / (b * delta**2) * log)


def _with_log(factor: float) -> float:
    """The width from which on m >= factor log^5 m, and m / log^5 m grows: at least e^5."""
    m = max(factor, 1.0) * 5**5
    # from above, where the map contracts, since m / log^5 m grows there
    for _ in range(200):
        m = max(factor * math.log(m) ** 5, math.e**5)
    return m


def certificate(e: Evidence) -> Certificate | None:
    """Theorem 1 for full-batch gradient descent, Theorem 2 for SGD; None for other optimizers and other networks."""
    if e.optimizer not in ("gd", "sgd") or e.family == "other":
        return None
    if e.descends:
        b = None
    else:
        b = e.batch_size
    L, sep = max(e.depth, 1), delta(e)
    asked = budget(e.n, L, sep, e.n_outputs, e.accuracy, e.width, b, e.pixels)
    # `unit` brings squared gradients to the paper's units, and a rate times a squared gradient has none
    their_lr = e.lr / e.unit
    if b is None:
        method: tuple[Condition, ...] = (full_descent(e), plain_updates(e))
    else:
        method = (Condition("batches drawn independently, plain steps", True, e.independent_batches),)
    # so wide a network has exp(-log^2 m), the probability of a bad initialization, below 1e-10
    premises = (
        *network(e),
        separated(e),
        bounded_labels(e),
        squared_loss(e),
        *method,
        Condition("width m", asked.width, float(e.width), ">=", "n^24 L^12 d log^5(m) / delta^8, constant 1"),
        Condition("learning rate", asked.lr, their_lr, "<=", "in the paper's parametrization, constant 1"),
    )
    steps, losses = e.losses
    fell = "there is no loss to look at"
    if losses and losses[0] > 0:
        fell = f"the loss fell to {losses[-1] / losses[0]:.2g} of its start in {steps[-1]} steps"
    if b is None:
        name, number = "gradient descent", 1
    else:
        name, number = f"SGD with batches of {b}", 2
    return Certificate(
        f"Allen-Zhu, Li, Song 2019: {name}, {e.family} network (Theorem {number})",
        REFERENCE,
        premises,
        _conclusion(e, asked, sep, their_lr, b),
        f"hidden in O, Omega, Theta and poly, taken to be 1; with probability {1 - FAILURE:g} over the initialization",
        f"It {_asks(asked)}; here, at width {e.width}, {fell}.",
        TRAINING,
    )


def _asks(asked: Budget) -> str:
    if math.isinf(asked.width):
        return "says nothing of two inputs in one direction"
    return f"asks for width {asked.width:.0e} and grants {asked.steps:.0e} steps"


def _conclusion(e: Evidence, asked: Budget, sep: float, lr: float, b: int | None) -> tuple[Condition, ...]:
    """Steps to the accuracy; of gradient descent also contraction and distance."""
    # T is that of the theorem's rate; it goes like 1 / rate
    if lr > 0:
        slower = max(asked.lr / lr, 1.0)
    else:
        slower = math.inf
    granted, steps = asked.steps * slower, e.losses[0]
    if e.accuracy_steps is not None:
        reached = True
    else:
        reached = None
    if reached is None and steps and steps[-1] >= granted:
        reached = False
    started = ""
    if e.accuracy >= 1:
        started = "it is there before the first step"
    empty = started
    if granted > MOST_STEPS:
        empty = f"no run has {MOST_STEPS:.0e} steps"
    goal = (
        Condition(f"the loss falls to {e.accuracy:g} of the first", True, reached, vacuous=started),
        Condition("steps until then", granted, _float(e.accuracy_steps), "<=",
                  "the theorem's T at this accuracy and rate, constant 1",
                  empty),
    )  # fmt: skip
    if b is not None:
        return goal
    unit = lr * sep * e.width / (e.n_outputs * e.n**2)
    share = e.contraction()
    contraction = Condition(
        "c in F_t <= (1 - c lr delta m / (d n^2))^t F_0, the largest that all measured steps allow", 0.0,
        None if share is None or not unit > 0 else share / unit, ">", "the paper leaves c open: that it is positive",
    )  # fmt: skip
    if sep > 0:
        far = e.n**3 * math.sqrt(e.n_outputs) * math.log(max(e.width, 2)) / (sep * math.sqrt(e.width))
    else:
        far = math.inf
    total = e.total("distance")
    distance = Condition(
        "||W_t - W_0||_F, all layers together", far, None if total is None else total * e.stretch, "<=",
        "n^3 sqrt(d) log(m) / (delta sqrt(m)), constant 1", "" if math.isfinite(far) else "the bound is infinite",
    )  # fmt: skip
    return *goal, contraction, distance


def _float(number: int | None) -> float | None:
    if number is None:
        return None
    return float(number)
