"""The networks of the papers: their shapes, their random weights, and what the theorems say of them."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian.data import normalize_and_pad
from gramian.empirical import empirical_ntk
from gramian.errors import BadArgument
from gramian.train import AllenZhuNetwork, DuNetwork, train
from gramian.train.largest_eigenvalue import largest_eigenvalue
from gramian.train.theorem_networks import second_moment_inverse

KINDS = [
    (AllenZhuNetwork, "fc", {}, (6,)),
    (AllenZhuNetwork, "resnet", {}, (6,)),
    (AllenZhuNetwork, "cnn", {"pixels": 5}, (6, 5)),
    (AllenZhuNetwork, "cnn", {"pixels": (3, 4)}, (6, 3, 4)),
    (DuNetwork, "fc", {}, (6,)),
    (DuNetwork, "resnet", {}, (6,)),
    (DuNetwork, "conv-resnet", {"pixels": 5}, (6, 5)),
    (DuNetwork, "conv-resnet", {"pixels": (3, 4)}, (6, 3, 4)),
]


@pytest.mark.parametrize(("network", "kind", "options", "shape"), KINDS)
def test_a_plain_module_that_trains_and_has_a_kernel(network, kind, options, shape):
    net = network(6, 2, 3, 16, kind, generator=torch.Generator().manual_seed(0), **options)
    twin = network(6, 2, 3, 16, kind, generator=torch.Generator().manual_seed(0), **options)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))
    x, y = F.normalize(torch.randn(5, *shape).flatten(1)).reshape(5, *shape), torch.randn(5, 2)
    assert net(x).shape == (5, 2)
    assert torch.linalg.eigvalsh(empirical_ntk(net, x))[0] > 0
    trace = train(net, x, y, steps=100, probes=("loss",))
    assert trace.losses[-1] < 0.5 * trace.losses[0]
    assert all(b < a for a, b in zip(trace.losses, trace.losses[1:], strict=False))


def std(module):
    weight = module.weight.detach()
    assert abs(float(weight.mean())) < 4 * float(weight.std()) / math.sqrt(weight.numel())
    return float(weight.std())


def test_the_random_weights_of_allen_zhu():
    m, d, depth, q, p = 200, 4, 3, 3, 6
    for kind in ("fc", "cnn", "resnet"):
        net = AllenZhuNetwork(30, d, depth, m, kind, pixels=p)
        assert std(net.first) == pytest.approx(math.sqrt(2 / m), rel=0.05)
        assert std(net.last) == pytest.approx(math.sqrt(1 / d), rel=0.1)
        inner = {"fc": 2 / m, "cnn": 2 / (q * m), "resnet": 1 / (depth**2 * m)}[kind]
        assert [std(h) for h in net.hidden[:-1]] == pytest.approx([math.sqrt(inner)] * (depth - 1), rel=0.05)
        assert std(net.hidden[-1]) == pytest.approx(math.sqrt(2 / (q * m if kind == "cnn" else m)), rel=0.05)
        assert [n for n, w in net.named_parameters() if w.requires_grad] == [f"hidden.{l}.weight" for l in range(depth)]
    assert net.suggested_lr(10) == d / (m * 10 * depth)


def test_allen_zhus_forward_pass_by_hand():
    x = torch.randn(3, 6)
    fc, res = AllenZhuNetwork(6, 2, 3, 16, "fc"), AllenZhuNetwork(6, 2, 3, 16, "resnet")
    a, b, (w1, w2, w3) = fc.first.weight, fc.last.weight, [h.weight for h in fc.hidden]
    h = torch.relu(x @ a.T)
    torch.testing.assert_close(fc(x), torch.relu(torch.relu(torch.relu(h @ w1.T) @ w2.T) @ w3.T) @ b.T)
    a, b, (w1, w2, w3) = res.first.weight, res.last.weight, [h.weight for h in res.hidden]
    h = torch.relu(x @ a.T)
    h = torch.relu(h + h @ w1.T)
    h = torch.relu(h + h @ w2.T)
    torch.testing.assert_close(res(x), torch.relu(h @ w3.T) @ b.T)


def test_a_cnns_pixels_have_readouts_of_their_own():
    net = AllenZhuNetwork(6, 2, 1, 16, "cnn", pixels=5)
    x = torch.randn(3, 6, 5)
    h = torch.relu(torch.einsum("mi,nip->nmp", net.first.weight[:, :, 0], x))
    padded = F.pad(h, (1, 1))
    w = net.hidden[0].weight  # (m, m, 3)
    h = torch.relu(sum(torch.einsum("oi,nip->nop", w[:, :, k], padded[:, :, k : k + 5]) for k in range(3)))
    b = net.last.weight.reshape(2, 16, 5)
    torch.testing.assert_close(net(x), torch.einsum("dmp,nmp->nd", b, h))


@pytest.mark.parametrize("kind", ["fc", "cnn"])
def test_norms_stay_at_one_through_the_layers_of_allen_zhu(kind):
    x = normalize_and_pad(torch.randn(8, 14))  # (8, 16), norm 1
    options, x = ({}, x) if kind == "fc" else ({"pixels": 7}, x[:, :, None].expand(8, 16, 7).contiguous())
    net = AllenZhuNetwork(16, 5, 4, 1024, kind, window=1, **options)
    trace = train(net, x, torch.randn(8, 5), lr=1e-6, steps=0, probes=("forward_norms",))
    series, size = trace.measured["forward_norms"], math.sqrt(net.pixels)
    assert len(series.labels) == 5
    window = 6 * math.sqrt(4 / 1024)  # width 1024, one draw
    assert min(series.lower[0].values()) > (1 - window) * size
    assert max(series.upper[0].values()) < (1 + window) * size


@pytest.mark.parametrize("kind", ["fc", "cnn", "resnet"])
def test_the_suggested_learning_rate_is_stable(kind):
    x = torch.randn(10, 16, 6) if kind == "cnn" else torch.randn(10, 16)
    x = x / x.norm(dim=1, keepdim=True)
    net = AllenZhuNetwork(16, 5, 3, 256, kind, pixels=6)
    assert net.suggested_lr(10) < 2 / largest_eigenvalue(net, x)
    assert net.suggested_lr(10) > 0.02 / largest_eigenvalue(net, x)  # and no hundred times too small


def test_the_scalings_of_du():
    x, m, depth, c = torch.randn(3, 6), 16, 3, 0.7
    c_sigma = second_moment_inverse(F.softplus)
    fc = DuNetwork(6, 1, depth, m, "fc")
    h = x
    for layer in (fc.first, *fc.hidden):
        h = math.sqrt(c_sigma / m) * F.softplus(h @ layer.weight.T)
    torch.testing.assert_close(fc(x), h @ fc.last.weight.T)
    res = DuNetwork(6, 1, depth, m, "resnet", residual=c)
    h = math.sqrt(c_sigma / m) * F.softplus(x @ res.first.weight.T)
    for layer in res.hidden:
        h = h + c / (depth * math.sqrt(m)) * F.softplus(h @ layer.weight.T)
    torch.testing.assert_close(res(x), h @ res.last.weight.T)
    wide = DuNetwork(300, 1, 3, 300)
    assert [std(w) for w in (wide.first, *wide.hidden)] == pytest.approx([1.0] * 3, rel=0.02)
    assert all(p.requires_grad for p in wide.parameters())
    assert len(wide.hidden) == 2  # H layers in all, the first one included


def test_norms_stay_at_one_in_dus_network():
    x = F.normalize(torch.randn(4, 10))
    net = DuNetwork(10, 1, 3, 4000)
    with torch.no_grad():
        h = x
        for layer in (net.first, *net.hidden):
            h = net.first_scale * F.softplus(layer(h))
            torch.testing.assert_close(h.norm(dim=1), torch.ones(4), rtol=0.1, atol=0)  # width 4000, 1 draw


def test_the_second_moment_by_monte_carlo():
    z = torch.randn(10**6)
    assert 1 / second_moment_inverse(F.softplus) == pytest.approx(float(F.softplus(z).square().mean()), rel=5e-3)
    assert second_moment_inverse(torch.tanh) == pytest.approx(1 / float(torch.tanh(z).square().mean()), rel=5e-3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AllenZhuNetwork(6, 2, 3, 16, "mlp"), r"(?s)kind='mlp' is not known.*fix: one of fc, cnn, resnet"),
        (lambda: AllenZhuNetwork(6, 2, 3, 16, "cnn"), r"(?s)kind='cnn' without pixels.*fix"),
        (lambda: AllenZhuNetwork(6, 2, 3, 16, "cnn", pixels=5, window=2), "window=2 has no middle"),
        (lambda: AllenZhuNetwork(6, 0, 3, 16), r"(?s)are 6, 0, 3, 16.*whole numbers"),
        (lambda: DuNetwork(6, 1, 3, 16, residual=1.5), "residual=1.5 is not between 0 and 1"),
    ],
)
def test_networks_that_make_no_sense(make, text):
    with pytest.raises(BadArgument, match=text):
        make()


def test_they_are_plain_modules():
    assert isinstance(AllenZhuNetwork(6, 2, 3, 16), nn.Module)
    assert isinstance(DuNetwork(6, 2, 3, 16).hidden[0], nn.Linear)
