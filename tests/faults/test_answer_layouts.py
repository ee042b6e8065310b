"""Rows in any layout: one column, a transposed, reversed, strided, broadcast or read-only array, one row."""

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.sklearn import NTKRegressor

ROWS = np.random.default_rng(0).standard_normal((20, 3))

LAYOUTS = {
    "one column": np.linspace(-1, 1, 20)[:, None],
    "one column of many": ROWS[:, 1:2],
    "columns first": np.asfortranarray(ROWS),
    "every second": np.repeat(np.repeat(ROWS, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": ROWS[::-1],
    "columns backwards": ROWS[:, ::-1],
    "float32": ROWS.astype(np.float32),
    "one row": ROWS[:1],
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("writable", [True, False])
def test_a_regression_is_that_of_a_plain_copy(name, writable):
    x = LAYOUTS[name].view()
    x.setflags(write=writable)
    y = np.sin(x[:, 0].astype(np.float64))
    plain = np.array(x, order="C")
    got, want = (NTKRegressor().fit(rows, y).predict(rows) for rows in (x, plain))
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (7, 5)])
def test_kernels_of_expanded_and_transposed_tensors(shape, dtype):
    torch.manual_seed(0)
    n, d = shape
    net = nn.Sequential(nn.Linear(d, 8), nn.ReLU(), nn.Linear(8, 1)).to(dtype)
    plain = torch.randn(n, d, dtype=dtype)
    arch = gramian.architecture(net, plain)
    spread = torch.zeros(n, 2 * d, dtype=dtype)[:, ::2].copy_(plain)
    other = torch.randn(d, 4, dtype=dtype).T
    for x in (plain, plain.T.contiguous().T, spread):
        torch.testing.assert_close(arch.ntk(x), arch.ntk(plain))
        torch.testing.assert_close(arch.ntk(x, other), arch.ntk(plain, other.contiguous()))
    same = plain[:1].expand(6, d)
    torch.testing.assert_close(arch.ntk(same), arch.ntk(same.contiguous()))
