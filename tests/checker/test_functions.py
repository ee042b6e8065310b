"""Each activation of the checker: its values, its slopes, and the bounds that proofs are built on."""

import flint
import numpy as np
import pytest

from gramian.checker import functions
from gramian.checker.balls import UNIT, Ball
from gramian.checker.functions import FUNCTIONS, LAST_PLACES, applied, bounds

SMOOTH = [name for name, f in FUNCTIONS.items() if not f.kink and name != "elu"]
ON_THE_LINE = [name for name in SMOOTH if name not in ("exp", "square", "reciprocal", "rsqrt")]


def arguments(name):
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.standard_normal(500) * scale for scale in (1e-8, 1e-2, 1, 5, 30)])
    if FUNCTIONS[name].above == 0:
        z = np.abs(z) + 1e-3
    return z


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_slopes_agree_with_ball_arithmetic_to_half_of_what_is_assumed(name):
    function, z = FUNCTIONS[name], arguments(name)
    for plain, exact in ((function.value, function.flint_value), (function.slope, function.flint_slope)):
        with flint.ctx.workprec(200):
            truth = [exact(flint.arb(number)) for number in z.tolist()]
            errors = [abs(t - flint.arb(v)) for t, v in zip(truth, plain(z).tolist(), strict=True)]
            allowed = [LAST_PLACES / 2 * UNIT * (abs(t) + 1) for t in truth]
            worst = max(float((e / a).mid()) for e, a in zip(errors, allowed, strict=True))
        assert worst <= 1, f"{name}: {worst / 2:.2f} of what is assumed"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_ball_holds_values_and_slopes_at_its_rim(name):
    function, z = FUNCTIONS[name], arguments(name)
    radius = 1e-4 * np.minimum(np.abs(z), 1)
    for by_flint in (0, functions.FLINT_VALUES):
        value, slope = applied(name, Ball(z[:1000], radius[:1000]), by_flint=by_flint)
        for sign in (-1, 1):
            at = (z + sign * radius * (1 - 1e-9))[:1000]
            assert np.all(np.abs(function.value(at) - value.middle) <= value.radius + 1e-15 * (1 + np.abs(at)))
            assert np.all(np.abs(function.slope(at) - slope.middle) <= slope.radius + 4e-15 * (1 + np.abs(at)))


def flint_bend(name, z):
    """The second derivative, written out a second time."""
    root, two_pi = flint.arb.pi().sqrt(), (2 * flint.arb.pi()).sqrt()
    density = (-z * z / 2).exp() / two_pi
    s = 1 / (1 + (-z).exp())
    return {
        "tanh": lambda: -2 * z.tanh() * (1 - z.tanh() ** 2),
        "erf": lambda: -4 * z * (-z * z).exp() / root,
        "sigmoid": lambda: s * (1 - s) * (1 - 2 * s),
        "softplus": lambda: s * (1 - s),
        "gelu": lambda: density * (2 - z * z),
        "silu": lambda: s * (1 - s) * (2 + z * (1 - 2 * s)),
        "sin": lambda: -z.sin(),
        "cos": lambda: -z.cos(),
    }[name]()


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_the_suprema_are_enclosed_on_the_whole_line(name):
    """Ball arithmetic on 80,000 intervals covers [-40, 40]; beyond, these derivatives are nearly constant."""
    steepest, bend = (float(b) for b in bounds(name, np.array(-1e9), np.array(1e9)))
    width = 40 / 40_000
    first = second = 0.0
    for k in range(-40_000, 40_000):
        z = flint.arb((k + 0.5) * width, width / 2 * 1.0001)
        first = max(first, float(abs(FUNCTIONS[name].flint_slope(z)).upper()))
        second = max(second, float(abs(flint_bend(name, z)).upper()))
    # the intervals' own width makes the enclosure at most this much larger than the supremum
    assert first <= steepest + 2 * width
    assert second <= bend + 2 * width
    assert steepest <= first * 1.001
    assert bend <= second * 1.001


@pytest.mark.parametrize("name", ["exp", "square", "reciprocal", "rsqrt"])
def test_bounds_on_an_interval_hold_inside_it(name):
    rng = np.random.default_rng(1)
    for low, high in ((0.5, 0.6), (0.01, 3.0), (2.0, 9.0)):
        steepest, bend = bounds(name, np.array(low), np.array(high))
        a, b = rng.uniform(low, high, (2, 1000))
        slope = FUNCTIONS[name].slope
        assert np.all(np.abs(slope(a)) <= steepest)
        assert np.all(np.abs(slope(a) - slope(b)) <= bend * np.abs(a - b) + 1e-12)


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_an_interval_that_reaches_a_pole_has_no_bound(name):
    for low in (-1.0, 0.0):
        assert all(np.isinf(b) for b in bounds(name, np.array(low), np.array(1.0)))


def test_elu_and_relu_have_the_bounds_of_their_pieces():
    z = np.linspace(-5, 5, 2001)
    slope = FUNCTIONS["elu"].slope(z)
    assert slope.max() <= 1
    assert np.abs(np.diff(slope)).max() <= 1.0 * (z[1] - z[0])
    assert bounds("relu", np.array(-1.0), np.array(1.0)) == (1, 0)
