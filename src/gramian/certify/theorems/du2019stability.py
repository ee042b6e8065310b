r"""The argument of Du, Zhai, Poczos, Singh 2019 for gradient descent, each step with its second-order term.

With u the outputs on all samples, r = u - y, and H_k the network's own Gram matrix over all samples and outputs, a step
is $r_{k+1} = (I - \eta H_k) r_k + e_k$, where the remainder $e_k$ is what linearization leaves. Statement: if at every
step $\eta (\lambda_{min}(H_k) + \lambda_{max}(H_k)) \le 2$ and
$\|e_k\| \le \tfrac12 \eta \lambda_{min}(H_k) \|r_k\|$, then
$\|r_{k+1}\| \le (1 - \tfrac12 \eta \lambda_{min}(H_k)) \|r_k\|$; and if moreover $\lambda_{min}(H_k) \ge \lambda_0 / 2$
at every step, $F_k \le (1 - \tfrac14 \eta \lambda_0)^{2k} F_0$.

Proof: then no eigenvalue of $I - \eta H_k$ is larger than $1 - \eta \lambda_{min}(H_k)$ in absolute value; the rest is
the triangle inequality.

It needs no width and has no open constant: its premises are measured on the run, after every step, on all samples and
outputs, so it speaks of the steps that were taken and of no others. That $\lambda_{min}(H_k) \ge \lambda_0/2$ and a
small rate suffice without a bound on e_k, as this file said once, is true of the flow only (`du2019flow`). Du et al.
bound e_k through the width (their Theorem 4.1, `du2019twolayer`); $(1 - \tfrac14\eta\lambda_0)^2$ is their
$1 - \tfrac12\eta\lambda_0$ up to second order.
"""

from __future__ import annotations

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import full_descent, no_decrease, positive_gram, squared_loss
from gramian.conditions import TRAINING, Certificate, Condition

ROUNDING = 1e-9  # of the float64 arithmetic in which the recursion is measured
RESOLVED = 1e-12  # share of the eigenvalue at first below which one is rounding


def certificate(e: Evidence) -> Certificate | None:
    """Contraction in each step; None for other methods than descent, and where nothing is known of the Gram matrix."""
    smallest, largest = (e.series("step_remainder", f"{which} eigenvalue") for which in ("smallest", "largest"))
    if e.optimizer not in ("gd", "sgd") or (e.lambda_min is None and not smallest):
        return None
    if e.lambda_min is not None:
        initial, top = (e.lambda_min, e.lambda_max)
        whose = "the limit's"
    else:
        initial, top = (smallest[0], largest[0])
        whose = "the initial"
    assert initial is not None
    positive = positive_gram(f"lambda_0, the smallest eigenvalue of {whose} Gram matrix", initial, e.n, top)
    empty = no_decrease(positive)
    measured = len(smallest) / max(e.steps_taken, 1)
    remainder, ratio = _worst(e, smallest)
    premises = (
        full_descent(e),
        squared_loss(e),
        positive,
        Condition("share of the steps that were measured, on all samples and outputs", 1.0, measured, ">="),
        Condition("smallest eigenvalue of the network's Gram matrix at any step", initial / 2,
                  min(smallest, default=None), ">=", f"half of lambda_0, {whose}"),
        Condition("learning rate times the sum of the smallest and the largest eigenvalue at any step", 2.0, _speed(e),
                  "<=", "beyond it a step overshoots along the largest by more than it gains along the smallest"),
        Condition("what linearization leaves of a step, over half of lr lambda_min ||r||", 1.0, remainder, "<=",
                  "the worst step"),
    )  # fmt: skip
    # the loss is half of ||r||^2, so it falls by the square of the factor of ||r||; the factor is kept within 0 and 1
    rate = (1 - min(max(e.lr * initial / 4, 0.0), 1.0)) ** 2
    conclusion = (
        Condition("||r|| after a step over its bound (1 - lr lambda_min / 2) ||r|| before", 1 + ROUNDING, ratio, "<=",
                  "the worst step", empty),
        Condition("loss over its bound (1 - lr lambda_0 / 4)^(2t)", 1 + ROUNDING, _whole_run(e, rate), "<=",
                  "the worst step", empty),
    )  # fmt: skip
    return Certificate(
        "Du, Zhai, Poczos, Singh 2019, the argument for descent: each step taken contracts",
        "arXiv:1810.02054",
        premises,
        conclusion,
        "",
        _summary(e, smallest, initial, whose, remainder),
        TRAINING,
    )


def _summary(e: Evidence, smallest: list[float], initial: float, whose: str, remainder: float | None) -> str:
    """One sentence or two on what was measured."""
    if not smallest:
        return "The Gram matrix was not measured after every step, so nothing is said of the steps in between."
    lowest, stayed = min(smallest), "came to zero"
    if lowest > initial * RESOLVED:
        stayed = f"stayed at {lowest:.3g} or above"
    left = "left far more than it may."
    if (remainder or 0.0) < 1e6:
        left = f"left at most {remainder or 0.0:.2g} of what it may."
    summary = (
        f"The smallest eigenvalue of the Gram matrix {stayed} ({whose} is {initial:.3g}), and linearization {left}"
    )
    if e.accuracy_steps is None:
        summary += " Nothing is said of steps that were not taken."
    return summary


def _speed(e: Evidence) -> float | None:
    low, high = (e.series("step_remainder", f"{which} eigenvalue") for which in ("smallest", "largest"))
    return max((e.lr * (a + b) for a, b in zip(low, high, strict=True)), default=None)


def _worst(e: Evidence, smallest: list[float]) -> tuple[float | None, float | None]:
    """The largest remainder over what it may be, and the largest residual over its bound."""
    before, after, left = (e.series("step_remainder", name) for name in ("residual", "next residual", "remainder"))
    remainders, ratios = [], []
    for lam, r, following, remainder in zip(smallest, before, after, left, strict=True):
        # ||r_{k+1}|| <= (1 - lr lam) ||r_k|| + ||e_k||: a remainder of half the gain leaves the other half
        allowed, bound = e.lr * lam * r / 2, (1 - e.lr * lam / 2) * r
        remainders.append(_over(remainder, allowed))
        ratios.append(_over(following, bound))
    return max(remainders, default=None), max(ratios, default=None)


def _whole_run(e: Evidence, rate: float) -> float | None:
    before, after = e.series("step_remainder", "residual"), e.series("step_remainder", "next residual")
    if not after:
        return None
    return max(_over(r**2, rate ** (k + 1) * before[0] ** 2) for k, r in enumerate(after))


def _over(number: float, bound: float) -> float:
    if bound > 0:
        return number / bound
    if number == 0:
        return 0.0
    return float("inf")
