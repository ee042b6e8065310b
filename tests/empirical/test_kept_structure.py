"""Finite networks of ours: their structure is proved once, and again as soon as anything about them has changed."""

import sys

import pytest
import torch
from torch import nn

import gramian
from gramian import empirical_ntk
from gramian.errors import BadArgument, BadData
from gramian.network.finite_network import Network

X = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LAYERS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), X),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)),
        torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    ),
}


def drawn(seed, name="mlp", arch=None):
    make, x = LAYERS[name]
    return (arch or gramian.architecture(make(), x[:2], law=(1.3, 0.2))).network(8, seed=seed)


def passes(module, x=X):
    """The kernel, and how often the network was called for it."""
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event == "call" and frame.f_code is Network.forward.__code__

    sys.setprofile(count)
    try:
        kernel = empirical_ntk(module, x)
    finally:
        sys.setprofile(None)
    return kernel, calls


def plain(module, x=X):
    """By backward passes of each output of each sample."""
    out, own = module(x), [p for p in module.parameters() if p.requires_grad]
    rows = [[torch.autograd.grad(o, own, retain_graph=True) for o in of_sample] for of_sample in out]
    jacobian = torch.stack([torch.stack([torch.cat([g.reshape(-1) for g in gs]) for gs in row]) for row in rows])
    return torch.einsum("icp,jcp->ij", jacobian, jacobian) / out.shape[1]


@pytest.mark.parametrize("name", LAYERS)
def test_other_weights_and_samples_take_fewer_passes_and_give_their_own_kernel(name):
    x = LAYERS[name][1]
    arch = gramian.architecture(LAYERS[name][0](), x[:2], law=(1.3, 0.2))
    _, first = passes(drawn(0, arch=arch), x)
    for seed in (1, 2):
        kernel, again = passes(drawn(seed, arch=arch), seed * x.flip(0))
        assert again < first
        torch.testing.assert_close(kernel, plain(drawn(seed, arch=arch), seed * x.flip(0)))


def frozen(net):
    next(net.parameters()).requires_grad_(False)


def doubled_by_a_hook(net):
    net.register_forward_hook(lambda module, args, out: 2 * out)


def doubled_in_a_layer(net):
    net.get_submodule("layers.0").register_forward_pre_hook(lambda module, args: (2 * args[0],))


def halved_gradient(net):
    next(net.parameters()).register_hook(lambda g: g / 2)


def another_layer(net):
    scaled = net.get_submodule("layers.2")
    scaled.layer = nn.Sequential(scaled.layer, nn.Tanh())


def a_forward_of_the_users_own(net):
    layer = net.get_submodule("layers.0")
    own, weight = layer.forward, next(layer.parameters())
    layer.forward = lambda x: own(x).abs() if weight.sum() < 1e9 else own(x)


def another_scale(net):
    net.output_scale = 3


def shared_weights(net):
    net.get_submodule("layers.2").bias.weight = net.get_submodule("layers.0").bias.weight


def parametrized(net):
    nn.utils.parametrizations.weight_norm(net.get_submodule("layers.2").layer)


CHANGES = [frozen, doubled_by_a_hook, doubled_in_a_layer, another_layer, a_forward_of_the_users_own, another_scale,
           shared_weights, parametrized]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_network_that_was_changed_is_proved_again(change):
    arch = gramian.architecture(LAYERS["mlp"][0](), X[:2], law=(1.3, 0.2))
    _, first = passes(drawn(0, arch=arch))
    net = drawn(1, arch=arch)
    _, known = passes(net)
    change(net)
    kernel, again = passes(net)
    assert again >= first > known
    torch.testing.assert_close(kernel, plain(net))
    torch.testing.assert_close(empirical_ntk(drawn(2, arch=arch), X), plain(drawn(2, arch=arch)))


def test_a_gradient_hook_counts_on_a_network_that_was_proved_without():
    arch = gramian.architecture(LAYERS["mlp"][0](), X[:2])
    empirical_ntk(drawn(0, arch=arch), X)
    net = drawn(1, arch=arch)
    halved_gradient(net)
    torch.testing.assert_close(empirical_ntk(net, X), plain(net))


def test_what_mixes_samples_or_is_not_finite_is_refused_as_at_the_first_call():
    arch = gramian.architecture(LAYERS["mlp"][0](), X[:2])
    empirical_ntk(drawn(0, arch=arch), X)
    mixed, nan = drawn(1, arch=arch), drawn(1, arch=arch)
    mixed.register_forward_hook(lambda module, args, out: out - out.mean(0))
    with pytest.raises(BadArgument, match="mixes the samples"):
        empirical_ntk(mixed, X)
    next(nan.parameters()).data[0] = torch.nan
    with pytest.raises(BadData, match="output on the last sample is NaN"):
        empirical_ntk(nan, X)


def test_other_precisions_shapes_and_modes_of_torch_are_proved_on_their_own():
    arch = gramian.architecture(LAYERS["mlp"][0](), X[:2])
    _, first = passes(drawn(0, arch=arch))
    _, single = passes(drawn(0, arch=arch).float(), X.float())
    assert single == first
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, cast = passes(drawn(0, arch=arch))
    assert cast >= first
