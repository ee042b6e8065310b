"""Opposite and nearly opposite inputs keep the digits that nearly equal ones have, on every engine."""

import mpmath  # comes with torch: sympy asks for it
import numpy as np
import pytest
import torch
from nets import Elementwise
from torch import nn

import gramian

D = torch.float64
ODD = {"hardtanh": nn.Hardtanh(), "softshrink": nn.Softshrink(), "tanh": nn.Tanh(), "erf": None}
ACTS = {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.3), "gelu": nn.GELU(), "silu": nn.SiLU(), **ODD}


def arch_of(act, depth=1, *, bias=False, inputs=4):
    act = Elementwise(torch.erf) if act is None else act
    hidden = [m for i in range(depth) for m in (nn.Linear(inputs if i == 0 else 4, 4, bias=bias), act)]
    return gramian.architecture(
        nn.Sequential(*hidden, nn.Linear(4, 1, bias=bias)), torch.zeros(1, inputs), law=(1.4, 0.3)
    )


def unit(x):
    return x / x.norm(dim=1, keepdim=True) * x.shape[1] ** 0.5


def relu_in_50_digits(x, y):
    """NNGP and NTK of one hidden layer without bias at sigma_w = 1.4."""
    with mpmath.workdps(50):
        a, b = ([mpmath.mpf(t) for t in row.tolist()] for row in (x, y))
        w = mpmath.mpf(1.4) ** 2
        q1, q2, k = (w * mpmath.fdot(p, r) / len(a) for p, r in ((a, a), (b, b), (a, b)))
        angle = mpmath.acos(max(-1, min(1, k / mpmath.sqrt(q1 * q2))))
        half = (mpmath.pi - angle) / (2 * mpmath.pi)
        post = mpmath.sqrt(q1 * q2) * mpmath.sin(angle) / (2 * mpmath.pi) + half * k
        return float(w * post), float(w * (post + k * half))


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("distance", [0.0, 1e-15, 1e-12, 1e-8, 1e-5, 1e-3, 0.1])
def test_relu_near_opposite_inputs_against_50_digits(engine, distance):
    torch.manual_seed(1)
    x = unit(torch.randn(6, 4, dtype=D))
    y = -x + distance * torch.randn(6, 4, dtype=D)
    for dtype, tolerance in ((D, 4e-15 if distance < 1e-2 else 1e-14), (torch.float32, 4e-7)):
        a, b = x.to(dtype), y.to(dtype)
        for k, number in zip(arch_of(nn.ReLU()).kernels(a, b, engine=engine), (0, 1), strict=True):
            right = torch.tensor([relu_in_50_digits(p, q)[number] for p, q in zip(a.double(), b.double(), strict=True)])
            assert float((k.diagonal().double() - right).abs().max()) < tolerance


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", ACTS)
def test_the_engines_agree_near_opposite_inputs(name, depth):
    torch.manual_seed(2)
    x = unit(torch.randn(8, 4, dtype=D))
    for bias in (False, True):
        arch = arch_of(ACTS[name], depth, bias=bias)
        for distance in (0.0, 1e-7, 1e-2):
            y = unit(-x + distance * torch.randn(8, 4, dtype=D))
            size = float(arch.ntk(x, engine="torch").abs().max())
            for k, right in zip(arch.kernels(x, y), arch.kernels(x, y, engine="torch"), strict=True):
                assert float((k - right).abs().max()) < 2e-12 * size


@pytest.mark.parametrize("name", ODD)
def test_an_odd_network_of_the_opposite_input_is_the_opposite(name):
    torch.manual_seed(3)
    x = unit(torch.randn(6, 4, dtype=D))
    y = x + torch.logspace(-12, -1, 6, dtype=D)[:, None] * torch.randn(6, 4, dtype=D)
    for depth in (1, 2, 3):
        arch = arch_of(ODD[name], depth)
        for engine in ("torch", "auto"):
            for plus, minus in zip(arch.kernels(x, y, engine=engine), arch.kernels(x, -y, engine=engine), strict=True):
                sign = -torch.sign((plus * minus).sum())
                torch.testing.assert_close(minus, -sign * plus, rtol=1e-12, atol=1e-12)


def test_a_singular_matrix_of_opposite_rows_is_singular_to_rounding():
    x = torch.linspace(-1, 1, 200, dtype=D)[:, None]
    arch = arch_of(nn.ReLU(), inputs=1)
    for engine in ("native", "torch"):
        for dtype in (D, torch.float32):
            k = arch.ntk(x.to(dtype), engine=engine)
            values = torch.linalg.eigvalsh(k.double())
            assert values[0] >= -200 * torch.finfo(dtype).eps * values[-1]
    assert np.isfinite(values.numpy()).all()


def test_opposite_images():
    torch.manual_seed(4)
    x = torch.randn(3, 2, 4, 4, dtype=D)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1, bias=False)
    )
    arch = gramian.architecture(net, x, law=(1.4, 0.0))
    for distance in (0.0, 1e-9, 1e-6):
        y = -x + distance * torch.randn_like(x)
        for k, right in zip(arch.kernels(x, y), arch.kernels(x, y, engine="torch"), strict=True):
            torch.testing.assert_close(k, right, rtol=0, atol=1e-12)
