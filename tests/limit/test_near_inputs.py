"""Nearly equal inputs: kernels against 50 digits, gradients, and Gram matrices that stay positive definite."""

import math
from dataclasses import replace

import mpmath
import pytest
import torch
from exact import Exact, erf, relu, sin
from layers import LAYERS, Net, architecture_of_layer
from torch import nn

from gramian import architecture
from gramian.arch.moments import input_moments
from gramian.arch.ops import Activation, Erf, Heaviside, ReLU, Sign
from gramian.arch.ops.relu import LeakyReLU
from gramian.limit.torch_engine import pair_moments

W, D, S = 4, 8, 5  # width, features, positions
HE, BIASED = {"*": (math.sqrt(2), 0.0)}, {"*": (math.sqrt(2), 0.3)}
B = mpmath.mpf(0.3) ** 2


def linear(into=W, out=W):
    return nn.Linear(into, out)


def mlp(depth):
    layers = [p for i in range(depth) for p in (linear(W if i else D), nn.ReLU())]
    return nn.Sequential(*layers, linear(W, 1))


def cnn(depth):
    layers = [p for i in range(depth) for p in (nn.Conv1d(W if i else D, W, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), linear(W * S, 1))


def residual(n, x):
    h = n.a(x)
    h = h + n.b(torch.relu(h))
    return n.r(torch.relu(h + n.c(torch.relu(h))))


def exact_mlp(depth, b=0):
    def recursion(e):
        for _ in range(depth):
            e = e.affine(2, b).activation(relu)
        return e.affine(2, b)

    return recursion


def exact_cnn(depth, b=0):
    def recursion(e):
        for _ in range(depth):
            e = e.affine(2, b, 3).activation(relu)
        return e.flat().affine(2, b)

    return recursion


def exact_residual(e):
    h = e.affine()
    for _ in range(2):
        h = h.plus(h.activation(relu).affine())
    return h.activation(relu).affine()


def exact_posts(e):
    h = e.affine()
    return h.plus_post(h).affine().activation(relu).affine()


def exact_smooth(e):
    return e.affine(2, B).activation(erf).affine(2, B).activation(sin).affine(2, B).activation(relu).affine(2, B)


# module, law, shape of an input, recursion, sizes of the inputs; biases of variance zero are none
NETS = {
    **{f"{d} layers": (lambda d=d: mlp(d), HE, (D,), exact_mlp(d), (1.0, 1e-8, 1e8)) for d in (1, 5, 20)},
    **{f"{d} layers, biases": (lambda d=d: mlp(d), BIASED, (D,), exact_mlp(d, B), (1.0, 1e-8, 1e8)) for d in (1, 20)},
    "residual": (
        lambda: Net(residual, a=linear(D), b=linear(), c=linear(), r=linear(W, 1)),
        HE, (D,), exact_residual, (1.0, 1e-8, 1e8)),
    "sum of posts": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.c(torch.relu(n.a(x)) + torch.relu(n.b(x))))),
                    a=linear(D), b=linear(D), c=linear(), r=linear(W, 1)), HE, (D,), exact_posts, (1.0, 1e-8, 1e8)),
    "convolutions": (lambda: cnn(3), HE, (D, S), exact_cnn(3), (1.0, 1e-8, 1e8)),
    "convolutions, biases": (lambda: cnn(3), BIASED, (D, S), exact_cnn(3, B), (1.0, 1e-8, 1e8)),
    "erf, sin, relu": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.c(torch.sin(n.b(torch.erf(n.a(x))))))),
                    a=linear(D), b=linear(), c=linear(), r=linear(W, 1)), BIASED, (D,), exact_smooth, (1.0,)),
}  # fmt: skip
CLOSE = (1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1e-1)  # 1 - correlation, about


def near(kind, close, shape, size, dtype):
    """An input of norm sqrt(d) times `size`, and one near to it."""
    g = torch.Generator().manual_seed(1)
    x, v = (torch.randn(*shape, generator=g) for _ in range(2))
    x, v = (t / t.norm() * math.sqrt(t.numel()) for t in (x, v))
    step = math.sqrt(2 * close)
    if kind == "of equal norms":
        y = x + step * (v - x * (v * x).sum() / (x * x).sum())
        y = y * (x.norm() / y.norm())
    else:
        y = {"near": x + step * v, "parallel": (1 + step) * x, "twice": 2 * (x + step * v)}[kind]
    return (size * x).to(dtype), (size * y).to(dtype)


