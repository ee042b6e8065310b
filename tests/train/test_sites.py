"""Activations are seen as modules and as functions, in order, once each."""

import contextlib

import torch
from torch import nn
from torch.nn import functional as F

from gramian.train.activation_sites import visit_activations


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
        self.act = nn.GELU()

    def forward(self, x):
        h = self.act(self.block(x))
        h = self.act(h + 1)
        h = F.relu(h)
        h = torch.tanh(h).sigmoid()
        return h.relu_()


def seen_in(module, x):
    seen = []
    visit_activations(module, x, lambda label, before, after: seen.append((label, before.clone(), after.clone())))
    return seen


def test_modules_functions_methods_and_in_place_ones():
    net, x = Mixed(), torch.randn(5, 3)
    seen = seen_in(net, x)
    labels = ["block.1", "act", "act#2", "relu", "tanh", "sigmoid", "relu_"]
    assert [label for label, _, _ in seen] == labels
    h = net.block[0](x)
    functions = [torch.relu, F.gelu, F.gelu, torch.relu, torch.tanh, torch.sigmoid, torch.relu]
    for (_, before, after), function in zip(seen, functions, strict=True):
        torch.testing.assert_close(before, h)
        h = function(h)
        torch.testing.assert_close(after, h)
        h = h + 1 if function is F.gelu and torch.equal(before, torch.relu(net.block[0](x))) else h


def test_the_network_is_left_without_hooks_even_after_an_error():
    net = Mixed()
    for x in (torch.randn(5, 3), torch.randn(5, 2)):
        with contextlib.suppress(RuntimeError):
            seen_in(net, x)
        assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def test_layers_that_do_not_bend_are_not_seen():
    assert (
        seen_in(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(4, 2)), torch.randn(5, 3)) == []
    )
