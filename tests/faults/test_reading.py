"""Modules as people write them: biases by hand, blocks without gradients, constants, functions of the input only."""

import functools
import pickle

import pytest
import torch
from spellings import BIASES, BLOCKS, INPUT_FUNCTIONS, MIXED_SAMPLES, SCALARS, Forward
from torch import nn

import gramian
from gramian.errors import BadData, NoLimit

LAW = (1.4, 0.1)
LAWS = {"a pair": LAW, "he": "he", "torch": "torch", "by layer": {"readout": (1, 0), "*": (1.2, 0.4)}}


def kernels(module, x, law=LAW):
    return torch.stack(gramian.architecture(module, x[:2], law=law).kernels(x))


@functools.cache
def plain_network(law):
    """The spelling that the others are held to, read once a law; `law` is a key of `LAWS`."""
    return gramian.architecture(mlp(), torch.zeros(2, 3), law=LAWS[law])


def mlp(inputs=3, outputs=1):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("spelling", BIASES)
def test_a_vector_on_top_of_a_layer_is_its_bias(spelling, law):
    x = torch.randn(4, 3)

    def forward(net, x):
        return net.readout(torch.relu(BIASES[spelling](net, x)))

    by_hand = Forward(
        forward, w=nn.Parameter(torch.randn(3, 8)), b=nn.Parameter(torch.zeros(8)), readout=nn.Linear(8, 1)
    )
    expected = torch.stack(plain_network(law).kernels(x))
    torch.testing.assert_close(kernels(by_hand, x, LAWS[law]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shaped", [lambda b: b[:, None, None], lambda b: b.view(1, -1, 1, 1), lambda b: b[None, :, None, None]]
)
def test_a_vector_on_top_of_a_convolution_is_its_bias(shaped):
    x = torch.randn(3, 2, 6, 6)
    by_hand = Forward(
        lambda net, x: net.readout(torch.relu(net.conv(x) + shaped(net.b)).flatten(1)),
        conv=nn.Conv2d(2, 4, 3, bias=False),
        b=nn.Parameter(torch.zeros(4)),
        readout=nn.Linear(64, 1),
    )
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
    torch.testing.assert_close(kernels(by_hand, x), kernels(layers, x))


def test_a_layer_that_is_read_with_and_without_its_vector_shares_its_weights():
    """sin(W x + b) + sin(W x) has no nn.Linear spelling: the mean of wide networks decides, 100 of width 256."""
    x = torch.randn(2, 3)
    net = Forward(
        lambda net, x: (lambda h: net.readout(torch.sin(h + net.b) + torch.sin(h)))(x @ net.w),
        w=nn.Parameter(torch.randn(3, 8)),
        b=nn.Parameter(torch.zeros(8)),
        readout=nn.Linear(8, 1, bias=False),
    )
    arch = gramian.architecture(net, x, law={"readout": (1, 0), "*": (1.4, 0.7)})
    wide = torch.stack([gramian.empirical_ntk(arch.network(256, seed=s), x) for s in range(100)])
    error = wide.std(0) / 100**0.5
    assert bool(((wide.mean(0) - arch.ntk(x)).abs() < 5 * error + 2e-3 * arch.ntk(x).abs()).all())


def test_a_frozen_vector_is_a_frozen_bias():
    x = torch.randn(4, 3)
    layers = mlp()
    layers[0].bias.requires_grad_(False)
    by_hand = Forward(
        lambda net, x: net.readout(torch.relu(x @ net.w + net.b)),
        w=nn.Parameter(torch.randn(3, 8)),
        b=nn.Parameter(torch.zeros(8), requires_grad=False),
        readout=nn.Linear(8, 1),
    )
    torch.testing.assert_close(kernels(by_hand, x), kernels(layers, x))


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_without_gradients_freeze_what_is_inside(name):
    forward, frozen = BLOCKS[name]
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    for number in frozen:
        layers[number].requires_grad_(False)
    x = torch.randn(4, 3)
    net = Forward(forward, a=nn.Linear(3, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 1))
    torch.testing.assert_close(kernels(net, x), kernels(layers, x))


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
def test_a_gradient_that_is_cut_behind_trained_layers_is_refused(cut):
    def forward(net, x):
        h = torch.relu(net.a(x))
        if cut == "detach":
            return net.c(torch.relu(net.b(h.detach())))
        with torch.no_grad():
            h = torch.relu(net.b(h))
        return net.c(h)

    net = Forward(forward, a=nn.Linear(3, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 1))
    with pytest.raises(NoLimit, match=r"(?s)behind `a\.weight`, which trains.*fix: freeze the layers below"):
        kernels(net, torch.randn(4, 3))
    net.a.requires_grad_(False)
    assert kernels(net, torch.randn(4, 3)).isfinite().all()


def test_spectral_norm_in_training_mode_is_a_refusal():
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8)), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(NoLimit, match=r"(?s)not a parameter as it stands.*where: 0"):
        kernels(net, torch.randn(4, 3))


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
@pytest.mark.parametrize("name", SCALARS)
def test_a_frozen_number_is_a_constant_like_a_buffer(name, shape):
    x = torch.randn(4, 3)
    layers = {"a": nn.Linear(3, 8), "c": nn.Linear(8, 1), "skip": nn.Linear(3, 1)}
    frozen = Forward(SCALARS[name], g=nn.Parameter(torch.full(shape, 2.0), requires_grad=False), **layers)
    held = Forward(SCALARS[name], **layers)
    held.register_buffer("g", torch.tensor(2.0))
    torch.testing.assert_close(kernels(frozen, x), kernels(held, x))


