"""Nothing that one call has seen is taken for granted at the next: values decide anew what a module does."""

import random

import pytest
import torch
from torch import nn

from gramian.empirical import empirical_ntk, jacobian
from gramian.errors import BadArgument


class Switched(nn.Module):
    """Two layers, and something more from the moment on when a buffer is positive."""

    def __init__(self, more):
        super().__init__()
        self.first, self.second, self.more = nn.Linear(3, 4), nn.Linear(4, 2), more
        self.register_buffer("on", torch.tensor(-1.0))

    def forward(self, x):
        out = self.second(self.first(x).tanh())
        return self.more(self, x, out) if self.on > 0 else out


def gram(net, x):
    j = jacobian(net, x)
    return torch.einsum("icp,jdp->ijcd", j, j)


CHANGES = {
    "another use of a weight": lambda net, x, out: out + (net.first.weight**2).sum(),
    "another use where an input is positive": lambda net, x, out: out + x[:, :1].relu() * net.second.weight.sum(),
    "a call more": lambda net, x, out: net.second(net.first(x).relu()) + out,
    "another path": lambda net, x, out: net.second(net.first(x)),
    "a branch by the sample": lambda net, x, out: out * 2 if x.sum() > 0 else out + net.first.bias.sum(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_branch_that_opens_between_two_calls(name):
    net, x = Switched(CHANGES[name]), torch.randn(5, 3)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))
    net.on.fill_(1.0)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))


GENERATOR = torch.Generator()
REFUSED = {
    "mixing": (lambda net, x, out: out - out.mean(0), "mixes the samples"),
    "torch's noise": (lambda net, x, out: out + torch.randn_like(out), "random"),
    "noise of its own": (lambda net, x, out: out + torch.randn(out.shape, generator=GENERATOR), "random"),
    "python's noise": (lambda net, x, out: out * random.random(), "random"),
    "a buffer that is written": (lambda net, x, out: out + net.on.add_(1.0), "buffer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_begins_between_two_calls_is_refused(name):
    more, said = REFUSED[name]
    net, x = Switched(more), torch.randn(5, 3)
    empirical_ntk(net, x)
    net.on.fill_(1.0)
    with pytest.raises(BadArgument, match=said):
        empirical_ntk(net, x)


def test_hooks_modes_layers_and_forwards_that_change_between_two_calls():
    net, x = Switched(CHANGES["another path"]), torch.randn(5, 3)
    before = empirical_ntk(net, x, outputs="full")
    mask = (torch.rand(4, 3) > 0.5).double()
    handle = net.first.weight.register_hook(lambda g: mask * g)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))
    handle.remove()
    net.second = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
    with pytest.raises(BadArgument, match="random"):
        empirical_ntk(net, x)
    net.eval()
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))
    net.first.forward = lambda x: x @ net.first.weight.mT
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))
    net.first.requires_grad_(False)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), gram(net, x))
    assert before.shape == (5, 5, 2, 2)
