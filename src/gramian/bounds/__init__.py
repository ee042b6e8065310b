"""What follows from numbers: bounds of the population error, and theorems with no constant left open."""

from gramian.bounds.arora2019ball import arora2019
from gramian.bounds.bias_kernel import bias_ntk
from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.coupled_start import StartCost, ntk_margin, start_cost
from gramian.bounds.du2019relu import du2019
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.label_complexity import complexity_measure, h_infinity, label_projections
from gramian.bounds.lambda_min import LambdaMinBounds, lambda_min_bounds
from gramian.bounds.memorization import MemorizationCapacity, memorization_capacity
from gramian.bounds.noisy_weights import noisy_error, pac_bayes
from gramian.bounds.relu_run import relu_descent
from gramian.bounds.song2021pl import song2021
from gramian.bounds.weight_ball import rademacher
from gramian.prove.proof import NOT_PROVED, PROVED

__all__ = [
    "NOT_PROVED",
    "PROVED",
    "GeneralizationBound",
    "LambdaMinBounds",
    "MemorizationCapacity",
    "NumericCertificate",
    "StartCost",
    "arora2019",
    "bias_ntk",
    "complexity_measure",
    "du2019",
    "h_infinity",
    "label_projections",
    "lambda_min_bounds",
    "memorization_capacity",
    "noisy_error",
    "ntk_margin",
    "pac_bayes",
    "rademacher",
    "relu_descent",
    "song2021",
    "start_cost",
]
