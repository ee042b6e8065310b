"""Solves that lost gradients, passed singular matrices, or advised what does not help."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.errors import BadArgument, NotPositive
from gramian.gram import eigenvalues
from gramian.sklearn import NTKClassifier, NTKRegressor
from gramian.solve import attribution, gradient_descent, gradient_flow, loss_curve, solve


def network():
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))


def test_the_gradient_of_a_kernel_predictor_is_whole():
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    sigma = torch.tensor(1.4, requires_grad=True)
    arch = gramian.architecture(network(), x[:1], law=(sigma, 0.1))
    k, cross = arch.ntk(x[:4]), arch.ntk(x[4:], x[:4])
    error = (solve(k, y[:4], 0.1).predict(cross) - y[4:]).square().sum()
    plain = (cross @ torch.linalg.solve(k + 0.1 * torch.eye(4), y[:4]) - y[4:]).square().sum()
    (found,) = torch.autograd.grad(error, sigma, retain_graph=True)
    (right,) = torch.autograd.grad(plain, sigma)
    torch.testing.assert_close(found, right)


def test_gradients_reach_support_inputs_labels_and_ridge():
    inputs, y, ridge = torch.randn(4, 2), torch.randn(4, 2), torch.tensor(0.3)
    arch, x_test = gramian.architecture(network(), inputs[:1], law=(1.4, 0.1)), torch.randn(2, 2)

    def predictions(inputs, y, ridge):
        solution = solve(arch.ntk(inputs), y, ridge, leave_one_out=True)
        return solution.predict(arch.ntk(x_test, inputs)), solution.leave_one_out

    given = tuple(t.clone().requires_grad_() for t in (inputs, y, ridge))
    assert torch.autograd.gradcheck(predictions, given)


def test_a_gram_of_tiles_passes_gradients_too():
    x = torch.randn(5, 2, requires_grad=True)
    gram = gramian.Gram(lambda a, b=None: torch.exp(-(torch.cdist(a, a if b is None else b) ** 2)), x, tile=2)
    dense = torch.exp(-(torch.cdist(x, x) ** 2))
    y = torch.randn(5)
    (found,) = torch.autograd.grad(solve(gram, y, 0.1).alpha.sum(), x)
    (right,) = torch.autograd.grad(torch.linalg.solve(dense + 0.1 * torch.eye(5), y).sum(), x)
    torch.testing.assert_close(found, right)


def test_attribution_passes_gradients():
    a = torch.randn(4, 5, requires_grad=True)

    def weights(a):
        return attribution(a @ a.mT + torch.eye(4), a[:2] @ a.mT, torch.arange(4.0), 0.1).prediction

    assert torch.autograd.gradcheck(weights, (a,))


def test_what_goes_through_eigenvectors_refuses_a_gradient():
    k = torch.eye(3, requires_grad=True)
    for curve in (
        lambda: gradient_flow(k, torch.ones(3), [1.0]),
        lambda: gradient_descent(k, torch.ones(3), 0.1, [1]),
        lambda: loss_curve(k, torch.ones(3), [1], 0.1),
    ):
        with pytest.raises(BadArgument, match=r"(?s)`theta` requires a gradient.*why: .*fix: `theta\.detach\(\)`"):
            curve()
    with torch.no_grad():
        gradient_flow(k, torch.ones(3), [1.0])


def test_a_predicted_residual_is_differentiable_in_the_initial_one():
    k, r = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.randn(2, 1, requires_grad=True)
    cross = torch.randn(3, 2), torch.randn(3, 1, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, t: gradient_flow(k, r, [0.5, 1.0], cross=(cross[0], t)), (r, cross[1]))
    assert torch.autograd.gradcheck(lambda r: loss_curve(k, r, [1, 4], 0.1), (r,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_duplicated_row_is_always_found_and_named(dtype):
    like = {d: torch.zeros(1, d, dtype=dtype) for d in (1, 2, 3, 4)}
    networks = {d: nn.Sequential(nn.Linear(d, 8), nn.ReLU(), nn.Linear(8, 1)) for d in like}
    arch_of = {d: gramian.architecture(networks[d], like[d], law=(1.4, 0.3)) for d in like}
    for seed in range(200):
        draw = torch.Generator().manual_seed(seed)
        n, d = 3 + seed % 20, 1 + seed % 4
        x = torch.randn(n, d, generator=draw, dtype=dtype)
        i, j = sorted(torch.randperm(n, generator=draw)[:2].tolist())
        x[j] = x[i]
        ntk, y = arch_of[d].ntk(x), torch.randn(n, generator=draw)
        with pytest.raises(NotPositive, match=rf"(?s)rows {i} and {j}\b") as caught:
            solve(ntk, y)
        assert solve(ntk, y, caught.value.enough).residual < 1e-3


def test_near_duplicates_that_float64_tells_apart_are_solved():
    x = torch.randn(8, 3)
    x[1] = x[0] + 1e-4
    arch = gramian.architecture(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)), x[:1], law=(1.4, 0.3))
    solution = solve(arch.ntk(x), torch.randn(8))
    assert solution.residual < 1e-10


def test_a_diagonal_of_many_magnitudes_is_no_singular_matrix():
    k = torch.diag(torch.tensor([1.0, 2.0**-30]))
    torch.testing.assert_close(solve(k, torch.ones(2)).alpha, 1 / k.diagonal())
    assert bool(eigenvalues(k.requires_grad_()).requires_grad)


def test_estimators_name_equal_rows_and_a_ridge_in_their_own_unit():
    x = [[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]
    with pytest.raises(NotPositive, match=r"(?s)rows 0 and 1.*multiple of the mean of the kernel's diagonal") as caught:
        NTKRegressor(ridge=0.0).fit(x, [0.0, 1.0, 2.0])
    assert "torch.float64" not in caught.value.fix
    with pytest.raises(NotPositive) as caught:
        NTKClassifier(ridge=0.0).fit(x, [0, 1, 1])
    ridge = float(caught.value.fix.split("`ridge=")[1].split("`")[0])
    assert math.isfinite(NTKClassifier(ridge=ridge).fit(x, [0, 1, 1]).solution_.residual)


def test_a_kernel_of_float32_numbers_goes_on_and_says_so():
    x = torch.linspace(-1, 1, 60, dtype=torch.float32)[:, None]
    arch = gramian.architecture(
        nn.Sequential(nn.Linear(1, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False)), x[:1]
    )
    k = arch.ntk(x, engine="torch").double()
    k[0, 0] -= 2e-6  # rounding of float32 in the wrong direction
    k = k.float().double()
    with pytest.warns(RuntimeWarning, match=r"smallest eigenvalue -.*torch\.float32 numbers.*count as zero"):
        gradient_flow(k, torch.ones(60), [1.0])
    with pytest.raises(NotPositive):
        gradient_flow(k - 1e-3 * torch.eye(60), torch.ones(60), [1.0])


@pytest.mark.parametrize("kind", ["array", "read-only", "reversed", "list", "frame"])
def test_arrays_and_tables_are_taken_where_tensors_are(kind):
    pandas = pytest.importorskip("pandas")
    k, y = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])
    right = solve(torch.from_numpy(k.copy()), torch.from_numpy(y.copy())).alpha
    if kind == "read-only":
        k.setflags(write=False)
    if kind == "reversed":
        k, y = k[::-1, ::-1].copy()[::-1, ::-1], y[::-1].copy()[::-1]
    if kind == "list":
        k, y = k.tolist(), y.tolist()
    if kind == "frame":
        k, y = pandas.DataFrame(k), pandas.Series(y)
    solution = solve(k, y)
    torch.testing.assert_close(solution.alpha, right)
    torch.testing.assert_close(solution.predict(k), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(gradient_flow(k, y, [0.0])[0, :, 0], torch.tensor([1.0, 2.0]))
