"""The law of the weights, layer by layer."""

import math

import pytest
import torch
from torch import nn

from gramian import architecture
from gramian.errors import BadArgument


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def laws(law):
    return [(a.sigma_w, a.sigma_b) for a in architecture(net(), torch.zeros(1, 6), law=law).affine]


def test_named_laws():
    he = (math.sqrt(2), 0.0)
    assert laws("he") == [he, he, (1.0, 0.0)]
    assert laws("lecun") == [(1.0, 0.0)] * 3
    assert laws((1.3, 0.2)) == [(1.3, 0.2)] * 3


def test_the_law_of_torch_is_the_variance_of_its_initialization():
    torch.manual_seed(0)
    big = nn.Linear(400, 5000)
    ((sigma_w, sigma_b),) = ((a.sigma_w, a.sigma_b) for a in architecture(big, torch.zeros(1, 400), law="torch").affine)
    assert float(big.weight.detach().std()) == pytest.approx(sigma_w / math.sqrt(400), rel=2e-3)  # 2,000,000 draws
    assert float(big.bias.detach().std()) == pytest.approx(sigma_b, rel=3e-2)  # 5,000 draws


def test_a_mapping_an_exact_path_beats_readout_beats_a_pattern():
    assert laws({"*": (1.5, 0.1), "readout": (1, 0)}) == [(1.5, 0.1), (1.5, 0.1), (1.0, 0.0)]
    assert laws({"*": (1.5, 0.1), "4": (3, 0), "readout": (1, 0)})[-1] == (3.0, 0.0)
    assert laws({"*": "he"})[-1] == (1.0, 0.0)
    assert laws({"0": (2, 0), "*": "lecun"})[0] == (2.0, 0.0)


@pytest.mark.parametrize(
    ("law", "text"),
    [
        ({"0": "he"}, r"no entry for the layer `2`.*fix: add \"2\""),
        ("glorot", r"Unknown law 'glorot'.*fix: law=\"he\""),
        ((1.0, -1.0), r"not a pair of standard deviations"),
        ((1.0,), r"not a pair of standard deviations"),
        ((math.nan, 0), r"not a pair of standard deviations"),
    ],
)
def test_a_law_that_makes_no_sense_is_refused(law, text):
    with pytest.raises(BadArgument, match="(?s)" + text):
        laws(law)
