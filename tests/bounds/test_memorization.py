"""Memorization capacity: the rank of each layer's part of the Gram matrix."""

import pytest
import torch
from torch import nn

from gramian import empirical_ntk
from gramian.bounds import memorization_capacity
from gramian.errors import BadArgument


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(9, 4, bias=False), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))


@pytest.mark.parametrize("name", ["0", "2", "4"])
def test_it_is_the_largest_number_of_samples_with_a_positive_part(name):
    module = net().requires_grad_(False)
    module.get_submodule(name).requires_grad_(True)
    capacity = memorization_capacity(module)
    assert capacity.by_layer == {name: capacity.parameters}
    for n, positive in ((capacity.largest, True), (capacity.largest + 2, False)):
        spectrum = torch.linalg.eigvalsh(empirical_ntk(module, torch.randn(n, 9)))
        assert (float(spectrum[0] / spectrum.mean()) > 1e-12) == positive


def test_it_counts_biases_and_other_layers():
    capacity = memorization_capacity(net())
    assert capacity.by_layer == {"0": 36, "2": 25, "4": 6}
    assert capacity.parameters == 67
    assert capacity.largest == 36
    with pytest.raises(BadArgument, match="No linear layer"):
        memorization_capacity(nn.Tanh())
