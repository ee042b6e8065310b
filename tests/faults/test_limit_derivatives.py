"""First and second derivatives of limit kernels at equal, opposite and other inputs, with and without create_graph."""

import math

import mpmath  # comes with torch: sympy asks for it
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gramian
from gramian.errors import NoLimit

D = torch.float64
X = torch.tensor([[0.7, -0.4]], dtype=D)
PLACES = {
    "generic": torch.tensor([[0.3, 0.9]], dtype=D),
    "obtuse": torch.tensor([[-0.6, 0.1]], dtype=D),
    "equal": X.clone(),
    "opposite": -X,
}
SMOOTH = {
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "softplus": nn.Softplus(),
    "mish": nn.Mish(),
}
KINKED = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(2.0),
    "hardtanh": nn.Hardtanh(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "softshrink": nn.Softshrink(),
}
FAST = {"tanh", "gelu", "relu", "leaky", "elu", "hardtanh"}


def each(acts, fast=FAST):
    return [pytest.param(act, id=name, marks=() if name in fast else pytest.mark.slow) for name, act in acts.items()]


def arch_of(act, depth=1, *, bias=True, inputs=2, law=(1.2, 0.3)):
    hidden = [m for i in range(depth) for m in (nn.Linear(inputs if i == 0 else 4, 4, bias=bias), act)]
    return gramian.architecture(nn.Sequential(*hidden, nn.Linear(4, 1, bias=bias)), torch.zeros(1, inputs), law=law)


def first(kernel, x, y, graph):
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    return torch.autograd.grad(kernel(x, y).sum(), (x, y), create_graph=graph), (x, y)


def second(kernel, x, y):
    """Of x and y together; shape (d, 2 d)."""
    (by_x, _), at = first(kernel, x, y, True)
    rows = [torch.autograd.grad(by_x[0, i], at, retain_graph=True) for i in range(x.shape[1])]
    return torch.stack([torch.cat([t[0] for t in row]) for row in rows])


def difference(f, x, y, h):
    """Central differences of f(x, y) in x and y; last axis 2 d."""
    found = []
    for of_x in (True, False):
        for i in range(x.shape[1]):
            step = torch.zeros_like(x)
            step[0, i] = h
            ends = [f(x + s * step, y) if of_x else f(x, y + s * step) for s in (1, -1)]
            found.append((ends[0] - ends[1]) / (2 * h))
    return torch.stack(found, -1)


def close(found, right, tolerance):
    assert float((found - right).abs().max()) <= tolerance * (0.01 + float(right.abs().max()))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", each(SMOOTH | KINKED))
def test_create_graph_changes_nothing_and_both_are_differences(act, place):
    for depth in (1, 2):
        arch, y = arch_of(act, depth), PLACES[place]
        for kernel in (arch.nngp, arch.ntk):
            plain, graph = (torch.cat(first(kernel, X, y, c)[0], 1)[0].detach() for c in (False, True))
            torch.testing.assert_close(graph, plain, rtol=2e-7, atol=2e-7)
            if place != "equal" or kernel == arch.nngp:  # else the NTK of a kink has a corner
                close(plain, difference(lambda a, b, k=kernel: k(a, b, engine="torch")[0, 0], X, y, 1e-6), 1e-6)


@pytest.mark.parametrize("place", ["generic", "obtuse"])
@pytest.mark.parametrize("act", each(SMOOTH | KINKED, {"tanh", "relu", "hardtanh"}))
def test_second_derivatives_are_differences_of_the_first(act, place):
    for depth, bias in ((1, True), (1, False), (2, True)):
        arch = arch_of(act, depth, bias=bias)
        for kernel in (arch.nngp, arch.ntk):
            right = difference(lambda a, b, k=kernel: first(k, a, b, False)[0][0][0], X, PLACES[place], 1e-5)
            close(second(kernel, X, PLACES[place]).detach(), right, 2e-6)


