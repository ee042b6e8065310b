"""Gradients formed while they are contracted: of convolutions too, whose compiled way takes channels in groups."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gramian.empirical import empirical_ntk, jacobian
from gramian.empirical.contraction import deferred_gradients, ntk


@pytest.mark.parametrize("columns", [1, 7, 16, 20, 32, 1000])
def test_of_convolutions_in_float32_however_they_are_cut(columns, monkeypatch):
    layers = [
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(48, 16, 3),
    ]
    net, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 12 * 12, 3)), torch.randn(3, 16, 14, 14)
    j = jacobian(net, x)
    exact, cut = torch.einsum("icp,jdp->ijcd", j, j), []
    own = deferred_gradients._gradients
    monkeypatch.setattr(deferred_gradients, "_gradients", lambda *given: cut.append(given[3]) or own(*given))
    monkeypatch.setattr(
        ntk, "cheaper", lambda unit, *_: replace(unit, rows=not unit.single, late=unit.columns > 1 and not unit.single)
    )
    monkeypatch.setattr(deferred_gradients, "CACHED_GRADIENTS", columns * 3 * 3 * 32 * 9)
    theta = empirical_ntk(net.float(), x.float(), outputs="full")
    assert max(part.stop - part.start for part in cut) >= min(columns, 48) // 2
    assert (theta - exact).abs().max() < 1e-5 * exact.abs().max()
