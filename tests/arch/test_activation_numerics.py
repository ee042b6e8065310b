"""Activations at the edges: nearly equal inputs, tiny and huge variances, a thousand layers, steep functions."""

import math

import mpmath
import pytest
import torch

from gramian.arch.ops import GELU, Erf, Exp, Gaussian, Kinked, LineResult, Pointwise, ReLU, Sign, Sin, Smooth
from gramian.errors import NoLimit

mpmath.mp.dps = 50


def relu(q, k):
    angle = mpmath.acos(k / q)
    return (q * mpmath.sin(angle) + (mpmath.pi - angle) * k) / (2 * mpmath.pi)


def erf(q, k):
    return 2 / mpmath.pi * mpmath.asin(2 * k / (1 + 2 * q))


def gelu(q, k):
    p = q * q + k * k * (2 / (1 + q) - 1)
    a = 0.25 + mpmath.asin(k / (1 + q)) / (2 * mpmath.pi)
    return k * a + p / (2 * mpmath.pi * mpmath.sqrt((1 + q) ** 2 - k * k))


def sign(q, k):
    return 2 / mpmath.pi * mpmath.asin(k / q)


def sin(q, k):
    return mpmath.exp(-q) * mpmath.sinh(k)


def gaussian(q, k):
    return 1 / mpmath.sqrt((1 + 2 * q) ** 2 - 4 * k * k)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("q", [1e-16, 1.0, 1e16])
@pytest.mark.parametrize("apart", [1e-14, 1e-12, 1e-8, 1e-4, 1e-1, 1.0, 1.9, 2.0])
@pytest.mark.parametrize(
    ("op", "exact"),
    [(ReLU(), relu), (Erf(), erf), (GELU(), gelu), (Sign(), sign), (Sin(), sin), (Gaussian(), gaussian)],
    ids=lambda p: getattr(p, "name", ""),
)
def test_closed_forms_have_all_digits_that_the_covariance_has(op, exact, q, apart, dtype):
    eps = torch.finfo(dtype).eps
    if op.name in ("Sin", "Gaussian") and q > 1:
        pytest.skip("as good as zero, and as ill-conditioned as the exponent")
    if op.name in ("Erf", "GELU", "Gaussian") and q > 1 and 0 < apart < 8 * eps:
        pytest.skip("1 - c is below the precision of k")
    variance = torch.tensor(q, dtype=dtype)
    k = (variance.double() * (1 - apart)).to(dtype)
    kernel, kdot = op.dual(variance, k, variance)
    at = mpmath.mpf(float(variance)), mpmath.mpf(float(k))
    size = abs(exact(at[0], at[0]))  # the diagonal
    # sqrt(eps): where k is a few units from its bound it counts as there, and arcsin has a square root at its end
    few = math.sqrt(8 * eps) if op.name in ("Sign",) and apart < 1e3 * eps else 8 * eps
    assert abs(float(kernel) - exact(*at)) <= few * size
    if op.name != "Sign":
        slope = (
            mpmath.diff(lambda t: exact(at[0], t), at[1], h=at[0] * mpmath.mpf(10) ** -30) if 0 < apart < 2 else None
        )
        if slope is not None and abs(k) < variance:
            steep = max(abs(slope), abs(float(op.dual(variance, variance, variance)[1])))
            assert abs(float(kdot) - slope) <= 1e2 * math.sqrt(8) * eps * steep / min(apart, 1) ** 0.5


@pytest.mark.parametrize("q", [1e-16, 1.0, 1e16])
def test_a_thousand_relu_layers_keep_the_norm_and_approach_each_other_like_one_over_depth_squared(q):
    k, depth = torch.tensor([[1.0, 0.3], [0.3, 1.0]]) * q, 1000
    for _ in range(depth):
        k = 2 * ReLU().dual(k.diag()[:, None], k, k.diag())[0]
    assert k.diag().tolist() == pytest.approx([q, q], rel=1e-11)
    apart = 1 - float(k[0, 1] / k[0, 0])
    assert apart == pytest.approx(4.5 * math.pi**2 / depth**2, rel=0.05)  # Hayou et al. 2019, arXiv:1902.06853


@pytest.mark.parametrize(("op", "slope"), [(Erf(), 2 / math.sqrt(math.pi)), (Smooth("tanh"), 1.0)], ids=["erf", "tanh"])
def test_a_thousand_critical_layers_shrink_the_variance_like_one_over_depth(op, slope):
    """With phi'(0) sigma_w = 1 and phi(x) ~ a (x - b x^3), q' = q - 6 b q^2, so q ~ 1 / (6 b depth)."""
    k, depth = torch.tensor([[1.0, 0.3], [0.3, 1.0]]), 1000
    for _ in range(depth):
        k = op.dual(k.diag()[:, None], k, k.diag())[0] / slope**2
    b = 1 / 3
    assert float(k[0, 0]) == pytest.approx(1 / (6 * b * depth), rel=0.01)
    assert abs(float(k[0, 1])) < float(k[0, 0])


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "silu", "softplus", "mish"])
def test_a_smooth_function_at_huge_scale_is_its_sharp_limit(function):
    """tanh of values of standard deviation 1e8 is their sign, SiLU and softplus are relu."""
    q1, k, q2 = torch.tensor([1e16]), torch.tensor([0.5e16]), torch.tensor([2e16])
    kernel, _ = Smooth(function, (1.0, 20.0) if function == "softplus" else ()).dual(q1, k, q2)
    sign, ramp = Sign().dual(q1, k, q2)[0], ReLU().dual(q1, k, q2)[0]
    limit = {"tanh": sign, "sigmoid": 0.25 + sign / 4}.get(function, ramp)
    torch.testing.assert_close(kernel, limit, rtol=1e-7, atol=0)


def test_a_bump_between_the_nodes_is_not_overlooked():
    """x exp(-|x|) has width 1: at standard deviation 1e8 every node misses it, and more nodes agree on zero."""
    lines = (
        ("aten.abs.default", (LineResult(-1),)),
        ("aten.neg.default", (LineResult(0),)),
        ("aten.exp.default", (LineResult(1),)),
    )
    op = Pointwise((*lines, ("aten.mul.Tensor", (LineResult(-1), LineResult(2)))))
    assert float(op.dual(*torch.tensor([1.0, 1.0, 1.0]))[0]) == pytest.approx(0.0852509, abs=1e-7)
    q = torch.tensor(1e16)
    with pytest.raises(NoLimit, match=r"(?s)quadrature for Pointwise.*deviations up to.*fix: standardize the inputs"):
        op.dual(q, q, q)


def test_overflow_is_seen():
    assert torch.isinf(Exp().dual(*torch.tensor([1e4, 1e4, 1e4]))[0])


def test_second_derivatives_of_a_piecewise_kernel():
    op = Kinked("elu", (1.0, 1.0, 1.0))
    t = torch.tensor([1.0, 0.4, 0.7], requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: torch.stack(op.dual(*t)), t)
    assert torch.autograd.gradgradcheck(lambda t: op.dual(*t)[0], t)
    smooth = Smooth("tanh")
    assert torch.autograd.gradcheck(lambda t: torch.stack(smooth.dual(*t)), t)
    assert torch.autograd.gradgradcheck(lambda t: torch.stack(smooth.dual(*t)), t)
