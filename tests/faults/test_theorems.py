"""Certificates that said "certified" and should not have: answers of version 0.1.0, each with its right one."""

import math
import sys

import pytest
import torch
from nets import Elementwise
from torch import nn

from gramian.certify import CONTRADICTED, IMPLIED, NOT_SHOWN, OBSERVED, UP_TO_CONSTANTS, certify

PROOF = (IMPLIED, UP_TO_CONSTANTS)


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch):
    """The useful width is another question, and most of the time."""
    module = sys.modules["gramian.certify.width"]
    monkeypatch.setattr(module, "sweep", lambda *_, **__: None)


def of(one, words):
    (found,) = [c for c in one if words in c.theorem]
    return found


class Abs(nn.Module):
    """sum_r |w_r x| / sqrt(m)."""

    def __init__(self, m):
        super().__init__()
        self.first, self.last = nn.Linear(2, m, bias=False), nn.Linear(m, 1, bias=False)
        nn.init.normal_(self.first.weight)
        nn.init.constant_(self.last.weight, 1 / math.sqrt(m))
        self.last.requires_grad_(False)

    def forward(self, x):
        return self.last(self.first(x).abs())


@pytest.mark.parametrize("steps", [1, 2, 11])
def test_labels_that_the_network_cannot_represent_are_not_reached_by_the_argument_of_du(steps):
    """f >= 0 and labels -10, lr 0.15: all premises held but the one that was missing, the step's second order."""
    torch.manual_seed(0)
    x = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
    y = torch.full((2, 1), -10.0, dtype=torch.float64)
    one = certify(Abs(200), x, y, parametrization="own", optimizer="gd", lr=0.15, steps=steps, dtype=torch.float64)
    stable = of(one, "argument for descent")
    assert not one.reached
    assert stable.status != CONTRADICTED
    if steps < 11:  # the first steps, down to f = 0, do contract: that is all it says
        assert stable.status == IMPLIED
        assert "Nothing is said of steps that were not taken" in stable.summary
    else:
        assert stable.status not in PROOF
        assert "what linearization leaves" in " ".join(c.says for c in stable.failing)
    assert of(one, "gradient flow").status not in PROOF


def tanh_net(outputs=1, bias=False, activation=None):
    return nn.Sequential(nn.Linear(2, 8, bias=bias), activation or nn.Tanh(), nn.Linear(8, outputs, bias=bias))


X = torch.eye(2, dtype=torch.float64) * math.sqrt(2)
Y = torch.tensor([[1.0], [-0.5]], dtype=torch.float64)
LAW = {"0": (1.0, 0.0), "*": (1.5925374197, 0.0)}  # 1 / E tanh(z)^2 = 2.536, by Gauss-Hermite quadrature
RUN = {"optimizer": "gd", "width": 2000, "lr": 0.02, "steps": 4, "dtype": torch.float64}


def test_what_theorem_5_1_is_about_is_implied_up_to_constants():
    found = of(certify(tanh_net(), X, Y, law=LAW, **RUN), "5.1")
    assert found.failing == ()
    assert found.status == UP_TO_CONSTANTS


WRONG = {
    "clamp": Elementwise(lambda h: h.clamp(min=0)),
    "Hardtanh": nn.Hardtanh(),
    "square": Elementwise(lambda h: h**2),
    "SELU": nn.SELU(),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_activation_counts_by_its_class_and_not_by_what_it_is_not(name):
    found = of(certify(tanh_net(activation=WRONG[name]), X, Y, law=LAW, **RUN), "5.1")
    assert found.status not in PROOF
    assert "activations are analytic" in " ".join(c.says for c in found.failing)


def test_labels_of_5000_are_not_o_of_one():
    found = of(certify(tanh_net(), X, 5000 * Y, law=LAW, **RUN), "5.1")
    assert [c.says for c in found.failing] == ["labels are O(1): largest |y_i|"]


def test_three_outputs_with_biases_are_another_network():
    law = {"0": (1.0, 0.5), "*": (1.5925374197, 0.5)}
    y = torch.tensor([[0.5, -0.5, 0.1], [0.2, 0.3, 0.4]], dtype=torch.float64)
    found = of(certify(tanh_net(3, bias=True), X, y, law=law, **RUN), "5.1")
    assert [c.says for c in found.failing] == ["no biases", "number of outputs"]


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Linear(2, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.last = nn.Linear(8, 1, bias=False)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + self.inner(torch.relu(h)))


def test_a_pre_activation_relu_network_is_not_that_of_theorem_6_1():
    found = of(certify(PreActivation(), X, Y, **RUN | {"width": 256}), "6.1")
    assert found.status not in PROOF
    failing = " ".join(c.says for c in found.failing)
    assert "layers composed as in Theorem 6.1" in failing
    assert "activations are analytic" in failing


@pytest.mark.parametrize("width", [4, 8])
def test_a_width_of_four_implies_neither_gradient_bounds_nor_equivalence(width):
    """Two steps that left 97 % of the loss: both theorems hold with a probability that asks for a width."""
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    one = certify(net, X, Y, parametrization="allen-zhu", optimizer="gd", width=width, lr=1e-3, steps=2)
    checked = [c for c in one if "Theorem 3)" in c.theorem or "Theorem 5 c)" in c.theorem]
    assert checked
    for found in checked:
        assert found.status in (OBSERVED, NOT_SHOWN)
        assert "probability that the initialization is a bad one" in " ".join(c.says for c in found.failing)


def test_a_small_step_in_float32_is_no_gradient_descent():
    """lr 1e-9 moves no weight of size one: the loss stays, and is not below (1 - lr lambda / 2)^t of its start."""
    found = of(certify(tanh_net(), X, Y, law=LAW, **RUN | {"lr": 1e-9, "dtype": torch.float32}), "5.1")
    assert [c.says for c in found.failing] == ["each step against -lr grad F: largest relative distance"]
    assert found.status not in (*PROOF, CONTRADICTED)


def test_momentum_and_minibatches_are_not_what_the_theorems_on_descent_are_about():
    for settings in ({"optimizer": "sgd", "batch_size": 1}, {"optimizer": "momentum"}, {"optimizer": "adam"}):
        one = certify(tanh_net(), X, Y, law=LAW, **RUN | settings)
        assert not [c for c in one if c.about == "training" and c.status in PROOF]


def test_theorems_on_other_things_say_so():
    one = certify(tanh_net(), X, Y, law=LAW, **RUN)
    training = {c.theorem for c in one if c.about == "training"}
    assert any("argument for descent" in name for name in training)
    assert not any(words in name for name in training for words in ("Theorem 3)", "Theorem 5 c)", "Jacot", "Arora"))
