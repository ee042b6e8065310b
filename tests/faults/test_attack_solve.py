"""Solves and predicted curves on what people hand in: right against plain linear algebra, or refused in four parts."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.errors import GramianError
from gramian.solve import attribution, gradient_descent, gradient_flow, momentum, nesterov, solve

N = 6


def kernel():
    a = torch.randn(N, N + 2, generator=torch.Generator().manual_seed(0))
    return a @ a.T


def refused(call):
    with pytest.raises(GramianError, match=r"(?s)\n  where: .*\n  why: .*\n  fix: "):
        call()


Y = torch.randn(N, generator=torch.Generator().manual_seed(1))
TARGETS = {
    "(n, 1)": Y[:, None],
    "(n, 3)": torch.stack([Y, 2 * Y, -Y], 1),
    "float32": Y.float(),
    "float16": Y.half(),
    "array": Y.numpy(),
    "list": Y.tolist(),
    "strided": torch.stack([Y, Y], 1)[:, 1],
    "expanded": torch.ones(1).expand(N),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_form(name):
    y, k, cross = TARGETS[name], kernel(), torch.randn(4, N)
    right = torch.linalg.solve(k + 0.1 * torch.eye(N), torch.as_tensor(y).double())
    solution = solve(k, y, 0.1)
    torch.testing.assert_close(solution.alpha, right)
    torch.testing.assert_close(solution.predict(cross), cross @ right)


REFUSED = {
    "whole numbers": (None, torch.arange(N), 0.1),
    "booleans": (None, torch.arange(N) > 2, 0.1),
    "complex targets": (None, Y + 0j, 0.1),
    "NaN": (None, torch.where(torch.arange(N) == 3, math.nan, Y), 0.1),
    "short": (None, Y[:5], 0.1),
    "one number": (None, Y[0], 0.1),
    "text": (None, ["a"] * N, 0.1),
    "nothing": (None, None, 0.1),
    "ragged": (None, [[1.0], [1.0, 2.0]], 0.1),
    "negative ridge": (None, Y, -0.1),
    "ridge NaN": (None, Y, math.nan),
    "infinite ridge": (None, Y, math.inf),
    "ridges": (None, Y, torch.full((N,), 0.1)),
    "ridge of text": (None, Y, "a"),
    "no ridge": (None, Y, None),
    "a matrix with NaN": (torch.full((N, N), math.nan), Y, 0.1),
    "rectangular": (torch.ones(N, N - 2), Y, 0.1),
    "not symmetric": (torch.ones(N, N).triu(), Y, 0.1),
    "negative": (-torch.eye(N), Y, 0.1),
    "complex": (torch.eye(N) + 0j, Y, 0.1),
    "empty": (torch.ones(0, 0), Y[:0], 0.1),
    "three axes": (torch.ones(1, N, N), Y, 0.1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name):
    k, y, ridge = REFUSED[name]
    k = kernel() if k is None else k
    refused(lambda: solve(k, y, ridge))


def test_matrices_of_any_form():
    k, right = torch.diag(torch.arange(1.0, N + 1)), Y / (torch.arange(1.0, N + 1) + 0.1)
    for form in (k, k.int(), k.to_sparse(), k.numpy()[::-1, ::-1].copy()[::-1, ::-1], k.tolist(), k.T, k.half()):
        torch.testing.assert_close(solve(form, Y, 0.1).alpha, right)
    refused(lambda: solve(k, Y).predict(torch.full((2, N), math.nan)))
    refused(lambda: solve(k, Y).predict(torch.ones(2, N) + 0j))


def test_rows_that_nearly_agree():
    """Equal, or a unit in the last place apart: refused. Apart by 1e-9: solved."""
    for n in (10, 60, 200):
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
        y = torch.randn(n, generator=torch.Generator().manual_seed(n + 1))
        arch = gramian.architecture(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)), x[:1], law=(1.4, 0.3))
        for other, solvable in ((x[1], False), (torch.nextafter(x[1], x[1] + 1), False), (x[1] + 1e-9, True)):
            x[n - 1] = other
            k = arch.ntk(x)
            if not solvable:
                refused(lambda k=k, y=y: solve(k, y))
                continue
            solution = solve(k, y)
            assert float((k @ solution.alpha - y).norm() / y.norm()) < 1e-6


def test_a_gram_of_tiles_on_disk(tmp_path):
    x, y = torch.randn(23, 3), torch.randn(23)
    arch = gramian.architecture(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)), x[:1], law=(1.4, 0.3))
    k = arch.ntk(x)
    gramian.Gram(arch.ntk, x, tile=5).save(tmp_path / "g")
    stored = gramian.Gram.open(tmp_path / "g")
    torch.testing.assert_close(solve(stored, y, 0.1).alpha, torch.linalg.solve(k + 0.1 * torch.eye(23), y))
    torch.testing.assert_close(gradient_flow(stored, y, [0.1])[0, :, 0], torch.matrix_exp(-0.1 * k) @ y)
    x[20] = x[3]
    gramian.Gram(arch.ntk, x, tile=5).save(tmp_path / "h")
    refused(lambda: solve(gramian.Gram.open(tmp_path / "h"), y))
    tile = max((tmp_path / "g").iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(tile.read_bytes())
    content[-5] ^= 255
    tile.write_bytes(content)
    refused(lambda: solve(gramian.Gram.open(tmp_path / "g"), y, 0.1))


def by_steps(k, r, lr, steps, beta=0.0, nesterov=False):
    """Residuals of torch.optim.SGD on a linear model whose kernel is k."""
    out, buffer = [r], torch.zeros_like(r)
    for _ in range(steps):
        g = k @ out[-1]
        buffer = beta * buffer + g
        out.append(out[-1] - lr * (g + beta * buffer if nesterov else buffer))
    return torch.stack(out)


def test_curves_are_those_of_steps():
    k, r = kernel(), torch.randn(N, 2)
    lam = torch.linalg.eigvalsh(k)
    lr, steps = float(1 / lam[-1]), [0, 1, 2, 7, 50]
    critical = (1 - math.sqrt(lr * float(lam[2]))) ** 2
    torch.testing.assert_close(gradient_descent(k, r, lr, steps), by_steps(k, r, lr, 50)[steps])
    torch.testing.assert_close(gradient_descent(k, r, 2.2 * lr, steps), by_steps(k, r, 2.2 * lr, 50)[steps])
    for beta in (0.0, 0.9, critical):
        torch.testing.assert_close(momentum(k, r, lr, beta, steps), by_steps(k, r, lr, 50, beta)[steps])
        torch.testing.assert_close(nesterov(k, r, lr, beta, steps), by_steps(k, r, lr, 50, beta, True)[steps])
    for form in (torch.tensor(lr), np.float64(lr)):
        torch.testing.assert_close(gradient_descent(k, r, form, steps), by_steps(k, r, lr, 50)[steps])


def test_curves_refuse_what_makes_no_sense():
    k, r, nan = kernel(), torch.randn(N, 2), math.nan
    for lr in (-0.1, 0.0, nan, math.inf, None, "a", [0.1]):
        refused(lambda lr=lr: gradient_descent(k, r, lr, [1]))
    for beta in (-0.1, 1.0, nan, [1, 2], "a"):
        refused(lambda beta=beta: momentum(k, r, 0.01, beta, [1]))
        refused(lambda beta=beta: nesterov(k, r, 0.01, beta, [1]))
    for steps in ([-1], [1.5], [math.inf], []):
        refused(lambda steps=steps: gradient_descent(k, r, 0.01, steps))
    for residual in (r * nan, r * math.inf, r[:3], torch.randn(N, 2, 2), r + 0j):
        refused(lambda residual=residual: gradient_flow(k, residual, [1.0]))
    for matrix in (k * nan, -k, k.triu(), k[:, :3], k + 0j):
        refused(lambda matrix=matrix: gradient_flow(matrix, r, [1.0]))


def test_second_derivatives_of_a_solve():
    b, y = torch.randn(4, 6, requires_grad=True), torch.randn(4, requires_grad=True)

    def alpha(b, y):
        return solve(b @ b.T + 0.1 * torch.eye(4), y, 0.2).alpha

    assert torch.autograd.gradgradcheck(alpha, (b, y))
    assert torch.autograd.gradcheck(lambda b: attribution(b @ b.T + torch.eye(4), b @ b.T, Y[:4], 0.2).prediction, (b,))
