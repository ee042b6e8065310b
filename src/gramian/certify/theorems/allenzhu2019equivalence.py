r"""Allen-Zhu, Li, Song 2019, Theorem 5 (c): within spectral distance omega the kernel is that at initialization.

Setting: `allenzhu2019setting`, no labels. For omega between $\Omega(d^{3/2} / (m^{3/2} L^{3/2} \log^{3/2} m))$ and
$O(1 / (L^9 \log^{3/2} m))$, with probability $1 - e^{-\Omega(m \omega^{2/3} L)}$, for all W within spectral
distance omega of the initialization, all inputs and each output j:
$|K_j(x, x') - K_j^{ntk}(x, x')| \le O(\sqrt{\log m}\, \omega^{1/3} L^3) \sqrt{K_j^{ntk}(x, x) K_j^{ntk}(x', x')}$.
The mean over outputs, which is measured, obeys the same bound. omega is ours to choose: the smallest is taken that
covers the distance moved, is in the range and makes the probability large. A bound of 1 and more says nothing: the
kernel zero obeys it.
"""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.theorems.allenzhu2019setting import REFERENCE, failure, moved, network
from gramian.certify.theorems.premises import FAILURE
from gramian.conditions import Certificate, Condition


def radii(d: int, L: int, m: float) -> tuple[float, float]:
    """Both ends of omega's range in Theorem 5 (c), constants 1; its upper end is not that of Theorem 4.

    Example:
        >>> low, high = radii(d=1, L=1, m=512)
        >>> f"{low:.1e} {high:.1e}"
        '5.5e-06 6.4e-02'
    """
    log = math.log(max(m, 3)) ** 1.5
    return d**1.5 / (m**1.5 * L**1.5 * log), 1 / (L**9 * log)


def certificate(e: Evidence) -> Certificate | None:
    """Equivalence with the NTK at finite width, along the run; None where the kernel's drift was not measured."""
    distance, drift = moved(e), e.extreme("kernel_entry_drift")
    if distance is None or drift is None or e.family == "other":
        return None
    L = max(e.depth, 1)
    low, high = radii(e.n_outputs, L, e.width)
    probable = (math.log(1 / FAILURE) * (1 + 1e-9) / (e.width * L)) ** 1.5  # where exp(-m omega^(2/3) L) is FAILURE
    # the bound grows with omega: the smallest one that covers the distance, in the range as far as it goes
    omega = min(max(distance, low, probable), high)
    bound = math.sqrt(math.log(max(e.width, 3))) * omega ** (1 / 3) * L**3
    premises = (
        *network(e),
        Condition("spectral distance from initialization, in the paper's units", high, distance, "<=",
                  "upper end of omega's range, 1 / (L^9 log^(3/2) m), constant 1"),
        Condition("lower end of omega's range", high, low, "<=",
                  "d^(3/2) / (m L log m)^(3/2), constant 1; below the upper end"),
        Condition("probability that the initialization is a bad one, which falls with the width", FAILURE,
                  failure(e.width, omega, L), "<=", f"exp(-m omega^(2/3) L), constant 1, at omega = {omega:.3g}"),
    )  # fmt: skip
    if bound >= 1:
        vacuous = "the kernel zero is no further away"
    else:
        vacuous = ""
    conclusion = (
        Condition("largest |K_t - K_0|(x, x') over sqrt(K_0(x, x) K_0(x', x'))", bound, drift, "<=",
                  "sqrt(log m) omega^(1/3) L^3, constant 1", vacuous),
    )  # fmt: skip
    return Certificate(
        "Allen-Zhu, Li, Song 2019: equivalence with the NTK at finite width (Theorem 5 c)",
        REFERENCE,
        premises,
        conclusion,
        f"hidden in O and Omega, taken to be 1; with probability {1 - FAILURE:g} over the initialization",
        f"No entry of the kernel moved by more than {drift:.1%} of the root of its two diagonal entries, while the "
        f"weights moved by {distance:.3g} in spectral norm.",
    )
