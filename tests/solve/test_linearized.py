"""The linearized network in closed form: where gradient descent on it ends."""

import math

import pytest
import torch
from torch import nn

from gramian.empirical import empirical_ntk, linearize
from gramian.errors import BadArgument, BadData, GramianError, NotPositive
from gramian.solve import fit_linearized, solve


def network(m=30):
    return nn.Sequential(nn.Linear(3, m), nn.Tanh(), nn.Linear(m, 2))


@pytest.fixture
def data():
    return torch.randn(6, 3), torch.randn(6, 2), torch.randn(4, 3)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_it_is_kernel_regression_on_what_the_start_leaves(data, solver):
    x, y, new = data
    net = network()
    for ridge in (0.0, 0.7):
        model = fit_linearized(linearize(net), x, y, ridge=ridge, solver=solver, tol=1e-13)
        k = empirical_ntk(net, x, outputs="full").permute(0, 2, 1, 3).reshape(12, 12)
        k_new = empirical_ntk(net, new, x, outputs="full").permute(0, 2, 1, 3).reshape(8, 12)
        expected = solve(k, (y - net(x)).flatten(), ridge).predict(k_new).reshape(4, 2) + net(new)
        torch.testing.assert_close(model(new), expected, rtol=1e-8, atol=1e-8)


def test_the_gradient_of_the_penalized_loss_is_zero_there(data):
    x, y, _ = data
    start = linearize(network())
    model = fit_linearized(start, x, y, ridge=0.3)
    moved = sum((p - q.detach()).square().sum() for p, q in zip(model.parameters(), start.parameters(), strict=True))
    (0.5 * (model(x) - y).square().sum() + 0.15 * moved).backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-10


def test_at_a_time_it_is_where_many_small_steps_lead(data):
    """Euler's error falls like the step: from 2e-3 on it is halved with it."""
    x, y, new = data
    start = linearize(network())
    model = fit_linearized(start, x, y, time=0.2, ridge=0.5)
    gaps = []
    for steps in (400, 800):
        net = linearize(start.module)
        first = [p.detach().clone() for p in net.parameters()]
        for _ in range(steps):
            loss = 0.5 * (net(x) - y).square().sum()
            loss = loss + 0.25 * sum((p - q).square().sum() for p, q in zip(net.parameters(), first, strict=True))
            grads = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for p, g in zip(net.parameters(), grads, strict=True):
                    p -= 0.2 / steps * g
        gaps.append(float((net(new) - model(new)).detach().norm()))
    assert gaps[1] < 1e-2
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)
    torch.testing.assert_close(fit_linearized(start, x, y, time=0.0)(new), start(new))
    late = fit_linearized(start, x, y, time=1e9)(new)
    torch.testing.assert_close(late, fit_linearized(start, x, y)(new), rtol=1e-7, atol=1e-7)


def test_inputs_by_name(data):
    x, y, _ = data

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = network(), nn.Linear(3, 2)

        def forward(self, one, other):
            return self.a(one) + self.b(other)

    given = {"one": x, "other": x.flip(0)}
    model = linearize(Two())
    torch.testing.assert_close(fit_linearized(model, given, y)(**given), y)
    by_place = fit_linearized(model, (x, x.flip(0)), y, solver="cg", tol=1e-13)
    torch.testing.assert_close(by_place(x, x.flip(0)), y, rtol=1e-7, atol=1e-7)


def test_of_a_model_with_a_frozen_layer_only_the_rest_is_fitted(data):
    x, y, _ = data
    model = linearize(network(40))
    with torch.no_grad():
        model.module[0].weight += 0.1
    model.module[0].requires_grad_(False)
    fitted = fit_linearized(model, x, y)
    torch.testing.assert_close(fitted(x), y)
    assert torch.equal(fitted.module[0].weight, model.module[0].weight)


def test_from_where_it_is_and_back_again(data):
    """A fitted model that is fitted again goes on from there; the first is not changed."""
    x, y, new = data
    start = linearize(network())
    before = start(new).detach()
    first = fit_linearized(start, x, y)
    torch.testing.assert_close(start(new), before)
    second = fit_linearized(first, x, 2 * y)
    torch.testing.assert_close(second(x), 2 * y)
    direct = fit_linearized(start, x, 2 * y)
    torch.testing.assert_close(second(new), direct(new))  # both are the nearest to the start in the span of J


def test_what_is_refused(data):
    x, y, _ = data
    model = linearize(network())
    with pytest.raises(BadArgument, match=r"(?s)`model` is a Sequential.*linear in its parameters.*fix:.*linearize"):
        fit_linearized(network(), x, y)
    with pytest.raises(BadArgument, match=r"(?s)solver='lu'.*fix: solver=\"cholesky\""):
        fit_linearized(model, x, y, solver="lu")
    with pytest.raises(BadArgument, match=r'(?s)time=1.0.*only "cholesky" follows the flow'):
        fit_linearized(model, x, y, solver="cg", time=1.0)
    with pytest.raises(BadData, match=r"(?s)`y` is \(6,\), torch.float64; the model's output on `x` is \(6, 2\)"):
        fit_linearized(model, x, y[:, 0])
    with pytest.raises(BadData, match=r"(?s)torch.int64.*class numbers"):
        fit_linearized(model, x, y.long())
    twice = torch.cat([x, x])
    with pytest.raises(NotPositive, match=r"(?s)ridge="):
        fit_linearized(model, twice, torch.cat([y, y + 1]))
    flat = fit_linearized(model, twice, torch.cat([y, y + 1]), time=1e6)
    torch.testing.assert_close(flat(x), y + 0.5, rtol=1e-6, atol=1e-6)
    with pytest.raises(GramianError, match=r"(?s)conjugate gradients left a residual of .*fix: a ridge"):
        fit_linearized(model, twice, torch.cat([y, y + 1]), solver="cg")
    assert math.isfinite(float(flat(x).detach().sum()))
