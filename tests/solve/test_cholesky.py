"""Kernel regression solves its equations, in closed form leave-one-out, and refuses what it cannot solve."""

import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.errors import BadArgument, BadData, NotPositive
from gramian.gram import Gram
from gramian.solve import solve


def rbf(x, y=None):
    return torch.exp(-torch.cdist(x, x if y is None else y).square() / 2)


@given(n=st.integers(1, 12), c=st.integers(1, 3), ridge=st.sampled_from([0.0, 1e-3, 10.0]), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_equations_hold(n, c, ridge, seed):
    generator = torch.Generator().manual_seed(seed)
    a, y = torch.randn(n, n + 3, generator=generator), torch.randn(n, c, generator=generator)
    k = a @ a.mT + 0.1 * torch.eye(n)
    solution = solve(k, y, ridge)
    torch.testing.assert_close(k @ solution.alpha + ridge * solution.alpha, y)
    assert solution.residual < 1e-12
    torch.testing.assert_close(solve(k, y[:, 0], ridge).alpha, solution.alpha[:, 0])
    torch.testing.assert_close(solution.predict(k) + ridge * solution.alpha, y)


def test_tiles_and_dense_agree_and_predict_tiles():
    x, x_test, y = torch.randn(30, 3), torch.randn(7, 3), torch.randn(30, 2)
    solution = solve(Gram(rbf, x, tile=8), y)
    torch.testing.assert_close(solution.alpha, solve(rbf(x), y).alpha)
    torch.testing.assert_close(solution.predict(Gram(rbf, x_test, x, tile=4)), rbf(x_test, x) @ solution.alpha)
    assert solution.predict(rbf(x_test, x).float()).dtype == torch.float64


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_leave_one_out_is_leaving_one_out(ridge):
    x, y = torch.randn(9, 2), torch.randn(9, 2)
    errors = solve(rbf(x), y, ridge, leave_one_out=True).leave_one_out
    for i in range(9):
        rest = [j for j in range(9) if j != i]
        without = solve(rbf(x[rest]), y[rest], ridge)
        torch.testing.assert_close(errors[i], y[i] - without.predict(rbf(x[i : i + 1], x[rest]))[0])


def test_a_solution_prints_pickles_and_compares():
    k, y = rbf(torch.randn(5, 2)), torch.randn(5)
    solution = solve(k, y, 0.5)
    assert pickle.loads(pickle.dumps(solution)) == solution
    assert solution != solve(k, y, 0.25)
    assert solution != solve(k, y, 0.5, leave_one_out=True)
    assert repr(solution).startswith("Solution(alpha (5,), ridge=0.5, residual=")


@given(n=st.integers(3, 40), low=st.floats(-1e-2, 0), seed=st.integers(0, 99), ridge=st.sampled_from([0.0, 1e-12]))
@settings(deadline=None)
def test_the_ridge_that_the_error_names_is_enough(n, low, seed, ridge):
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator))[0]
    k = (q * torch.linspace(low - 2e-12, 5, n)) @ q.mT
    k, y = (k + k.mT) / 2, torch.randn(n, generator=generator)
    with pytest.raises(NotPositive, match=r"(?s)`gram` .* smallest eigenvalue -.*where: .*why: .*fix: ") as caught:
        solve(k, y, ridge)
    assert solve(k, y, float(re.search(r"`ridge=(\S+)`", str(caught.value))[1])).residual < 0.1


def test_equal_inputs_are_named_as_a_cause():
    x = torch.randn(4, 2)
    k = rbf(torch.cat([x, x]))
    k[0, 4] = k[4, 0] = 1 + 1e-12  # rounding, as a kernel in another precision has it
    with pytest.raises(NotPositive, match=r"(?s)two inputs are equal.*`ridge="):
        solve(k, torch.ones(8))


def test_errors_say_what_to_do():
    k = torch.eye(3)
    with pytest.raises(BadArgument, match=r"(?s)integers are class labels.*Dataset\.targets.*y\.double\(\)"):
        solve(k, torch.tensor([0, 1, 2]))
    with pytest.raises(BadArgument, match=r"(?s)targets of shape \(4,\) for 3 training samples"):
        solve(k, torch.ones(4))
    with pytest.raises(BadData, match=r"target in row 1 is not finite"):
        solve(k, torch.tensor([0.0, float("nan"), 1.0]))
    with pytest.raises(BadArgument, match=r"ridge=-1"):
        solve(k, torch.ones(3), ridge=-1)
    with pytest.raises(
        BadArgument, match=r"(?s)test kernel of shape \(3, 2\) for 3 training samples.*kernel\(x_test, x\)"
    ):
        solve(k, torch.ones(3)).predict(torch.ones(3, 2))


def test_coefficients_are_differentiable_in_the_ridge():
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, k = x[:, :1].sin(), x @ x.T + torch.eye(6, dtype=torch.float64)
    ridge = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def coefficients(ridge):
        return solve(k, y, ridge).alpha

    assert torch.autograd.gradcheck(coefficients, (ridge,))
    assert isinstance(solve(k, y, ridge).ridge, float)