@pytest.mark.parametrize(
    ("act", "slope", "kinks"),
    [
        (nn.Tanh(), lambda x: mpmath.sech(x) ** 2, ()),
        (nn.Sigmoid(), lambda x: 1 / (2 + mpmath.exp(x) + mpmath.exp(-x)), ()),
        (nn.ReLU(), lambda x: mpmath.mpf(x > 0), (0,)),
        (nn.LeakyReLU(0.3), lambda x: mpmath.mpf(1 if x > 0 else "0.3"), (0,)),
        (nn.Hardtanh(), lambda x: mpmath.mpf(abs(x) < 1), (-1, 1)),
        (nn.ELU(), lambda x: mpmath.mpf(1) if x > 0 else mpmath.exp(x), (0,)),
        (nn.Softshrink(), lambda x: mpmath.mpf(abs(x) > 0.5), (-0.5, 0.5)),
    ],
    ids=lambda a: type(a).__name__ if isinstance(a, nn.Module) else "",
)
def test_at_equal_inputs_the_nngp_has_the_second_moment(act, slope, kinks):
    """d2k / dx dx' = E z^2 phi'(x z)^2, for one input and one hidden layer without biases."""
    x = mpmath.mpf("0.7")

    def integrand(z):
        return z**2 * slope(x * z) ** 2 * mpmath.npdf(z)

    right = float(mpmath.quad(integrand, [-12, *sorted({t / x for t in kinks} | {-3, 0, 3}), 12]))
    arch = arch_of(act, bias=False, inputs=1, law=(1.0, 0.0))
    at = torch.tensor([[0.7]], dtype=D)
    found = second(arch.nngp, at, at)[0, 1]
    assert float(found) == pytest.approx(right, abs=1e-9)
    assert float(second(arch.nngp, at, -at)[0, 1]) == pytest.approx(
        float(second(arch.nngp, at, -at + 1e-7)[0, 1]), abs=1e-5
    )


def moments(act, q, orders):
    """E u^2 f(u)^2 and E f(u)^2 of derivatives of a smooth function, u of variance q, by the trapezoidal rule."""
    z = torch.linspace(-12, 12, 20001, dtype=D)
    x = (math.sqrt(q) * z).requires_grad_()
    y, weight = act(x), torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    found = []
    for order in range(max(orders) + 1):
        f = y.detach()
        found.append((float((weight * x.detach() ** 2 * f * f).sum()), float((weight * f * f).sum())))
        if order < max(orders):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return found


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("act", each({"tanh": nn.Tanh(), "silu": nn.SiLU(), "gelu": nn.GELU()}))
def test_at_equal_inputs_of_deep_networks(act, depth):
    """With M = d2k / dx dx' and q' = dq / dx along one input: M -> E u^2 f^2 q'^2 / 4 q^2 + E f^2 (M - q'^2 / 4 q),
    f = phi', and the same of the slope's kernel with phi''."""
    w, b, x = 1.2**2, 0.3**2, 0.7
    q, d_q, m = w * x * x + b, 2 * w * x, w
    theta, d_theta, mixed = q, d_q / 2, w  # d_theta: by one of both inputs
    for _ in range(depth):
        (_, k), (s1, k1), (s2, k2) = moments(act, q, (0, 1, 2))
        rest = m - d_q**2 / (4 * q)
        new = s1 * d_q**2 / (4 * q * q) + k1 * rest
        slope = s2 * d_q**2 / (4 * q * q) + k2 * rest
        h = 1e-5
        d_k1 = (moments(act, q + h, (1,))[1][1] - moments(act, q - h, (1,))[1][1]) / (2 * h) * d_q / 2
        d_k = (moments(act, q + h, (0,))[0][1] - moments(act, q - h, (0,))[0][1]) / (2 * h) * d_q
        theta, d_theta, mixed = (
            w * theta * k1 + w * k + b,
            w * (d_theta * k1 + theta * d_k1) + w * d_k / 2,
            w * (mixed * k1 + 2 * d_theta * d_k1 + theta * slope) + w * new,
        )
        q, d_q, m = w * k + b, w * d_k, w * new
    arch, at = arch_of(act, depth, inputs=1), torch.tensor([[x]], dtype=D)
    assert float(second(arch.nngp, at, at)[0, 1]) == pytest.approx(m, rel=1e-7)
    assert float(second(arch.ntk, at, at)[0, 1]) == pytest.approx(mixed, rel=1e-7)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("act", each(KINKED, {"relu"}))
def test_the_nngp_of_a_kink_at_equal_inputs_is_the_limit_of_near_ones(act, depth):
    arch = arch_of(act, depth)
    near = [second(arch.nngp, X, X + s * torch.tensor([[3e-6, 1e-6]], dtype=D)) for s in (1, -1)]
    close(second(arch.nngp, X, X).detach(), ((near[0] + near[1]) / 2).detach(), 1e-4)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(), nn.Hardtanh(), nn.ELU(0.7)], ids=lambda a: type(a).__name__)
def test_an_infinite_second_derivative_is_refused(act):
    with pytest.raises(NoLimit, match=r"(?s)second derivative of this kernel is infinite at 1 pairs.*fix: arch\.nngp"):
        second(arch_of(act).ntk, X, X)
    with pytest.raises(NoLimit, match="infinite"):
        second(arch_of(act, bias=False).ntk, X, -X)
    for y in (X, -X):  # the first is the mean of both sides
        assert all(t.isfinite().all() for t in first(arch_of(act).ntk, X, y, False)[0])


