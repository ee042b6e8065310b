"""Closed forms of functions with kinks (ELU and its kin, piecewise polynomials) against 30 digits; gradients."""

import json
import math
from pathlib import Path

import mpmath
import pytest
import torch
from counting import numbers_computed
from torch import nn

from gramian import architecture
from gramian.arch.ops import Kinked, LineResult, Pointwise
from gramian.duals.elu import Bent
from gramian.duals.orthant import orthant
from gramian.duals.spline import Spline
from gramian.errors import NoLimit

mpmath.mp.dps = 50
INF = mpmath.inf
# (op, pieces: (from, to, coefficients, rate of an exponential, factor of it))
ELU = (Kinked("elu", (0.7, 1.0, 1.0)), [(-INF, 0, (-0.7,), 1, 0.7), (0, INF, (0, 1), 0, 0)])
CELU = (Kinked("celu", (2.0,)), [(-INF, 0, (-2,), 0.5, 2), (0, INF, (0, 1), 0, 0)])
HARDTANH = (Kinked("clamp", (-1.0, 1.0)), [(-INF, -1, (-1,), 0, 0), (-1, 1, (0, 1), 0, 0), (1, INF, (1,), 0, 0)])
HARDSWISH = (
    Kinked("hardswish"),
    [(-INF, -3, (0,), 0, 0), (-3, 3, (0, 0.5, mpmath.mpf(1) / 6), 0, 0), (3, INF, (0, 1), 0, 0)],
)
THRESHOLD = (Kinked("threshold", (0.1, 0.2)), [(-INF, 0.1, (0.2,), 0, 0), (0.1, INF, (0, 1), 0, 0)])
EXACT = {"elu": ELU, "celu": CELU, "hardtanh": HARDTANH, "hardswish": HARDSWISH, "threshold": THRESHOLD}
SPLINES = [HARDTANH[0], HARDSWISH[0], THRESHOLD[0], Kinked("clamp", (0.0, 6.0)), Kinked("hardsigmoid"),
           Kinked("softshrink", (0.5,)), Kinked("hardshrink", (0.5,)), Kinked("clamp", (0.1, math.inf))]  # fmt: skip
BENT = [ELU[0], CELU[0], Kinked("selu"), Kinked("elu", (0.7, 1.3, 0.5))]


def upper(x):
    return mpmath.erfc(x / mpmath.sqrt(2)) / 2


def normal(x):
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


def slopes(pieces):
    return [(a, b, [m * c for m, c in enumerate(p)][1:], rate, rate * factor) for a, b, p, rate, factor in pieces]


def value(pieces, x):
    for a, b, p, rate, factor in pieces:
        if a <= x < b:
            return sum(c * x**m for m, c in enumerate(p)) + factor * mpmath.exp(rate * x)
    raise AssertionError


def conditional(pieces, centre, spread):
    """E f(v) of v normal, in closed form."""
    total = mpmath.mpf(0)
    for a, b, p, rate, factor in pieces:
        low, high = ((t - centre) / spread for t in (a, b))
        n1, n2 = (normal(t) if mpmath.isfinite(t) else 0 for t in (low, high))
        m = [upper(low) - upper(high), n1 - n2]
        m.append(m[0] + (low * n1 if n1 else 0) - (high * n2 if n2 else 0))
        in_v = [m[0], centre * m[0] + spread * m[1], centre**2 * m[0] + 2 * centre * spread * m[1] + spread**2 * m[2]]
        total += sum(c * t for c, t in zip(p, in_v, strict=False))
        if factor:
            shift = rate * spread
            mass = upper(shift - high) if low == -INF else upper(low - shift) - upper(high - shift)
            total += factor * mpmath.exp(rate * centre + shift * shift / 2) * mass
    return total


def exact(pieces, s1, s2, theta):
    """E f(u) E[f(v) | u] over u, divided where either is steep."""
    s1, s2, theta = (mpmath.mpf(t) for t in (s1, s2, theta))
    c, w = mpmath.cos(theta), mpmath.sin(theta)
    ends = [mpmath.mpf(t) for a, b, *_ in pieces for t in (a, b) if mpmath.isfinite(t)]
    places = {mpmath.mpf(t) for t in range(-14, 15, 2)} | {t / s1 for t in ends}
    places |= {t / s2 / c + w / c * step for t in ends for step in (-12, -5, -1.5, 0, 1.5, 5, 12)}
    places = sorted(t for t in places if -14 <= t <= 14)

    def integrand(x):
        middle = value(pieces, s1 * x)
        return normal(x) * middle * conditional(pieces, s2 * c * x, s2 * w)

    return mpmath.quad(integrand, places, maxdegree=5)


