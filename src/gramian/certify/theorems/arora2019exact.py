r"""Arora, Du, Hu, Li, Salakhutdinov, Wang 2019, "On Exact Computation with an Infinitely Wide Neural Net", Theorem 3.2.

For a fully connected ReLU network with its output multiplied by kappa,
$1/\kappa = poly(1/\epsilon, \log(n/\delta))$, and width at least $poly(1/\kappa, L, 1/\lambda_0, n, \log(1/\delta))$:
the trained network and the kernel predictor differ by at most eps on every test point. The paper leaves the polynomials
open, so the width is not known; the difference is measured.
"""

from __future__ import annotations

from gramian.certify.conditions import Certificate, Condition
from gramian.certify.evidence import Evidence

TOLERANCE = 0.2


def certificate(e: Evidence) -> Certificate | None:
    """Trained network against kernel predictor on test rows; None where there are none, or no limit kernel."""
    if e.test_gap is None or e.lambda_min is None:
        return None
    premises = (
        Condition("fully connected ReLU network", True, _is_relu_mlp(e)),
        Condition("lambda_min of the limit NTK", 0.0, e.lambda_min, ">"),
        Condition("width", "a polynomial that the paper leaves open", None),
        Condition("outputs are multiplied by a small kappa", True, False,
                  note="kappa = 1 here: the initial output stays, and is part of the prediction"),
    )  # fmt: skip
    conclusion = (
        Condition("test outputs against the kernel prediction", TOLERANCE, e.test_gap, "<=",
                  "root mean square difference, relative"),
    )  # fmt: skip
    return Certificate(
        "Arora et al. 2019: the trained network is the kernel predictor",
        "arXiv:1904.11955",
        premises,
        conclusion,
        f"'close' is taken to be {TOLERANCE:.0%}",
        f"On test rows the trained network differs from the kernel prediction by {e.test_gap:.1%} of its size.",
    )


def _is_relu_mlp(e: Evidence) -> bool:
    return e.family == "fully connected" and set(e.activations) == {"ReLU"}
