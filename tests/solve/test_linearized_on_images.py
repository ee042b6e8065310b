"""The linearized network on 1000 images of Fashion-MNIST: torch's own optimizer, the closed forms, the network."""

import math
import os

import pytest
import torch
from torch import nn

from gramian.data import load
from gramian.empirical import EmpiricalNTK, empirical_ntk, linearize
from gramian.gram import largest_eigenpairs
from gramian.network import architecture
from gramian.solve import attribution, fit_linearized

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GRAMIAN_DATA" not in os.environ, reason="GRAMIAN_DATA is not set"),
]
STEPS = 100


@pytest.fixture(scope="module")
def images():
    """Rows of norm 28, the classes from 5 on against those before, and 200 images more."""
    data = load("fashion-mnist", n=1000, n_test=200)
    sign = torch.where(data.y >= 5, 1.0, -1.0).double()[:, None]
    return 28 * data.x.flatten(1), sign, 28 * data.x_test.flatten(1), data.targets.double()


def network(x, width, outputs=1):
    layers = [nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, outputs)]
    return architecture(nn.Sequential(*layers), x[:2]).network(width, seed=0)


def descend(model, x, y, lr, steps, penalty=0.0):
    """torch's SGD on the squared loss of all rows, and a penalty on the way from the start."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    first = [p.detach().clone() for p in model.parameters()]
    for _ in range(steps):
        optimizer.zero_grad()
        way = sum((p - q).square().sum() for p, q in zip(model.parameters(), first, strict=True))
        (0.5 * (model(x) - y).square().sum() + penalty / 2 * way).backward()
        optimizer.step()
    return model


def test_descent_is_the_closed_form_and_wide_networks_follow_it(images):
    """Widths 64 and 1024, 100 steps of one over the largest eigenvalue; observed gaps 0.124 and 0.027."""
    x, y, new, _ = images
    gaps = []
    for width in (64, 1024):
        net = network(x, width)
        lam, u = torch.linalg.eigh(empirical_ntk(net, x))
        lr = float(1 / lam[-1])
        model = descend(linearize(net), x, y, lr, STEPS)
        r = u @ ((1 - lr * lam[:, None]) ** STEPS * (u.mT @ (net(x) - y).detach()))
        torch.testing.assert_close(model(x) - y, r, rtol=1e-9, atol=1e-9)
        flow = fit_linearized(linearize(net), x, y, time=lr * STEPS)(new)
        assert float((flow - model(new)).norm().detach() / flow.norm().detach()) < 5e-3  # a step is not a flow
        start = float((net(x) - y).square().sum().detach())
        assert float((model(x) - y).square().sum().detach()) < 0.5 * start
        descend(net, x, y, lr, STEPS)
        gaps.append(float((net(new) - model(new)).norm().detach() / model(new).norm().detach()))
    assert math.log(gaps[1] / gaps[0]) / math.log(16) == pytest.approx(-0.5, abs=0.15)


def test_descent_with_a_penalty_ends_where_both_solvers_say(images):
    x, y, new, _ = images
    net = network(x, 64)
    top = float(torch.linalg.eigvalsh(empirical_ntk(net, x))[-1])
    end = descend(linearize(net), x, y, 1 / top, 1200, penalty=top / 50)  # 0.98^1200 = 3e-11
    for solver in ("cholesky", "cg"):
        found = fit_linearized(linearize(net), x, y, ridge=top / 50, solver=solver)
        torch.testing.assert_close(found(new), end(new), rtol=1e-7, atol=1e-7)


def test_ten_classes_by_products_alone(images):
    """The kernel would be 10,000 x 10,000: at the end of conjugate gradients the penalized loss has no gradient."""
    x, _, _, y = images
    start = linearize(network(x, 64, outputs=10))
    ridge = float(largest_eigenpairs(EmpiricalNTK(start.at_origin(), x))[0]) / 100
    found = fit_linearized(start, x, y, ridge=ridge, solver="cg")
    way = sum((p - q.detach()).square().sum() for p, q in zip(found.parameters(), start.parameters(), strict=True))
    (0.5 * (found(x) - y).square().sum() + ridge / 2 * way).backward()
    slope = max(float(p.grad.abs().max()) for p in found.parameters())
    (0.5 * (start(x) - y).square().sum()).backward()
    assert slope < 1e-8 * max(float(p.grad.abs().max()) for p in start.parameters())


def test_influence_is_what_training_again_without_the_row_gives(images):
    """torch's SGD on the linearized network, with all rows and without the row of the largest influence."""
    x, y, new, _ = images
    x, y = x[:300], y[:300]
    net = network(x, 64)
    theta = empirical_ntk(net, x)
    top = float(torch.linalg.eigvalsh(theta)[-1])
    residual = (y - net(x)).detach()
    found = attribution(theta, empirical_ntk(net, new, x), residual, ridge=top / 50)
    row = int(found.top(test=0, k=1)[0])
    rest = [i for i in range(300) if i != row]
    whole = descend(linearize(net), x, y, 1 / top, 1200, top / 50)
    without = descend(linearize(net), x[rest], y[rest], 1 / top, 1200, top / 50)
    change = (whole(new) - without(new)).detach()[:, 0]
    torch.testing.assert_close(found.influence()[:, row], change, rtol=1e-6, atol=1e-7)
    assert float(change[0].abs()) > 1e-2
