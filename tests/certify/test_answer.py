"""The three sentences."""

import pytest

from gramian.certify.answer import answer, contradiction
from gramian.certify.width import Sweep
from gramian.train.trace import Series

SWEEP = Sweep((64, 128), (0.2, 0.14), -0.5, 1.6, 0.1, 24)


def accurate(share):
    return {"train_accuracy": Series("", "", [0, 10], [0.1, share])}


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "100%"), (0.9996, "99.9%"), (0.5, "50.0%"), (0.0, "0.0%"), (499 / 500, "99.8%")]
)
def test_only_all_rows_are_100_percent(evidence, share, said):
    sentence = answer(evidence(measured=accurate(share)), SWEEP, 0.4, 9.0)[0]
    assert sentence.endswith(f"in 10 steps and {said} training accuracy.")


def test_the_learning_rate_stands_beside_the_largest_stable_one(evidence):
    said = answer(evidence(), SWEEP, 0.4, 9.0)[1]
    assert said.startswith(
        "The learning rate was 0.3, 75% of the largest stable one (0.4); the infinitely wide network would need 9 "
        "steps, this one took 7"
    )
    assert said.endswith("was right within 3% all the way.")
    assert "300 times the largest stable one" in answer(evidence(lr=90.0), SWEEP, 0.3, 9.0)[1]
    assert answer(evidence(predicted_error=None, accuracy_steps=None), SWEEP, None, None)[1] == (
        "The learning rate was 0.3."
    )


def test_the_reason_names_the_eigenvalue_the_drift_and_the_useful_width(evidence):
    assert answer(evidence(), SWEEP, 0.4, 9.0)[2] == (
        "The limit's Gram matrix is positive (smallest eigenvalue 1), and the network's own, at width 64, is within 4% "
        "of it and moved by 5%; 10% is expected from width 256 on. The theorems' proofs ask for astronomical widths."
    )


def test_pairs_in_conflict_are_counted():
    assert contradiction(((3, 8),))[0] == "No network can: rows 3 and 8 are the same input with different labels."
    assert contradiction(((3, 8), (4, 5)))[0].endswith("different labels, and so is one more pair.")
    assert contradiction(((3, 8), (4, 5), (6, 7)))[0].endswith("different labels, and so are 2 more pairs.")
