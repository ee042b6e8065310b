"""One theorem a file. Each has `certificate(evidence)`, which returns None where it does not apply."""

from collections.abc import Callable

from gramian.certify.evidence import Evidence
from gramian.certify.theorems import (
    allenzhu2019convergence,
    allenzhu2019equivalence,
    allenzhu2019gradient,
    arora2019exact,
    du2019flow,
    du2019global,
    du2019stability,
    du2019twolayer,
    jacot2018limit,
)
from gramian.conditions import Certificate

THEOREMS: dict[str, Callable[[Evidence], Certificate | None]] = {
    module.__name__.rsplit(".", 1)[-1]: module.certificate
    for module in (
        allenzhu2019convergence,
        allenzhu2019gradient,
        allenzhu2019equivalence,
        du2019global,
        du2019twolayer,
        du2019stability,
        du2019flow,
        jacot2018limit,
        arora2019exact,
    )
}


def certificates(evidence: Evidence) -> tuple[Certificate, ...]:
    """Every theorem that applies, checked."""
    checked = (certificate(evidence) for certificate in THEOREMS.values())
    return tuple(c for c in checked if c is not None)
