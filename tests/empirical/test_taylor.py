"""The second-order model: exact for quadratic networks, off by the cube of the step else, and trainable."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from zoo import Cube, make

from gramian.empirical import EmpiricalNTK, empirical_ntk, linearize, quadratic
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.errors import BadArgument

NAMES = ["mlp", "attention", "twice", "conv3d", "tied", "frozen bias", "slope", "recurrent", "raw", "custom function"]


def moved(model, step):
    """Moves the parameters of `model` by `step` times fixed directions."""
    with torch.no_grad():
        for i, p in enumerate(p for p in model.parameters() if p.requires_grad):
            p += step * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_like_the_cube_of_the_step(name):
    net, shape = make(name)
    x = torch.randn(3, *shape)
    torch.testing.assert_close(quadratic(net)(x), net(x))
    steps = (2e-2, 2e-3)
    error = [(moved(quadratic(net), s)(x) - moved(deepcopy(net), s)(x)).norm().item() for s in steps]
    assert math.log10(error[0] / error[1]) == pytest.approx(3, abs=0.3)
    linear = (moved(linearize(net), steps[1])(x) - moved(deepcopy(net), steps[1])(x)).norm().item()
    assert error[1] < linear / 5


@pytest.mark.parametrize(
    ("name", "mode"),
    [("mlp", "forward over forward"), ("slope", "three backward passes"), ("attention", "three backward passes")],
)
def test_the_terms_are_those_of_the_explicit_hessian(name, mode):
    """The last has a layer normalization, of which torch's forward mode over forward mode is wrong."""
    net, shape = make(name)
    x = torch.randn(2, *shape)
    model = moved(quadratic(net), 0.3)
    origin, step = model.moved()
    d = torch.cat([step[name].flatten() for name in step])
    sizes = [p.numel() for p in step.values()]

    def f(flat):
        parts = flat.split(sizes)
        theta = {name: part.reshape(p.shape) for part, (name, p) in zip(parts, step.items(), strict=True)}
        return functional_call(net, theta, (x,))

    flat = torch.cat([p.flatten() for p in origin.values()])
    with differentiable_math():
        h = torch.autograd.functional.jacobian(
            lambda t: torch.autograd.functional.jacobian(f, t, create_graph=True), flat
        )
    out, change, half = model.terms(x)
    torch.testing.assert_close(out, net(x))
    torch.testing.assert_close(change, torch.autograd.functional.jacobian(f, flat) @ d, rtol=1e-10, atol=1e-10)
    assert model.mode == mode
    torch.testing.assert_close(half, torch.einsum("ncpq,p,q->nc", h, d, d) / 2, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "attention", "slope"])
def test_its_gradients_are_those_of_finite_differences(name):
    net, shape = make(name)
    x = torch.randn(2, *shape)
    model = moved(quadratic(net), 0.1)
    model(x).square().sum().backward()
    for p in model.parameters():
        if p.requires_grad:
            entry, eps = (0,) * p.ndim, 1e-6
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    p[entry] += sign * eps
                    values.append(float(model(x).square().sum()))
                    p[entry] -= sign * eps
            slope = 0.0 if p.grad is None else float(p.grad[entry])
            assert slope == pytest.approx((values[0] - values[1]) / (2 * eps), rel=1e-6, abs=1e-7)


def test_training_it_lowers_the_loss_and_moves_its_kernel():
    net, shape = make("mlp")
    x, y = torch.randn(5, *shape), torch.randn(5, 2)
    model = quadratic(net)
    before, theta = (model(x) - y).square().sum().item(), empirical_ntk(model, x)
    torch.testing.assert_close(theta, empirical_ntk(net, x))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(50):
        optimizer.zero_grad()
        (model(x) - y).square().sum().backward()
        optimizer.step()
    assert (model(x) - y).square().sum().item() < 0.5 * before
    assert (empirical_ntk(model, x) - theta).norm().item() > 1e-2 * float(theta.norm())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), model.at_origin().parameters(), strict=True))


def test_a_linear_network_has_no_quadratic_term_and_a_frozen_one_is_refused():
    net, x = nn.Linear(3, 2), torch.randn(4, 3)
    assert float(moved(quadratic(net), 1.0).terms(x)[2].detach().abs().max()) == 0
    with pytest.raises(BadArgument, match=r"(?s)no trainable parameter.*fix: module.requires_grad_"):
        quadratic(net.requires_grad_(False))


def test_a_second_derivative_that_torch_has_wrong_is_refused():
    net, shape = make("weight_norm")
    with pytest.raises(BadArgument, match=r"(?s)not a derivative of its first one \(.*fails.*% off\).*fix: write that"):
        quadratic(net)(torch.randn(2, *shape))


def test_the_check_needs_plain_numbers_once():
    net, shape = make("mlp")
    x = torch.randn(3, *shape)
    model = quadratic(net)
    with pytest.raises(BadArgument, match=r"(?s)could not be checked.*fix: .*call the model once"):
        vmap(lambda row: model(row[None])[0])(x)
    expected = model(x)
    torch.testing.assert_close(vmap(lambda row: model(row[None])[0])(x), expected)


def test_a_first_derivative_that_forward_mode_has_wrong_is_seen_and_not_used():
    net, x = Cube(), torch.randn(4, 3)
    operator = EmpiricalNTK(net, x)
    assert "by a backward pass" in operator.why_twice_backward
    torch.testing.assert_close(operator @ torch.eye(8), operator.dense(), rtol=1e-10, atol=1e-10)
