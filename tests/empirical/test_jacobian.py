"""The oracle has an oracle: torch.func's, and closed forms."""

import torch
from torch.func import functional_call, jacrev
from zoo import make

from gramian.empirical import jacobian


def test_equals_jacrev():
    net, shape = make("tied")
    x = torch.randn(3, *shape)
    theta = {name: p.detach() for name, p in net.named_parameters()}
    by_name = jacrev(lambda theta: functional_call(net, theta, (x,)))(theta)
    torch.testing.assert_close(jacobian(net, x), torch.cat([by_name[name].flatten(2) for name in theta], 2))


def test_frozen_parameters_have_no_column_and_unused_ones_are_zero():
    net, shape = make("raw")
    net.scale.requires_grad_(False)
    j = jacobian(net, torch.randn(3, *shape))
    sizes = [p.numel() for p in net.parameters() if p.requires_grad]
    assert j.shape == (3, 3, sum(sizes))
    assert (j[..., sizes[0] : sizes[0] + sizes[1]] == 0).all()  # `unused`, after `token`
    assert all(p.grad is None for p in net.parameters())


def test_each_sample_is_a_batch_of_one():
    net, shape = make("scalar")
    x = torch.randn(4, *shape)
    torch.testing.assert_close(jacobian(net, x), torch.cat([jacobian(net, row[None]) for row in x]))
