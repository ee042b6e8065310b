"""Does the contract of theorems notice each condition? Switch every one off in turn, and the contract must fail.

A mutant is a theorem one of whose premises, or conclusions, holds whatever the run did. A new theorem needs nothing
here but its conclusions' breaks in `VIOLATED`; its premises are broken in `test_theorem_premises.BROKEN`.
"""

import math
from dataclasses import replace

import pytest

from gramian.certify import CONTRADICTED, IMPLIED, THEOREMS, UP_TO_CONSTANTS, Condition
from gramian.certify.theorems.allenzhu2019convergence import budget
from gramian.train.trace import Series

from . import test_theorem_premises as contract
from .conftest import steps
from .test_theorem_premises import BROKEN, BUDGET, BUDGET_SGD, LOSSES, MET, MORE, check, wide

GROWN = Series("loss", "", list(range(11)), [LOSSES[0], LOSSES[0] * MORE, *LOSSES[2:]])


def unlinked_steps():
    """Steps that obey their own bound 1 - lr lambda_min / 2 = 0.925, each from a residual above where the last ended.

    Linked steps can't break the bound of the whole run alone: lambda_min is at least lambda_0 / 2, a premise.
    """
    series = steps([LOSSES[0] * 0.93 ** (2 * k) for k in range(11)], smallest=0.5)
    for k, value in enumerate(series.values):
        series.values[k] = value | {"next residual": 0.924 * value["residual"]}
    return series


def one_slow_step():
    """A single step above its own bound (1 - lr lambda_min / 2) = 0.865, and a whole run below its bound."""
    norms = [(2 * loss) ** 0.5 for loss in LOSSES]
    series = steps(LOSSES)
    series.values[5] = series.values[5] | {"next residual": 0.865 * norms[5] * MORE}
    return series


def endless(granted):
    """A run of as many steps as the theorem grants, which did not reach the accuracy."""
    return {"accuracy_steps": None, "series": {"loss": Series("loss", "", [0, math.ceil(granted)], [2.0, 1.0])}}


GRANTED_SGD = budget(4, 2, 0.4, 2, 0.01, wide(BUDGET_SGD.width), b=2).steps / 0.9  # at 0.9 of the theorem's rate
FLAT = {"series": {"loss": Series("loss", "", [0, 10], [2.0, 2.0])}}
CONVERGENCE = [
    ("the loss falls", endless(BUDGET.steps * MORE)),
    ("steps until then", {"accuracy_steps": math.ceil(BUDGET.steps * MORE)}),
    ("F_t <= (1 - c lr", FLAT),
    ("||W_t - W_0||_F", {"series": {"distance": Series("", "", [0, 10], [{"1": 0.0}, {"1": 1e-11}])}}),
]
DU = [("loss over its bound", {"series": {"loss": GROWN}})]
# theorem: for each of its conclusions its words, and a run that violates it while every premise holds
VIOLATED = {
    "allenzhu2019convergence": CONVERGENCE,
    "allenzhu2019convergence, SGD": [
        ("the loss falls", endless(GRANTED_SGD * MORE)),
        ("steps until then", {"accuracy_steps": math.ceil(GRANTED_SGD * MORE)}),
    ],
    "allenzhu2019gradient": [
        ("smallest ||grad F||", {"series": {"gradient_over_loss": Series("", "", [0, 10], [0.0, 8.0])}}),
    ],
    "allenzhu2019equivalence": [
        ("largest |K_t - K_0|", {"series": {"kernel_entry_drift": Series("", "", [0, 10], [0.0, 0.5470427 * MORE])}}),
    ],
    "du2019global, 5.1": DU,
    "du2019global, 6.1": DU,
    "du2019global, 7.1": DU,
    "du2019twolayer": DU,
    "du2019stability": [
        ("after a step over its bound", {"series": {"step_remainder": one_slow_step()}}),
        ("(1 - lr lambda_0 / 4)^(2t)", {"series": {"step_remainder": unlinked_steps()}}),
    ],
    "du2019flow": [("loss over its bound", {"series": {"loss": GROWN}})],
    "jacot2018limit": [
        ("at initialization", {"gram_error": 0.2 * MORE}),
        ("during the run", {"series": {"kernel_drift": Series("", "", [0, 10], [0.0, 0.2 * MORE])}}),
    ],
}  # fmt: skip
# without it the certificate is that of Theorem 2, which the contract checks: no evidence tells this mutant
NO_MUTANT = {("allenzhu2019convergence", "plain gradient descent on all samples")}
VIOLATIONS = [(name, k) for name, cases in VIOLATED.items() for k in range(len(cases))]


def off(theorem, kind, number):
    """The theorem with one of its conditions switched off: it holds always."""

    def mutant(evidence):
        certificate = theorem(evidence)
        conditions = list(getattr(certificate, kind))
        if number < len(conditions):
            conditions[number] = Condition(conditions[number].says, True, True)
        return replace(certificate, **{kind: tuple(conditions)})

    return mutant


def noticed(evidence, name, test):
    """Whether one case of the contract of this theorem fails."""
    for case, number in contract.CASES if test is premise_case else VIOLATIONS:
        if case == name:
            try:
                test(evidence, name, number)
            except AssertionError:
                return True
    return False


premise_case = contract.test_break_one_premise_the_least_one_can_and_it_names_that_one


@pytest.mark.parametrize(("name", "number"), VIOLATIONS, ids=[f"{n}-{VIOLATED[n][k][0]}" for n, k in VIOLATIONS])
def test_violate_one_conclusion_and_it_is_contradicted(evidence, name, number):
    words, changes = VIOLATED[name][number]
    certificate = check(evidence, name, changes)
    assert certificate.failing == ()
    violated = [c.says for c in certificate.conclusion if c.holds is False]
    assert len(violated) == 1, violated
    assert words in violated[0]
    assert certificate.status == CONTRADICTED


def test_every_theorem_is_here():
    assert set(VIOLATED) == set(MET), "an entry in VIOLATED for each of MET"


@pytest.mark.parametrize("name", MET)
def test_every_conclusion_is_violated_once(evidence, name):
    """But one that no run could violate, which says so and shows nothing."""
    telling = [c.says for c in check(evidence, name, {}).conclusion if not c.vacuous]
    assert len(telling) == len(VIOLATED.get(name, ())), f"an entry in VIOLATED[{name!r}] for each of {telling}"
    for says in telling:
        assert sum(words in says for words, _ in VIOLATED[name]) == 1, says


def test_each_condition_that_is_switched_off_is_noticed(evidence, monkeypatch):
    mutants = unnoticed = 0
    for name in MET:
        key = name.split(",")[0]
        original = THEOREMS[key]
        certificate = check(evidence, name, {})
        assert certificate.status in (IMPLIED, UP_TO_CONSTANTS)
        tests = {"premises": premise_case, "conclusion": test_violate_one_conclusion_and_it_is_contradicted}
        for kind, test in tests.items():
            for k, condition in enumerate(getattr(certificate, kind)):
                if condition.vacuous or (name, condition.says) in NO_MUTANT:
                    continue
                monkeypatch.setitem(THEOREMS, key, off(original, kind, k))  # a mutant: that it is noticed is the test
                mutants += 1
                if not noticed(evidence, name, test):
                    unnoticed += 1
                    print(f"not noticed: {name}: {condition.says}")
                monkeypatch.setitem(THEOREMS, key, original)
    print(f"{mutants} conditions switched off, {mutants - unnoticed} noticed")
    assert unnoticed == 0
    assert mutants >= 135
    assert set(BROKEN) == set(VIOLATED)
