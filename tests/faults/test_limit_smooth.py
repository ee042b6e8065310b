"""Smooth activations at any variance: right, at a bounded cost, or refused with the word to standardize the inputs."""

import numpy as np
import pytest
import torch
from counting import numbers_computed
from torch import nn

import gramian
from gramian.arch.ops.smooth import BEND_SCALES
from gramian.duals.quadrature import smooth_expectation
from gramian.errors import NoLimit
from gramian.sklearn import NTKRegressor

D = torch.float64
ACTS = {
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "mish": nn.Mish(),
    "tanhshrink": nn.Tanhshrink(),
    "gelu, tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "logsigmoid": nn.LogSigmoid(),
}


def arch_of(act, inputs=1, law=(1.0, 0.0)):
    return gramian.architecture(
        nn.Sequential(nn.Linear(inputs, 8), act, nn.Linear(8, 1)), torch.zeros(1, inputs), law=law
    )


def grid(deviation):
    """Points and weights of a normal variable. The trapezoidal rule errs by exp(-2 pi d / h) where the nearest pole is
    d from the real line: pi / 2 for these functions, 5e-15 at steps of h = 0.3 in their scale."""
    z = torch.linspace(-9, 9, 2 * int(9 * deviation / 0.3) + 401, dtype=D)
    return z, torch.exp(-z * z / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)


def by_trapezoids(f, s1, c, s2):
    """E f(u) f(v)."""
    (z, weight), (w, inner) = grid(max(s1, s2)), grid(s2)
    rows = [f(s2 * (c * part[:, None] + np.sqrt(1 - c * c) * w)) @ inner for part in z.split(256)]
    return float((f(s1 * z) * weight) @ torch.cat(rows))


AT_EVERY_DEVIATION = ("logsigmoid",)  # the others take as long, and the same quadrature
CASES = [
    pytest.param(name, at, marks=pytest.mark.slow if at[0] > 10 and name not in AT_EVERY_DEVIATION else ())
    for name in ACTS
    for at in ((0.01, 0.02), (3.0, 1.5), (13.0, 30.0))
]


@pytest.mark.parametrize(("name", "deviations"), CASES)
def test_the_kernel_is_the_integral(name, deviations):
    s1, s2 = deviations
    x = torch.tensor([[s1, 0.0], [-0.6 * s2, 0.8 * s2]], dtype=D) * 2**0.5
    arch = arch_of(ACTS[name], 2)
    right = by_trapezoids(ACTS[name], s1, -0.6, s2)
    z, weight = grid(s1)
    own = float(ACTS[name](s1 * z).square() @ weight)
    for dtype, tolerance in ((D, 1e-10), (torch.float32, 1e-5)):
        for engine in ("auto", "torch"):
            k = arch.nngp(x.to(dtype), engine=engine)
            assert float(k[0, 1]) == pytest.approx(right, abs=tolerance * abs(own))
            assert float(k[0, 0]) == pytest.approx(own, rel=tolerance, abs=1e-12 * abs(own))


@pytest.mark.parametrize("dtype", [pytest.param(D, marks=pytest.mark.slow), torch.float32])
def test_two_rows_are_not_worth_a_long_table(dtype):
    """A second of CPU computes 1e8 to 1e9 numbers. Seen: 3e8; it was half a minute."""
    x = torch.tensor([[3.0], [-1.5]], dtype=dtype)
    for act, scale in ((nn.Tanh(), 1.0), (nn.Tanh(), 2.0), (nn.Sigmoid(), 3.0), (nn.SiLU(), 5.0)):
        arch = arch_of(act)
        assert numbers_computed(lambda a=arch, s=scale: a.ntk(s * x)) < 2e9


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("dtype", [D, torch.float32])
def test_any_deviation_at_a_bounded_cost(name, dtype):
    torch.manual_seed(0)
    count = 0
    for deviation in (1e-3, 0.1, 2.0, 5.0, 20.0, 100.0, 1e3):
        x = deviation * torch.randn(4, 3, dtype=dtype)
        arch, kernels, refusals = arch_of(ACTS[name], 3), [], []

        def run(arch=arch, x=x, kernels=kernels, refusals=refusals):
            try:
                kernels.append(arch.ntk(x))
            except NoLimit as error:
                refusals.append(str(error))

        assert numbers_computed(run) < 2e10  # seen: 4e9, 5 s
        assert all(k.isfinite().all() for k in kernels)
        assert all("standardize the inputs" in said for said in refusals)
        count += 1
    assert count == 7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Standardize the inputs", "ignore:.*biases of the module")
def test_columns_that_are_not_standardized():
    torch.manual_seed(0)
    x = torch.randn(60, 8, dtype=D)
    x = x / x.norm(dim=1, keepdim=True) * 8**0.5 * torch.linspace(13, 48, 60, dtype=D)[:, None]
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1))
    arch = gramian.architecture(net, x[:1], law=(1.0, 0.1))
    with pytest.warns(UserWarning, match="Standardize the inputs"):
        cost = numbers_computed(lambda: arch.ntk(x))
    assert cost < 3e10
    assert numbers_computed(lambda: NTKRegressor(net, ridge=1e-3).fit(x.numpy(), x[:, 0].numpy())) < 6e10


def test_both_orders_and_all_correlations():
    q1, q2 = torch.tensor(900.0, dtype=D), torch.tensor(4.0, dtype=D)
    c = torch.tensor([-1.0, -0.999999, -0.9, 0.0, 0.3, 0.99999, 1.0], dtype=D)
    k = c * (q1 * q2).sqrt()
    one = smooth_expectation(torch.tanh, torch.tanh, q1, k, q2, BEND_SCALES, 32)
    two = smooth_expectation(torch.tanh, torch.tanh, q2, k, q1, BEND_SCALES, 32)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        one[[0, 1, 2]], -smooth_expectation(torch.tanh, torch.tanh, q1, -k[:3], q2, BEND_SCALES, 32)
    )
