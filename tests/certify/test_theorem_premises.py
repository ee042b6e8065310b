"""The contract of a theorem: with every premise met it is implied; break one, the least one can, and it names that one.

A new theorem is one entry of `MET`, one of `BROKEN` for each of its premises, and one of `VIOLATED` in
`test_theorem_mutations.py` for each of its conclusions.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gramian.certify import IMPLIED, NOT_SHOWN, OBSERVED, THEOREMS, UP_TO_CONSTANTS, theorems
from gramian.certify.theorems.allenzhu2019convergence import budget
from gramian.certify.theorems.allenzhu2019equivalence import radii
from gramian.certify.theorems.allenzhu2019gradient import radius
from gramian.certify.theorems.du2019global import largest_lr
from gramian.certify.theorems.du2019global import width as du_width
from gramian.certify.theorems.du2019twolayer import width as two_layer_width
from gramian.train.trace import Series

from .conftest import steps

LOSSES = [2.0 * 0.5**k for k in range(11)]
MORE, LESS = 1 + 1e-6, 1 - 1e-6

PAPER = {
    "paper_initialization": True, "trained": "hidden", "unit": 1.0, "stretch": 1.0, "last_coordinate_error": 0.0,
    "initialization": "as in arXiv:1811.03962",
}  # fmt: skip
STILL = {"spectral_distance": Series("", "", [0, 10], [{"1": 0.0}, {"1": 1e-6}])}
LAZY = {"distance": Series("", "", [0, 10], [{"1": 0.0}, {"1": 1e-15}])}  # as a network of width 1e30 would be
NO_DESCENT = {"optimizer": "sgd", "batch_size": 3, "independent_batches": False}
FAST = {"step_remainder": steps(LOSSES, largest=2 / 0.3 - 0.9 * LESS)}
BUDGET = budget(4, 2, 0.4, 2, 0.01, 1.0)
BUDGET_SGD = budget(4, 2, 0.4, 2, 0.01, 1.0, b=2)
DU = {
    "n_outputs": 1, "analytic": True, "activations": ("tanh",), "n": 4, "depth": 2, "lambda_last": 0.3,
    "initialization": "NTK parametrization, law given per layer",
}  # fmt: skip
TWO_LAYER = {
    "depth": 1, "n_outputs": 1, "sign_readout": True, "trained": "first", "lambda_two_layer": 0.2, "form": "chain",
}  # fmt: skip


def wide(asked):
    return math.ceil(asked * MORE)


def narrow(asked):
    return math.floor(asked * LESS)


MET = {
    "allenzhu2019convergence": PAPER | {
        "measured": LAZY, "width": wide(BUDGET.width), "lr": BUDGET.lr / wide(BUDGET.width),
    },
    "allenzhu2019convergence, SGD": PAPER | {
        "optimizer": "sgd", "batch_size": 2, "width": wide(BUDGET_SGD.width), "lr": 0.9 * budget(
            4, 2, 0.4, 2, 0.01, wide(BUDGET_SGD.width), b=2).lr,
    },
    "allenzhu2019gradient": PAPER | {"n": 2, "depth": 1, "separation": 1.2, "width": 10**4, "measured": STILL},
    "allenzhu2019equivalence": PAPER | {"depth": 1, "width": 64, "measured": STILL | {
        "kernel_entry_drift": Series("", "", [0, 10], [0.0, 0.06])}},
    "du2019global, 5.1": DU | {
        "width": wide(du_width(4, 2, 0.3, "fully connected")), "lr": largest_lr(4, 2, 0.3, "fully connected") * LESS,
    },
    "du2019global, 6.1": DU | {
        "family": "residual", "form": "residual", "width": wide(du_width(4, 2, 0.3, "residual")),
        "lr": largest_lr(4, 2, 0.3, "residual") * LESS,
    },
    "du2019global, 7.1": DU | {
        "family": "residual", "form": "convolutional residual", "pixels": 5,
        "width": wide(du_width(4, 2, 0.3, "residual", 5)), "lr": largest_lr(4, 2, 0.3, "residual", 5) * LESS,
    },
    "du2019twolayer": TWO_LAYER | {"width": wide(two_layer_width(4, 0.2)), "lr": 0.2 / 16 * LESS},
    "du2019stability": {},
    "du2019flow": {"lr": 0.0},
    "jacot2018limit": {"lr": 0.0, "width": math.inf, "analytic": True},
}  # fmt: skip

# a premise: its words, what breaks it, and which others this breaks with it
NORM = ("norm one", {"norm_error": 1.1e-5}, ())
LABELS = ("labels are O(1)", {"label_norm": MORE}, ())
SQUARED = ("squared loss", {"loss": "cross-entropy"}, ())
BATCHES = ("plain gradient descent", {"optimizer": "sgd", "batch_size": 3}, ())
LOST = ("each step against", {"series": {"update_error": Series("", "", [1], [0.0101])}}, ())
UNKNOWN = ("each step against", {"series": {"update_error": None}}, ())
SETTING = [
    NORM,
    ("last coordinate", {"last_coordinate_error": 1.1e-5}, ()),
    ("last coordinate", {"last_coordinate_error": None}, ()),
    ("activations are ReLU", {"activations": ("LeakyReLU",)}, ()),
    ("activations are ReLU", {"activations": ("ReLU", "tanh")}, ()),
    ("weights drawn", {"paper_initialization": False}, ()),
    ("hidden layers trained", {"trained": "all"}, ()),
]
DU_BROKEN = [
    NORM, LABELS, SQUARED, BATCHES, LOST, UNKNOWN,
    ("no two inputs are parallel", {"lambda_last": 1e-12}, ("width m", "learning rate")),
    ("analytic", {"analytic": False}, ()),
    ("analytic", {"analytic": None}, ()),
    ("layers composed", {"form": "other"}, ()),
    ("each layer's factor", {"scaling_error": 1.1e-4}, ()),
    ("each layer's factor", {"scaling_error": None}, ()),
    ("no biases", {"biases": True}, ()),
    ("number of outputs", {"n_outputs": 2}, ()),
    ("weights drawn from N(0, 1)", {"gaussian": None}, ()),
    ("all layers are trained", {"trained": "some"}, ()),
]  # fmt: skip


def du_sizes(family, p=1):
    return [
        ("width m", {"width": narrow(du_width(4, 2, 0.3, family, p))}, ()),
        ("learning rate", {"lr": largest_lr(4, 2, 0.3, family, p) * MORE}, ()),
    ]


BROKEN = {
    "allenzhu2019convergence": [
        *SETTING, LABELS, SQUARED, LOST, UNKNOWN,
        ("plain gradient descent", NO_DESCENT, "another theorem"),
        ("separation", {"separation": 0.0}, ("width m", "learning rate")),
        ("width m", {"width": narrow(BUDGET.width)}, ()),
        ("learning rate", {"lr": BUDGET.lr / wide(BUDGET.width) * MORE}, ()),
    ],
    "allenzhu2019convergence, SGD": [
        *SETTING, LABELS, SQUARED,
        ("batches drawn independently", {"independent_batches": False}, ()),
        ("batches drawn independently", {"independent_batches": None}, ()),
        ("separation", {"separation": 0.0}, ("width m", "learning rate")),
        ("width m", {"width": narrow(BUDGET_SGD.width)}, ()),
        ("learning rate", {"lr": MORE * budget(4, 2, 0.4, 2, 0.01, wide(BUDGET_SGD.width), b=2).lr}, ()),
    ],
    "allenzhu2019gradient": [
        *SETTING, LABELS, SQUARED,
        ("separation", {"separation": 0.0}, ("spectral distance", "bad one")),
        ("spectral distance", {"stretch": radius(2, 1, 1.0, 10**4) * 1e6 * MORE}, ()),
        ("spectral distance", {"series": {"spectral_distance": None}}, ()),
        ("bad one", {"width": 2100}, ()),
    ],
    "allenzhu2019equivalence": [
        *SETTING,
        ("spectral distance", {"stretch": radii(2, 1, 64)[1] * 1e6 * MORE}, ()),
        ("lower end", {"n_outputs": 65}, ()),
        ("bad one", {"width": 11}, ()),
    ],
    "du2019global, 5.1": DU_BROKEN + du_sizes("fully connected"),
    "du2019global, 6.1": DU_BROKEN + du_sizes("residual"),
    "du2019global, 7.1": DU_BROKEN + du_sizes("residual", 5),
    "du2019twolayer": [
        NORM, LABELS, SQUARED, BATCHES, LOST, UNKNOWN,
        ("no two inputs are parallel", {"lambda_two_layer": 1e-12}, ("width m", "learning rate")),
        ("activations are ReLU", {"activations": ("tanh",)}, ()),
        ("one hidden layer", {"form": "other"}, ()),
        ("number of outputs", {"n_outputs": 2}, ()),
        ("no biases", {"biases": True}, ()),
        ("readout a_r", {"sign_readout": False}, ()),
        ("readout a_r", {"sign_readout": None}, ()),
        ("readout fixed", {"trained": "all"}, ()),
        ("drawn from N(0, I)", {"gaussian": None}, ()),
        ("width m", {"width": narrow(two_layer_width(4, 0.2))}, ()),
        ("learning rate", {"lr": 0.2 / 16 * MORE}, ()),
    ],
    "du2019stability": [
        SQUARED, BATCHES,
        ("lambda_0", {"lambda_min": 1e-12}, ()),
        ("share of the steps", {"series": {"step_remainder": steps(LOSSES[:-1])}}, ()),
        ("share of the steps", {"series": {"step_remainder": None}}, "nothing measured"),
        ("Gram matrix at any step", {"lambda_min": 1.8 * MORE}, ()),
        ("the smallest and the largest", {"series": FAST}, ()),
        ("linearization leaves", {"series": {"step_remainder": steps(LOSSES, remainder=0.3 * 0.45 * MORE)}}, ()),
    ],
    "du2019flow": [
        SQUARED,
        ("gradient flow", {"lr": 1e-300}, ()),
        ("lambda_0", {"lambda_min": 1e-12}, ()),
        ("Gram matrix during the run", {"lambda_min": 1.8 * MORE}, ()),
        ("all samples and outputs", {"series": {"step_remainder": None}}, ()),
    ],
    "jacot2018limit": [
        ("fully connected", {"form": "other"}, ()),
        ("NTK parametrization", {"initialization": "standard parametrization, law torch"}, ()),
        ("smooth", {"analytic": None}, ()),
        ("all layers", {"trained": "some"}, ()),
        ("gradient flow", {"lr": 1e-300}, ()),
        ("width", {"width": 10**300}, ()),
    ],
}  # fmt: skip
CASES = [(name, k) for name, broken in BROKEN.items() for k in range(len(broken))]


def check(evidence, name, changes):
    measured = MET[name].get("measured", {}) | changes.get("series", {})
    fields = MET[name] | {k: v for k, v in changes.items() if k != "series"} | {"measured": measured}
    return THEOREMS[name.split(",")[0]](evidence(**fields))


def words(certificate, of):
    """The words of BROKEN that are about each of these premises."""
    return [next((w for w in of if w in c.says), c.says) for c in certificate.failing]


def test_every_theorem_is_here():
    folder = Path(theorems.__file__).parent
    files = {p.stem for p in folder.glob("*.py") if "\ndef certificate(" in p.read_text("utf-8")}
    assert set(THEOREMS) == files, "a line in THEOREMS of certify/theorems/__init__.py for each file, and no other"
    here = {name.split(",")[0] for name in MET}
    assert here == set(THEOREMS) - {"arora2019exact"}, "an entry in MET for each"  # whose width is left open
    assert set(MET) == set(BROKEN), "an entry in BROKEN for each of MET"


@pytest.mark.parametrize("name", MET)
def test_with_every_premise_met_it_is_implied(evidence, name):
    found = check(evidence, name, {})
    assert found.failing == ()
    assert found.status == (UP_TO_CONSTANTS if found.constants else IMPLIED)
    assert not found.constants or "taken to be 1" in found.constants
    assert not any(c.holds is False for c in found.conclusion)


@pytest.mark.parametrize("name", MET)
def test_every_premise_is_broken_once(evidence, name):
    premises = [c.says for c in check(evidence, name, {}).premises]
    for says in premises:
        assert any(w in says for w, *_ in BROKEN[name]), says
    for w, *_ in BROKEN[name]:
        assert sum(w in says for says in premises) == 1, w


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{n}-{BROKEN[n][k][0]}-{k}" for n, k in CASES])
def test_break_one_premise_the_least_one_can_and_it_names_that_one(evidence, name, number):
    breaks, changes, along = BROKEN[name][number]
    found = check(evidence, name, changes)
    assert found.status in (OBSERVED, NOT_SHOWN)
    failing = [c.says for c in found.failing]
    if along == "another theorem":  # SGD is Theorem 2's
        assert "Theorem 2" in found.theorem
        return
    if along == "nothing measured":
        assert any(breaks in says for says in failing)
        return
    assert [any(w in says for says in failing) for w in (breaks, *along)] == [True] * (1 + len(along))
    assert len(failing) == 1 + len(along), failing


@pytest.mark.parametrize("field", ["norm_error", "label_norm", "lambda_last"])
def test_a_number_that_is_not_known_implies_nothing(evidence, field):
    met = check(evidence, "du2019global, 5.1", {})
    assert met.status == UP_TO_CONSTANTS
    e = evidence(**MET["du2019global, 5.1"])
    found = THEOREMS["du2019global"](replace(e, **{field: math.nan}))
    assert found.status in (OBSERVED, NOT_SHOWN)


def test_the_exact_computation_has_no_open_premise_but_what_the_paper_leaves_open(evidence):
    """Its width is a polynomial that the paper does not give, and kappa is 1 in every run here."""
    ideal = {"lr": 0.0, "initialization": "NTK parametrization, law he"}
    found = THEOREMS["arora2019exact"](evidence(**ideal))
    assert [c.says for c in found.failing] == ["outputs are multiplied by a small kappa", "width"]
    assert found.status == OBSERVED
