"""What `relu_descent` proves of one network is what its run does; near the threshold too."""

import math

import pytest
import torch
from torch import nn

from gramian.bounds import relu_descent
from gramian.errors import Unsupported


def network(seed, outputs=1, scale=1.0, bias=True):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 200, bias=bias), nn.ReLU(), nn.Linear(200, outputs)).double()
    net[2].requires_grad_(False)
    net[2].weight.data *= scale
    return net


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_run_is_as_fast_as_promised_up_to_the_threshold(seed, outputs):
    net, x = network(seed, outputs, bias=seed % 2 == 0), torch.randn(5, 4).double()
    direction = torch.randn(5, outputs).double()
    direction /= direction.norm()
    start = net(x).detach()
    largest = 0.0
    for power in range(40):  # the largest residual that is proved, to a factor
        size = 10.0 ** (-power / 4)
        proof = relu_descent(net, x, start + size * direction)
        if proof.status == "proved":
            largest = size
            break
    assert largest > 0
    lr, rate = proof.numbers["lr"], proof.numbers["rate"]
    first = net[0].weight.detach().clone()
    parameters = [p for p in net.parameters() if p.requires_grad]
    for k in range(150):
        residual = net(x) - start - largest * direction
        norm = float(residual.detach().norm())
        assert norm <= largest * (1 - rate) ** k * (1 + 1e-9) + 1e-13
        gradients = torch.autograd.grad(0.5 * residual.square().sum(), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= lr * g
    moved = (net[0].weight.detach() - first).norm(dim=1)
    assert bool((moved <= proof.numbers["reach"] * net[2].weight.norm(dim=0)).all())


def test_a_larger_scale_allows_a_larger_residual():
    x = torch.randn(5, 4).double()
    allowed = [relu_descent(network(0, scale=s), x, torch.zeros(5)[:, None]).numbers["allowed"] for s in (1.0, 10.0)]
    assert allowed[1] == pytest.approx(10 * allowed[0], rel=1e-3)


def test_equal_rows_prove_nothing():
    x = torch.randn(5, 4).double()
    x[1] = x[0]
    proof = relu_descent(network(0), x, torch.zeros(5)[:, None])
    assert proof.status == "not proved"
    assert math.isfinite(proof.numbers["allowed"])


def test_other_networks_are_refused():
    x, y = torch.randn(5, 4).double(), torch.zeros(5)[:, None]
    smooth = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1)).double()
    with pytest.raises(Unsupported, match="Linear, ReLU, Linear"):
        relu_descent(smooth, x, y)
    both = network(0)
    both[2].requires_grad_(True)
    with pytest.raises(Unsupported, match="first layer trains"):
        relu_descent(both, x, y)
