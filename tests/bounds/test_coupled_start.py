"""What a random start costs, and the margin of a kernel, against numbers known by other means."""

import math

import pytest
import torch
from sklearn.svm import SVC
from torch import nn

from gramian import architecture, empirical_ntk
from gramian.bounds import h_infinity, ntk_margin, start_cost
from gramian.data import correlated_sphere, random_signs
from gramian.errors import BadArgument
from gramian.train import Antisymmetric, two_layer_relu


def test_the_margin_is_that_of_a_hard_margin_machine():
    x, y = correlated_sphere(30, 5), random_signs(30)
    gram = h_infinity(x)
    lower, upper = ntk_margin(gram, y)
    assert lower <= upper * (1 + 1e-12)
    assert lower == pytest.approx(upper, rel=1e-9)
    machine = SVC(C=1e10, kernel="precomputed", tol=1e-9).fit(gram.numpy(), y.numpy())
    weights = torch.from_numpy(machine.dual_coef_[0])
    some = gram[machine.support_][:, machine.support_]
    assert lower == pytest.approx(1 / math.sqrt(float(weights @ some @ weights)), rel=1e-3)  # libsvm stops earlier


def test_a_margin_is_of_two_classes():
    with pytest.raises(BadArgument, match="not all 1 and -1"):
        ntk_margin(torch.eye(2), torch.tensor([0.0, 1.0]))


def test_the_cost_of_a_random_start_is_the_mean_over_starts():
    x, y = correlated_sphere(6, 5), random_signs(6)
    gram, cost = h_infinity(x), start_cost(x, y)
    assert cost.coupled == pytest.approx(math.sqrt(float(y @ torch.linalg.solve(gram, y))))
    squares = []
    for _ in range(2000):  # width 200, 2000 draws: standard error 2 %, tolerance 8 %
        residual = two_layer_relu(5, 200)(x).detach()[:, 0] - y
        squares.append(float(residual @ torch.linalg.solve(gram, residual)))
    assert sum(squares) / len(squares) == pytest.approx(cost.independent**2, rel=0.08)
    assert cost.ratio < 1


def test_the_output_covariance_is_the_nngp_kernel():
    x = correlated_sphere(7, 4)
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    nngp = 4 * architecture(net, x[:2], law="lecun").nngp(x)  # that kernel divides by d
    cost = start_cost(x, random_signs(7))
    trace = float(torch.linalg.solve(h_infinity(x), nngp).diagonal().sum())
    assert cost.independent**2 - cost.coupled**2 == pytest.approx(trace, rel=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
def test_any_module_starts_at_zero_with_its_own_kernel(outputs):
    net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, outputs))
    net[0].bias.requires_grad_(False)
    x = torch.randn(5, 1, 6)
    pair = Antisymmetric(net)
    assert torch.equal(pair(x), torch.zeros(5, outputs))
    torch.testing.assert_close(empirical_ntk(pair, x), empirical_ntk(net, x))
    assert sum(p.requires_grad for p in pair.parameters()) == 2 * sum(p.requires_grad for p in net.parameters())
