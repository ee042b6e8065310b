"""What follows from numbers: bounds of the population error, and theorems with no constant left open."""

from gramian.bounds.arora2019ball import arora2019
from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.du2019relu import du2019
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.label_complexity import complexity_measure, h_infinity, label_projections
from gramian.bounds.noisy_weights import noisy_error, pac_bayes
from gramian.bounds.relu_run import relu_descent
from gramian.bounds.song2021pl import song2021
from gramian.bounds.weight_ball import rademacher
from gramian.prove.proof import NOT_PROVED, PROVED

__all__ = [
    "NOT_PROVED",
    "PROVED",
    "GeneralizationBound",
    "NumericCertificate",
    "arora2019",
    "complexity_measure",
    "du2019",
    "h_infinity",
    "label_projections",
    "noisy_error",
    "pac_bayes",
    "rademacher",
    "relu_descent",
    "song2021",
]