@pytest.mark.parametrize("kind", ["near", "of equal norms", "parallel", "twice"])
@pytest.mark.parametrize("name", NETS)
def test_kernels_of_near_inputs_have_all_digits(name, kind):
    """Seen: below 1e-14 of the diagonal in float64 (1.2e-13 in "erf, sin, relu"), below 1e-6 in float32 (20 layers and
    erf: 1.6e-6)."""
    make, law, shape, recursion, sizes = NETS[name]
    arch = architecture(make(), torch.randn(2, *shape), law=law)
    for dtype, tolerance in ((torch.float64, 2e-13), (torch.float32, 2e-6 if name[:2] in ("20", "er") else 1e-6)):
        for size in sizes:
            x = near(kind, 0.0, shape, size, dtype)[0]
            others = torch.stack([near(kind, close, shape, size, dtype)[1] for close in CLOSE])
            across, within = arch.ntk(x[None], others)[0], arch.ntk(torch.cat([x[None], others]))[0, 1:]
            own = recursion(Exact.of(x, x)).ntk * (4 if kind == "twice" else 1)
            for number, y in enumerate(others):
                exact = recursion(Exact.of(x, y)).ntk
                for found in (across[number], within[number]):
                    assert abs(float(found) - exact) <= tolerance * max(own, abs(exact))


@pytest.mark.parametrize("name", NETS)
def test_a_gram_matrix_of_near_duplicates_is_positive_definite(name):
    """Its smallest eigenvalue, about the angle between the inputs, has the digits that the entries' rounding leaves."""
    make, law, shape, recursion, _ = NETS[name]
    arch = architecture(make(), torch.randn(2, *shape), law=law)
    x = torch.randn(1, *shape) + 1e-6 * torch.randn(5, *shape)
    exact = mpmath.matrix(5, 5)
    for i in range(5):
        for j in range(5):
            exact[i, j] = recursion(Exact.of(x[i], x[j])).ntk
    lam = torch.linalg.eigvalsh(arch.ntk(x))
    least = float(min(mpmath.eigsy(exact, eigvals_only=True)))
    assert least > 0
    assert float(lam[0]) == pytest.approx(least, abs=1e-13 * float(lam[-1]))
    if name != "erf, sin, relu":  # one kink above smooth layers
        assert lam[0] > 1e-9 * lam[-1]


# the other recurrent networks of LAYERS hold the rule; these two take longest
UNROLLED = ("recurrent, last", "nn.RNN, last")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in UNROLLED else ()) for n in (*NETS, *LAYERS)]
)
def test_gradients_are_finite_at_equal_near_zero_and_opposite_inputs(name):
    make, shape = (NETS[name][0], NETS[name][2]) if name in NETS else LAYERS[name]
    x = torch.randn(1, *shape)
    rows = torch.cat([x, x, x + 1e-8 * torch.randn_like(x), -2 * x, 0 * x, 0 * x])
    arch = architecture(make(), x, law=(1.3, 0.0))
    cases = {(1.0, torch.float64), (1e-8, torch.float32), (1e8, torch.float32)}
    if name in NETS:
        cases |= {(size, torch.float64) for size in NETS[name][4]} | {(1.0, torch.float32)}
    kinds = (LeakyReLU, Erf, Sign, Heaviside)  # others are integrated, and refused or slow where they are that steep
    steep = any(isinstance(step.op, Activation) and not isinstance(step.op, kinds) for step in arch.steps)
    for size, dtype in sorted(cases, key=str):
        if size == 1e8 and (steep or arch.ntk(size * rows).max() > 10 * size**2 * arch.ntk(rows).max()):
            continue  # or of degree four in the input: its gradients are no numbers of float32
        x = (size * rows).to(dtype).requires_grad_()
        for loss in (arch.ntk(x).sum(), arch.ntk(x, x.detach().clone()).sum()):
            (g,) = torch.autograd.grad(loss, x)
            assert torch.isfinite(g).all()


@pytest.mark.parametrize("close", CLOSE[1:])
def test_gradients_at_near_inputs_are_those_of_50_digits(close):
    """The kernel's slope is that of the angle, of order one however near the inputs are."""
    x, y = near("near", close, (D,), 1.0, torch.float64)
    arch, recursion = architecture(mlp(3), x[None], law=BIASED), exact_mlp(3, B)
    y.requires_grad_()
    (g,) = torch.autograd.grad(arch.ntk(x[None], y[None])[0, 0], y)
    direction = y.detach() - x
    direction /= direction.norm()
    h = mpmath.mpf(10) ** -25

    def ahead(sign):
        a, b = ([mpmath.mpf(v) for v in t.tolist()] for t in (x, y))
        b = [v + sign * h * d for v, d in zip(b, direction.tolist(), strict=True)]
        return recursion(Exact.of_lists([a], [b])).ntk

    slope = float((ahead(1) - ahead(-1)) / (2 * h))
    assert float(g @ direction) == pytest.approx(slope, rel=1e-6 * max(1, 1e-9 / close), abs=0)


