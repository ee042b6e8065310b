"""The statements on problems whose truth is known in closed form, at the edge of what can be proved."""

import math

import numpy as np
import pytest

from gramian.checker.program import NetworkProgram, ProgramStep
from gramian.checker.statements import contraction, existence, lines


def parabola(sigma, bend, residual, theta=0.0):
    """f = residual - sigma t + bend t^2 / 2 of one weight t: it has a zero iff 2 bend residual <= sigma^2."""
    arrays = {
        "t": np.array([[theta]]),
        "a": np.array([-sigma]), "b": np.array([bend / 2]), "i": np.array([0]), "p": np.array([0, 1]),
        "offset": np.array([residual]),
    }  # fmt: skip
    steps = (
        ProgramStep("input"),
        ProgramStep("parameter", weight="t"),
        ProgramStep("linear", (1,), matrix=("a", "i", "p"), shape=(1, 1), offset="offset"),
        ProgramStep("function", (1,), function="square"),
        ProgramStep("linear", (3,), matrix=("b", "i", "p"), shape=(1, 1)),
        ProgramStep("sum", (2, 4)),
    )
    return NetworkProgram(steps, arrays, frozenset(["t"]))


def claims(sigma, bend, residual, share=1.0):
    had = {"residual": residual * (1 + 2e-8) + 1e-14, "sigma": sigma * (1 - 2e-8) - 1e-12}
    had["lipschitz"] = bend * (1 + 2e-8) + 1e-12
    h = 2 * had["lipschitz"] * had["residual"] / (share * had["sigma"] ** 2)
    had["radius"] = had["sigma"] / had["lipschitz"] * (1 - 1e-7)
    if h < 1:
        wanted = 2 * had["residual"] / (share * had["sigma"] * (1 + math.sqrt(1 - h)))
        had["radius"] = min(wanted * (1 + 1e-7), had["radius"])
    return had


ONE = np.zeros((1, 1))


def judged(statement, program, had):
    result = lines(statement, program, ONE, ONE, had)
    return all(line.holds for line in result), {line.name for line in result if not line.holds}


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("bend", [1e-2, 1.0, 50.0])
@pytest.mark.parametrize("h", [0.1, 0.9, 0.9999])
def test_a_minimum_is_proved_up_to_the_edge_of_where_it_exists(sigma, bend, h):
    residual = h * sigma**2 / (2 * bend)
    if residual < 1e-7:
        pytest.skip("the problem is smaller than the room of these claims")
    proved, failing = judged("minimum", parabola(sigma, bend, residual), claims(sigma, bend, residual))
    assert proved, failing


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("bend", [1e-2, 1.0, 50.0])
@pytest.mark.parametrize("h", [1.000001, 1.1, 10.0])
def test_no_minimum_is_proved_where_there_is_none_whatever_radius_is_claimed(sigma, bend, h):
    residual = h * sigma**2 / (2 * bend)
    program, had = parabola(sigma, bend, residual), claims(sigma, bend, residual)
    for radius in np.geomspace(1e-3, 1e3, 25) * sigma / bend:
        assert not judged("minimum", program, {**had, "radius": float(radius)})[0]


@pytest.mark.parametrize("name", ["residual", "sigma", "lipschitz"])
def test_a_claim_that_is_too_good_is_found(name):
    had = claims(1.0, 1.0, 0.2)
    factor = 1.01 if name == "sigma" else 0.99
    proved, failing = judged("minimum", parabola(1.0, 1.0, 0.2), {**had, name: had[name] * factor})
    assert not proved
    assert name in failing


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("name", ["residual", "sigma", "lipschitz", "radius", "largest", "step"])
def test_a_claim_that_is_no_bound_proves_nothing(name, bad):
    had = {**claims(1.0, 1.0, 0.1, share=0.4), "largest": 1.0 + 1e-6, "step": 0.5}
    assert judged("descent", parabola(1.0, 1.0, 0.1), had)[0]
    if (name, bad) == ("lipschitz", 0.0):
        assert "lipschitz" in judged("descent", parabola(1.0, 1.0, 0.1), {**had, name: bad})[1]
        return
    assert not judged("descent", parabola(1.0, 1.0, 0.1), {**had, name: bad})[0]


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0, 1.5])
def test_descent_stays_in_the_ball_and_below_the_proved_curve(step):
    sigma, bend = 1.0, 1.0
    share = 1 - step / 2 - 0.05
    residual = 0.9 * share * sigma**2 / (2 * bend)
    had = {**claims(sigma, bend, residual, share=share - 0.02), "largest": sigma + 1e-6, "step": step}
    proved, _ = judged("descent", parabola(sigma, bend, residual), had)
    theta, norms = 0.0, []
    for _ in range(200):
        r = residual - sigma * theta + bend * theta**2 / 2
        norms.append(abs(r))
        theta -= step * r * (-sigma + bend * theta)
        assert not proved or abs(theta) <= had["radius"]
    if proved:
        rate = contraction(had)
        assert 0 < rate < 1
        assert all(norm <= (1 - rate) ** k * had["residual"] * (1 + 1e-12) for k, norm in enumerate(norms))


def test_a_step_beyond_two_over_the_curvature_is_not_proved():
    had = {**claims(1.0, 1.0, 0.01), "largest": 1.0 + 1e-6, "step": 2.01}
    assert "share" in judged("descent", parabola(1.0, 1.0, 0.01), had)[1]


def test_the_last_comparison_is_exact():
    """Phi(1/2) = 3/8 against 3/8: not greater, although no float64 lies between."""
    had = {"residual": 0.375, "sigma": 1.0, "lipschitz": 1.0, "radius": 0.5}
    assert not all(line.holds for line in existence(had, descent=False))
    assert all(line.holds for line in existence({**had, "residual": 0.375 * (1 - 2**-52)}, descent=False))


def affine(weights, bias, trained=("w", "b")):
    arrays = {"w": np.array(weights, dtype=float), "b": np.array(bias, dtype=float)}
    return NetworkProgram((ProgramStep("input"), ProgramStep("affine", (0,), "w", "b")), arrays, frozenset(trained))


def test_separation_is_the_margin_of_the_own_class():
    program, x = affine([[1.0, 0], [0, 1.0]], [0.0, 0.0]), np.array([[3.0, 1.0], [0.0, 0.5]])
    y = np.array([0, 1])
    for margin, holds in ((0.4999, True), (0.5001, False), (0.0, False), (-1.0, False), (math.nan, False)):
        assert all(k.holds for k in lines("separation", program, x, y, {"margin": margin})) is holds
    assert not all(k.holds for k in lines("separation", program, x, np.array([1, 1]), {"margin": 1e-3}))


def test_separation_needs_a_readout_that_trains_and_stands_once():
    x, y = np.array([[3.0, 1.0], [0.0, 0.5]]), np.array([0, 1])
    frozen = affine([[1.0, 0], [0, 1.0]], [0.0, 0.0], trained=("w",))
    assert [k.name for k in lines("separation", frozen, x, y, {"margin": 0.1}) if not k.holds] == ["readout"]
    twice = NetworkProgram(
        (ProgramStep("input"), ProgramStep("affine", (0,), "w"), ProgramStep("affine", (1,), "w")),
        frozen.arrays,
        frozenset(["w"]),
    )
    assert [k.name for k in lines("separation", twice, x, y, {"margin": 0.1}) if not k.holds] == ["readout"]