@pytest.mark.parametrize("name", INPUT_FUNCTIONS)
def test_a_function_of_one_sample_alone_is_data(name):
    """An odd number of samples; in pickles and finite networks too."""
    x = torch.randn(5, 4)
    function = INPUT_FUNCTIONS[name]
    z = function(x)
    net = Forward(lambda net, x: net.body(function(x)), body=mlp(z.shape[1]))
    arch = gramian.architecture(net, x[:2], law=LAW)
    torch.testing.assert_close(arch.ntk(x), gramian.architecture(net.body, z[:2], law=LAW).ntk(z))
    torch.testing.assert_close(pickle.loads(pickle.dumps(arch)).ntk(x, x[:2]), arch.ntk(x)[:, :2])
    assert arch.network(16, seed=0)(x).shape == (5, 1)


@pytest.mark.parametrize("name", MIXED_SAMPLES)
def test_a_function_of_several_samples_is_refused(name):
    net = Forward(lambda net, x: net.body(MIXED_SAMPLES[name](x)), body=mlp(4))
    with pytest.raises(NoLimit, match=r"(?s)where: .*why: .*fix: "):
        kernels(net, torch.randn(5, 4))


def test_rows_that_are_nodes_are_taken_for_that():
    class GraphNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("A", torch.rand(5, 5))
            self.hidden, self.readout = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.readout(torch.relu(self.A @ self.hidden(x)))

    x, net = torch.randn(5, 3), GraphNet()
    with pytest.raises(BadData, match=r"(?s)runs on `like` of shape \(5, 3\).*nodes of one graph.*x\[None\].*'full'"):
        gramian.architecture(net, x)
    full = gramian.architecture(net, x[None]).ntk(x[None], outputs="full")[0, 0]
    layers = gramian.architecture(nn.Sequential(nn.Linear(3, 8)), x, law="he").nngp(x)
    assert full.shape == (5, 5)
    assert layers.shape == (5, 5)


def test_refusals_say_a_way_out():
    x = torch.randn(2, 3)
    ends = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3), nn.LogSoftmax(1))
    with pytest.raises(NoLimit, match=r"leave it out: the kernel is that of the logits"):
        kernels(ends, x)
    branches = Forward(
        lambda net, x: (torch.relu(net.a(x)) * torch.relu(net.b(x))).sum(1, keepdim=True),
        a=nn.Linear(3, 8),
        b=nn.Linear(3, 8),
    )
    with pytest.raises(NoLimit, match=r"gramian\.monte_carlo"):
        kernels(branches, x)
    fourier = Forward(
        lambda net, x: net.a(torch.fft.irfft(torch.fft.rfft(x, dim=1) * net.w, n=3)),
        a=nn.Linear(3, 2),
        w=nn.Parameter(torch.randn(2, dtype=torch.complex128)),
    )
    with pytest.raises((NoLimit, BadData), match=r"complex"):
        kernels(fourier, x)
