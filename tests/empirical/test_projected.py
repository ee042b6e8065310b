"""Projected gradients: the explicit matrix's features, unbiased kernels, and errors as stated."""

import math

import pytest
import torch
from torch import nn
from zoo import make, mlp

from gramian.empirical import Sketch, empirical_ntk, jacobian, projected_gradients
from gramian.empirical.sketches.random_projections import BLOCK
from gramian.errors import BadArgument, BadData

KINDS = ["rademacher", "sparse"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def matrix(sketch, m, part=0, copy=0):
    """The map of one part as a matrix, (m, size)."""
    out = torch.zeros(m, sketch.size)
    sketch.add_to(out, torch.eye(m), part, copy)
    return out


def full(theta):
    return theta.permute(0, 2, 1, 3).reshape(theta.shape[0] * theta.shape[2], -1)


@every_kind
@pytest.mark.parametrize("name", ["mlp", "attention", "custom function", "tied", "branch", "frozen bias", "scalar"])
def test_the_features_are_the_explicit_jacobian_times_the_explicit_matrix(kind, name):
    net, shape = make(name)
    x, sketch = torch.randn(3, *shape), Sketch(40, kind, seed=3)
    j = jacobian(net, x)
    sizes = [p.numel() for p in net.parameters() if p.requires_grad]
    s = torch.cat([matrix(sketch, m, part) for part, m in enumerate(sizes)])
    phi = projected_gradients(net, x, sketch, "full")
    torch.testing.assert_close(phi, j.flatten(0, 1) @ s, rtol=1e-10, atol=1e-10)
    copies = [torch.cat([matrix(sketch, m, part, c) for part, m in enumerate(sizes)]) for c in range(j.shape[1])]
    total = torch.stack([j[:, c] @ copies[c] for c in range(j.shape[1])]).sum(0)
    torch.testing.assert_close(projected_gradients(net, x, sketch, "sum"), total, rtol=1e-10, atol=1e-10)
    mean = projected_gradients(net, x, sketch)
    torch.testing.assert_close(mean, total / math.sqrt(j.shape[1]), rtol=1e-10, atol=1e-10)
    one_by_one = projected_gradients(net, x, sketch, max_bytes=1)
    torch.testing.assert_close(mean, one_by_one, rtol=1e-10, atol=1e-10)


@every_kind
def test_the_variance_is_the_stated_one(kind):
    """2000 seeds: the relative standard error of a variance is about 5 %; sparse ones have heavier tails."""
    a, b = torch.randn(30), torch.randn(30)
    values = []
    for seed in range(2000):
        phi = torch.zeros(2, 8)
        Sketch(8, kind, seed, nonzeros=2).add_to(phi, torch.stack([a, b]), part=1)
        values.append(float(phi[0] @ phi[1]))
    values = torch.tensor(values)
    exact = float(a.square().sum() * b.square().sum() + (a @ b) ** 2 - 2 * (a * b).square().sum()) / 8
    assert abs(float(values.mean() - a @ b)) < 4 * math.sqrt(exact / 2000)
    assert float(values.var()) == pytest.approx(exact, rel=0.2)


@every_kind
def test_the_standard_error_and_the_distortion_hold_for_a_kernel(kind):
    net, x = mlp(5, 30, 30, 2), torch.randn(10, 5)
    theta = empirical_ntk(net, x)
    d = theta.diagonal()
    scaled, worst = [], 0.0
    for seed in range(60):
        sketch = Sketch(400, kind, seed)
        phi = projected_gradients(net, x, sketch)
        gap = phi @ phi.mT - theta
        scaled.append((gap / sketch.standard_error(theta, d, d)).square().mean())
        worst = max(worst, float((gap.abs() / (d[:, None] * d).sqrt()).max()))
    assert 0.5 < float(torch.stack(scaled).mean()) < 1.25  # the stated one is a bound, and close
    if kind == "rademacher":
        assert worst < Sketch(400, kind).distortion(n=10, failure_probability=0.01) < 0.6
    else:  # Chebyshev's needs many columns to say anything
        sketch = Sketch(40000, kind)
        phi = projected_gradients(net, x, sketch)
        worst = float(((phi @ phi.mT - theta).abs() / (d[:, None] * d).sqrt()).max())
        assert worst < sketch.distortion(n=10, failure_probability=0.1) < 0.2


def test_the_distortion_solves_the_tail_bound():
    e = Sketch(4096).distortion(n=1000, failure_probability=0.01)
    assert 2 * 1000**2 * math.exp(-4096 / 2 * (e**2 / 2 - e**3 / 3)) == pytest.approx(0.01, rel=1e-6)
    assert Sketch(4096).distortion(n=10**6) > e > Sketch(8192).distortion(n=1000)
    assert Sketch(10).distortion(n=1000) == math.inf
    assert Sketch(40000, "sparse").distortion(n=2, failure_probability=0.1) == pytest.approx(math.sqrt(6 / 4000))


@every_kind
def test_the_numbers_are_fixed(kind):
    """They must be the same tomorrow and elsewhere: stored features are compared with new ones."""
    s = matrix(Sketch(8, kind, seed=7), 3, part=2)
    known = {
        "rademacher": [[-1, 1, -1, -1, -1, 1, 1, -1], [-1, -1, -1, -1, 1, 1, 1, 1], [-1, -1, 1, -1, -1, 1, 1, 1]],
        "sparse": [[0, -1, 0, -1, 1, 0, 1, 0], [0, -1, 0, 1, -1, 0, 1, 0], [-1, 0, 1, 0, 0, -1, 0, 1]],
    }[kind]
    assert s.sign().int().tolist() == known
    norm = torch.tensor(1.0)
    torch.testing.assert_close(s.square().sum(1), norm.expand(3))


@every_kind
def test_blocks_parts_copies_and_seeds_have_other_numbers(kind):
    a = matrix(Sketch(16, kind), 2 * BLOCK)
    others = [a[BLOCK:], matrix(Sketch(16, kind), BLOCK, 1), matrix(Sketch(16, kind), BLOCK, 0, 1)]
    others.append(matrix(Sketch(16, kind, seed=1), BLOCK))
    for other in others:
        share = float((a[:BLOCK].sign() == other.sign()).double().mean())
        assert share < (0.55 if kind == "rademacher" else 0.75)  # of sparse ones most entries are zero
    torch.testing.assert_close(a[:BLOCK], matrix(Sketch(16, kind), BLOCK))


def test_float32_and_tokens():
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2)).float()
    x, sketch = torch.randint(7, (5, 3)), Sketch(64)
    phi = projected_gradients(net, x, sketch)
    assert phi.dtype == torch.float32
    torch.testing.assert_close(phi.double(), projected_gradients(net.double(), x, sketch), rtol=1e-5, atol=1e-5)
    margin = projected_gradients(net, x, sketch, outputs=lambda f: f[:, 0] - f[:, 1])
    assert margin.shape == (5, 64)


