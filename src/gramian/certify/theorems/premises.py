"""Premises that several theorems share, and how each one is measured."""

from __future__ import annotations

import math
import sys

from gramian.certify.evidence import Evidence
from gramian.conditions import Condition

FAILURE = 0.01  # probability over the random initialization with which a theorem may fail: 99 of 100 draws
NORM_TOLERANCE = 1e-5  # float32 rows scaled to norm one are off by some 1e-7, a row in another unit by far more
UPDATE_TOLERANCE = 0.01  # of a step's length; rounding adds it in random directions, which hardly move the outputs
KERNEL_TOLERANCE = 1e-11  # relative accuracy of the limit kernels, so of their smallest eigenvalue over the largest
SCALING_TOLERANCE = 1e-4  # of a layer's factor: one given with four digits is meant


def unit_norm(e: Evidence) -> Condition:
    """Inputs of norm one, as the network takes them."""
    return Condition("inputs have norm one", NORM_TOLERANCE, e.norm_error, "<=", "largest relative deviation")


def bounded_labels(e: Evidence) -> Condition:
    """|y_i| = O(1)."""
    return Condition("labels are O(1): largest |y_i|", 1.0, e.label_norm, "<=", "constant 1")


def squared_loss(e: Evidence) -> Condition:
    """The squared loss, summed over the samples."""
    return Condition("squared loss, summed over the samples", True, e.loss == "squared")


def full_descent(e: Evidence) -> Condition:
    """Gradient descent on all samples, by the optimizer's name."""
    note = "no minibatches, momentum, weight decay or preconditioning"
    return Condition("plain gradient descent on all samples", True, e.descends, note=note)


def plain_updates(e: Evidence) -> Condition:
    """Gradient descent as it was carried out: in low precision a small step is lost in the rounding of the weights."""
    return Condition(
        "each step against -lr grad F: largest relative distance", UPDATE_TOLERANCE, e.extreme("update_error"), "<=",
        "at the measured steps; rounding, mostly",
    )  # fmt: skip


def is_relu(e: Evidence) -> Condition:
    """ReLU and no other activation."""
    if set(e.activations) == {"ReLU"}:
        note = ""
    else:
        note = ", ".join(e.activations) or "none"
    return Condition("activations are ReLU", True, set(e.activations) == {"ReLU"}, note=note)


def positive_gram(says: str, lam: float | None, n: int, largest: float | None) -> Condition:
    """A smallest eigenvalue that is positive beyond the rounding of its matrix."""
    floor = max(n * sys.float_info.epsilon, KERNEL_TOLERANCE) * (largest or 0.0)
    return Condition(says, floor, lam, ">", "above what rounding makes of zero")


def no_decrease(positive: Condition) -> str:
    """Why a bound like (1 - lr lambda)^t says nothing where that lambda is no positive number; "" where it is."""
    if positive.holds:
        return ""
    return "without a positive eigenvalue the bound never falls below the first loss"


def width_words(asked: float) -> str:
    """The width that a theorem asks for, in a sentence."""
    if math.isfinite(asked):
        return f"the theorem's width would be {asked:.0e}"
    return "no width is enough for the theorem"


__all__ = [
    "FAILURE",
    "bounded_labels",
    "full_descent",
    "is_relu",
    "no_decrease",
    "plain_updates",
    "positive_gram",
    "squared_loss",
    "unit_norm",
    "width_words",
]