ROOTS = [  # roots of two variances, and the angle between the values
    (1.0, 1.3, 1e-9), (1.0, 1.0000001, 1e-7), (0.7, 2.0, 0.3), (1.0, 1.0, 1e-3), (0.1, 3.0, 2.2), (1.3, 1.3, 3.14),
    (4.0, 6.0, 0.02), (30.0, 50.0, 0.4),
]  # fmt: skip
THRESHOLDS = [(h, k) for h in (0.0, 0.7, 3.0, 8.0) for k in (0.0, 0.7000001, 2.0)]
ANGLES = [1e-9, 1e-4, 0.05, 0.389, 0.391, 1.0, 2.0, 2.751, 2.753, 3.1, math.pi - 1e-9]
# 30 digits by the slow tests below: {"elu": {"1.0 1.3 1e-09": [dual, its derivative]}}, {"h k": [one of each angle]}
DIGITS = Path(__file__).with_name("closed_duals_digits.json")
DUALS, ORTHANTS = json.loads(DIGITS.read_text(encoding="utf-8"))


def key(*numbers):
    return " ".join(map(repr, numbers))


def exact_dual(pieces, s1, s2, theta):
    """The dual and its derivative at the variances that float64 makes of these roots."""
    roots = [mpmath.sqrt(mpmath.mpf(s**2)) for s in (s1, s2)]
    return [exact(f, *roots, theta) for f in (pieces, slopes(pieces))]


def exact_orthant(h, k, angle):
    c, w = mpmath.cos(mpmath.mpf(angle)), mpmath.sin(mpmath.mpf(angle))
    places = {h, h + 2, h + 5, h + 15} | {t for n in (-9, -3, 0, 3, 9) if h < (t := (k + n * w) / c) < h + 15}
    return mpmath.quad(lambda x: normal(x) * upper((k - c * x) / w), sorted(places))


@pytest.mark.parametrize(("s1", "s2", "theta"), ROOTS)
@pytest.mark.parametrize("name", EXACT)
def test_the_dual_has_thirteen_digits(name, s1, s2, theta):
    """At correlations within rounding of 1 and any variances; seen: 4e-15 of the diagonal."""
    op = EXACT[name][0]
    if max(s1, s2) > 20 and isinstance(op.closed, Spline):
        return
    q1, q2, s = torch.tensor(s1**2), torch.tensor(s2**2), s1 * s2
    gap = torch.tensor(2 * s * math.sin(theta / 2) ** 2)
    found = op._integrals(q1, torch.tensor(s * math.cos(theta)), q2, gap)
    own = [op._integrals(q, q, q, None) for q in (q1, q2)]
    for has, right, q, q_other in zip(found, DUALS[name][key(s1, s2, theta)], *own, strict=True):
        assert abs(float(has) - mpmath.mpf(right)) <= 2e-13 * math.sqrt(float(q * q_other))


@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
def test_an_orthant_has_all_digits(h, k):
    theta = torch.tensor(ANGLES)
    found = orthant(torch.full_like(theta, h), torch.full_like(theta, k), theta)
    for p, right in zip(found.tolist(), ORTHANTS[key(h, k)], strict=True):
        assert abs(p - mpmath.mpf(right)) <= 2e-16


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_the_digits_of_the_duals_are_those_of_the_integrals(name):
    for at in ROOTS:
        for right, kept in zip(exact_dual(EXACT[name][1], *at), DUALS[name][key(*at)], strict=True):
            assert mpmath.almosteq(right, mpmath.mpf(kept), 1e-20, 1e-25)


@pytest.mark.slow
@pytest.mark.parametrize(("h", "k"), THRESHOLDS)
def test_the_digits_of_the_orthants_are_those_of_the_integrals(h, k):
    for angle, kept in zip(ANGLES, ORTHANTS[key(h, k)], strict=True):
        assert mpmath.almosteq(exact_orthant(h, k, angle), mpmath.mpf(kept), 1e-20, 1e-25)