@pytest.mark.parametrize("name", [*LAYERS, *NETS])
def test_every_gap_is_how_far_the_covariance_is_below_its_bound(name):
    """An op that changes covariances keeps the gap right, or drops it."""
    make, shape = (NETS[name][0], NETS[name][2]) if name in NETS else LAYERS[name]
    x, y, seen = torch.randn(3, *shape), torch.randn(2, *shape), []
    y = torch.cat([y, -x[:1], x[1:2] + 1e-3 * torch.randn(1, *shape), 0 * y[:1]])
    arch = architecture(make(), x, law=(1.3, 0.3)) if name in NETS else architecture_of_layer(name)
    pair_moments(arch, x, y, watch=seen.append)
    for m in seen:
        if m.gap is None:
            continue
        q1, q2 = m.spread(*m.variances())
        bound = (q1 * q2).sqrt()
        torch.testing.assert_close(m.gap_size, bound - m.xy, rtol=1e-9, atol=1e-13 * float(bound.max()))


@pytest.mark.parametrize("ratio", [1e-3, 1e-9, 1e-50, 1e-105])
def test_multiples_of_one_input_are_perfectly_correlated(ratio):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(3)
    for k in architecture(net, x[None], law=(1.2, 0.0)).kernels(torch.stack([x, ratio * x, -x, 3 * x])):
        size = k.diagonal().sqrt()
        correlation = k / size[:, None] / size
        torch.testing.assert_close(correlation[[0, 0, 1], [1, 3, 3]], torch.ones(3), rtol=1e-14, atol=0)
        assert correlation[0, 2] < 0.9


def test_a_gap_goes_with_its_covariance():
    m = input_moments(torch.randn(3, 4), None, all_pairs=False, ntk=True, gap=True)
    assert m.gap is not None
    assert replace(m, theta=None).gap is not None
    assert replace(m, xy=m.xy.clone()).gap is None
    assert m.map_covariances(lambda field, _: field * 2).gap is None
    assert m.scaled(-3.0).gap_size.allclose(9 * m.gap_size)


@pytest.mark.parametrize("spread", [1e-9, 1e-5, 1e-2])
def test_clusters_of_inputs_far_from_zero(spread):
    """Every pair is near: distances come from the product of what the mean leaves, the nearest from differences."""
    x = torch.ones(40, D) + spread * torch.randn(40, D)
    x[20:] += 1e-6 * spread * torch.randn(20, D) + x[:20] - x[20:]
    arch = architecture(mlp(1), x, law=HE)
    ntk = arch.ntk(x)
    for i, j in ((0, 1), (0, 20), (5, 25), (7, 39)):
        exact = exact_mlp(1)(Exact.of(x[i], x[j])).ntk
        assert float(ntk[i, j]) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("close", [1e-15, 1e-6, 0.5])
def test_a_thousand_relu_layers_against_50_digits(close):
    """Far inputs come as near as 4.5 pi^2 / depth^2 (Hayou et al. 2019, arXiv:1902.06853); near ones stay apart."""
    x, y = near("near", close, (D,), 1.0, torch.float64)
    m = input_moments(x[None], y[None], all_pairs=False, ntk=True, gap=True)
    layer = architecture(nn.Sequential(linear(D, W), nn.ReLU(), linear(W, 1)), x[None], law=HE).affine[0]
    layer = replace(layer, bias_trains=False, bias_name=None)
    q1, k, q2, _ = Exact.of(x, y).cells[0]
    for _ in range(1000):
        m = ReLU().limit(layer.limit(m))
        k, q1, q2 = 2 * relu(q1, k, q2)[0], q1, q2
    s = mpmath.sqrt(q1 * q2)
    assert float(m.gap_size[0, 0]) == pytest.approx(float(s - k), rel=max(1e-11, 1e-14 / close**0.5), abs=0)
    if close == 0.5:
        assert float((s - k) / s) == pytest.approx(4.5 * math.pi**2 / 1000**2, rel=0.05)
