r"""Allen-Zhu, Li, Song 2019, Theorem 3: no critical point nearby, because the gradient is as large as the loss.

For all W within spectral distance omega of the initialization:
$\Omega(\delta m / (d n^2)) F \le \|\nabla F\|_F^2 \le O(L n m / d) F$ (the last layer gives the lower bound, the sum
over L layers the upper one), with $\omega = \delta^{3/2} / (n^{9/2} L^6 \log^3 m)$.
"""

from __future__ import annotations

import math

from gramian.certify.conditions import Certificate, Condition
from gramian.certify.evidence import Evidence


def certificate(e: Evidence) -> Certificate | None:
    """The gradient bounds along the run; None where the loss is not squared or no gradient was measured."""
    low, high = e.extreme("gradient_over_loss", min), e.extreme("gradient_over_loss", max)
    if e.loss != "squared" or low is None or high is None or e.family == "other":
        return None
    log3 = math.log(max(e.width, 3)) ** 3
    radius = e.separation**1.5 / (e.n**4.5 * max(e.depth, 1) ** 6 * log3)
    moved = e.extreme("spectral_distance")
    scale = e.width / e.n_outputs
    premises = (
        Condition("inputs have norm one", 1e-6, e.norm_error, "<=", "largest relative deviation"),
        Condition("activations are ReLU", True, set(e.activations) == {"ReLU"}),
        Condition("initialized as in the paper, only the hidden layers trained", True, e.paper_initialization,
                  note=e.initialization),
        Condition("spectral distance from initialization", radius, None if moved is None else moved * e.stretch, "<=",
                  "omega = delta^(3/2) / (n^(9/2) L^6 log^3 m), constant 1"),
    )  # fmt: skip
    conclusion = (
        Condition("smallest ||grad F||^2 / F", e.separation * scale / e.n**2, low * e.unit, ">=",
                  "delta m / (d n^2), constant 1; in the paper's units"),
        Condition("largest ||grad F||^2 / F", max(e.depth, 1) * e.n * scale * e.pixels * e.window, high * e.unit, "<=",
                  "L n m / d (times p q for convolutions), constant 1; in the paper's units"),
    )  # fmt: skip
    return Certificate(
        "Allen-Zhu, Li, Song 2019: gradient bounds (no critical point on the way)",
        "arXiv:1811.03962",
        premises,
        conclusion,
        "every hidden constant is taken to be 1",
        f"||grad F||^2 stayed between {low:.3g} F and {high:.3g} F at every measured step: no critical point.",
    )