@pytest.mark.parametrize("op", [*SPLINES, *BENT], ids=lambda op: f"{op.name} {op.describe()}")
def test_gradients(op):
    """Of both kernels by variances, covariance and gap; and second ones."""
    t = torch.tensor([1.0, 0.4, 0.7], requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: torch.stack(op._integrals(*t, None)), t, atol=1e-7)
    if not op.jumps:
        assert torch.autograd.gradgradcheck(lambda t: op._integrals(*t, None)[0], t, atol=1e-6)

    def from_gap(q1, q2, gap):
        return torch.stack(op._integrals(q1, (q1 * q2).sqrt() - gap, q2, gap))

    for gap in (0.3, 1e-3, 1e-6):
        at = tuple(torch.tensor(v, requires_grad=True) for v in (1.0, 0.7, gap))
        assert torch.autograd.gradcheck(from_gap, at, eps=1e-3 * gap, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("op", [*SPLINES, *BENT], ids=lambda op: f"{op.name} {op.describe()}")
def test_zero_and_tiny_variances_are_as_the_quadrature_has_them(op):
    q = torch.tensor([0.0, 1e-6, 0.3, 2.0])
    k = 0.3 * (q[:, None] * q).sqrt()
    for found, right in zip(op._integrals(q[:, None], k, q, None), op._quadrature(q[:, None], k, q, None), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(op.mean(q), super(Kinked, op).mean(q), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(op.mean_slope(q), super(Kinked, op).mean_slope(q), rtol=1e-12, atol=1e-15)


def test_functions_that_are_polynomials_between_kinks_are_found():
    assert all(isinstance(op.closed, Spline) for op in SPLINES)
    assert all(isinstance(op.closed, Bent) for op in BENT)
    square = Pointwise((("aten.square.default", (LineResult(-1),)), ("aten.rsub.Scalar", (LineResult(0), 1)),
                        ("aten.relu.default", (LineResult(1),))))  # fmt: skip
    assert isinstance(square.closed, Spline)
    assert square.closed.function.more == ((-1.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 1.0, 0.0))
    laplace = Pointwise(
        (
            ("aten.abs.default", (LineResult(-1),)),
            ("aten.neg.default", (LineResult(0),)),
            ("aten.exp.default", (LineResult(1),)),
            ("aten.mul.Tensor", (LineResult(-1), LineResult(2))),
        )
    )
    assert laplace.closed is None
    assert Kinked("softplus", (1.0, 2.0)).closed is None


@pytest.mark.parametrize("module", [nn.ReLU6(), nn.Hardswish(), nn.ELU(), nn.Softshrink()], ids=repr)
def test_inputs_of_different_norms_need_no_quadrature(module):
    """100 of them took 3 to 33 s a layer, for 1e10 numbers; the closed forms take at most 5e8."""
    x = torch.randn(100, 6)
    x[0] = 0
    net = nn.Sequential(nn.Linear(6, 4), module, nn.Linear(4, 1))
    arch = architecture(net, x[:2], law=(1.4, 0.2))
    few = arch.ntk(x[:5])

    kernels = []
    assert numbers_computed(lambda: kernels.append(arch.ntk(x))) < 1e9
    (ntk,) = kernels
    torch.testing.assert_close(ntk[:5, :5], few, rtol=1e-13, atol=1e-14)
    lam = torch.linalg.eigvalsh(ntk)
    assert lam[0] >= -100 * torch.finfo(x.dtype).eps * lam[-1]


def test_values_too_large_for_the_closed_form_are_refused():
    """At 50 the quadrature between kinks no longer reaches 4e-12; at 1000 neither does."""
    op, angle = Kinked("elu", (1.0, 1.0, 1.0)), math.acos(0.3)
    q = torch.tensor([2500.0])
    kernel, kdot = op.dual(q, 0.3 * q, q)
    relu = 2500 * (math.sin(angle) + (math.pi - angle) * 0.3) / (2 * math.pi)
    assert float(kernel) == pytest.approx(relu - 50 * (1 - 0.3) / math.sqrt(2 * math.pi), rel=5e-3)  # -1 below 0
    assert float(kdot) == pytest.approx((math.pi - angle) / (2 * math.pi), abs=1e-2)
    with pytest.raises(NoLimit, match=r"(?s)quadrature for elu 1, 1, 1 has an error.*fix: standardize the inputs"):
        op.dual(400 * q, 120 * q, 400 * q)
