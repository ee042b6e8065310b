"""nn.RNN: the steps in time that one call stands for."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.arch.ops import Affine
from gramian.errors import NoLimit


class Read(nn.Module):
    """A recurrent layer, and a readout of what `pick` takes of (output, h_n)."""

    def __init__(self, layer, pick, features=8):
        super().__init__()
        self.layer, self.pick, self.readout = layer, pick, nn.Linear(features, 1)

    def forward(self, x):
        return self.readout(self.pick(*self.layer(x)))


class Loop(nn.Module):
    """Two layers by hand, with cells, from states of zero."""

    def __init__(self, p=0.0):
        super().__init__()
        self.a, self.b, self.readout, self.d = nn.RNNCell(3, 8), nn.RNNCell(8, 8), nn.Linear(8, 1), nn.Dropout(p)

    def forward(self, x):
        h, g = None, None
        for t in range(x.shape[1]):
            h = self.a(x[:, t], h)
            g = self.b(self.d(h), g)
        return self.readout(g)


def test_a_layer_is_the_recursion_by_hand():
    """Alemohammad et al. 2021: K_t = sw^2 <x_t, y_t> / d + sb^2 + sw^2 V(K_{t-1}) + sb^2, and the same for the NTK."""
    x, y, sw, sb = torch.randn(4, 5, 3), torch.randn(2, 5, 3), 1.3, 0.4
    z = torch.cat([x, y])
    post = slope = theta = torch.zeros(6, 6)
    for t in range(5):
        below = z[:, t] @ z[:, t].T / 3
        k = sw**2 * (below + post) + 2 * sb**2
        theta = k + sw**2 * theta * slope
        q = k.diagonal()
        root = ((1 + 2 * q[:, None]) * (1 + 2 * q) - 4 * k * k).sqrt()
        post, slope = 2 / math.pi * torch.atan2(2 * k, root), 4 / math.pi / root  # of erf
    k, theta = sw**2 * post + sb**2, sw**2 * (theta * slope + post) + sb**2

    class ErfCell(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u, self.r = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x):
            h = torch.erf(self.w(x[:, 0]) + self.u(0 * self.w(x[:, 0])))
            for t in range(1, x.shape[1]):
                h = torch.erf(self.w(x[:, t]) + self.u(h))
            return self.r(h)

    for found, exact in zip(architecture(ErfCell(), x, (sw, sb)).kernels(x, y), (k, theta), strict=True):
        torch.testing.assert_close(found, exact[:4, 4:], rtol=1e-12, atol=1e-12)
    relu = Read(nn.RNN(3, 8, nonlinearity="relu", batch_first=True), lambda out, _: out[:, -1])
    post = slope = theta = torch.zeros(6, 6)
    for t in range(5):
        k = sw**2 * (z[:, t] @ z[:, t].T / 3 + post) + 2 * sb**2
        theta = k + sw**2 * theta * slope
        scale = (k.diagonal()[:, None] * k.diagonal()).sqrt()
        angle = torch.arccos((k / scale).clamp(-1, 1))
        slope = (math.pi - angle) / (2 * math.pi)
        post = scale * torch.sin(angle) / (2 * math.pi) + slope * k
    k, theta = sw**2 * post + sb**2, sw**2 * (theta * slope + post) + sb**2
    for found, exact in zip(architecture(relu, x, (sw, sb)).kernels(x, y), (k, theta), strict=True):
        torch.testing.assert_close(found, exact[:4, 4:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "pick",
    [lambda out, _: out[:, -1], lambda _, h: h[-1], lambda out, _: out[:, -1:].flatten(1), lambda _, h: h.select(0, 1)],
)
def test_every_way_to_the_last_state_is_one_kernel_and_that_of_a_loop_of_cells(pick):
    x = torch.randn(3, 4, 3)
    read = architecture(Read(nn.RNN(3, 8, 2, batch_first=True), pick), x, law=(1.2, 0.3))
    torch.testing.assert_close(read.kernels(x), architecture(Loop(), x, law=(1.2, 0.3)).kernels(x))


def test_a_layers_own_dropout_is_between_its_layers_at_each_time():
    x = torch.randn(3, 4, 3)
    net = Read(nn.RNN(3, 8, 2, batch_first=True, dropout=0.4), lambda out, _: out[:, -1])
    torch.testing.assert_close(architecture(net, x).kernels(x), architecture(Loop(0.4), x).kernels(x))
    torch.testing.assert_close(architecture(net.eval(), x).kernels(x), architecture(Loop(), x).kernels(x))


def test_a_sequence_is_read_where_a_layer_made_it_too():
    x = torch.randn(3, 4, 3)
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), Read(nn.RNN(6, 8, batch_first=True), lambda out, _: out.mean(1)))

    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.cell, self.readout = nn.Linear(3, 6), nn.RNNCell(6, 8), nn.Linear(8, 1)

        def forward(self, x):
            h, states = None, []
            for t in range(x.shape[1]):
                h = self.cell(F.relu(self.first(x[:, t])), h)
                states.append(h)
            return self.readout((states[0] + states[1] + states[2] + states[3]) / 4)

    torch.testing.assert_close(architecture(net, x).kernels(x), architecture(Hand(), x).kernels(x))


def test_a_reversed_sequence_is_what_the_other_direction_sees():
    x = torch.randn(3, 4, 3)
    both = Read(nn.RNN(3, 8, batch_first=True, bidirectional=True), lambda out, _: out[:, 0], 16)
    # at time 0 the first direction has seen one step, the other one all of them, from the end
    forward, backward = (
        architecture(Read(nn.RNN(3, 8, batch_first=True), lambda out, _: out[:, -1]), z, "he").nngp(z)
        for z in (x[:, :1], x.flip(1))
    )
    torch.testing.assert_close(architecture(both, x, "he").nngp(x), (forward + backward) / 2)


def test_two_layers_in_both_directions_are_their_loops():
    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.ModuleList(nn.RNNCell(size, 8, nonlinearity="relu") for size in (3, 3, 16, 16))
            self.readout = nn.Linear(16, 1)

        def forward(self, x):
            line = [x[:, t] for t in range(3)]
            for forward, backward in (self.cells[:2], self.cells[2:]):
                a, b, ahead, behind = None, None, [], []
                for t in range(3):
                    a, b = forward(line[t], a), backward(line[2 - t], b)
                    ahead, behind = [*ahead, a], [b, *behind]
                line = [torch.cat(both, 1) for both in zip(ahead, behind, strict=True)]
            return self.readout((line[0] + line[1] + line[2]) / 3)

    x = torch.randn(3, 3, 3)
    layer = nn.RNN(3, 8, 2, nonlinearity="relu", batch_first=True, bidirectional=True)
    read = architecture(Read(layer, lambda out, _: out.mean(1), 16), x, law=(1.2, 0.3))
    torch.testing.assert_close(read.kernels(x), architecture(Hand(), x, law=(1.2, 0.3)).kernels(x))


def test_torchs_own_law_is_by_the_hidden_size():
    layer = nn.RNN(3, 4096, batch_first=True)
    net = Read(layer, lambda out, _: out[:, -1], 4096)
    w_in, w, r = (op for op in dict.fromkeys(architecture(net, torch.zeros(1, 1, 3), law="torch").affine))
    for op, weight, bias in [(w_in, layer.weight_ih_l0, layer.bias_ih_l0), (w, layer.weight_hh_l0, layer.bias_hh_l0)]:
        assert isinstance(op, Affine)
        assert op.sigma_w**2 / op.fan_in == pytest.approx(float(weight.detach().square().mean()), rel=0.05)
        assert op.sigma_b**2 == pytest.approx(float(bias.detach().square().mean()), rel=0.05)
    assert r.sigma_w == pytest.approx(3**-0.5)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (Read(nn.RNN(3, 8), lambda out, _: out[:, -1]), r"counts time on axis 0.*fix: nn.RNN\(..., batch_first=True\)"),
        (Read(nn.RNN(3, 8, batch_first=True), lambda _, h: h.mean(0)), r"`mean` acts on the last states.*h_n\[-1\]"),
        (Read(nn.LSTM(3, 8, batch_first=True), lambda out, _: out[:, -1]), r"`lstm` has no infinite-width rule.*gates"),
        (Read(nn.GRU(3, 8, batch_first=True), lambda out, _: out[:, -1]), r"`gru` has no.*gramian.monte_carlo"),
    ],
)
def test_what_is_refused_says_what_to_do(net, text):
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(net, torch.zeros(2, 4, 3))


def test_a_state_given_as_numbers_is_refused():
    class Started(Read):
        def forward(self, x):
            return self.readout(self.layer(x, torch.ones(1, len(x), 8))[0][:, -1])

    with pytest.raises(NoLimit, match=r"(?s)starts from a state that is not zero.*fix: leave out the initial state"):
        architecture(Started(nn.RNN(3, 8, batch_first=True), None), torch.zeros(2, 4, 3))
