"""Beside the papers' budgets: the exact run, other theorems' own numbers, bounds of the error on new samples."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gramian
from gramian.certify import certify
from gramian.certify.answer import why
from gramian.certify.error_bounds import error_bounds
from gramian.certify.study_clock import Clock
from gramian.certify.whole_run_proof import proof_of_run
from gramian.checker.relu_descent import RELU_DESCENT
from gramian.prove.proof import Proof
from gramian.timing import TimeLimit

POLYAK = "polyak-lojasiewicz"


def net(width=32, activation=nn.Tanh, fixed=False):
    torch.manual_seed(0)
    # the default of a module's fixture is float32, of a test float64: other draws
    layers = nn.Linear(3, width, dtype=torch.float64), activation(), nn.Linear(width, 1, dtype=torch.float64)
    module = nn.Sequential(*layers)
    module[2].requires_grad_(not fixed)
    return module


def rows(n=4):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (3, 1))
    return x, y


def statements(one):
    return [c.statement for c in one if isinstance(c, Proof)]


@pytest.fixture(scope="module")
def descended():
    return certify(net(), *rows(), optimizer="gd", lr=0.03, steps=3000)


def test_the_exact_run_is_proved_and_the_recorded_one_measured_against_it(descended):
    assert statements(descended) == ["minimum", "descent", "run", POLYAK, POLYAK]
    proof = next(c for c in descended if isinstance(c, Proof) and c.statement == "run")
    assert proof.status == "proved"
    assert proof.content.numbers["lr"] == descended.run["loss"]["lr"]
    assert proof.numbers["recorded_steps"] == descended.run["goal"]["steps"]
    # both runs are float64: rounding alone is between them
    assert 0 <= proof.numbers["recorded_distance"] < 1e-10
    third = descended.answer[2]
    assert "Proved: gradient descent in real numbers from this run's initial weights, at its learning rate" in third
    assert "Measured: the recorded run, in float64, is another one; its weights after" in third
    assert "Measured: the recorded run" in proof.summary


def test_the_proof_of_the_run_is_a_file_about_the_initial_weights(descended, tmp_path):
    proof = next(c for c in descended if isinstance(c, Proof) and c.statement == "run")
    proof.save(tmp_path / "run")
    assert gramian.prove.check(tmp_path / "run").valid
    held, own = proof.content.program.arrays, net().state_dict()
    assert held.keys() == own.keys()
    for name, array in held.items():
        assert abs(array - own[name].numpy()).max() == 0, name


def test_the_condition_stands_beside_the_paper_s_budget(descended):
    at_start, polished = (c for c in descended if isinstance(c, Proof) and c.statement == POLYAK)
    assert "from the initial weights" in at_start.theorem
    assert "from the polished weights" in polished.theorem
    assert (at_start.status, polished.status) == ("not proved", "proved")
    for one in (at_start, polished):
        assert "the paper's own budget, from a geometric sum, is" in one.summary
    facts = descended.run["certificates"][3]
    assert facts["statement"] == POLYAK
    assert {margin["name"] for margin in facts["margins"]} >= {"residual", "sigma", "path"}


def test_a_proof_of_the_run_is_a_reason_for_the_answer(descended):
    run = tuple(c for c in descended if isinstance(c, Proof) and c.statement == "run")
    assert why("reached", run) == "proved"
    assert why("not reached", run) == "observed"


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (net(), {"optimizer": "adam"}),
        (net(), {"optimizer": "momentum"}),
        (net(), {"optimizer": "sgd", "batch_size": 2}),
        (nn.Sequential(*net(), nn.Tanh(), nn.Linear(1, 1)).double(), {"optimizer": "gd"}),
        (net(activation=nn.ReLU), {"optimizer": "gd"}),
    ],
    ids=["adam", "momentum", "minibatches", "three layers", "ReLU, both trained"],
)
def test_what_has_other_premises_is_not_shown(module, settings):
    one = certify(module, *rows(), steps=3, **settings)
    assert "run" not in statements(one)
    assert RELU_DESCENT not in statements(one)
    assert "whole run" not in one.answer[2]
    at_start = [c for c in one if isinstance(c, Proof) and "initial weights" in c.theorem]
    assert not at_start


def test_relu_descent_is_shown_where_the_readout_stays_and_proved_before_it_runs():
    x, y = rows()
    module = net(400, nn.ReLU, fixed=True)
    near = module(x).detach() + 1e-5 * y
    one = certify(module, x, near, optimizer="gd", steps=2, targets="as given")
    theorem = next(c for c in one if isinstance(c, Proof) and c.statement == RELU_DESCENT)
    assert theorem.status == "proved"
    assert "Proved from the initial weights alone: gradient descent in real numbers" in one.answer[2]
    far = certify(module, x, y, optimizer="gd", steps=2)
    assert next(c for c in far if isinstance(c, Proof) and c.statement == RELU_DESCENT).status == "not proved"
    assert "initial weights alone" not in far.answer[2]


def test_what_does_not_fit_the_time_says_so(descended):
    x, y = rows()
    run = SimpleNamespace(
        initial=SimpleNamespace(start=net(), mode_differences=""), loss_name="squared", descends=True,
        data=SimpleNamespace(inputs=x, training_targets=lambda: y), plan=SimpleNamespace(lr=0.03),
        trace=descended.trace,
    )  # fmt: skip
    proof, says = proof_of_run(run, TimeLimit(0.0), Clock())
    assert proof is None
    assert says.startswith("No proof of the whole run was tried: ")
    assert says.endswith("prove=True (--prove) takes the time.")
    run.descends = False
    assert proof_of_run(run, TimeLimit(0.0), Clock()) == (None, "")


def finished(module, start, x, y, x_test, y_test):
    checked = SimpleNamespace(y=y, y_test=y_test, scale=None)
    data = SimpleNamespace(
        inputs=x, has_classes=False, n_outputs=1, checked=checked, has_test=True, test_inputs=x_test
    )  # fmt: skip
    return SimpleNamespace(data=data, initial=SimpleNamespace(start=start, network=module))


def minimum(status="proved"):
    return SimpleNamespace(status=status, statement="minimum", numbers={"radius": 1e-12, "seconds": 1.0})


def test_bounds_of_the_error_stand_beside_the_measured_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 2, generator=generator).double()
    y = x[:, :1].sign()
    start = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        start.weight.copy_(torch.tensor([[1.0, 0.0]]))
    run = finished(start, start, x[:1000], y[:1000], x[1000:], y[1000:])
    bounds = error_bounds(run, minimum(), start, TimeLimit(math.inf))
    assert [bound.name for bound in bounds] == ["PAC-Bayes", "Rademacher"]
    assert bounds[0].value < 0.2
    assert not bounds[0].vacuous
    assert bounds[0].test_error <= bounds[0].value
    assert bounds[1].test_error == 0
    assert "independently" in " ".join(bounds[0].assumes)
    assert error_bounds(run, minimum("not proved"), start, TimeLimit(math.inf)) == ()
    assert error_bounds(run, minimum(), start, TimeLimit(0.0)) == ()
    few = finished(start, start, x[:999], y[:999], x[1000:], y[1000:])
    assert error_bounds(few, minimum(), start, TimeLimit(math.inf)) == ()
