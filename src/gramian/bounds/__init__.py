"""What follows from numbers: bounds of the population error, and theorems with no constant left open."""

from gramian.bounds.certificate import NOT_PROVED, PROVED, NumericCertificate
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.pac_bayes import pac_bayes
from gramian.bounds.rademacher import rademacher

__all__ = [
    "NOT_PROVED",
    "PROVED",
    "GeneralizationBound",
    "NumericCertificate",
    "pac_bayes",
    "rademacher",
]
