r"""Arora, Du, Hu, Li, Salakhutdinov, Wang 2019, "On Exact Computation with an Infinitely Wide Neural Net", Theorem 3.2.

For a fully connected ReLU network with weights from N(0, 1) and factors $\sqrt{2/m}$, its output multiplied by kappa,
$1/\kappa = poly(1/\epsilon, \log(n/\delta))$, inputs of norm one, and width at least
$poly(1/\kappa, L, 1/\lambda_0, n, \log(1/\delta))$, trained by gradient flow to the end on the squared loss: at any
test point $|f_{nn}(x) - f_{ntk}(x)| \le \epsilon$ with $f_{ntk}(x) = \Theta(x, X) \Theta(X, X)^{-1} y$. The paper
leaves the polynomials open, so that its width is not known and nothing is ever implied; the difference is measured.
"""

from __future__ import annotations

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.premises import positive_gram, squared_loss, unit_norm
from gramian.conditions import Certificate, Condition

TOLERANCE = 0.2


def certificate(e: Evidence) -> Certificate | None:
    """Trained network against kernel predictor on test rows; None where there are none, or no limit kernel."""
    if e.predictor_gap is None or e.lambda_min is None:
        return None
    factors = e.gaussian is True and not e.biases and "law he" in e.initialization
    premises = (
        Condition("fully connected ReLU network", True, e.form == "chain" and set(e.activations) == {"ReLU"}),
        Condition("weights from N(0, 1), factors sqrt(2 / m), no biases", True, factors, note=e.initialization),
        unit_norm(e),
        Condition("all layers are trained", True, e.trained == "all"),
        positive_gram("lambda_min of the limit NTK", e.lambda_min, e.n, e.lambda_max),
        squared_loss(e),
        Condition("gradient flow: the learning rate", 0.0, e.lr, "<="),
        Condition("outputs are multiplied by a small kappa", True, False,
                  note="kappa = 1 here: the initial output stays in the trained network"),
        Condition("width", "a polynomial that the paper leaves open", None),
    )  # fmt: skip
    conclusion = (
        Condition("test outputs against the kernel predictor's", TOLERANCE, e.predictor_gap, "<=",
                  f"root mean square difference, relative; {TOLERANCE:.0%} is our choice, the paper's epsilon is open"),
    )  # fmt: skip
    return Certificate(
        "Arora et al. 2019: the trained network is the kernel predictor (Theorem 3.2)",
        "arXiv:1904.11955",
        premises,
        conclusion,
        "",
        f"On test rows the trained network differs from the kernel predictor by {e.predictor_gap:.1%} of its size.",
    )
