r"""Activations with their first derivatives as balls, and what bounds them: $\sup|\phi'|$ and the Lipschitz constant
of $\phi'$ on an interval.

Up to FLINT_VALUES entries the values come from python-flint with proved bounds. Above, NumPy's and SciPy's elementary
functions are taken to be accurate to LAST_PLACES units in the last
place of 1 plus the value: this is assumed, and a certificate says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np
from scipy import special

from gramian.checker.balls import UNIT, Ball, outward

LAST_PLACES = 8
FLINT_VALUES = 2_000
INFINITE = math.inf


@dataclass(frozen=True)
class Function:
    r"""$\phi$ and $\phi'$ on arrays and on python-flint's balls, with bounds on an interval [low, high]."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    flint_value: Callable[[flint.arb], flint.arb]
    flint_slope: Callable[[flint.arb], flint.arb]
    steepest: Callable[[Any, Any], Any]  # sup |phi'|
    bend: Callable[[Any, Any], Any]  # Lipschitz constant of phi'
    above: float = -INFINITE  # the function is defined for arguments above this
    exact: bool = False  # the value is computed without rounding
    kink: bool = False  # not differentiable at 0: a theorem then needs arguments that keep their sign


def _constant(bound: float) -> Callable[[Any, Any], Any]:
    return lambda low, high: np.full_like(np.asarray(low, dtype=np.float64), bound)


def _normal_density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _flint_normal(z):
    return (-z * z / 2).exp() / (2 * flint.arb.pi()).sqrt()


def _flint_cdf(z):
    return (1 + (z / flint.arb(2).sqrt()).erf()) / 2


def _flint_sigmoid(z):
    return 1 / (1 + (-z).exp())


def _largest(low, high):
    return np.maximum(np.abs(low), np.abs(high))


# Suprema over the real line, rounded up; docs/proofs.md derives each, tests/checker/test_functions.py encloses it.
FUNCTIONS: dict[str, Function] = {
    "tanh": Function(
        np.tanh,
        lambda z: 1 - np.tanh(z) ** 2,
        lambda z: z.tanh(),
        lambda z: 1 - z.tanh() ** 2,
        _constant(1.0),
        _constant(0.7699),  # 4 / (3 sqrt 3)
    ),
    "erf": Function(
        special.erf,
        lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z),
        lambda z: z.erf(),
        lambda z: 2 / flint.arb.pi().sqrt() * (-z * z).exp(),
        _constant(1.1284),  # 2 / sqrt(pi)
        _constant(0.9679),  # 4 / sqrt(2 pi e)
    ),
    "sigmoid": Function(
        special.expit,
        lambda z: special.expit(z) * special.expit(-z),
        _flint_sigmoid,
        lambda z: _flint_sigmoid(z) * _flint_sigmoid(-z),
        _constant(0.25),
        _constant(0.09623),  # 1 / (6 sqrt 3)
    ),
    "softplus": Function(
        lambda z: np.logaddexp(0, z),
        special.expit,
        lambda z: (1 + z.exp()).log(),
        _flint_sigmoid,
        _constant(1.0),
        _constant(0.25),
    ),
    "gelu": Function(
        lambda z: z * special.ndtr(z),
        lambda z: special.ndtr(z) + z * _normal_density(z),
        lambda z: z * _flint_cdf(z),
        lambda z: _flint_cdf(z) + z * _flint_normal(z),
        _constant(1.1290),  # at z = sqrt 2
        _constant(0.7979),  # at z = 0: 2 / sqrt(2 pi)
    ),
    "silu": Function(
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
        lambda z: z * _flint_sigmoid(z),
        lambda z: _flint_sigmoid(z) * (1 + z * _flint_sigmoid(-z)),
        _constant(1.0999),
        _constant(0.5),  # at z = 0
    ),
    "sin": Function(np.sin, np.cos, lambda z: z.sin(), lambda z: z.cos(), _constant(1.0), _constant(1.0)),
    "cos": Function(
        np.cos, lambda z: -np.sin(z), lambda z: z.cos(), lambda z: -z.sin(), _constant(1.0), _constant(1.0)
    ),
    "elu": Function(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.exp(np.minimum(z, 0)),
        lambda z: max(z, flint.arb(0)) + (min(z, flint.arb(0))).expm1(),
        lambda z: min(z, flint.arb(0)).exp(),
        _constant(1.0),
        _constant(1.0),
    ),
    "exp": Function(
        np.exp,
        np.exp,
        lambda z: z.exp(),
        lambda z: z.exp(),
        lambda low, high: outward(np.exp(high) * (1 + 2**-40)),
        lambda low, high: outward(np.exp(high) * (1 + 2**-40)),
    ),
    "square": Function(
        np.square,
        lambda z: 2 * z,
        lambda z: z * z,
        lambda z: 2 * z,
        lambda low, high: outward(2 * _largest(low, high)),
        _constant(2.0),
    ),
    "reciprocal": Function(
        lambda z: 1 / z,
        lambda z: -1 / (z * z),
        lambda z: 1 / z,
        lambda z: -1 / (z * z),
        lambda low, high: outward(1 / (low * low)),
        lambda low, high: outward(2 / (low * low * low)),
        above=0.0,
    ),
    "rsqrt": Function(
        lambda z: 1 / np.sqrt(z),
        lambda z: -0.5 / (z * np.sqrt(z)),
        lambda z: 1 / z.sqrt(),
        lambda z: -1 / (2 * z * z.sqrt()),
        lambda low, high: outward(0.5 / (low * np.sqrt(low))),
        lambda low, high: outward(0.75 / (low * low * np.sqrt(low))),
        above=0.0,
    ),
    "relu": Function(
        lambda z: np.maximum(z, 0),
        lambda z: (z > 0).astype(np.float64),
        lambda z: max(z, flint.arb(0)),
        lambda z: flint.arb(1 if z > 0 else 0),
        _constant(1.0),
        _constant(0.0),
        exact=True,
        kink=True,
    ),
}


