r"""Allen-Zhu, Li, Song 2019, Theorem 3: no critical point nearby, because the gradient is as large as the loss.

Setting: `allenzhu2019setting`, with $\|y_i\| = O(1)$. With probability $1 - e^{-\Omega(m / poly(n, L, 1/\delta))}$, for
all W within spectral distance $\omega = O(\delta^{3/2} / (n^{9/2} L^6 \log^3 m))$ of the initialization:
$\|\nabla_{W_L} F\|_F^2 \ge \Omega(\delta m / (d n^2)) F$, and $\|\nabla_{W_l} F\|_F^2 \le O(n m / d) F$ for each layer.
The exponent of the probability is taken to be $m \omega^{2/3} L$, as in Theorems 4 and 5, which is of this form.

The lower bound is what there is to see, and it says "positive", as its constant is open. The upper one has an open
constant too, so no number violates it.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.allenzhu2019setting import REFERENCE, delta, failure, moved, network, separated
from gramian.certify.theorems.premises import FAILURE, bounded_labels, squared_loss
from gramian.conditions import Certificate, Condition


def radius(n: int, L: int, delta: float, m: float) -> float:
    """Theorem 3's own radius, constant 1; those of Theorem 4 and Theorem 5 (c) differ.

    Example:
        >>> f"{radius(n=10, L=2, delta=0.5, m=512):.1e}"
        '7.2e-10'
    """
    return max(delta, 0.0) ** 1.5 / (n**4.5 * L**6 * math.log(max(m, 3)) ** 3)


def certificate(e: Evidence) -> Certificate | None:
    """The gradient bounds along the run; None where no gradient was measured."""
    low, high = e.extreme("gradient_over_loss", min), e.extreme("gradient_over_loss", max)
    if low is None or high is None or e.family == "other":
        return None
    L, sep = max(e.depth, 1), delta(e)
    omega = radius(e.n, L, sep, e.width)
    premises = (
        *network(e),
        separated(e),
        bounded_labels(e),
        squared_loss(e),
        Condition("spectral distance from initialization, in the paper's units", omega, moved(e), "<=",
                  "Theorem 3's radius delta^(3/2) / (n^(9/2) L^6 log^3 m), constant 1"),
        Condition("probability that the initialization is a bad one, which falls with the width", FAILURE,
                  failure(e.width, omega, L), "<=", "exp(-m omega^(2/3) L), constant 1"),
    )  # fmt: skip
    scale = e.width / e.n_outputs * e.pixels * e.window
    floor, ceiling = sep * e.width / (e.n_outputs * e.n**2), L * e.n * scale
    conclusion = (
        Condition("smallest ||grad F||^2 / F over delta m / (d n^2)", 0.0, _over(low * e.unit, floor), ">",
                  "the paper leaves the constant open: that it is positive"),
        Condition("largest ||grad F||^2 / F over L n m / d", math.inf, _over(high * e.unit, ceiling), "<=",
                  "times p q for convolutions; in the paper's units", "its constant is open: any number obeys it"),
    )  # fmt: skip
    return Certificate(
        "Allen-Zhu, Li, Song 2019: gradient bounds, no critical point nearby (Theorem 3)",
        REFERENCE,
        premises,
        conclusion,
        f"hidden in O, Omega and poly, taken to be 1; with probability {1 - FAILURE:g} over the initialization",
        f"||grad F||^2 was between {low:.3g} F and {high:.3g} F wherever it was measured.",
    )


def _over(number: float, floor: float) -> float:
    if floor > 0:
        return number / floor
    return number
