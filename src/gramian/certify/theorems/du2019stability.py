r"""Du, Zhai, Poczos, Singh 2019, "Gradient Descent Provably Optimizes Over-parameterized Neural Networks".

Its argument: if the network's own Gram matrix keeps $\lambda_{min}(H(t)) \ge \lambda_0 / 2$ at all times, with
$\lambda_0$ that of the limit, gradient descent with a small step contracts the loss by $1 - \eta\lambda_0/2$ in each
step. This one needs no width: its premise is measured, on the run itself. It would be a proof if it were measured at
every step and on all outputs; at some steps, it is evidence.
"""

from __future__ import annotations

from gramian.certify.conditions import TRAINING, Certificate, Condition
from gramian.certify.evidence import Evidence


def certificate(e: Evidence) -> Certificate | None:
    """Stability of the Gram matrix along the run; None where it was not measured, or the loss is not squared."""
    series = e.trace.measured.get("gram_min")
    smallest, largest = e.extreme("gram_min", min), e.extreme("gram_max", max)
    if series is None or smallest is None or largest is None or e.loss != "squared" or e.lambda_min is None:
        return None
    if e.optimizer not in ("gd", "sgd"):
        return None
    full_batches = e.optimizer == "gd" or e.batch_size >= e.n
    steps = e.losses[0][-1] if e.losses[0] else 0
    measured = len(series.steps) / (steps + 1)
    premises = (
        Condition("full-batch gradient descent", True, full_batches, note="a minibatch may increase the loss"),
        Condition("lambda_min of the limit Gram matrix", 0.0, e.lambda_min, ">"),
        Condition("smallest eigenvalue of the network's Gram matrix during the run", e.lambda_min / 2, smallest, ">=",
                  f"half of the limit's; mean over outputs, {len(series.steps)} steps measured"),
        Condition("learning rate", 1 / largest, e.lr, "<=", "1 / lambda_max of the measured Gram matrices"),
        Condition("measured on all training samples", float(e.n), float(min(e.gram_rows, e.n)), ">="),
        Condition("number of outputs", 1.0, float(e.n_outputs), "<=", "of several, only the mean was measured"),
        Condition("share of the steps at which it was measured", 1.0, measured, ">="),
    )  # fmt: skip
    conclusion = (
        Condition("loss over its bound (1 - eta lambda_0 / 2)^t", 1 + 1e-9,
                  e.contracts(max(0.0, min(1.0, e.lr * e.lambda_min / 2))), "<=", "worst measured step"),
    )  # fmt: skip
    return Certificate(
        "Du, Zhai, Poczos, Singh 2019: the Gram matrix stays positive, so the loss falls at a linear rate",
        "arXiv:1810.02054",
        premises,
        conclusion,
        "",
        f"The smallest eigenvalue of the Gram matrix stayed at {smallest:.3g} or above (limit: {e.lambda_min:.3g}).",
        TRAINING,
    )
