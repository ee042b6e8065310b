"""Tables of duals against the quadrature that they stand for."""

import math

import pytest
import torch
from torch import nn

from gramian import architecture
from gramian.arch.ops import Kinked
from gramian.duals.dual_table import table_for

ELU, SELU = Kinked("elu", (1.0, 1.0, 1.0)), Kinked("selu")
ONE = [ELU, SELU, Kinked("clamp", (0.0, 6.0)), Kinked("hardswish"), Kinked("softshrink", (0.5,)),
       Kinked("hardshrink", (0.5,)), Kinked("threshold", (0.1, 0.2))]  # fmt: skip


def table(op, q):
    at_zero = all(t == 0 for t in op.kinks)
    return table_for(op._integrals, op, q, q, 2**20, kinks_at_zero=at_zero)


@pytest.mark.parametrize("op", ONE, ids=lambda op: op.name)
@pytest.mark.parametrize("q", [0.3, 1.0, 1.7])
def test_at_one_variance_every_function_has_a_table(op, q):
    check(op, torch.full((300,), q))


@pytest.mark.parametrize("op", [ELU, SELU], ids=lambda op: op.name)
def test_at_any_variances_those_with_kinks_at_zero(op):
    check(op, 0.4 + 2 * torch.rand(300))


def check(op, q):
    """At random pairs, nearly equal ones, and nearly opposite ones."""
    t = q.flip(0)
    theta = math.pi * torch.rand(300)
    theta[:50] = 10.0 ** torch.linspace(-9, -1, 50)
    theta[50:100] = math.pi - 10.0 ** torch.linspace(-3, -1, 50)
    s = (q * t).sqrt()
    made = table(op, q)
    assert made is not None
    exact = op._integrals(q, s * theta.cos(), t, 2 * s * (theta / 2).sin() ** 2)
    for found, right in zip(made(q, theta, t), exact, strict=True):
        assert (found - right).abs().max() <= 1e-11 * right.abs().max()


def test_where_a_table_would_be_wrong_there_is_none():
    q = torch.rand(300) + 0.5
    assert table(Kinked("clamp", (0.0, 6.0)), q) is None  # kinks meet at angles that depend on the variances
    assert table(ELU, torch.cat([q, torch.zeros(1)])) is None
    assert table(ELU, torch.cat([q, torch.tensor([100.0])])) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("norm", [False, True], ids=["any norm", "one norm"])
def test_a_kernel_from_tables_is_the_kernel_of_few_inputs(norm, dtype):
    x = torch.randn(150, 4, dtype=dtype)
    x = x / x.norm(dim=1, keepdim=True) * (2 if norm else 1 + torch.rand(150, 1, dtype=dtype))
    x[1] = x[0] * (1 + 1e-6)
    arch = architecture(nn.Sequential(nn.Linear(4, 3), nn.ELU(), nn.Linear(3, 3), nn.SELU(), nn.Linear(3, 1)), x[:2])
    whole, few = arch.kernels(x), arch.kernels(x[:12].double())
    for k, right in zip(whole, few, strict=True):
        tolerance = (1e-11 if dtype == torch.float64 else 5e-6) * float(right.max())
        assert (k[:12, :12].double() - right).abs().max() <= tolerance
        assert torch.equal(k, k.T)
        lam = torch.linalg.eigvalsh(k.double())
        assert lam[0] >= -150 * torch.finfo(dtype).eps * lam[-1]
