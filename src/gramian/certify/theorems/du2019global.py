r"""Du, Lee, Li, Wang, Zhai 2019, "Gradient Descent Finds Global Minima of Deep Neural Networks": three families.

Theorems 5.1 (fully connected), 6.1 (residual) and 7.1 (convolutional residual). In all of them $\|x_i\| = 1$,
$|y_i| = O(1)$, the activation is analytic, not polynomial, Lipschitz and with a Lipschitz derivative, all weights are
drawn from N(0, 1) and trained, there are no biases and one output $f = a^\top x^{(H)}$. With
$c_\sigma = 1 / E_{z \sim N(0,1)}[\sigma(z)^2]$:

- 5.1: $x^{(h)} = \sqrt{c_\sigma/m}\, \sigma(W^{(h)} x^{(h-1)})$;
- 6.1: $x^{(1)}$ the same, $x^{(h)} = x^{(h-1)} + \frac{c_{res}}{H\sqrt m} \sigma(W^{(h)} x^{(h-1)})$ with
  $0 < c_{res} < 1$;
- 7.1: the same on patches of p pixels.

With $\lambda = \lambda_{min}(K^{(H)})$ of the limit Gram matrix of the last hidden layer: from a width on, gradient
descent with a small step has $L_k \le (1 - \eta\lambda/2)^k L_0$ with probability $1 - \delta'$. Widths, with
constants 1: fully connected $2^H \max(n^4/\lambda^4, n/\delta', n^2 \log(Hn/\delta')/\lambda^2)$ and
$\eta = \lambda / (n^2 2^H)$; residual
$\max(n^4/(\lambda^4 H^6), n^2/(\lambda^2 H^2), n/\delta', n^2 \log(Hn/\delta')/\lambda^2)$ and
$\eta = \lambda H^2/n^2$; convolutional residual
$\max(n^4/(\lambda^4 H^6), n^4/(\lambda^4 H^2), n/\delta', n^2 \log(Hn/\delta')/\lambda^2)$ times a polynomial in p, and
$\eta = \lambda H^2/n^2$ over one; both polynomials are taken to be p.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import (
    FAILURE,
    SCALING_TOLERANCE,
    bounded_labels,
    full_descent,
    no_decrease,
    plain_updates,
    positive_gram,
    squared_loss,
    unit_norm,
    width_words,
)
from gramian.conditions import TRAINING, Certificate, Condition

FORMS = {"5.1": "chain", "6.1": "residual", "7.1": "convolutional residual"}


def width(n: int, H: int, lam: float, family: str, p: int = 1) -> float:
    """The width that the theorem of this family asks for, constants 1.

    Example:
        >>> width(n=10, H=3, lam=1.0, family="fully connected") == 8 * 10**4
        True
    """
    if lam <= 0:
        return math.inf
    common = [n / FAILURE, n**2 * math.log(H * n / FAILURE) / lam**2]
    if family == "residual" and p == 1:
        return max(n**4 / (lam**4 * H**6), n**2 / (lam**2 * H**2), *common)
    if family == "residual":
        return p * max(n**4 / (lam**4 * H**6), n**4 / (lam**4 * H**2), *common)
    return 2**H * max(n**4 / lam**4, *common)


def largest_lr(n: int, H: int, lam: float, family: str, p: int = 1) -> float:
    """The learning rate up to which the theorem of this family holds, constants 1.

    Example:
        >>> largest_lr(n=10, H=3, lam=1.0, family="residual")
        0.09
    """
    if family == "residual":
        largest = lam * H**2 / (n**2 * p)
    else:
        largest = lam / (n**2 * 2**H)
    return max(largest, 0.0)


def _number(e: Evidence) -> str:
    """The theorem of the network's family."""
    if e.family != "residual":
        return "5.1"
    return "7.1" if e.pixels > 1 else "6.1"


def certificate(e: Evidence) -> Certificate | None:
    """The theorem of the network's family; None for momentum methods and for plain convolutional networks."""
    if e.optimizer not in ("gd", "sgd") or e.lambda_last is None or e.depth < 1:
        return None
    if e.family not in ("fully connected", "residual"):
        return None
    H, lam = e.depth, e.lambda_last
    asked = width(e.n, H, lam, e.family, e.pixels)
    positive = positive_gram(
        "no two inputs are parallel: lambda_min of the last layer's limit Gram matrix", lam, e.n, e.lambda_max
    )
    which = _number(e)
    premises = (
        unit_norm(e),
        bounded_labels(e),
        positive,
        Condition("activations are analytic, not polynomial, Lipschitz with a Lipschitz derivative", True, e.analytic,
                  note=", ".join(e.activations)),
        Condition(f"layers composed as in Theorem {which}", FORMS[which], e.form),
        Condition("each layer's factor against the paper's, largest relative deviation", SCALING_TOLERANCE,
                  e.scaling_error, "<="),
        Condition("no biases", True, not e.biases),
        Condition("number of outputs", 1.0, float(e.n_outputs), "<="),
        Condition("weights drawn from N(0, 1)", True, e.gaussian, note=e.initialization),
        Condition("all layers are trained", True, e.trained == "all"),
        full_descent(e),
        squared_loss(e),
        plain_updates(e),
        Condition("width m", asked, float(e.width), ">=", f"constant 1, failure probability {FAILURE:g}"),
        Condition("learning rate", largest_lr(e.n, H, lam, e.family, e.pixels), e.lr, "<=", "constant 1"),
    )  # fmt: skip
    rate = min(1.0, e.lr * max(lam, 0.0) / 2)
    conclusion = (
        Condition("loss over its bound (1 - lr lambda / 2)^t", 1 + 1e-9, e.contracts(rate), "<=",
                  "worst measured step", no_decrease(positive)),
    )  # fmt: skip
    open_constants = "hidden in O and Omega, that in 2^O(H) and the polynomials in p, all taken to be 1"
    return Certificate(
        f"Du, Lee, Li, Wang, Zhai 2019: {e.family} network (Theorem {which})",
        "arXiv:1811.03804",
        premises,
        conclusion,
        f"{open_constants}; with probability {1 - FAILURE:g} over the initialization",
        f"lambda_min of the last layer's Gram matrix is {lam:.3g}; {width_words(asked)}.",
        TRAINING,
    )
