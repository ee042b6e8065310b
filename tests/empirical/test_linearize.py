"""The first-order model: tangent at the start, linear in its parameters, trained by the constant kernel."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from zoo import make

from gramian.empirical import empirical_ntk, jacobian, linearize

NAMES = ["mlp", "attention", "twice", "conv3d", "custom function", "tied", "weight_norm", "frozen bias"]


def moved(model, step):
    """Moves the parameters of `model` by `step` times fixed directions."""
    with torch.no_grad():
        for i, p in enumerate(p for p in model.parameters() if p.requires_grad):
            p += step * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_like_the_square_of_the_step(name):
    net, shape = make(name)
    x = torch.randn(3, *shape)
    model = linearize(net)
    torch.testing.assert_close(model(x), net(x))
    steps = (1e-3, 1e-4)
    error = [(moved(linearize(net), s)(x) - moved(deepcopy(net), s)(x)).norm().item() for s in steps]
    if name == "frozen bias":
        assert all(not p.requires_grad for n, p in model.module.named_parameters() if n in ("0.bias", "2.weight"))
    assert math.log10(error[0] / error[1]) == pytest.approx(2, abs=0.1)


def test_its_kernel_never_changes_and_is_the_networks():
    net, shape = make("mlp")
    x = torch.randn(4, *shape)
    model = linearize(net)
    theta = empirical_ntk(net, x, outputs="full")
    for step in (0.0, 1.0):
        torch.testing.assert_close(empirical_ntk(moved(model, step), x, outputs="full"), theta)


def test_gradient_descent_on_it_is_descent_with_the_constant_kernel():
    net, shape = make("mlp")
    x, y = torch.randn(3, *shape), torch.randn(3, 2)
    model = linearize(net)
    j = jacobian(net, x).flatten(0, 1)
    r, lr = (net(x) - y).detach().flatten(), 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(20):
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum()).backward()
        optimizer.step()
        r = r - lr * j @ (j.T @ r)
    torch.testing.assert_close((model(x) - y).detach().flatten(), r, rtol=1e-10, atol=1e-10)


def test_the_module_is_copied():
    net, _ = make("mlp")
    before = [p.clone() for p in net.parameters()]
    model = moved(linearize(net), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert len(list(model.parameters())) == len(before)
    assert isinstance(model, nn.Module)
    again = linearize(net)
    again.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
