r"""Jacot, Gabriel, Hongler 2018, "Neural Tangent Kernel": as the width goes to infinity the kernel is constant.

For fully connected networks in the NTK parametrization with a smooth Lipschitz activation (bounded second derivative),
trained by gradient flow in all layers: as the widths go to infinity, the kernel at initialization goes to a fixed one,
and so does the kernel at every later time of a bounded training. A statement about a limit: no rate, and no finite
width meets its premise. What it says of a wide network is measured: the kernel is near the limit's at initialization,
and stays. "Near" is our word, and so is its number.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.conditions import Certificate, Condition

TOLERANCE = 0.2


def certificate(e: Evidence) -> Certificate | None:
    """Constancy of the kernel, as measured; None where there is no limit kernel."""
    drift = e.extreme("kernel_drift")
    if e.gram_error is None or drift is None:
        return None
    premises = (
        Condition("fully connected network", True, e.form == "chain"),
        Condition("NTK parametrization", True, e.initialization.startswith("NTK"), note=e.initialization),
        Condition("activations are smooth and Lipschitz", True, e.analytic, note=", ".join(e.activations)),
        Condition("all layers are trained", True, e.trained == "all"),
        Condition("gradient flow: the learning rate", 0.0, e.lr, "<="),
        Condition("width", math.inf, float(e.width), ">=", "the theorem is about the limit"),
    )
    near = f"{TOLERANCE:.0%} is our choice, the theorem has no rate"
    conclusion = (
        Condition("distance of the kernel at initialization from its limit", TOLERANCE, e.gram_error, "<=", near),
        Condition("largest drift of the kernel during the run", TOLERANCE, drift, "<=", near),
    )
    predicted = ""
    if e.predicted_error is not None and e.predicted_error <= 1:
        predicted = f"; the loss predicted from the limit kernel alone was right within {e.predicted_error:.0%}"
    return Certificate(
        "Jacot et al. 2018: in the limit the kernel is constant",
        "arXiv:1806.07572",
        premises,
        conclusion,
        "",
        f"The kernel was off its limit by {e.gram_error:.1%} at first, and moved by at most {drift:.1%}{predicted}.",
    )
