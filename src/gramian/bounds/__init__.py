"""What follows from numbers: bounds of the population error, and theorems with no constant left open."""

from gramian.bounds.arora2019ball import arora2019
from gramian.bounds.certificate import NOT_PROVED, PROVED, NumericCertificate
from gramian.bounds.du2019relu import du2019
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.pac_bayes import noisy_error, pac_bayes
from gramian.bounds.rademacher import rademacher
from gramian.bounds.song2021pl import song2021

__all__ = [
    "NOT_PROVED",
    "PROVED",
    "GeneralizationBound",
    "NumericCertificate",
    "arora2019",
    "du2019",
    "noisy_error",
    "pac_bayes",
    "rademacher",
    "song2021",
]
