"""Each theorem's numbers by hand, how they grow, where it applies, and each status that it can give."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramian.certify import CONTRADICTED, IMPLIED, NOT_SHOWN, OBSERVED, THEOREMS, certificates
from gramian.certify.theorems.allenzhu2019convergence import budget
from gramian.certify.theorems.allenzhu2019equivalence import radii
from gramian.certify.theorems.allenzhu2019gradient import radius
from gramian.certify.theorems.du2019global import largest_lr
from gramian.certify.theorems.du2019global import width as du_width
from gramian.certify.theorems.du2019twolayer import width as two_layer_width
from gramian.train.trace import Series, Trace

from .conftest import steps

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
    measured = {"loss": Series("", "", list(range(len(losses))), losses), "step_remainder": steps(losses)}
    measured |= {name: Series("", "", list(range(len(values))), values) for name, values in series.items()}
    return Trace({}, list(range(len(losses))), losses, measured)


def test_the_budget_of_gradient_descent_by_hand():
    found = budget(n=4, L=2, delta=0.5, d=2, accuracy=0.01, m=64)
    factor = 4.0**24 * 2**12 * 2 * 2**8
    assert found.width == pytest.approx(factor * math.log(found.width) ** 5)  # a fixed point in m
    assert found.width / math.log(found.width) ** 5 < (1.01 * found.width) / math.log(1.01 * found.width) ** 5
    assert found.lr == 2 * 0.5 / (4**4 * 2**2 * 64)
    assert found.steps == pytest.approx(4**6 * 2**2 / 0.25 * LOG100)


def test_the_budget_of_sgd_by_hand():
    found, square = budget(n=4, L=2, delta=0.5, d=2, accuracy=0.01, m=64, b=3), math.log(64) ** 2
    assert found.width == pytest.approx(3 * 4.0**24 * 2**12 * 2 * 2**8 * math.log(found.width) ** 5)
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
    assert (one.lr / closer.lr, closer.steps / one.steps) == pytest.approx((2, 4))
    assert closer.width > 256 * one.width
    assert budget(n, L, delta, 2 * d, accuracy, m, b).width > 2 * one.width
    assert budget(n, L, delta, d, accuracy, m, b, p=9).width > 9 * one.width
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
    log = 100 * math.log(3000) / 0.25  # failure probability 0.01
    assert du_width(n, H, lam, "fully connected") == 8 * 10**4 / 0.5**4
    assert du_width(n, H, 50.0, "fully connected") == 8 * 1000  # n / delta' is the largest now
    assert du_width(n, H, lam, "residual") == pytest.approx(max(10**4 / (0.5**4 * 3**6), 400 / 9, 1000, log))
    assert du_width(n, 1, lam, "residual", 7) == pytest.approx(7 * 10**4 / 0.5**4)
    assert du_width(n, H, 0.0, "residual") == math.inf
    assert largest_lr(n, H, lam, "fully connected") == 0.5 / 800
    assert largest_lr(n, H, lam, "residual") == 0.5 * 9 / 100
    assert largest_lr(n, H, lam, "residual", 7) == pytest.approx(0.5 * 9 / 700)  # divided by the pixels' polynomial
    assert two_layer_width(n, lam) == pytest.approx(10**6 / (0.5**4 * 0.01**3))


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


def test_the_radii_of_allen_zhu_differ():
    """Theorem 3, and the range of Theorem 5 (c), by hand."""
    n, L, delta, m, d = 4, 2, 0.4, 64, 2
    assert radius(n, L, delta, m) == pytest.approx(0.4**1.5 / (4**4.5 * 2**6 * math.log(64) ** 3))
    low, high = radii(d, L, m)
    assert low == pytest.approx(2**1.5 / (64**1.5 * 2**1.5 * math.log(64) ** 1.5))
    assert high == pytest.approx(1 / (2**9 * math.log(64) ** 1.5))


def test_which_theorems_apply(evidence):
    def names(**changes):
        return {name for name, theorem in THEOREMS.items() if theorem(evidence(**changes)) is not None}

    everything = set(THEOREMS) - {"du2019twolayer"}  # which is for one hidden layer
    assert names() == names(optimizer="sgd") == names(loss="cross-entropy") == everything
    assert names(depth=1, lambda_two_layer=0.2) == set(THEOREMS)
    descent = {"allenzhu2019convergence", "du2019global", "du2019stability", "du2019flow"}
    for optimizer in ("momentum", "nesterov", "adam"):
        assert names(optimizer=optimizer) == everything - descent
    assert names(family="convolutional", lambda_last=None) == everything - {"du2019global"}
    assert names(predictor_gap=None) == everything - {"arora2019exact"}
    no_limit = {"lambda_min": None, "lambda_last": None, "gram_error": None, "predictor_gap": None}
    assert names(**no_limit, family="other") == {"du2019stability"}  # its premises are measured
    unmeasured = {"step_remainder": None, "gram_min": None}
    assert names(**no_limit, family="other", measured=unmeasured) == set()
    assert names(measured={"kernel_drift": None}) == everything - {"jacot2018limit"}
    assert names(measured={"kernel_entry_drift": None}) == everything - {"allenzhu2019equivalence"}
    assert names(measured={"gradient_over_loss": None}) == everything - {"allenzhu2019gradient"}
    assert names(measured=unmeasured) == everything - {"du2019flow"}
    assert names(depth=0) == everything - {"du2019global"}


def test_a_run_of_which_nothing_was_measured_has_certificates_all_the_same(evidence):
    nothing = Trace({}, [], [], {}, interrupted=True, reason="interrupted")
    found = certificates(evidence(trace=nothing, accuracy_steps=None, predicted_error=None, predictor_gap=None))
    assert {c.status for c in found} == {NOT_SHOWN}
    for c in found:
        assert str(c)
        assert c.to_json()


def test_the_stability_of_the_gram_matrix_implies_a_run_measured_at_every_step(evidence):
    found = THEOREMS["du2019stability"](evidence())
    assert found.status == IMPLIED
    assert needs(found, "Gram matrix at any step") == 0.5
    assert has(found, "Gram matrix at any step") == 0.9
    assert has(found, "linearization leaves") == pytest.approx(0.01 / (0.3 * 0.9 / 2))
    assert has(found, "||r|| after a step") == pytest.approx(0.5**0.5 / (1 - 0.3 * 0.9 / 2))
    assert has(found, "(1 - lr lambda_0 / 4)") == pytest.approx(0.5 / (1 - 0.3 / 4) ** 2)


def test_without_a_limit_lambda_0_is_that_at_initialization(evidence):
    found = THEOREMS["du2019stability"](evidence(lambda_min=None, lambda_max=None))
    assert found.status == IMPLIED
    assert needs(found, "Gram matrix at any step") == 0.45


def test_a_step_that_is_lost_in_divergence_was_not_measured(evidence):
    """Ten measured steps, and an eleventh after which nothing is a number."""
    e = evidence()
    diverged = Trace({}, list(range(12)), [*e.losses[1], math.inf], e.trace.measured, diverged=True)
    found = THEOREMS["du2019stability"](evidence(trace=diverged))
    assert [c.says for c in found.failing] == ["share of the steps that were measured, on all samples and outputs"]


def test_a_residual_above_its_bound_contradicts_the_theorem_if_the_premises_hold(evidence):
    """Numbers that no run can have: the recursion of the residual would be broken."""
    found = THEOREMS["du2019stability"](evidence(trace=trace([2.0 * 0.9**k for k in range(11)])))
    assert found.status == CONTRADICTED
    assert has(found, "||r|| after a step") == pytest.approx(0.9**0.5 / 0.865)
    assert "CONTRADICTED" in str(found)


def test_each_number_of_allen_zhu_is_in_the_units_of_the_paper(evidence):
    e = evidence()  # unit 16, stretch 0.2: lr 0.3 here is 0.3 / 16 there, distances shrink by 0.2
    convergence = THEOREMS["allenzhu2019convergence"](e)
    assert has(convergence, "learning rate") == 0.3 / 16
    assert has(convergence, "||W_t - W_0||_F") == pytest.approx(5e-3 * 0.2)  # of both layers together
    assert needs(convergence, "||W_t - W_0||_F") == pytest.approx(4**3 * math.sqrt(2) * math.log(64) / (0.4 * 8))
    assert has(convergence, "steps until") == 7
    # the rate of this run is above the theorem's, and T is granted at the theorem's
    assert needs(convergence, "steps until") == pytest.approx(budget(4, 2, 0.4, 2, 0.01, 64).steps)
    unit = 0.3 / 16 * 0.4 * 64 / (2 * 4**2)
    assert has(convergence, "c in F_t") == pytest.approx(0.5 / unit)

    gradient = THEOREMS["allenzhu2019gradient"](e)
    assert has(gradient, "smallest ||grad") == pytest.approx(4.0 * 16 / (0.4 * (64 / 2) / 16))
    assert has(gradient, "largest ||") == pytest.approx(8.0 * 16 / (2 * 4 * (64 / 2)))
    assert needs(gradient, "largest ||") == math.inf
    assert one(gradient, "largest ||").vacuous
    assert has(gradient, "spectral distance") == pytest.approx(2e-3 * 0.2)
    assert needs(gradient, "spectral distance") == pytest.approx(radius(4, 2, 0.4, 64))

    equivalence = THEOREMS["allenzhu2019equivalence"](e)
    assert needs(equivalence, "spectral distance") == pytest.approx(radii(2, 2, 64)[1])
    # width 64 at depth 2 is too small for a probability of 0.99, at the largest omega too
    omega = radii(2, 2, 64)[1]
    assert has(equivalence, "bad one") == pytest.approx(math.exp(-64 * omega ** (2 / 3) * 2))
    assert needs(equivalence, "largest |K_t") == pytest.approx(math.sqrt(math.log(64)) * omega ** (1 / 3) * 8)
    assert has(equivalence, "largest |K_t") == 0.06


def test_the_separation_is_at_most_one_over_the_depth(evidence):
    """W.l.o.g. delta <= O(1 / L); for one sample there is no other bound."""
    for separation in (1.3, math.inf):
        found = THEOREMS["allenzhu2019convergence"](evidence(separation=separation))
        assert needs(found, "width m") == pytest.approx(budget(4, 2, 0.5, 2, 0.01, 64).width)
        assert found.to_json()


def test_an_upper_bound_with_an_open_constant_and_an_error_above_one_show_nothing(evidence):
    equivalence = THEOREMS["allenzhu2019equivalence"](evidence(depth=20, width=8))
    assert needs(equivalence, "largest |K_t") > 1
    assert equivalence.status == NOT_SHOWN
    assert "vacuous" in one(equivalence, "largest |K_t").to_dict()["note"]
    assert THEOREMS["allenzhu2019gradient"](evidence()).status == OBSERVED  # by its lower bound, which is positive
    flat = evidence(measured={"gradient_over_loss": Series("", "", [0, 10], [0.0, 8.0])})
    assert THEOREMS["allenzhu2019gradient"](flat).status == NOT_SHOWN


def test_three_steps_that_leave_the_loss_are_not_the_minimum(evidence):
    few = trace([2.0, 1.9999, 1.9998, 1.9997])
    found = THEOREMS["allenzhu2019convergence"](evidence(trace=few, accuracy_steps=None))
    assert found.status == NOT_SHOWN


def test_the_limit_theorems_are_never_implied_at_a_finite_width(evidence):
    assert THEOREMS["jacot2018limit"](evidence(width=10**12)).status == OBSERVED
    assert THEOREMS["jacot2018limit"](evidence(gram_error=0.5)).status == NOT_SHOWN
    # the predicted loss is no conclusion of theirs
    assert THEOREMS["jacot2018limit"](evidence(predicted_error=0.5)).status == OBSERVED
    assert THEOREMS["arora2019exact"](evidence()).status == OBSERVED
    assert THEOREMS["arora2019exact"](evidence(predictor_gap=0.3)).status == NOT_SHOWN


@given(rate=st.floats(0.05, 0.95), per_step=st.floats(0.0, 1.0))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_loss_contracts_at_most_at_its_own_rate(evidence, rate, per_step):
    e = evidence(trace=trace([rate**k for k in range(6)]))
    ratio = e.contracts(per_step)
    if per_step <= (1 - rate) * 0.999:
        assert ratio == pytest.approx(1.0)
    elif per_step >= (1 - rate) * 1.001:
        assert ratio > 1.0
    assert e.contraction() == pytest.approx(1 - rate)


def test_what_rounding_may_do_is_not_counted(evidence):
    """A loss that stops at 1e-16 because outputs of size one have no more digits."""
    stopped = trace([1.0, 1e-8, 1e-16, 1e-16, 1e-16])
    assert evidence(trace=stopped).contracts(1 - 1e-8) > 10
    assert evidence(trace=stopped, resolution=1e-7).contracts(1 - 1e-8) == pytest.approx(1.0)


def test_bounds_that_are_no_shares_are_not_known(evidence):
    e = evidence()
    assert e.contracts(-0.1) is None
    assert e.contracts(1.1) is None
    assert e.contracts(math.nan) is None
    assert e.contracts(1.0) > 1e100  # the loss is not zero after a step
    assert evidence(trace=trace([0.0, 0.0])).contracts(0.5) is None
    assert evidence(trace=trace([0.0, 0.0])).contraction() is None
