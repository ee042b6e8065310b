"""The Polyak-Lojasiewicz certificate against descent, and its constants against Jacobians."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from gramian.bounds import song2021
from gramian.errors import BadArgument, Unsupported


def network(activation=nn.Tanh):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 60), activation(), nn.Linear(60, 2)).double()


def jacobian(net, x, parameters):
    blocks = jacrev(lambda p: functional_call(net, p, (x,)).reshape(-1))(parameters)
    return torch.cat([block.reshape(len(x) * 2, -1) for block in blocks.values()], 1)


@pytest.mark.parametrize("constants", ["measured", "paper"])
def test_descent_is_as_fast_as_promised(constants):
    net, x = network(), torch.randn(6, 4).double()
    y = net(x).detach()
    direction = torch.randn_like(y)
    small = song2021(net, x, y + 1e-9 * direction, constants=constants)
    # as near the threshold as the certificate allows
    size = 0.99 * small.numbers["allowed_path"] / float(direction.norm())
    proved = song2021(net, x, y + size * direction, constants=constants, lr=small.numbers["lr"])
    assert proved.status == "proved"
    assert song2021(net, x, y + 2 * size * direction, constants=constants).status == "not proved"
    own, lr, rate = copy.deepcopy(net), proved.numbers["lr"], proved.numbers["rate"]
    start = size * float(direction.norm())
    for k in range(200):
        residual = own(x) - y - size * direction
        assert float(residual.detach().norm()) <= start * (1 - rate) ** k * (1 + 1e-6)
        gradient = torch.autograd.grad(0.5 * residual.square().sum(), list(own.parameters()))
        with torch.no_grad():
            for p, g in zip(own.parameters(), gradient, strict=True):
                p -= lr * g


@pytest.mark.parametrize("constants", ["measured", "paper"])
def test_the_constants_bound_the_jacobian_and_its_change(constants):
    net, x = network(nn.GELU), torch.randn(6, 4).double()
    numbers = song2021(net, x, net(x).detach() + 1e-9, constants=constants).numbers
    weights = {name: p.detach() for name, p in net.named_parameters()}
    centre = jacobian(net, x, weights)
    values = torch.linalg.svdvals(centre)
    assert numbers["mu"] <= float(values[-1])
    assert numbers["nu"] >= float(values[0])
    for _ in range(10):
        move = {name: torch.randn_like(p) for name, p in weights.items()}
        length = torch.sqrt(sum(m.square().sum() for m in move.values()))
        near = {name: p + 1e-4 * move[name] / length for name, p in weights.items()}
        change = torch.linalg.matrix_norm(jacobian(net, x, near) - centre, 2)
        assert float(change) <= 1e-4 * numbers["beta"] * (1 + 1e-3)  # beta at the centre, the ball is small


def test_three_arguments_in_their_order():
    net, x = network(), torch.randn(6, 4).double()
    numbers = song2021(net, x, torch.randn(6, 2)).numbers
    assert numbers["allowed_geometric"] < numbers["allowed_path"] < numbers["allowed_descent"]
    assert numbers["allowed_descent"] <= 2.1 * numbers["allowed_path"]


def test_what_has_no_such_constants_is_refused():
    x = torch.randn(4, 4).double()
    with pytest.raises(BadArgument, match="kinked"):
        song2021(network(nn.ReLU), x, torch.zeros(4, 2))
    deep = nn.Sequential(network(), nn.Tanh(), nn.Linear(2, 2)).double()
    with pytest.raises(Unsupported, match="two-layer"):
        song2021(deep, x, torch.zeros(4, 2), constants="paper")
    with pytest.raises(BadArgument, match="constants"):
        song2021(deep, x, torch.zeros(4, 2), constants="other")