def applied(name: str, z: Ball, *, by_flint: int = FLINT_VALUES) -> tuple[Ball, Ball]:
    r"""$\phi(z)$ and $\phi'(z)$, entry by entry; python-flint computes up to `by_flint` values."""
    function = FUNCTIONS[name]
    steepest, bend = bounds(name, z.middle - z.radius, z.middle + z.radius)
    values, error = _evaluated(z.middle, function.value, function.flint_value, by_flint)
    if function.exact:
        error = np.zeros_like(error)
    slopes, slope_error = _evaluated(z.middle, function.slope, function.flint_slope, by_flint)
    spread, slope_spread = steepest * z.radius, bend * z.radius
    if function.kink:  # where the sign is not certain the slope is not known; a theorem asks for certain signs anyway
        slope_spread = np.where(np.abs(z.middle) <= z.radius, 1.0, slope_spread)
    return Ball(values, outward(spread + error)), Ball(slopes, outward(slope_spread + slope_error))


def bounds(name: str, low: Any, high: Any) -> tuple[Any, Any]:
    r"""$\sup|\phi'|$ and the Lipschitz constant of $\phi'$ on [low, high]; infinite where $\phi$ is not defined."""
    function = FUNCTIONS[name]
    defined = (low - UNIT * np.abs(low) > function.above) & (high >= low)
    with np.errstate(all="ignore"):
        steepest, bend = function.steepest(low, high), function.bend(low, high)
    return np.where(defined, steepest, INFINITE), np.where(defined, bend, INFINITE)


def _evaluated(z: np.ndarray, plain: Callable, exact: Callable, by_flint: int) -> tuple[np.ndarray, np.ndarray]:
    """Values at exact arguments, and bounds of their errors."""
    if z.size <= by_flint and np.isfinite(z).all():
        balls = [exact(flint.arb(number)) for number in z.ravel().tolist()]
        values = np.array([float(b.mid()) for b in balls]).reshape(z.shape)
        error = np.array([float(b.rad()) for b in balls]).reshape(z.shape)
        return values, outward(error + UNIT * np.abs(values))
    with np.errstate(all="ignore"):
        values = plain(z)
    return values, outward(LAST_PLACES * UNIT * (np.abs(values) + 1))
