"""Each theorem's numbers by hand, how they grow, where it applies, and each status that it can give."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramian.certify import CONTRADICTED, IMPLIED, NOT_SHOWN, OBSERVED, THEOREMS, UP_TO_CONSTANTS, certificates
from gramian.certify.theorems.allenzhu2019convergence import budget
from gramian.certify.theorems.du2019global import width as du_width
from gramian.train.trace import Series, Trace

LOG100 = math.log(100)


def needs(certificate, words):
    """The number that the one condition with these words asks for."""
    return one(certificate, words).needs


def has(certificate, words):
    return one(certificate, words).has


def one(certificate, words):
    (found,) = [c for c in certificate.premises + certificate.conclusion if words in c.says]
    return found


def trace(losses, **series):
    measured = {"loss": Series("", "", list(range(len(losses))), losses)}
    measured |= {name: Series("", "", list(range(len(values))), values) for name, values in series.items()}
    return Trace({}, list(range(len(losses))), losses, measured)


def test_the_budget_of_gradient_descent_by_hand():
    found = budget(n=4, L=2, delta=0.5, d=2, accuracy=0.01, m=64)
    assert found.width == 4.0**24 * 2**12 * 2 * 2**8
    assert found.lr == 2 * 0.5 / (4**4 * 2**2 * 64)
    assert found.steps == pytest.approx(4**6 * 2**2 / 0.25 * LOG100)


def test_the_budget_of_sgd_by_hand():
    found, square = budget(n=4, L=2, delta=0.5, d=2, accuracy=0.01, m=64, b=3), math.log(64) ** 2
    assert found.width == 3 * 4.0**24 * 2**12 * 2 * 2**8
    assert found.lr == pytest.approx(3 * 0.5 * 2 / (4**5 * 2**2 * 64 * square))
    assert found.steps == pytest.approx(4**7 * 2**2 * square / (3 * 0.25) * LOG100)


def test_equal_rows_need_infinite_width():
    found = budget(n=4, L=2, delta=0.0, d=2, accuracy=0.01, m=64)
    assert (found.width, found.lr, found.steps) == (math.inf, 0.0, math.inf)


sizes = {
    "n": st.integers(2, 2000), "L": st.integers(1, 50), "delta": st.floats(1e-3, 1.9), "d": st.integers(1, 100),
    "accuracy": st.floats(1e-9, 0.9), "m": st.integers(2, 10**6), "b": st.none() | st.integers(1, 64),
}  # fmt: skip


@given(**sizes)
def test_harder_data_ask_for_more(n, L, delta, d, accuracy, m, b):
    one = budget(n, L, delta, d, accuracy, m, b)
    for harder in (budget(n + 1, L, delta, d, accuracy, m, b), budget(n, L + 1, delta, d, accuracy, m, b)):
        assert harder.width > one.width
        assert harder.lr < one.lr
        assert harder.steps > one.steps
    closer = budget(n, L, delta / 2, d, accuracy, m, b)
    assert (closer.width / one.width, one.lr / closer.lr, closer.steps / one.steps) == pytest.approx((256, 2, 4))
    assert budget(n, L, delta, 2 * d, accuracy, m, b).width == pytest.approx(2 * one.width)
    assert budget(n, L, delta, d, accuracy, m, b, p=9).width == pytest.approx(9 * one.width)
    assert budget(n, L, delta, d, accuracy, 2 * m, b).lr < one.lr
    finer = budget(n, L, delta, d, accuracy**2, m, b)
    assert (finer.width, finer.lr, finer.steps) == (one.width, one.lr, pytest.approx(2 * one.steps))


@given(n=sizes["n"], L=sizes["L"], delta=sizes["delta"], m=sizes["m"], accuracy=sizes["accuracy"])
def test_rate_and_steps_agree_with_the_contraction_of_the_proof(n, L, delta, m, accuracy):
    """F shrinks by 1 - eta delta m / (d n^2) a step, so T steps at eta bring it to the accuracy, up to the log."""
    for d in (1, 10):
        found = budget(n, L, delta, d, accuracy, m)
        per_step = found.lr * delta * m / (d * n**2)
        assert found.steps * per_step == pytest.approx(math.log(1 / accuracy))


def test_the_widths_of_du_by_hand():
    n, H, lam = 10, 3, 0.5
    log = 100 * math.log(300) / 0.25
    assert du_width(n, H, lam, "fully connected") == 8 * 10**4 / 0.5**4
    assert du_width(n, H, 50.0, "fully connected") == 8 * 100  # n / delta' is the largest now
    assert du_width(n, H, lam, "residual") == pytest.approx(max(10**4 / (0.5**4 * 3**6), 400 / 9, 100, log))
    assert du_width(n, 1, lam, "residual", 7) == pytest.approx(7 * 10**4 / 0.5**4)
    assert du_width(n, H, 0.0, "residual") == math.inf


@given(
    n=st.integers(2, 500),
    H=st.integers(1, 30),
    lam=st.floats(1e-4, 10),
    family=st.sampled_from(["fully connected", "residual"]),
    p=st.integers(1, 64),
)
def test_the_widths_of_du_grow_with_n_and_with_one_over_lambda(n, H, lam, family, p):
    width = du_width(n, H, lam, family, p)
    assert du_width(n + 1, H, lam, family, p) > width
    assert du_width(n, H, lam / 2, family, p) >= width
    assert width >= n / 0.1
    if family == "residual":  # no exponential in the depth
        assert du_width(n, H + 1, lam, family, p) <= width * (1 + math.log((H + 1) / H))


def test_which_theorems_apply(evidence):
    def names(**changes):
        return {name for name, theorem in THEOREMS.items() if theorem(evidence(**changes)) is not None}

    everything = set(THEOREMS)
    assert names() == names(optimizer="sgd") == everything
    descent = {"allenzhu2019convergence", "du2019global", "du2019stability"}
    for optimizer in ("momentum", "nesterov", "adam"):
        assert names(optimizer=optimizer) == everything - descent
    assert names(loss="cross-entropy") == everything - {"allenzhu2019gradient", "du2019stability"}
    assert names(family="convolutional", lambda_last=None) == everything - {"du2019global"}
    assert names(test_gap=None) == everything - {"arora2019exact"}
    no_limit = {"lambda_min": None, "lambda_last": None, "gram_error": None, "test_gap": None}
    assert names(**no_limit, family="other") == set()
    assert names(measured={"kernel_drift": None}) == everything - {"allenzhu2019equivalence", "jacot2018limit"}
    assert names(measured={"gradient_over_loss": None}) == everything - {"allenzhu2019gradient"}
    assert names(measured={"gram_min": None}) == everything - {"du2019stability"}
    assert names(depth=0) == everything - {"du2019global"}


def test_a_run_of_which_nothing_was_measured_has_certificates_all_the_same(evidence):
    nothing = Trace({}, [], [], {}, interrupted=True, reason="interrupted")
    found = certificates(evidence(trace=nothing, accuracy_steps=None, predicted_error=None, test_gap=None))
    assert {c.status for c in found} == {NOT_SHOWN}
    for c in found:
        assert str(c)
        assert c.to_json()


def test_the_stability_of_the_gram_matrix_certifies_a_run_measured_at_every_step(evidence):
    found = THEOREMS["du2019stability"](evidence(n_outputs=1))
    assert found.status == IMPLIED
    assert needs(found, "during the run") == 0.5
    assert has(found, "during the run") == 0.9
    assert needs(found, "learning rate") == 0.5
    # the worst step is the first: 0.5^0 / 0.85^0
    assert has(found, "loss over its bound") == pytest.approx(1.0)


def test_a_loss_above_its_bound_contradicts_the_theorem_if_the_premises_hold(evidence):
    slow = trace([2.0 * 0.9**k for k in range(11)], gram_min=[0.9] * 11, gram_max=[2.0] * 11)
    found = THEOREMS["du2019stability"](evidence(n_outputs=1, trace=slow))
    assert found.status == CONTRADICTED
    assert has(found, "loss over its bound") == pytest.approx((0.9 / 0.85) ** 10)
    assert "CONTRADICTED" in str(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"lambda_min": 0.0},
        {"lr": 0.6},
        {"gram_rows": 3},
        {"n_outputs": 2},
        {"optimizer": "sgd", "batch_size": 2},
        {"measured": {"gram_min": Series("", "", [0, 10], [0.9, 0.9])}},
        {"measured": {"gram_min": Series("", "", list(range(11)), [0.9] * 10 + [0.4])}},
    ],
)
def test_without_one_of_its_premises_it_certifies_nothing(evidence, changes):
    found = THEOREMS["du2019stability"](evidence(**{"n_outputs": 1} | changes))
    assert found.status == OBSERVED
    assert len(found.failing) == 1


def test_each_number_of_allen_zhu_is_in_the_units_of_the_paper(evidence):
    e = evidence()  # unit 16, stretch 0.2: lr 0.3 here is 0.3 / 16 there, distances shrink by 0.2
    convergence = THEOREMS["allenzhu2019convergence"](e)
    assert has(convergence, "learning rate") == 0.3 / 16
    assert has(convergence, "||W_t - W_0||_F") == pytest.approx(3e-3 * 0.2)
    assert needs(convergence, "||W_t - W_0||_F") == pytest.approx(4**3 * math.sqrt(2) / (0.5 * 8))
    assert has(convergence, "steps until") == 7
    assert needs(convergence, "steps until") == budget(4, 2, 0.5, 2, 0.01, 64).steps
    per_step = 0.3 / 16 * 0.5 * 64 / (2 * 4**2)
    assert has(convergence, "loss over its bound") == pytest.approx(max((0.5 / (1 - per_step)) ** k for k in (0, 10)))

    gradient = THEOREMS["allenzhu2019gradient"](e)
    assert (has(gradient, "smallest"), has(gradient, "largest ||")) == (4.0 * 16, 8.0 * 16)
    assert needs(gradient, "smallest") == 0.5 * (64 / 2) / 16
    assert needs(gradient, "largest ||") == 2 * 4 * (64 / 2)
    assert has(gradient, "spectral distance") == pytest.approx(2e-3 * 0.2)
    log3 = math.log(64) ** 3
    assert needs(gradient, "spectral distance") == pytest.approx(0.5**1.5 / (4**4.5 * 2**6 * log3))

    equivalence = THEOREMS["allenzhu2019equivalence"](e)
    omega = 2e-3 * 0.2
    assert needs(equivalence, "spectral distance") == pytest.approx(1 / (2**4.5 * log3))
    assert needs(equivalence, "drift") == pytest.approx(math.sqrt(math.log(64)) * omega ** (1 / 3) * 8)
    assert has(equivalence, "drift") == 0.05


def test_the_paper_s_own_network_in_its_regime_is_certified(evidence):
    """A width, a rate and a radius that only an imagined run can have."""
    paper = {"paper_initialization": True, "unit": 1.0, "stretch": 1.0, "width": 10**40, "lr": 1e-50}
    still = {"spectral_distance": Series("", "", [0], [{"1": 0.0}]), "distance": Series("", "", [0], [{"1": 0.0}])}
    high = {"gradient_over_loss": Series("", "", [0], [1e40])}
    found = {c.theorem: c.status for c in certificates(evidence(measured=still | high, **paper))}
    assert found["Allen-Zhu, Li, Song 2019: gradient descent, fully connected network"] == UP_TO_CONSTANTS
    assert found["Allen-Zhu, Li, Song 2019: gradient bounds (no critical point on the way)"] == UP_TO_CONSTANTS
    # drift without any motion can't be: the bound is zero and the drift is not
    assert found["Allen-Zhu, Li, Song 2019: equivalence with the NTK at finite width"] == CONTRADICTED


def test_du_et_al_ask_for_a_smooth_activation_and_full_batches(evidence):
    theorem = THEOREMS["du2019global"]
    wide = {"smooth": True, "activations": ("Softplus",), "width": 10**9, "lr": 1e-4}
    assert theorem(evidence(**wide)).status == UP_TO_CONSTANTS
    assert theorem(evidence(**wide, optimizer="sgd")).status == OBSERVED
    assert theorem(evidence(**wide | {"smooth": False})).status == OBSERVED
    assert theorem(evidence(**wide | {"trained": "some"})).status == OBSERVED
    assert theorem(evidence(**wide | {"lambda_last": 0.0})).status != UP_TO_CONSTANTS
    found = theorem(evidence(**wide))
    assert needs(found, "learning rate") == 0.3 / (16 * 4)
    assert needs(found, "width") == du_width(4, 2, 0.3, "fully connected")
    assert needs(theorem(evidence(**wide, family="residual")), "learning rate") == pytest.approx(0.3 * 4 / 16)


def test_the_limit_theorems_are_never_implied_at_a_finite_width(evidence):
    assert THEOREMS["jacot2018limit"](evidence(width=10**12)).status == OBSERVED
    assert THEOREMS["jacot2018limit"](evidence(predicted_error=0.5)).status == NOT_SHOWN
    assert THEOREMS["jacot2018limit"](evidence(predicted_error=None)).status == NOT_SHOWN
    assert THEOREMS["arora2019exact"](evidence()).status == OBSERVED
    assert THEOREMS["arora2019exact"](evidence(test_gap=0.3)).status == NOT_SHOWN


@given(rate=st.floats(0.05, 0.95), per_step=st.floats(0.0, 1.0))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_loss_contracts_at_most_at_its_own_rate(evidence, rate, per_step):
    ratio = evidence(trace=trace([rate**k for k in range(6)])).contracts(per_step)
    if per_step <= (1 - rate) * 0.999:
        assert ratio == pytest.approx(1.0)
    elif per_step >= (1 - rate) * 1.001:
        assert ratio > 1.0


def test_bounds_that_are_no_shares_are_not_known(evidence):
    e = evidence()
    assert e.contracts(-0.1) is None
    assert e.contracts(1.1) is None
    assert e.contracts(math.nan) is None
    assert e.contracts(1.0) > 1e100  # the loss is not zero after a step
    assert evidence(trace=trace([0.0, 0.0])).contracts(0.5) is None
