"""Gradients of weights that are used at many positions, against autograd; and what is found in the cotangents."""

import pytest
import torch
from pieces import workload
from torch import nn
from torch.func import functional_call, jacrev

from gramian.empirical import empirical_ntk
from gramian.empirical.contraction.layer_factors import pull_back
from gramian.empirical.contraction.per_sample_gradients import common_pattern
from gramian.empirical.modules.output_functions import Batch
from gramian.empirical.modules.trial_passes import try_module


def conv_net(readout, width):
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.GELU()]
    return nn.Sequential(*layers, readout, nn.Flatten(), nn.Linear(width, 5))


NETS = {
    "pooled": (lambda: conv_net(nn.AdaptiveAvgPool2d(1), 32), True),
    "flattened": (lambda: conv_net(nn.Identity(), 32 * 144), False),
}


@pytest.mark.parametrize("name", NETS)
def test_one_pattern_for_all_outputs_is_found_where_there_is_one(name):
    """Behind a global pool the last convolution's cotangents are one pattern times numbers, and no other's."""
    make, there = NETS[name]
    net, x = make(), torch.randn(3, 3, 12, 12)
    theta = empirical_ntk(net, x, outputs="full")
    at = {key: p.detach() for key, p in net.named_parameters()}
    jac = jacrev(lambda at: functional_call(net, at, (x,)))(at)
    exact = sum(torch.einsum("icp,jdp->ijcd", j.flatten(2), j.flatten(2)) for j in jac.values())
    assert (theta - exact).abs().max() < 1e-12 * exact.abs().max()
    source, load = workload(net, x)
    _, cotangents, _, _ = pull_back(source, load.units(), Batch(x), range(5))
    for call, shared in ((0, False), (1, there)):
        for b in cotangents[call][:, :, 0]:  # of a sample: (outputs, channels, height, width)
            assert (common_pattern(b.flatten(2).mT) is not None) == shared


def test_a_pattern_is_one_to_the_last_digits():
    once, times = torch.randn(17, 4), torch.randn(6, 1, 4)
    times[:, :, 3] = 0
    b = once * times
    found = common_pattern(b)
    assert found is not None
    assert (found[0][:, None] * found[1] - b).abs().max() < 1e-15 * b.abs().max()
    b[4, 11, 2] *= 1 + 1e-12
    assert common_pattern(b) is None
    b = once * times
    b[0, :, 1] = 0  # the first output is silent where others are not
    assert common_pattern(b) is None


def test_what_a_backward_pass_keeps_does_not_depend_on_how_many_samples_wait():
    net, x = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(1000, 7)
    assert try_module(net, "x", x)[1] == try_module(net, "x", x[:1].clone())[1]
