"""A condition holds, fails or is not known; a certificate's status follows from its conditions alone."""

import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.certify import CONTRADICTED, IMPLIED, NOT_SHOWN, OBSERVED, UP_TO_CONSTANTS, Certificate, Condition

number = st.floats(allow_nan=False)
WAYS = {True: Condition("", 1.0, 0.5, "<="), False: Condition("", 1.0, 2.0, "<="), None: Condition("", 1.0, None, "<=")}
truths = st.lists(st.sampled_from([True, False, None]), max_size=4)


def certificate(premises, conclusion, constants=""):
    return Certificate("T", "arXiv:0", tuple(WAYS[p] for p in premises), tuple(WAYS[c] for c in conclusion), constants)


@given(has=number, needs=number)
def test_the_senses_are_those_of_the_numbers(has, needs):
    wanted = {">=": has >= needs, ">": has > needs, "<=": has <= needs, "<": has < needs, "is": has == needs}
    for sense, truth in wanted.items():
        assert Condition("a number", needs, has, sense).holds is truth


@given(needs=number, sense=st.sampled_from([">=", ">", "<=", "<", "is"]), has=st.sampled_from([None, math.nan]))
def test_what_was_not_measured_is_not_known(needs, sense, has):
    condition = Condition("a number", needs, has, sense)
    assert condition.holds is None
    assert condition.to_dict()["holds"] is None


@given(premises=truths, conclusion=truths, constants=st.sampled_from(["", "all of them"]))
def test_the_status_is_premises_times_conclusion(premises, conclusion, constants):
    implied = all(p is True for p in premises)
    if implied and False in conclusion:
        wanted = CONTRADICTED
    elif implied:  # a conclusion that was not measured is implied all the same
        wanted = UP_TO_CONSTANTS if constants else IMPLIED
    elif conclusion and all(c is True for c in conclusion):
        wanted = OBSERVED
    else:
        wanted = NOT_SHOWN
    found = certificate(premises, conclusion, constants)
    assert found.status == wanted
    assert [c.holds for c in found.failing] == [p for p in premises if p is not True]


@given(premises=truths, has=st.sampled_from([0.5, 60.0, None]))
def test_a_bound_that_no_run_could_violate_shows_nothing_and_says_so(premises, has):
    bound = Condition("drift", 54.0, has, "<=", "constant 1", vacuous="no drift is above 1")
    alone = Certificate("T", "arXiv:0", tuple(WAYS[p] for p in premises), (bound,))
    assert alone.status == NOT_SHOWN
    assert bound.to_dict()["vacuous"] is True
    assert bound.to_dict()["note"] == "constant 1; vacuous: no drift is above 1"
    for conclusion in ([True], [False], [None]):
        beside = Certificate("T", "arXiv:0", alone.premises, (bound, WAYS[conclusion[0]]))
        assert beside.status == certificate(premises, conclusion).status


@given(premises=truths, conclusion=truths)
def test_learning_more_never_takes_a_contradiction_back(premises, conclusion):
    """A premise or conclusion that turns out true can't make a contradiction of what was none, nor undo one."""
    before = certificate(premises, conclusion).status
    after = certificate([*premises, True], [*conclusion, True]).status
    assert (before == CONTRADICTED) == (after == CONTRADICTED)
    if before == IMPLIED:
        assert after == IMPLIED


@pytest.mark.parametrize(
    ("condition", "needs", "has"),
    [
        (Condition("width", 1e40, 512.0, ">="), "≥ 1e+40", "512"),
        (Condition("rate", 0.25, None, "<"), "< 0.25", None),
        (Condition("smooth", True, False), "yes", "no"),
        (Condition("loss", "squared", "squared"), "squared", "squared"),
        (Condition("width", math.inf, 2.0, ">="), "≥ infinity", "2"),
    ],
)
def test_numbers_are_printed_with_their_sign(condition, needs, has):
    plain = condition.to_dict()
    assert (plain["needs"], plain["has"]) == (needs, has)


def test_a_certificate_is_plain_data():
    found = certificate([True, None], [False])
    assert json.loads(found.to_json()) == found.to_dict()
    assert found.to_dict()["status"] == NOT_SHOWN
    assert pickle.loads(pickle.dumps(found)) == found
    assert str(found) == (
        "T (arXiv:0): not shown\n"
        "  premise: : needs ≤ 1, has 0.5 (holds)\n"
        "  premise: : needs ≤ 1, has not measured (not known)\n"
        "  conclusion: : needs ≤ 1, has 2 (fails)"
    )


def test_infinite_numbers_make_json_that_parses():
    found = Certificate("T", "", (Condition("width", math.inf, 8.0, ">="),), (Condition("x", 1.0, math.nan, "<="),))
    json.loads(found.to_json(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
