"""Descent at the edge of what is proved of it: random networks, data and scales, along the worst direction."""

import copy

import pytest
import torch
from torch import nn

from gramian.bounds import relu_descent, song2021

SMOOTH = (nn.Tanh, nn.GELU, nn.Softplus, nn.SiLU)
STEPS = 60


def drawn(seed, kind):
    """A network and its inputs."""
    torch.manual_seed(seed)
    d, n, outputs, width = (int(torch.randint(low, high, ())) for low, high in ((2, 6), (2, 6), (1, 3), (20, 80)))
    activation = nn.ReLU if kind == "relu" else SMOOTH[seed % 4]
    net = nn.Sequential(nn.Linear(d, width), activation(), nn.Linear(width, outputs)).double()
    with torch.no_grad():
        net[2].weight *= 10 ** (2 * torch.rand(()) - 1)
    net[2].requires_grad_(kind != "relu")
    return net, torch.randn(n, d).double() * 10 ** (torch.rand(()).double() - 0.5)


def proof_of(net, x, y, kind, lr=None):
    if kind == "relu":
        return relu_descent(net, x, y, lr=lr)
    return song2021(net, x, y, constants=kind, lr=lr)


def slowest(net, x):
    """The outputs' direction that descent lowers least."""
    trained = [p for p in net.parameters() if p.requires_grad]
    outputs = net(x).reshape(-1)
    gradients = [torch.autograd.grad(output, trained, retain_graph=True) for output in outputs]
    jacobian = torch.stack([torch.cat([part.reshape(-1) for part in gradient]) for gradient in gradients])
    return torch.linalg.svd(jacobian).U[:, -1].reshape(len(x), -1)


def largest_share(net, x, y, lr, rate):
    """The largest residual over its proved curve."""
    own = copy.deepcopy(net)
    trained = [p for p in own.parameters() if p.requires_grad]
    shares, start = [], float((own(x) - y).detach().norm())
    for k in range(STEPS):
        residual = own(x) - y
        # rounding, where the residual is that small
        shares.append((float(residual.detach().norm()) - 1e-13) / (start * (1 - rate) ** k))
        gradient = torch.autograd.grad(0.5 * residual.square().sum(), trained)
        with torch.no_grad():
            for p, g in zip(trained, gradient, strict=True):
                p -= lr * g
    return max(shares[1:])


def attacked(kind, seeds):
    """How many certificates were proved at the edge, and the largest share of all."""
    proved, closest = 0, 0.0
    for seed in seeds:
        net, x = drawn(seed, kind)
        direction, base = slowest(net, x), net(x).detach()
        easy = proof_of(net, x, base + 1e-9 * direction, kind)
        if easy.status != "proved":
            continue
        allowed = easy.numbers["allowed" if kind == "relu" else "allowed_path"]
        y, lr = base + 0.9 * allowed * direction, easy.numbers["lr"]
        proof = proof_of(net, x, y, kind, lr)
        if proof.status != "proved":
            continue
        proved += 1
        closest = max(closest, largest_share(net, x, y, lr, proof.numbers["rate"]))
    return proved, closest


@pytest.mark.parametrize("kind", ["measured", "paper", "relu"])
def test_no_proved_curve_is_crossed(kind):
    proved, closest = attacked(kind, range(3))
    assert proved > 0
    assert closest <= 1 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["measured", "paper", "relu"])
def test_no_proved_curve_is_crossed_in_many_trials(kind):
    proved, closest = attacked(kind, range(100))
    print(kind, proved, closest)
    assert proved > 50
    assert closest <= 1 + 1e-9