class Pair(nn.Module):
    """Of tokens and numbers."""

    def __init__(self):
        super().__init__()
        self.tokens, self.layer = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, tokens, x):
        return self.layer(torch.tanh(self.tokens(tokens) + x))


def margin(out, label):
    """Of the right class above the best other one."""
    right = out.gather(1, label[:, None])[:, 0]
    return right - out.scatter(1, label[:, None], -math.inf).amax(1)


def test_several_inputs_and_targets():
    """The margin of the right class: its gradients by hand, a row at a time, times the explicit matrix."""
    net, tokens, x, labels = Pair(), torch.randint(7, (5,)), torch.randn(5, 4), torch.randint(3, (5,))
    sketch = Sketch(40, seed=3)
    s = torch.cat([matrix(sketch, p.numel(), part) for part, p in enumerate(net.parameters())])

    def rows(f):
        values = [f(i) for i in range(5)]
        grads = [torch.autograd.grad(v, list(net.parameters())) for v in values]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in grads])

    by_hand = rows(lambda i: margin(net(tokens[i : i + 1], x[i : i + 1]), labels[i : i + 1]).sum()) @ s
    given = {"tokens": tokens, "x": x}
    for inputs in (given, (tokens, x)):
        for max_bytes in (2**30, 1):
            phi = projected_gradients(net, inputs, sketch, margin, targets=labels, max_bytes=max_bytes)
            torch.testing.assert_close(phi, by_hand, rtol=1e-10, atol=1e-10)
    one = rows(lambda i: net(tokens[i : i + 1], x[i : i + 1])[0, 0]) @ s
    torch.testing.assert_close(projected_gradients(net, given, sketch, lambda out: out[:, 0]), one)
    exact = empirical_ntk(net, given, outputs=margin, targets=labels)
    wide = projected_gradients(net, given, Sketch(2**16), margin, targets=labels)
    d = exact.diagonal()
    assert ((wide @ wide.mT - exact).abs() < 5 * Sketch(2**16).standard_error(exact, d, d)).all()
    with pytest.raises(BadData, match=r"(?s)targets of `x` have shape \(4,\).*where: projected_gradients"):
        projected_gradients(net, given, sketch, margin, targets=labels[:4])
    with pytest.raises(BadArgument, match=r"(?s)`targets`, but `outputs` is 'mean'.*where: projected_gradients"):
        projected_gradients(net, given, sketch, targets=labels)


def test_what_is_refused():
    net, x = mlp(3, 4, 2), torch.randn(4, 3)
    with pytest.raises(BadArgument, match=r"(?s)kind='gauss'.*fix: one of rademacher, sparse"):
        Sketch(8, "gauss")
    with pytest.raises(BadArgument, match=r"(?s)size=0, seed=0.*fix: Sketch\(size=4096"):
        Sketch(0)
    with pytest.raises(BadArgument, match=r"(?s)size=10 with nonzeros=4.*same number of places.*fix: size=8"):
        Sketch(10, "sparse")
    with pytest.raises(BadArgument, match=r"(?s)failure_probability=2.*fix: distortion"):
        Sketch(10).distortion(5, 2)
    with pytest.raises(BadArgument, match=r"(?s)`outputs` is 'all'"):
        projected_gradients(net, x, Sketch(8), "all")
    with pytest.raises(BadArgument, match=r"(?s)output is random.*fix: module.eval"):
        projected_gradients(nn.Sequential(nn.Dropout(0.5), net), x, Sketch(8))
    with pytest.raises(BadData, match=r"(?s)tensor of at least one sample"):
        projected_gradients(net, x[:0], Sketch(8))
