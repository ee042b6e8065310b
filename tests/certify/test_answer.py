"""The three sentences, from imagined runs."""

from dataclasses import replace

import pytest

from gramian.certify.answer import because, how_fast, percent, share_words, whether, why
from gramian.certify.goal import NOT_REACHED, REACHED, Goal
from gramian.certify.width import Sweep
from gramian.checker import Checked, Line
from gramian.conditions import (
    CONTRADICTED,
    IMPLIED,
    OBSERVED,
    OTHER,
    TRAINING,
    UP_TO_CONSTANTS,
    Certificate,
    Condition,
)
from gramian.prove.proof import PROVED, Proof
from gramian.train.trace import Series

AIM = Goal(best_constant=2.0, share=0.01, target=0.02, floor=0.0, classes=False)
RATE = {"lr": 0.3, "lr_max": 0.4, "loss": "nn.MSELoss()", "batches": "batches of 32"}


def accurate(share):
    return {"train_accuracy": Series("", "", [0, 10], [0.1, share])}


def a_certificate(status, about):
    """A certificate of each status."""
    premise = Condition("p", True, status not in (OBSERVED,))
    conclusion = Condition("c", True, status != CONTRADICTED)
    constants = "constants are 1" if status == UP_TO_CONSTANTS else ""
    found = Certificate("A theorem: of it", "", (premise,), (conclusion,), constants, about=about)
    assert found.status == status
    return found


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "100%"), (0.9996, "99.9%"), (0.5, "50.0%"), (0.0, "0.0%"), (499 / 500, "99.8%")]
)
def test_only_all_rows_are_100_percent(evidence, share, said):
    sentence = whether(evidence(measured=accurate(share)), NOT_REACHED, replace(AIM, classes=True), None, False)
    assert f", with {said} training accuracy; the global minimum counts" in sentence


def test_a_share_is_a_percentage_or_a_factor_and_never_rounds_up_to_all():
    assert [percent(v) for v in (0.0093, 0.9996, 1.0, 9.4, 25.0)] == ["0.93%", "99.9%", "100%", "940%", "25 times"]
    assert share_words(0.5, AIM) == "25% of the best constant predictor's (0.5 of 2)"
    assert share_words(0.5, replace(AIM, best_constant=0.0)) == "0.5"


def test_the_first_sentence_says_what_was_done_and_what_counts(evidence):
    said = whether(evidence(), REACHED, AIM, {"rmse": [2.5], "r2": 0.99996}, False)
    assert said == (
        "Reached: gradient descent brought the training loss to 0.0977% of the best constant predictor's (0.00195 of "
        "2), R^2 0.9999 and RMSE 2.5 on the training rows in 10 steps; the global minimum counts as reached with at "
        "most 1% of the best constant predictor's loss, at the last step."
    )
    assert "all its gradients are zero" in whether(evidence(), NOT_REACHED, AIM, None, True)


def test_only_a_theorem_about_training_implies_and_only_of_a_run_that_reached():
    for status in (IMPLIED, UP_TO_CONSTANTS, OBSERVED):
        assert why(REACHED, (a_certificate(status, TRAINING),)) == status
        assert why(REACHED, (a_certificate(status, OTHER),)) == OBSERVED
        assert why(NOT_REACHED, (a_certificate(status, TRAINING),)) == OBSERVED
    both = (a_certificate(IMPLIED, TRAINING), a_certificate(CONTRADICTED, TRAINING))
    assert why(REACHED, both) == OBSERVED  # one of the two is wrong
    assert why(REACHED, (a_certificate(IMPLIED, TRAINING), a_certificate(UP_TO_CONSTANTS, TRAINING))) == IMPLIED


def test_the_learning_rate_has_its_loss_and_stands_beside_the_largest_stable_one(evidence):
    said = how_fast(evidence(), RATE, 9.0, 7)
    assert said.startswith(
        "The learning rate was 0.3 for nn.MSELoss(), batches of 32 (here lr=0.3, for the loss summed over the rows), "
        "75% of the largest stable one at the start (0.4); the infinitely wide network would need 9 steps to the "
        "goal's loss, this one took 7"
    )
    assert said.endswith("was right within 3% at 7 measured steps.")
    assert "300 times the largest stable one" in how_fast(evidence(), RATE | {"lr": 90.0, "lr_max": 0.3}, 9.0, 7)
    bare = how_fast(evidence(predicted_error=None), RATE | {"lr_max": None}, None, None)
    assert (
        bare
        == "The learning rate was 0.3 for nn.MSELoss(), batches of 32 (here lr=0.3, for the loss summed over the rows)."
    )


def test_the_reason_names_the_eigenvalue_the_drift_and_the_useful_width(evidence, sweep_of):
    assert because(evidence(), sweep_of(1.6), OBSERVED, (), False, REACHED) == (
        "Observed: no theorem about training has all its premises met here. The limit's Gram matrix is positive "
        "(smallest eigenvalue 1), and the network's own, at width 64, is within 4% of it and moved by at most 5%; "
        "10% is expected from width 256 on."
    )
    assert "is singular to working precision, and" in because(evidence(), None, OBSERVED, (), True, REACHED)
    implied = because(evidence(), None, IMPLIED, (a_certificate(IMPLIED, TRAINING),), False, REACHED)
    assert implied.startswith("Implied by a theorem whose premises all hold (A theorem: of it). ")
    proved = because(evidence(), None, PROVED, (), False, REACHED, "Proved: this.")
    assert proved.startswith("Proved: this. The limit's Gram matrix is positive")
    seen = because(evidence(), None, OBSERVED, (), False, REACHED, "No proof: that.")
    assert "premises met here. No proof: that. The limit's Gram" in seen
    assert isinstance(sweep_of(1.6), Sweep)


def a_proof(statement, holds=True):
    line = Line("path", "", 0.1, "<", 1.0, holds)
    return Proof(
        "A proof", "", (), (), about=TRAINING, statement=statement, checked=Checked(statement, "", (), (line,))
    )


def test_proved_is_said_of_a_run_that_reached_and_of_an_exact_minimum_alone():
    assert why(REACHED, (a_proof("minimum"),)) == PROVED
    assert why(REACHED, (a_proof("separation"), a_certificate(IMPLIED, TRAINING))) == PROVED
    assert why(NOT_REACHED, (a_proof("minimum"),)) == OBSERVED
    assert why(REACHED, (a_proof("minimum", holds=False),)) == OBSERVED
    assert why(REACHED, (a_proof("descent"),)) == OBSERVED
    assert why(REACHED, (a_proof("minimum"), a_certificate(CONTRADICTED, TRAINING))) == OBSERVED