def test_a_jump_has_an_infinite_second_derivative_in_the_nngp():
    for act in (nn.Threshold(0.1, 0.2), nn.Hardshrink()):
        with pytest.raises(NoLimit, match="infinite"):
            second(arch_of(act).nngp, X, X)


def test_one_column_without_bias_has_no_angle():
    """There relu's NTK is x x' for inputs of one sign: finite, and right."""
    at = torch.tensor([[0.7]], dtype=D)
    arch = arch_of(nn.ReLU(), bias=False, inputs=1, law=(1.0, 0.0))
    assert float(second(arch.ntk, at, 2 * at)[0, 1]) == pytest.approx(1.0, abs=1e-12)
    assert float(second(arch.ntk, at, at)[0, 1]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.Hardtanh(), nn.ELU(), nn.Tanh()], ids=lambda a: type(a).__name__)
def test_the_matrix_of_one_set_and_its_law(act):
    """The diagonal is smooth, and a Hessian by the law is finite, also where rows are equal."""
    rows = torch.tensor([[0.7, -0.4], [0.3, 0.9]], dtype=D)
    net = nn.Sequential(nn.Linear(2, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 1))

    def total(s, x):
        return gramian.architecture(net, rows, law=(s, 0.3)).ntk(x, engine="torch")

    def by_law(s, x, other=None):
        arch = gramian.architecture(net, rows, law=(s, 0.3))
        return (arch.ntk(x) if other is None else arch.ntk(x, other)).sum()

    for other in (None, rows.clone()):
        s = torch.tensor(1.2, dtype=D, requires_grad=True)
        (g,) = torch.autograd.grad(by_law(s, rows, other), s, create_graph=True)
        (found,) = torch.autograd.grad(g, s)
        slopes = []
        for t in (1.2 + 1e-5, 1.2 - 1e-5):
            at = torch.tensor(t, dtype=D, requires_grad=True)
            slopes.append(torch.autograd.grad(by_law(at, rows, other), at)[0])
        assert float(found) == pytest.approx(float((slopes[0] - slopes[1]) / 2e-5), rel=1e-6)
    x = rows.clone().requires_grad_()
    (g,) = torch.autograd.grad(total(1.2, x).trace(), x, create_graph=True)
    (found,) = torch.autograd.grad(g[0, 0], x)
    right = []
    for h in (1e-5, -1e-5):
        at = rows.clone()
        at[0, 0] += h
        at.requires_grad_()
        right.append(torch.autograd.grad(total(1.2, at).trace(), at)[0][0, 0])
    assert float(found[0, 0]) == pytest.approx(float((right[0] - right[1]) / 2e-5), rel=1e-6)


class Pooled(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1), act, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 1)
        )

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("act", [nn.Tanh(), nn.ReLU()], ids=lambda a: type(a).__name__)
def test_convolutions_with_a_mean(act):
    torch.manual_seed(0)
    x, y = (torch.randn(1, 2, 3, dtype=D) for _ in range(2))
    arch = gramian.architecture(Pooled(act), x, law=(1.2, 0.3))
    at = x.clone().requires_grad_()
    for kernel, other in ((arch.nngp, y), (arch.ntk, y), (arch.nngp, x.clone())):
        (g,) = torch.autograd.grad(kernel(at, other).sum(), at, create_graph=True)
        (found,) = torch.autograd.grad(g[0, 1, 2], at)
        sides = []
        for h in (1e-5, -1e-5):
            moved = x.clone()
            moved[0, 1, 2] += h
            moved.requires_grad_()
            sides.append(torch.autograd.grad(kernel(moved, other).sum(), moved)[0])
        right = (sides[0] - sides[1]) / 2e-5
        close(found, right, 1e-5 if other is y else 1e-4)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    x=st.lists(st.floats(-2, 2), min_size=2, max_size=2),
    y=st.lists(st.floats(-2, 2), min_size=2, max_size=2),
    name=st.sampled_from(["tanh", "relu", "elu", "hardtanh", "softshrink"]),
    depth=st.integers(1, 2),
)
def test_partial_derivatives_at_any_inputs(x, y, name, depth):
    x, y = (torch.tensor([v], dtype=D) for v in (x, y))
    if min(float(x.norm()), float(y.norm()), float((x - y).norm()), float((x + y).norm())) < 0.1:
        return
    arch = arch_of((SMOOTH | KINKED)[name], depth)
    for kernel in (arch.nngp, arch.ntk):
        right = difference(lambda a, b, k=kernel: first(k, a, b, False)[0][0][0], x, y, 1e-5)
        close(second(kernel, x, y).detach(), right, 2e-5)
