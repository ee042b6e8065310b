"""The predicted curves are those of the recursions and of torch.optim on a linear model."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.errors import BadArgument, NotPositive
from gramian.gram import Gram, eigensystem
from gramian.solve import gradient_descent, gradient_flow, loss, loss_curve, max_lr, momentum, nesterov

METHODS = ["gd", "momentum", "nesterov"]
STEPS = [0, 1, 2, 3, 7, 50, 51, 400]


def curve(method, theta, r0, lr, beta, steps, **kwargs):
    if method == "gd":
        return gradient_descent(theta, r0, lr, steps, **kwargs)
    return {"momentum": momentum, "nesterov": nesterov}[method](theta, r0, lr, beta, steps, **kwargs)


@pytest.fixture
def problem():
    """A linear model with more parameters than samples, fewer samples than rank: some eigenvalues are exactly zero."""
    j, j_test = torch.randn(8, 30), torch.randn(5, 30)
    j[6], j[7] = j[0], 2 * j[1]
    return j, j_test, torch.randn(8, 3), torch.randn(5, 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95])
def test_torch_optim_on_a_linear_model_takes_the_predicted_course(method, beta, problem):
    j, j_test, y, y_test = problem
    beta = 0.0 if method == "gd" else beta
    theta = j @ j.mT
    lr = 0.4 * max_lr(float(torch.linalg.eigvalsh(theta)[-1]), method, beta)
    w = torch.zeros(30, 3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr, momentum=beta, nesterov=method == "nesterov" and beta > 0)
    train, test = curve(method, theta, -y, lr, beta, STEPS, cross=(j_test @ j.mT, -y_test))
    assert train.shape == (len(STEPS), 8, 3)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            k = STEPS.index(step)
            torch.testing.assert_close(train[k], (j @ w - y).detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(test[k], (j_test @ w - y_test).detach(), rtol=1e-10, atol=1e-10)
        optimizer.zero_grad()
        ((j @ w - y).square().sum() / 2).backward()
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
@given(x=st.floats(1e-6, 1.99), beta=st.floats(0, 0.99), steps=st.integers(0, 300))
@settings(deadline=None)
def test_a_mode_follows_its_recursion(method, x, beta, steps):
    beta = 0.0 if method == "gd" else beta
    x = x / 2 * max_lr(1.0, method, beta)
    before, now = 1.0, 1.0  # r_{-1} = r_0 is a buffer of zero
    for step in range(steps):
        if method == "nesterov":
            after = (1 + beta) * (1 - x) * now - beta * (1 - x) * before if step else 1 - (1 + beta) * x
        else:
            after = (1 - x) * now + beta * (now - before)
        before, now = now, after
    predicted = curve(method, torch.eye(1), torch.ones(1, 1), x, beta, [steps])
    assert float(predicted) == pytest.approx(now, rel=1e-8, abs=1e-11)


def test_flow_is_gradient_descent_with_tiny_steps(problem):
    j, j_test, y, y_test = problem
    theta, cross = j @ j.mT, (j_test @ j.mT, -y_test)
    t, errors = torch.tensor([0.0, 0.01, 0.1, 1.0]), []
    flow = gradient_flow(theta, -y, t, cross=cross)
    for lr in (1e-4, 1e-5):
        descent = gradient_descent(theta, -y, lr, (t / lr).round(), cross=cross)
        errors.append([float((a - b).abs().max()) for a, b in zip(flow, descent, strict=True)])
    for coarse, fine in zip(*errors, strict=True):
        assert coarse < 0.02
        assert fine == pytest.approx(coarse / 10, rel=0.05)  # first order in the step


@given(lam=st.floats(1e-8, 1e3), t=st.floats(0, 1e3))
def test_flow_of_one_mode_is_an_exponential(lam, t):
    train, test = gradient_flow(torch.tensor([[lam]]), torch.ones(1), [t], cross=(torch.ones(1, 1), torch.zeros(1)))
    assert float(train) == pytest.approx(math.exp(-lam * t), abs=1e-300)
    assert float(test) == pytest.approx(math.expm1(-lam * t) / lam)


@pytest.mark.parametrize("method", [*METHODS, "flow"])
def test_with_a_kernel_of_zero_nothing_moves_but_what_the_test_kernel_drives(method):
    args = (torch.zeros(2, 2), torch.ones(2, 1))
    cross = (torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1))
    if method == "flow":
        train, test = gradient_flow(*args, [0.0, 3.0], cross=cross)
        moved = [0.0, -9.0]
    else:
        train, test = curve(method, *args, 0.5, 0.5, [0, 2], cross=cross)
        # two steps of a constant gradient of 3: 1.5 + 1.5, with momentum 1.5 + 2.25, with Nesterov 2.25 + 2.625
        moved = {"gd": [0.0, -3.0], "momentum": [0.0, -3.75], "nesterov": [0.0, -4.875]}[method]
    assert bool((train == 1).all())
    assert test.flatten().tolist() == pytest.approx(moved)


@pytest.mark.parametrize("method", METHODS)
@given(beta=st.floats(0, 0.98), lam=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=50)
def test_stability_ends_at_max_lr(method, beta, lam):
    beta = 0.0 if method == "gd" else beta
    limit = max_lr(lam, method, beta)
    theta, one = torch.diag(torch.tensor([lam / 7, lam])), torch.ones(2, 1)
    late = [100_000]
    assert float(curve(method, theta, one, 0.995 * limit, beta, late).abs().max()) < 1e-6
    assert not float(curve(method, theta, one, 1.005 * limit, beta, late).abs().max()) < 1e6  # or NaN


@pytest.mark.parametrize("method", [*METHODS, "flow"])
def test_loss_curve_is_the_loss_of_the_residuals_in_pieces_of_any_size(method, problem):
    j, j_test, y, y_test = problem
    theta, cross = j @ j.mT, (j_test @ j.mT, -y_test)
    lr, beta = (None, 0.0) if method == "flow" else (0.005, 0.0 if method == "gd" else 0.9)
    steps = torch.tensor([5, 0, 17, 3, 1000])
    if method == "flow":
        train, test = gradient_flow(theta, -y, steps, cross=cross)
    else:
        train, test = curve(method, theta, -y, lr, beta, steps, cross=cross)
    for max_bytes in (1, 3000, 2**26):
        kwargs = {"lr": lr, "method": method, "beta": beta, "max_bytes": max_bytes}
        torch.testing.assert_close(loss_curve(theta, -y, steps, **kwargs), loss(train))
        both = loss_curve(theta, -y, steps, **kwargs, cross=cross)
        torch.testing.assert_close(both[0], loss(train))
        torch.testing.assert_close(both[1], loss(test))


def test_a_long_loss_curve_holds_no_residuals():
    n, s = 200, 20_000  # residuals would be 10 outputs * 200 * 20,000 * 8 bytes = 320 MB
    j = torch.randn(n, n) / n**0.5
    system = eigensystem(j @ j.mT)
    r0, biggest = torch.randn(n, 10), []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                biggest.append(out.numel())
            return out

    with Watch():
        curve = loss_curve(system, r0, range(s), 0.3, "momentum", 0.9, max_bytes=2**20)
    assert 8 * max(biggest) <= 2**20
    assert curve.shape == (s,)
    assert float(curve[0]) == pytest.approx(float(loss(r0)))


def test_a_diverging_loss_is_infinite_not_nan():
    curve = loss_curve(torch.diag(torch.tensor([1.0, 100.0])), torch.ones(2), [0, 10, 10_000], 1.0, "momentum", 0.9)
    assert curve[1] > curve[0]
    assert curve[2] == float("inf")


def test_dtype_is_that_of_theta_and_one_decomposition_serves_all():
    theta, r0 = torch.diag(torch.tensor([1.0, 2.0])), torch.ones(2, 1)
    assert gradient_descent(theta.float(), r0.float(), 0.1, [1]).dtype == torch.float32
    system = eigensystem(theta)
    assert torch.equal(gradient_flow(system, r0, [1.0]), gradient_flow(theta, r0, [1.0]))
    index = torch.arange(2.0)[:, None]
    gram = Gram(lambda x, y=None: theta[x[:, 0].long()][:, (x if y is None else y)[:, 0].long()], index)
    assert torch.equal(gradient_flow(gram, r0, [1.0]), gradient_flow(theta, r0, [1.0]))


def test_errors_say_what_to_do():
    theta, r0 = torch.eye(3), torch.ones(3, 2)
    with pytest.raises(NotPositive, match=r"`theta` \(3 x 3.*smallest eigenvalue -1\.00e\+00"):
        gradient_flow(torch.diag(torch.tensor([-1.0, 1.0, 2.0])), r0, [1.0])
    with pytest.raises(BadArgument, match=r"`r0` has shape \(2, 2\)"):
        gradient_flow(theta, r0[:2], [1.0])
    with pytest.raises(BadArgument, match=r"(?s)`steps`: from -1 to 0.*whole and not negative"):
        gradient_descent(theta, r0, 0.1, [0, -1])
    with pytest.raises(BadArgument, match=r"`steps`: from 0\.5 to 0\.5"):
        gradient_descent(theta, r0, 0.1, [0.5])
    with pytest.raises(BadArgument, match=r"`times`: there are none"):
        gradient_flow(theta, r0, [])
    with pytest.raises(BadArgument, match=r"lr=0"):
        gradient_descent(theta, r0, 0, [1])
    with pytest.raises(BadArgument, match=r"beta=1\.0"):
        momentum(theta, r0, 0.1, 1.0, [1])
    with pytest.raises(BadArgument, match=r"(?s)method='adam'.*fix: one of 'gd', 'momentum', 'nesterov', 'flow'"):
        loss_curve(theta, r0, [1], 0.1, "adam")
    with pytest.raises(BadArgument, match=r"beta=0\.9 with method='gd'"):
        loss_curve(theta, r0, [1], 0.1, "gd", 0.9)
    with pytest.raises(BadArgument, match=r"cross\[0\] has shape \(4, 2\)"):
        gradient_flow(theta, r0, [1.0], cross=(torch.ones(4, 2), torch.ones(4, 2)))
    with pytest.raises(BadArgument, match=r"cross\[1\] has 1 columns, r0 has 2"):
        gradient_flow(theta, r0, [1.0], cross=(torch.ones(4, 3), torch.ones(4)))
    with pytest.raises(BadArgument, match=r"residuals of shape \(3,\)"):
        loss(torch.ones(3))
