"""Kernel regression within the kernel's own memory."""

import pytest
import torch

from gramian.errors import BadArgument, NotPositive
from gramian.solve import solve
from gramian.solve.in_place import Blocks, solve_in_place

BLOCKS = Blocks(panel=16, tile=48)  # of 157 rows, which they do not divide evenly


@pytest.fixture
def kernel():
    x = torch.randn(157, 5)
    k = torch.exp(-(torch.cdist(x, x) ** 2) / 2)
    return (k + k.mT) / 2


@pytest.mark.parametrize("shape", [(157,), (157, 3)])
def test_it_is_solve(kernel, shape):
    y, shares = torch.randn(shape), []
    expected = solve(kernel, y, 1e-3)
    found = solve_in_place(kernel.clone(), y, 1e-3, progress=shares.append, blocks=BLOCKS)
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-9, atol=1e-9)
    assert found.residual < 1e-12
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_singular_matrices_are_refused_with_their_equal_rows_and_come_back_whole(kernel):
    kernel[7], kernel[:, 7] = kernel[100], kernel[:, 100]
    kernel[7, 7] = kernel[7, 100] = kernel[100, 7] = kernel[100, 100]
    given = kernel.clone()
    with pytest.raises(NotPositive, match=r"rows 7 and 100"):
        solve_in_place(given, torch.randn(157), blocks=BLOCKS)
    assert torch.equal(given, kernel)
    indefinite = kernel - 2 * torch.eye(157)
    with pytest.raises(NotPositive, match="is not positive"):
        solve_in_place(indefinite, torch.randn(157), blocks=BLOCKS)


def test_what_cannot_be_overwritten():
    with pytest.raises(BadArgument, match="square float64 matrix"):
        solve_in_place(torch.eye(3, dtype=torch.float32), torch.ones(3))
    with pytest.raises(BadArgument, match="ridge=-1"):
        solve_in_place(torch.eye(3), torch.ones(3), -1)
