r"""Du, Zhai, Poczos, Singh 2019, "Gradient Descent Provably Optimizes Over-parameterized Neural Networks", Theorem 4.1.

$f(x) = \frac{1}{\sqrt m} \sum_r a_r \sigma(w_r^\top x)$ with ReLU, $w_r \sim N(0, I)$ trained and $a_r = \pm 1$ fixed;
$\|x_i\| = 1$, no two parallel, so that $\lambda_0 = \lambda_{min}(H^\infty) > 0$ with
$H^\infty_{ij} = x_i^\top x_j (\pi - \arccos x_i^\top x_j) / 2\pi$; $|y_i| \le C$. For
$m = \Omega(n^6 / (\lambda_0^4 \delta^3))$ and $\eta = O(\lambda_0 / n^2)$, with probability $1 - \delta$ at every step
$\|u_k - y\|^2 \le (1 - \eta \lambda_0 / 2)^k \|u_0 - y\|^2$.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import (
    FAILURE,
    bounded_labels,
    full_descent,
    is_relu,
    no_decrease,
    plain_updates,
    positive_gram,
    squared_loss,
    unit_norm,
    width_words,
)
from gramian.conditions import TRAINING, Certificate, Condition


def width(n: int, lam: float) -> float:
    """The width of Theorem 4.1 at the failure probability `FAILURE`, constant 1.

    Example:
        >>> width(n=10, lam=1.0) == 10**6 / 0.01**3
        True
    """
    if lam > 0:
        return n**6 / (lam**4 * FAILURE**3)
    return math.inf


def certificate(e: Evidence) -> Certificate | None:
    """Theorem 4.1 for chains with one hidden layer; None for other networks and for momentum methods."""
    lam = e.lambda_two_layer
    if e.optimizer not in ("gd", "sgd") or e.depth != 1 or lam is None:
        return None
    asked, lr = width(e.n, lam), max(lam, 0.0) / e.n**2
    # H^infinity has 1/2 on its diagonal, so its trace n/2 bounds the largest eigenvalue
    positive = positive_gram("no two inputs are parallel: lambda_0 of the limit Gram matrix", lam, e.n, e.n / 2)
    premises = (
        unit_norm(e),
        positive,
        bounded_labels(e),
        is_relu(e),
        Condition(
            "one hidden layer, readout of a single output, nothing else", True, e.form == "chain" and e.depth == 1
        ),
        Condition("number of outputs", 1.0, float(e.n_outputs), "<="),
        Condition("no biases", True, not e.biases),
        Condition("readout a_r / sqrt(m) with a_r = 1 or -1", True, e.sign_readout),
        Condition("first layer trained, readout fixed", True, e.trained == "first"),
        Condition("first layer's weights drawn from N(0, I)", True, e.gaussian, note=e.initialization),
        full_descent(e),
        squared_loss(e),
        plain_updates(e),
        Condition("width m", asked, float(e.width), ">=", f"n^6 / (lambda_0^4 delta^3), constant 1, delta {FAILURE:g}"),
        Condition("learning rate", lr, e.lr, "<=", "lambda_0 / n^2, constant 1"),
    )
    rate = min(1.0, e.lr * max(lam, 0.0) / 2)
    conclusion = (
        Condition(
            "loss over its bound (1 - lr lambda_0 / 2)^t",
            1 + 1e-9,
            e.contracts(rate),
            "<=",
            "worst measured step",
            no_decrease(positive),
        ),
    )
    return Certificate(
        "Du, Zhai, Poczos, Singh 2019: gradient descent on a two-layer ReLU network (Theorem 4.1)",
        "arXiv:1810.02054",
        premises,
        conclusion,
        f"hidden in O and Omega, taken to be 1; with probability {1 - FAILURE:g} over the initialization",
        f"lambda_0 of the data is {lam:.3g}; {width_words(asked)}.",
        TRAINING,
    )
