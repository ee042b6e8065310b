"""Rates are what the curves do in the long run; the time to an accuracy is found exactly; tuned beats untuned."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.errors import BadArgument
from gramian.gram import eigensystem
from gramian.solve import RULES, loss_curve, max_lr, rate, time_to, tuning

METHODS = ["gd", "momentum", "nesterov"]
spectra = st.lists(st.floats(1e-2, 1.0), min_size=1, max_size=5)


@pytest.mark.parametrize("method", METHODS)
@given(x=st.floats(0.02, 0.98), beta=st.floats(0, 0.95))
@settings(deadline=None)
def test_rate_is_the_spectral_radius_of_the_recursion(method, x, beta):
    beta = 0.0 if method == "gd" else beta
    lr = x * max_lr(3.0, method, beta)
    x = 3 * lr
    trace, det = (1 + beta) * (1 - x), beta * (1 - x)
    if method != "nesterov":
        trace, det = 1 + beta - x, beta
    radius = torch.linalg.eigvals(torch.tensor([[trace, -det], [1.0, 0.0]])).abs().max()
    # near a double root eigvals itself keeps half the digits
    assert float(rate(torch.tensor(3.0), lr, method, beta)) == pytest.approx(float(radius), rel=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_rate_is_below_one_exactly_below_max_lr(method):
    lam = torch.linspace(0.1, 2.0, 20)
    beta = 0.0 if method == "gd" else 0.9
    limit = max_lr(2.0, method, beta)
    assert float(rate(lam, 0.999 * limit, method, beta).max()) < 1 < float(rate(lam, 1.001 * limit, method, beta).max())
    assert float(rate(lam, limit, method, beta)[-1]) == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
@given(
    lam=spectra, weights=st.lists(st.floats(0.1, 3.0), min_size=5, max_size=5), accuracy=st.floats(1e-8, 0.9),
    beta=st.floats(0, 0.97), share=st.floats(0.05, 0.97),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_time_to_is_the_last_crossing(method, lam, weights, accuracy, beta, share):
    beta = 0.0 if method == "gd" else beta
    theta, r0 = torch.diag(torch.tensor(lam)), torch.tensor(weights[: len(lam)])
    lr = share * max_lr(max(lam), method, beta)
    found = time_to(theta, r0, accuracy, lr, method, beta)
    curve = loss_curve(theta, r0, range(found + 3000), lr, method, beta)
    target = accuracy * float(curve[0])
    assert isinstance(found, int)
    assert bool((curve[found:] <= target).all())
    assert found == 0 or float(curve[found - 1]) > target


def test_an_oscillating_loss_dips_below_before_it_stays_below():
    theta, r0 = torch.eye(1), torch.ones(1)
    curve = loss_curve(theta, r0, range(2000), 0.01, "momentum", 0.99)
    first = int((curve <= 0.01 * curve[0]).nonzero()[0])
    found = time_to(theta, r0, 0.01, 0.01, "momentum", 0.99)
    assert first < found
    assert found == int((curve > 0.01 * curve[0]).nonzero()[-1]) + 1


@pytest.mark.parametrize("method", METHODS)
def test_a_slow_mode_costs_no_more_than_a_fast_one(method):
    """A condition of 1e9: some 1e9 steps, none of which is walked through."""
    beta = 0.0 if method == "gd" else 0.9
    system = eigensystem(torch.diag(torch.tensor([1e-9, 1.0])))
    found = time_to(system, torch.tensor([1.0, 1.0]), 1e-4, 1.0, method, beta)
    before, at = loss_curve(system, torch.tensor([1.0, 1.0]), [found - 1, found], 1.0, method, beta)
    assert float(at) <= 1e-4 < float(before)
    assert found == pytest.approx((1 - beta) * 1e9 * math.log(0.5e4) / 2, rel=1e-6)


@given(lam=spectra, accuracy=st.floats(1e-12, 1.5))
@settings(deadline=None)
def test_time_of_flow_solves_its_equation(lam, accuracy):
    theta, r0 = torch.diag(torch.tensor(lam)), torch.ones(len(lam))
    t = time_to(theta, r0, accuracy, method="flow")
    if accuracy >= 1:
        assert t == 0
    else:
        assert float(loss_curve(theta, r0, [t], method="flow")[0]) == pytest.approx(accuracy * len(lam) / 2, rel=1e-9)


@pytest.mark.parametrize("method", [*METHODS, "flow"])
def test_what_cannot_be_fitted_takes_for_ever(method):
    """Two equal inputs with different labels: half of the loss has no gradient."""
    theta, r0 = torch.ones(2, 2), torch.tensor([1.0, 0.0])
    settings = {"lr": None if method == "flow" else 0.1, "method": method, "beta": 0.5 if method[0] in "mn" else 0.0}
    assert time_to(theta, r0, 0.49, **settings) == math.inf
    assert time_to(theta, r0, 0.51, **settings) < math.inf
    assert time_to(theta, torch.tensor([1.0, 1.0]), 1e-9, **settings) < math.inf
    if method != "flow":
        settings["lr"] = 1.01 * max_lr(2.0, method, settings["beta"])
        assert time_to(theta, r0, 0.51, **settings) == math.inf
    assert time_to(theta, torch.zeros(2), 0.5, **settings) == 0


@given(low=st.floats(1e-4, 1.0), spread=st.floats(1.0, 1e4))
def test_rules_are_stable_and_the_best_ones_are_best(low, spread):
    tuned = {rule: tuning(low, low * spread, rule) for rule in RULES}
    root = math.sqrt(spread)
    for t in tuned.values():
        inside = rate(torch.linspace(low, low * spread, 101), t.lr, t.method, t.beta)
        assert float(inside.max()) <= t.rate + 1e-7 < 1 + 1e-7
    assert tuned["polyak"].rate == pytest.approx((root - 1) / (root + 1), abs=1e-6)
    assert tuned["gd-best"].rate == pytest.approx((spread - 1) / (spread + 1), abs=1e-12)
    assert tuned["nesterov"].rate == pytest.approx(1 - 1 / root, abs=1e-6)
    assert tuned["polyak"].rate <= tuned["nesterov"].rate + 1e-6
    assert tuned["gd-best"].rate <= tuned["gd-safe"].rate + 1e-12 <= tuned["gd-theory"].rate + 2e-12
    assert "not checked" in tuned["nesterov-theory"].source


@pytest.mark.parametrize("kappa", [1.0, 15.0, 1e3])
def test_nesterov_by_theory_keeps_the_promised_rate(kappa):
    """Contraction 1 - 1/(2 sqrt(kappa')), kappa' = 4/3 kappa, as PAPERS card 16 remembers it."""
    assert tuning(1.0, kappa, "nesterov-theory").rate <= 1 - 1 / (2 * math.sqrt(4 / 3 * kappa)) + 1e-12


def test_errors_say_what_to_do():
    with pytest.raises(BadArgument, match=r"lambda_max=0"):
        max_lr(0)
    with pytest.raises(BadArgument, match=r"(?s)accuracy=0.*no linear rate"):
        time_to(torch.eye(2), torch.ones(2), 0, 0.1)
    with pytest.raises(BadArgument, match=r"lr=None"):
        time_to(torch.eye(2), torch.ones(2), 0.1)
    with pytest.raises(BadArgument, match=r'lr=0\.1 with method="flow"'):
        time_to(torch.eye(2), torch.ones(2), 0.1, 0.1, "flow")
    with pytest.raises(BadArgument, match=r"(?s)rule='best'.*polyak"):
        tuning(1.0, 2.0, "best")
    with pytest.raises(BadArgument, match=r"(?s)eigenvalues from 0\.00e\+00.*no linear rate"):
        tuning(0.0, 2.0)
