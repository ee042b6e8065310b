"""Gradients formed while they are contracted: of convolutions too, whose compiled way takes channels in groups."""

from dataclasses import replace

import pytest
import torch
from pieces import kernel
from torch import nn

from gramian.empirical import jacobian


def deferred(unit, *_):
    return replace(unit, rows=not unit.single, late=unit.columns > 1 and not unit.single)


@pytest.mark.parametrize("columns", [1, 7, 16, 20, 32, 1000])
def test_of_convolutions_in_float32_however_they_are_cut(columns):
    layers = [
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(48, 16, 3),
    ]
    net, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 12 * 12, 3)), torch.randn(3, 16, 14, 14)
    j = jacobian(net, x)
    exact = torch.einsum("icp,jdp->ijcd", j, j)
    # a column of the second convolution's gradients: samples, outputs, its inputs
    theta = kernel(net.float(), x.float(), way=deferred, cached_gradients=columns * 3 * 3 * 32 * 9)
    assert (theta - exact).abs().max() < 1e-5 * exact.abs().max()
