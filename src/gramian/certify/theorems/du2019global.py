r"""Du, Lee, Li, Wang, Zhai 2019, "Gradient Descent Finds Global Minima of Deep Neural Networks": three families.

Theorems 5.1, 6.1 and 7.1.

With $\lambda = \lambda_{min}(K^{(H)})$ of the limit Gram matrix of the last hidden layer: from a width on, gradient
descent with a small step has $L_k \le (1 - \eta\lambda/2)^k L_0$. Widths, with constants 1: fully connected
$2^H \max(n^4/\lambda^4, n/\delta', n^2 \log(Hn/\delta')/\lambda^2)$ and $\eta = \lambda / (n^2 2^H)$; residual
$\max(n^4/(\lambda^4 H^6), n^2/(\lambda^2 H^2), n/\delta', n^2 \log(Hn/\delta')/\lambda^2)$ and
$\eta = \lambda H^2/n^2$;
convolutional residual $\max(n^4/(\lambda^4 H^6), n^4/(\lambda^4 H^2), n/\delta', n^2 \log(Hn/\delta')/\lambda^2)\, p$.
"""

from __future__ import annotations

import math

from gramian.certify.conditions import TRAINING, Certificate, Condition
from gramian.certify.evidence import Evidence

FAILURE = 0.1  # delta', the failure probability


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


def certificate(e: Evidence) -> Certificate | None:
    """The theorem of the network's family; None for momentum methods and for plain convolutional networks."""
    if e.optimizer not in ("gd", "sgd") or e.lambda_last is None or e.depth < 1:
        return None
    if e.family not in ("fully connected", "residual"):
        return None
    H, lam = e.depth, e.lambda_last
    asked = width(e.n, H, lam, e.family, e.pixels)
    residual = e.family == "residual"
    lr = lam * H**2 / e.n**2 if residual else lam / (e.n**2 * 2**H)
    which = ("7.1" if e.pixels > 1 else "6.1") if residual else "5.1"
    premises = (
        Condition("inputs have norm one", 1e-6, e.norm_error, "<=", "largest relative deviation"),
        Condition("no two inputs are parallel: lambda_min of the last layer's limit Gram matrix", 0.0, lam, ">"),
        Condition("activations are smooth", True, e.smooth, note=", ".join(e.activations)),
        Condition("all layers are trained", True, e.trained == "all"),
        Condition("full-batch gradient descent on the squared loss", True, e.optimizer == "gd" and e.loss == "squared"),
        Condition("width m", asked, float(e.width), ">=", "constant 1, failure probability 0.1"),
        Condition("learning rate", max(lr, 0.0), e.lr, "<=", "constant 1"),
    )
    conclusion = (
        Condition("loss over its bound (1 - eta lambda / 2)^t", 1 + 1e-9, e.contracts(min(1.0, e.lr * lam / 2)), "<=",
                  "worst measured step"),
    )  # fmt: skip
    return Certificate(
        f"Du, Lee, Li, Wang, Zhai 2019: {e.family} network (Theorem {which})",
        "arXiv:1811.03804",
        premises,
        conclusion,
        "constants hidden in O and Omega are taken to be 1, also that in 2^O(H)",
        f"lambda_min of the last layer's Gram matrix is {lam:.3g}; the theorem's width would be {asked:.0e}.",
        TRAINING,
    )
