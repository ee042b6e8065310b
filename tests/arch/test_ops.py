"""The duals of a few activations by a second quadrature, and ops' errors. The contract of all: test_activations.py."""

import ast
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.arch import ops
from gramian.arch.ops import GELU, Erf, Exp, LeakyReLU, Polynomial, ReLU, Smooth
from gramian.arch.ops.smooth import SMOOTH_FUNCTIONS

SMOOTH = [Smooth(name) for name in SMOOTH_FUNCTIONS]
ACTIVATIONS = [ReLU(), LeakyReLU(0.2), LeakyReLU(-1.0), Erf(), GELU(), Exp(), Polynomial(), *SMOOTH]
every_activation = pytest.mark.parametrize("op", ACTIVATIONS, ids=str)
variance, correlation = st.floats(1e-2, 3.0), st.floats(-0.999, 0.999)


def by_two_dimensional_quadrature(op, q1, k, q2):
    """E phi(u) phi(v) and E phi'(u) phi'(v) on a plain 2-d trapezoidal grid."""
    z = torch.linspace(-12, 12, 1201)
    weight = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    c = k / math.sqrt(q1 * q2)
    u = (math.sqrt(q1) * z[:, None]).expand(len(z), len(z)).clone().requires_grad_()
    v = (math.sqrt(q2) * (c * z[:, None] + math.sqrt(1 - c * c) * z)).requires_grad_()
    w = weight[:, None] * weight
    slopes = torch.autograd.grad(op.phi(u).sum(), u)[0] * torch.autograd.grad(op.phi(v).sum(), v)[0]
    return float((op.phi(u) * op.phi(v) * w).sum().detach()), float((slopes * w).sum())


@every_activation
@given(q1=variance, q2=variance, rho=correlation)
@settings(deadline=None, max_examples=20)
def test_dual_is_a_symmetric_kernel(op, q1, q2, rho):
    q1, q2 = torch.tensor(q1), torch.tensor(q2)
    k = rho * (q1 * q2).sqrt()
    torch.testing.assert_close(op.dual(q1, k, q2), op.dual(q2, k, q1), rtol=1e-10, atol=1e-12)
    (k11, _), (k12, _), (k22, _) = op.dual(q1, q1, q1), op.dual(q1, k, q2), op.dual(q2, q2, q2)
    assert k12.abs() <= (k11 * k22).sqrt() * (1 + 1e-9)  # Cauchy-Schwarz


@every_activation
@pytest.mark.parametrize(("q1", "c", "q2"), [(1.0, 0.5, 2.0), (0.3, -0.9, 0.1), (2.0, 0.99, 2.0)])
def test_dual_is_the_gaussian_integral(op, q1, c, q2):
    k = c * math.sqrt(q1 * q2)
    ours = [float(t) for t in op.dual(*torch.tensor([q1, k, q2]))]
    kinked = isinstance(op, LeakyReLU)  # there the grid itself is off by its spacing
    oracle = by_two_dimensional_quadrature(op, q1, k, q2)
    assert ours[0] == pytest.approx(oracle[0], abs=1e-4 if kinked else 1e-11, rel=1e-11)
    assert ours[1] == pytest.approx(oracle[1], abs=2e-2 if kinked else 1e-11, rel=1e-11)


@every_activation
@given(q1=variance, q2=variance, rho=st.floats(-0.99, 0.99))
@settings(deadline=None, max_examples=15)
def test_the_second_kernel_is_the_first_ones_derivative_in_k(op, q1, q2, rho):
    """Price 1958; it ties K and its derivative together without any quadrature."""
    q1, q2 = torch.tensor(q1), torch.tensor(q2)
    k = (rho * (q1 * q2).sqrt()).requires_grad_()
    kernel, kdot = op.dual(q1, k, q2)
    (slope,) = torch.autograd.grad(kernel, k)
    torch.testing.assert_close(slope, kdot, rtol=1e-8, atol=1e-9)


