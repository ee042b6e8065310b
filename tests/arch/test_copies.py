"""Heads that share keys and values, and a trained scale per channel."""

import first_tries
import pytest
import torch
from layers import Net, heads, linear
from torch import nn
from torch.nn import functional as F

from gramian import architecture, empirical_ntk
from gramian.arch.inputs import samples
from gramian.errors import NoLimit

LAW = (1.3, 0.3)


def test_shared_keys_and_values_have_the_kernel_of_as_many_as_queries():
    x = torch.randn(3, 4, 5)
    whole = architecture(first_tries.Llama(rotary=False, groups=4), x, law=LAW).kernels(x)
    for groups in (1, 2):
        found = architecture(first_tries.Llama(rotary=False, groups=groups), x, law=LAW).kernels(x)
        torch.testing.assert_close(found, whole, rtol=1e-14, atol=0)


def test_wider_networks_keep_the_share_of_the_keys():
    x = torch.randn(2, 4, 5)
    net = architecture(first_tries.Llama(rotary=False), x, law=LAW).network(32, seed=0)
    assert net.layers.q_proj.layer.weight.shape == (32, 32)
    assert net.layers.k_proj.layer.weight.shape == (16, 32)
    assert net(x).shape == (samples(x), 1)


def test_rotary_positions_change_no_limit_where_queries_and_keys_have_a_layer_each():
    """What their refusal says: at width 256 the kernels of finite networks with and without them are as close to the
    limit without them; 24 draws, 5 standard errors."""
    x = torch.randn(2, 4, 5)
    limit = architecture(first_tries.Llama(rotary=False, groups=4), x, law=LAW).ntk(x)
    torch.manual_seed(0)
    found = []
    for _ in range(24):
        net = first_tries.Llama(rotary=False, groups=4, dim=256)
        angles = torch.outer(torch.arange(8.0), 1e4 ** -(torch.arange(0, net.width, 2) / net.width)).repeat(1, 2)
        net.cos, net.sin, net.rotary = angles.cos(), angles.sin(), True
        scale = {}
        for name, p in net.named_parameters():
            layer = net.get_submodule(name.rsplit(".", 1)[0])
            if isinstance(layer, nn.Linear):
                std = LAW[0] / layer.in_features**0.5 if name.endswith("weight") else LAW[1]
                nn.init.normal_(p, std=std)
                scale[name] = std
            else:
                scale[name] = 1.0
        rows = []
        for value in net(x)[:, 0]:
            grads = torch.autograd.grad(value, list(net.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() * s for g, s in zip(grads, scale.values(), strict=True)]))
        found.append(torch.stack(rows) @ torch.stack(rows).T)
    made = torch.stack(found)
    assert float(((made.mean(0) - limit).abs() / (made.std(0) / 24**0.5)).max()) < 5
    assert (made.mean(0) - limit).norm() < 0.1 * limit.norm()


def test_layer_scale_is_gamma_times_the_branch_and_what_gamma_learns():
    """x W + gamma relu(x V) U: the branch counts gamma^2 times, and its own kernel once more for gamma."""
    x = torch.randn(4, 5)

    class Scaled(nn.Module):
        def __init__(self, trains=True):
            super().__init__()
            self.a, self.v, self.u, self.r = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 1)
            self.gamma = nn.Parameter(torch.full((6,), 0.2), requires_grad=trains)

        def forward(self, x):
            return self.r(self.a(x) + self.gamma * self.u(torch.relu(self.v(x))))

    branch = architecture(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1)), x, law=LAW)
    straight = architecture(nn.Sequential(nn.Linear(5, 1)), x, law=LAW)
    (k0, t0), (k1, t1) = straight.kernels(x), branch.kernels(x)
    k, t = k0 + 0.04 * k1, t0 + 0.04 * t1
    for trains in (False, True):
        nngp, ntk = architecture(Scaled(trains), x, law=LAW).kernels(x)
        torch.testing.assert_close(nngp, 1.69 * k + 0.09, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ntk, 1.69 * (t + trains * k1) + 1.69 * k + 0.09, rtol=1e-12, atol=1e-12)
    half = architecture(Scaled(), x, law=LAW, rates={"gamma": 0.5}).ntk(x)
    torch.testing.assert_close(half, 1.69 * (t + 0.5 * k1) + 1.69 * k + 0.09, rtol=1e-12, atol=1e-12)


def test_finite_networks_have_the_trained_scale():
    x = torch.randn(3, 3, 8, 8)
    arch = architecture(first_tries.ConvNeXt(groups=1), x, law=LAW)
    finite = torch.stack([empirical_ntk(arch.network(widen=16, seed=draw), x) for draw in range(12)])
    off = (finite.mean(0) - arch.ntk(x)).abs() / (finite.std(0) / 12**0.5)
    assert off.max() < 5  # width 128, 12 draws, standard errors
    assert (finite.mean(0) - arch.ntk(x)).norm() < 0.15 * arch.ntk(x).norm()


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda n, h: h * n.one, r"the parameter `one` of shape \(1,\).*numbers that channels share stay random"),
        (lambda n, h: h + n.zero * n.b(h), r"`zero` starts at zero.*such as 1e-5"),
        (lambda n, h: h + n.trained * n.b(h), r"`trained` is not the same for all channels.*before training"),
        (lambda n, h: heads(h)[:, :, None].expand(-1, -1, 2, -1, -1).mean(2).transpose(1, 2).flatten(2),
         r"expanded along an axis of copies.*repeat_interleave\(times, dim=1\)"),
        (lambda n, h: h.repeat_interleave(2, dim=1), r"another axis than the heads"),
        (lambda n, h: h.repeat_interleave(2, dim=2) @ n.wide, r"another axis than the heads"),
        (lambda n, h: n.b(h) + F.scaled_dot_product_attention(
            heads(n.b(h)), *[heads(n.k(h), 1).repeat_interleave(2, dim=1)] * 2, scale=1 / 4,
        ).transpose(1, 2).flatten(2) + n.k(h).repeat_interleave(2, dim=2), r"another axis than the heads"),
        (lambda n, h: (heads(n.k(h), 1).repeat_interleave(2, dim=1) + heads(torch.cat([n.k(h), n.k(h)], 2)))
            .transpose(1, 2).flatten(2), r"split|heads that are copied|share"),
        (lambda n, h: h - h[0], r"acts on the samples.*the whole batch"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused(forward, said):
    trained = nn.Parameter(torch.linspace(0.1, 0.2, 8))
    net = Net(lambda n, x: n.r(forward(n, n.a(x)).mean(1)), a=linear(3, 8), b=linear(8, 8), k=linear(8, 4),
              r=linear(8, 1), one=nn.Parameter(torch.ones(1)), zero=nn.Parameter(torch.zeros(8)), trained=trained,
              wide=nn.Parameter(torch.zeros(16, 8)))  # fmt: skip
    with pytest.raises(NoLimit, match="(?s)" + said):
        architecture(net, torch.randn(8, 4, 3), law=LAW).ntk(torch.randn(2, 4, 3))
