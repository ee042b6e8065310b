"""Bounds of the smallest eigenvalue of a network's Gram matrix, against the eigenvalue itself."""

import itertools

import pytest
import torch
from torch import nn

from gramian import empirical_ntk
from gramian.bounds import lambda_min_bounds
from gramian.errors import BadArgument


def mlp(*sizes: int, bias: bool = False) -> nn.Sequential:
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(20, 6, 1), (4, 64, 6, 1), (4, 10, 64, 1), (30, 40, 40, 1)])
def test_the_eigenvalue_lies_between(sizes, bias):
    for _ in range(5):
        net, x = mlp(*sizes, bias=bias), torch.randn(12, sizes[0])
        bounds = lambda_min_bounds(net, x)
        smallest = float(torch.linalg.eigvalsh(empirical_ntk(net, x))[0])
        assert -1e-12 < bounds.lower <= smallest * (1 + 1e-9) <= bounds.upper * (1 + 2e-9)
        assert bounds.lower == pytest.approx(sum(bounds.by_layer.values()))


def test_the_layer_after_the_wide_one_guarantees_it():
    net = mlp(4, 64, 8, 1)
    bounds = lambda_min_bounds(net, torch.randn(12, 4))
    assert bounds.by_layer["4"] == 0  # of 8 inputs for 12 samples, and one output
    assert bounds.widest == "2"  # its inputs are the 64 features


def test_frozen_layers_and_other_parameters_guarantee_nothing():
    net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(40, 20), nn.Tanh(), nn.Linear(20, 1))
    x = torch.randn(8, 1, 12)
    both = lambda_min_bounds(net, x)
    net[2].requires_grad_(False)
    assert set(both.by_layer) == {"2", "4"}
    assert set(lambda_min_bounds(net, x).by_layer) == {"4"}


def test_a_layer_that_is_called_twice_is_left_out():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.last = nn.Linear(20, 20), nn.Linear(20, 1)

        def forward(self, x):
            return self.last(torch.tanh(self.shared(torch.tanh(self.shared(x)))))

    net, x = Twice(), torch.randn(8, 20)
    bounds = lambda_min_bounds(net, x)
    assert set(bounds.by_layer) == {"last"}
    assert bounds.lower <= float(torch.linalg.eigvalsh(empirical_ntk(net, x))[0])


def test_what_has_no_bound_is_refused():
    with pytest.raises(BadArgument, match="one output"):
        lambda_min_bounds(mlp(3, 4, 2), torch.randn(5, 3))
    with pytest.raises(BadArgument, match="No linear layer"):
        lambda_min_bounds(mlp(3, 4, 1).requires_grad_(False), torch.randn(5, 3))
