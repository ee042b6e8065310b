r"""Allen-Zhu, Li, Song 2019, Theorem 5: within spectral distance omega the network equals its linearization.

The kernel at distance omega differs from that at initialization by
$\tilde O(\sqrt{\log m}\, \omega^{1/3} L^3)$ relative, for $\omega \le O(1 / (L^{4.5} \log^3 m))$.
"""

from __future__ import annotations

import math

from gramian.certify.conditions import Certificate, Condition
from gramian.certify.evidence import Evidence


def certificate(e: Evidence) -> Certificate | None:
    """Equivalence with the NTK at finite width, along the run."""
    moved, drift = e.extreme("spectral_distance"), e.extreme("kernel_drift")
    if moved is None or drift is None or e.family == "other":
        return None
    omega, L, log = moved * e.stretch, max(e.depth, 1), math.log(max(e.width, 3))
    premises = (
        Condition("activations are ReLU", True, set(e.activations) == {"ReLU"}),
        Condition("initialized as in the paper, only the hidden layers trained", True, e.paper_initialization,
                  note=e.initialization),
        Condition("spectral distance omega from initialization", 1 / (L**4.5 * log**3), omega, "<=",
                  "1 / (L^4.5 log^3 m), constant 1"),
    )  # fmt: skip
    conclusion = (
        Condition("largest drift of the NTK, ||K_t - K_0|| / ||K_0||", math.sqrt(log) * omega ** (1 / 3) * L**3, drift,
                  "<=", "sqrt(log m) omega^(1/3) L^3, constant 1"),
    )  # fmt: skip
    return Certificate(
        "Allen-Zhu, Li, Song 2019: equivalence with the NTK at finite width",
        "arXiv:1811.03962",
        premises,
        conclusion,
        "every hidden constant is taken to be 1",
        f"The kernel moved by at most {drift:.1%} while the weights moved by {omega:.3g} in spectral norm.",
    )
