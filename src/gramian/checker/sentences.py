"""The statements in words, from the numbers that were checked: a file's own words are not what is proved.

Numbers are shortened to the side on which the sentence stays true.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from gramian.checker.arora2019 import ARORA2019
from gramian.checker.du2019 import DU2019, du2019_rate
from gramian.checker.polyak import POLYAK, polyak_contraction
from gramian.checker.relu_descent import RELU_DESCENT, relu_contraction
from gramian.checker.song2021 import SONG2021, song2021_contraction
from gramian.checker.statements import contraction

FORMULA = "the network is the formula written in the certificate, in real numbers, with the weights and data as stored"
ARITHMETIC = "the machine's arithmetic is IEEE float64, its matrix products are sums in some order (no Strassen), and "
NUMPY = "NumPy's and SciPy's elementary functions err by at most 8 units in the last place of 1 + |value|"
DRAWN = "the weights and signs are independent draws from the laws in the statement, in real numbers"
SAMPLED = "the samples were drawn independently from one distribution, the one that new samples come from"
FLINT = "python-flint's ball arithmetic is right"


def assumptions(statement: str) -> tuple[str, ...]:
    """What a statement takes for granted: a run takes its activations from ball arithmetic, the others from NumPy."""
    if statement in ("run", "before"):
        return FORMULA, ARITHMETIC + FLINT
    if statement == DU2019:
        return DRAWN, ARITHMETIC + NUMPY, FLINT
    if statement == ARORA2019:
        return DRAWN, SAMPLED, ARITHMETIC + NUMPY, FLINT
    return FORMULA, ARITHMETIC + NUMPY


def sentence(statement: str, numbers: Mapping[str, float], samples: int) -> str:
    """What a valid certificate of these numbers states."""
    if statement == "minimum":
        return (
            f"Weights with training loss exactly 0 lie within {rounded_up(numbers['radius'])} of the certificate's "
            "weights."
        )
    if statement == "descent":
        step, residual, rate = float(numbers["step"]), rounded_up(numbers["residual"]), contraction(numbers)
        return (
            f"Gradient descent with step {step!r} from the certificate's weights converges to weights with training "
            f"loss exactly 0, within {rounded_up(numbers['radius'])}: after k steps the residual's norm is at most "
            f"{residual} times (1 - {rounded_down(rate, 4)})^k."
        )
    if statement == "separation":
        return (
            f"The network separates all {samples:,} samples, each class ahead by "
            f"{rounded_down(max(numbers['margin'], 0.0), 3)}: the infimum of the cross-entropy is 0, and multiplying "
            "the readout by t takes it below n (C - 1) exp(-margin t)."
        )
    if statement in (DU2019, ARORA2019):
        return _of_draws(statement, numbers, samples)
    if statement in (POLYAK, SONG2021, RELU_DESCENT):
        return _contracting(statement, numbers)
    if statement == "before":
        follows = f"{numbers['points']:,.0f} points of a path in closed form stand for its first "
        follows += f"{numbers['steps']:,.0f} steps, and it passes each of them within {rounded_up(numbers['distance'])}"
    else:
        follows = f"its first {numbers['steps']:,.0f} steps stay within {rounded_up(numbers['distance'])} of those "
        follows += "computed"
    text = (
        f"Gradient descent in exact arithmetic from the certificate's weights, with step {float(numbers['lr'])!r} on "
        f"half the sum of squares, converges to weights with training loss exactly 0; {follows}"
    )
    if "time" in numbers:
        text += f"; the loss is at most {rounded_up(numbers['accuracy'], 6)} from step {numbers['time']:,.0f} on"
    return text + "."


def _of_draws(statement: str, numbers: Mapping[str, float], samples: int) -> str:
    signs = "signs a_r"
    if numbers["antisymmetric"]:
        signs = "signs a_r, its neurons in pairs of equal weights and opposite signs,"
    network = (
        f"A two-layer ReLU network of {numbers['width']:.15g} neurons, f = m^(-1/2) sum a_r relu(w_r . x) with random "
        f"{signs} and w_r drawn from N(0, kappa^2), kappa = {float(numbers['kappa'])!r}: with probability at least 1 - "
        f"{float(numbers['failure'])!r}"
    )
    if statement == ARORA2019:
        return (
            f"{network} over weights and samples, after gradient descent of the w_r in real numbers to the end, with a "
            f"step of at most 1/||X||^2 on half the sum of squares of these {samples:,} samples, it misclassifies at "
            f"most a share of {rounded_up(numbers['value'], 3)} of new ones."
        )
    return (
        f"{network}, gradient descent of the w_r in real numbers with step {float(numbers['step'])!r} on half the sum "
        "of squares converges to training loss exactly 0, the residual's norm after k steps being at most "
        f"(1 - step p)^k times the first, p = {rounded_down(du2019_rate(numbers), 4)}."
    )


def _contracting(statement: str, numbers: Mapping[str, float]) -> str:
    """Of the theorems about every step of a run that is not made."""
    step, residual = float(numbers["step"]), rounded_up(numbers["residual"])
    run = (
        f"Gradient descent in real numbers with step {step!r} on half the sum of squares, from the certificate's "
        "weights,"
    )
    if statement == RELU_DESCENT:
        where = "converges to weights with training loss exactly 0, no neuron leaving the reach of its signs"
        rate = relu_contraction(numbers)
    else:
        where = (
            f"stays within {rounded_up(numbers['radius'])} of them, where the Polyak-Lojasiewicz condition holds, and "
            "converges to weights with training loss exactly 0"
        )
        if statement == POLYAK:
            rate = polyak_contraction(numbers)
        else:
            rate = song2021_contraction(numbers)
    return (
        f"{run} {where}: after k steps the residual's norm is at most {residual} times (1 - {rounded_down(rate, 4)})^k."
    )


def rounded_up(number: float, digits: int = 2) -> str:
    """In so many digits, at least the number."""
    return _rounded(number, digits, ROUND_CEILING)


def rounded_down(number: float, digits: int = 2) -> str:
    """In so many digits, at most the number."""
    return _rounded(number, digits, ROUND_FLOOR)


def _rounded(number: float, digits: int, rounding: str) -> str:
    if number != number or number in (float("inf"), -float("inf")):
        return str(number)
    short = Context(prec=digits, rounding=rounding).create_decimal(Decimal(float(number)))
    return f"{float(short):.{digits}g}"
