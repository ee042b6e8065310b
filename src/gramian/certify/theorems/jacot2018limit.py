r"""Jacot, Gabriel, Hongler 2018, "Neural Tangent Kernel": as the width goes to infinity the kernel is constant.

The theorem is about the limit: no finite width meets its premise. What is checked is what it says of a wide network:
the kernel at initialization is the limit's, and stays so during training; then the loss follows the curve predicted
from the limit kernel alone.
"""

from __future__ import annotations

import math

from gramian.certify.conditions import Certificate, Condition
from gramian.certify.evidence import Evidence

TOLERANCE = 0.2


def certificate(e: Evidence) -> Certificate | None:
    """Constancy of the kernel, as measured; None where there is no limit kernel."""
    drift = e.extreme("kernel_drift")
    if e.gram_error is None or drift is None:
        return None
    premises = (
        Condition("NTK parametrization", True, e.initialization.startswith("NTK")),
        Condition("width", math.inf, float(e.width), ">=", "a statement about the limit"),
    )
    conclusion = (
        Condition("kernel at initialization against its limit", TOLERANCE, e.gram_error, "<=", "relative, Frobenius"),
        Condition("largest drift of the kernel", TOLERANCE, drift, "<=", "relative, Frobenius"),
        Condition(
            "predicted loss against the measured one", TOLERANCE, e.predicted_error, "<=", "largest relative error"
        ),
    )
    return Certificate(
        "Jacot, Gabriel, Hongler 2018: the kernel is constant in the limit",
        "arXiv:1806.07572",
        premises,
        conclusion,
        f"'close' is taken to be {TOLERANCE:.0%}",
        f"The kernel was off its limit by {e.gram_error:.1%} at initialization, and moved by at most {drift:.1%}.",
    )
