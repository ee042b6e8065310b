r"""Du, Zhai, Poczos, Singh 2019, "Gradient Descent Provably Optimizes Over-parameterized Neural Networks": the flow.

Along the gradient flow $\dot r = -H(t) r$ of the squared loss: while $\lambda_{min}(H(t)) \ge \lambda_0/2$,
$\tfrac{d}{dt} \|r\|^2 \le -\lambda_0 \|r\|^2$, so $F(t) \le e^{-\lambda_0 t} F(0)$. True of any network; but no run of
descent is a flow, so that this is never implied. For descent see `du2019stability`.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import no_decrease, positive_gram, squared_loss
from gramian.conditions import TRAINING, Certificate, Condition


def certificate(e: Evidence) -> Certificate | None:
    """Decay along the flow, at the measured steps; None without a limit or where no Gram matrix was measured."""
    smallest = e.series("step_remainder", "smallest eigenvalue")
    lowest = e.extreme("gram_min", min)
    if smallest:
        lowest = min(smallest)
    if e.lambda_min is None or lowest is None or e.optimizer not in ("gd", "sgd"):
        return None
    positive = positive_gram(
        "lambda_0, the smallest eigenvalue of the limit Gram matrix", e.lambda_min, e.n, e.lambda_max
    )
    everywhere = bool(smallest) or (e.n_outputs == 1 and e.gram_rows >= e.n)
    premises = (
        Condition("gradient flow: the learning rate", 0.0, e.lr, "<=", "descent takes steps; a flow is their limit"),
        squared_loss(e),
        positive,
        Condition("smallest eigenvalue of the network's Gram matrix during the run", e.lambda_min / 2, lowest, ">=",
                  "half of lambda_0, at the measured steps"),
        Condition("measured on all samples and outputs", True, everywhere),
    )  # fmt: skip
    conclusion = (
        Condition("loss over its bound exp(-lambda_0 t)", 1 + 1e-9, e.contracts(_share(e)), "<=",
                  "worst measured step; time t is learning rate times step", no_decrease(positive)),
    )  # fmt: skip
    return Certificate(
        "Du, Zhai, Poczos, Singh 2019: along the gradient flow the loss decays while the Gram matrix stays positive",
        "arXiv:1810.02054",
        premises,
        conclusion,
        "",
        f"The smallest eigenvalue was {lowest:.3g} or above where measured (limit: {e.lambda_min:.3g}).",
        TRAINING,
    )


def _share(e: Evidence) -> float:
    assert e.lambda_min is not None
    # e^{-lambda t} at t = lr k shrinks by 1 - e^{-lr lambda} a step; expm1 keeps the digits of a small lr lambda
    return -math.expm1(-max(e.lr * e.lambda_min, 0.0))