@every_activation
@given(q=variance)
@settings(deadline=None, max_examples=10)
def test_the_mean_is_the_one_of_uncorrelated_values(op, q):
    q = torch.tensor(q)
    mean = op.mean(q)
    kernel, _ = op.dual(q, torch.tensor(0.0), q)
    torch.testing.assert_close(torch.zeros(()) if mean is None else mean**2, kernel, rtol=1e-10, atol=1e-12)


@every_activation
def test_float32_agrees_with_float64(op):
    q1, q2, rho = torch.rand(50) + 0.1, torch.rand(50) + 0.1, torch.rand(50) * 1.8 - 0.9
    k = rho * (q1 * q2).sqrt()
    exact, rough = op.dual(q1, k, q2), op.dual(q1.float(), k.float(), q2.float())
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b.double(), rtol=2e-5, atol=2e-5)  # a sum of up to 500 terms in float32


@every_activation
def test_zero_variance_is_the_value_at_zero(op):
    zero = torch.zeros(1)
    assert float(op.dual(zero, zero, zero)[0]) == pytest.approx(float(op.phi(zero)) ** 2, abs=1e-12)
    kernel, kdot = op.dual(zero, zero, torch.ones(1))
    assert torch.isfinite(kernel).all()
    assert torch.isfinite(kdot).all()


@every_activation
def test_activations_pickle_and_compare(op):
    assert pickle.loads(pickle.dumps(op)) == op


@pytest.mark.parametrize("op", [ReLU(), LeakyReLU(0.2)], ids=str)
@given(q=st.floats(1e-8, 1e8), below=st.integers(-3, 3))
@settings(deadline=None)
def test_relu_of_equal_inputs_is_exact_though_rounding_moved_k(op, q, below):
    """acos would give an angle of 1e-8 here, and an error of 5e-9 in the derivative's kernel."""
    q = torch.tensor(q)
    k = q * (1 + below * torch.finfo(q.dtype).eps)
    kernel, kdot = op.dual(q, k, q)
    a = op.slope
    assert float(kernel) == pytest.approx(float(q) * (1 + a * a) / 2, rel=1e-14)
    assert float(kdot) == pytest.approx((1 + a * a) / 2, rel=1e-14)


@given(st.floats(1e-6, 1e-2))
@settings(deadline=None)
def test_relu_angle_of_nearly_equal_inputs_keeps_its_digits(angle):
    q = torch.tensor(1.0)
    _, kdot = ReLU().dual(q, torch.tensor(math.cos(angle)), q)
    # cos(angle) itself is rounded by 1e-16, which moves the angle by 1e-16 / angle
    assert math.pi * (1 - 2 * float(kdot)) == pytest.approx(angle, abs=3e-16 / angle)


def test_relu_gradients_are_finite_at_equal_inputs():
    q1, k, q2 = (torch.tensor(1.0, requires_grad=True) for _ in range(3))
    kernel, kdot = ReLU().dual(q1, k, q2)
    grads = torch.autograd.grad(kernel + kdot, [q1, k, q2])
    assert all(torch.isfinite(g) for g in grads)
    assert grads[1] == pytest.approx(0.5)


@pytest.mark.parametrize("std", [3.0, 6.0])
def test_saturated_activations_take_more_terms_not_less_accuracy(std):
    """tanh of values of standard deviation 6 is nearly a step: thousands of Hermite terms, still 1e-11."""
    k = 0.9 * std**2
    ours = [float(t) for t in Smooth("tanh").dual(*torch.tensor([std**2, k, std**2]))]
    assert ours == pytest.approx(by_two_dimensional_quadrature(Smooth("tanh"), std**2, k, std**2), abs=1e-11)


def test_every_file_that_registers_an_op_is_imported():
    """Else nobody's network finds the op: a file of one's own is imported by hand, those of the package are not."""
    init = Path(ops.__file__)
    imported = {n.module for n in ast.parse(init.read_text("utf-8")).body if isinstance(n, ast.ImportFrom)}
    registers = [p.stem for p in init.parent.glob("*.py") if p != init and "\n@reads(" in p.read_text("utf-8")]
    assert len(registers) > 10
    missing = [name for name in registers if f"gramian.arch.ops.{name}" not in imported]
    assert not missing, f"to be imported in src/gramian/arch/ops/__init__.py: {missing}"
