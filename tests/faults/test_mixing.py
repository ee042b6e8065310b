"""Samples that are mixed and outputs that are random are found for any rows, and only where they are."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.empirical import projected_gradients
from gramian.empirical.operators.tangent_operators import GaussNewton
from gramian.errors import BadArgument

ROWS = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SEQUENCES = torch.randn(6, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers, and what is done with them."""

    def __init__(self, run, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.run = nn.ModuleList(make() for make in layers), run
        self.double()

    def forward(self, x):
        return self.run(self.layers, x)


def linear():
    return nn.Linear(3, 4)


class Gated(nn.Module):
    """A layer, and beside it another whose output goes through `then` and a gate."""

    def __init__(self, then, gate=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.plain, self.other, self.gate = linear(), linear(), nn.Parameter(torch.tensor(gate))
        self.then = then
        self.double()

    def forward(self, x):
        return self.plain(x) + self.gate * self.then(self.other(x))


class Difference(nn.Module):
    """Two equal networks, one minus the other: the output is zero, and so is what `then` does in it."""

    def __init__(self, then=lambda h: h):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = (nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 2)) for _ in range(2))
        self.b.load_state_dict(self.a.state_dict())
        self.then = then
        self.double()

    def forward(self, x):
        return self.then(self.a(x)) - self.then(self.b(x))


def recurrent(kind, **options):
    return Net(lambda layers, x: layers[0](x)[0][:, -1], lambda: kind(3, 4, **options))


def normalized(h):
    return (h - h.mean(0)) / h.std(0, correction=0).add(1e-3)


def attention(h):
    return torch.softmax(h @ h.mT, -1) @ h


MIXING = {
    "gru": (lambda: recurrent(nn.GRU), SEQUENCES),
    "lstm, both directions": (lambda: recurrent(nn.LSTM, bidirectional=True), SEQUENCES),
    "rnn over rows": (lambda: Net(lambda layers, x: layers[0](x[:, None])[0][:, 0], lambda: nn.RNN(3, 4)), ROWS),
    "attention": (
        lambda: Net(lambda layers, x: layers[0](x, x, x)[0].mean(1), lambda: nn.MultiheadAttention(3, 1)),
        SEQUENCES,
    ),
    "own attention": (lambda: Net(lambda layers, x: attention(layers[0](x)), linear), ROWS),
    "own batch norm": (lambda: Net(lambda layers, x: normalized(layers[0](x)), linear), ROWS),
    "sorted": (lambda: Net(lambda layers, x: layers[0](x).sort(0)[0], linear), ROWS),
    "sum before": (lambda: Net(lambda layers, x: layers[0](x).cumsum(0), linear), ROWS),
    "sum after": (lambda: Net(lambda layers, x: layers[0](x).flip(0).cumsum(0).flip(0), linear), ROWS),
    "rolled": (lambda: Net(lambda layers, x: layers[0](x).roll(1, 0), linear), ROWS),
    "mean behind a gate of 0": (lambda: Gated(lambda h: h - h.mean(0)), ROWS),
    "mean behind a gate of 1e-6": (lambda: Gated(lambda h: h - h.mean(0), 1e-6), ROWS),
    "sum before behind a gate": (lambda: Gated(lambda h: h.cumsum(0)), ROWS),
    "sum after behind a gate": (lambda: Gated(lambda h: h.flip(0).cumsum(0).flip(0)), ROWS),
    "mean in a difference": (lambda: Difference(lambda h: h - h.mean(0)), ROWS),
}  # fmt: skip

RANDOM = {
    "functional dropout": lambda: Net(lambda layers, x: nn.functional.dropout(layers[0](x), 0.5), linear),
    "stochastic depth": lambda: Gated(lambda h: h * (torch.rand(len(h), 1) > 1e-3), 1.0),
    "noise behind a gate": lambda: Gated(lambda h: h * torch.randn(4)),
    "python's numbers behind a gate": lambda: Gated(lambda h: h if random.random() < 0.1 else 2 * h),
    "numpy's numbers": lambda: Gated(lambda h: h if np.random.rand() < 0.05 else 2 * h, 1.0),  # noqa: NPY002
}

CALLS = {
    "empirical_ntk": lambda net, x: gramian.empirical_ntk(net, x),
    "EmpiricalNTK": lambda net, x: gramian.EmpiricalNTK(net, x),
    "GaussNewton": lambda net, x: GaussNewton(net, x),
    "projected_gradients": lambda net, x: projected_gradients(net, x, gramian.Sketch(8)),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("rows", ["different", "equal", "one"])
def test_samples_that_are_mixed_are_found(name, rows):
    make, x = MIXING[name]
    x = {"different": x, "equal": x[:1].expand_as(x), "one": x[:1]}[rows]
    for call in CALLS.values() if rows == "different" else [CALLS["empirical_ntk"], CALLS["EmpiricalNTK"]]:
        with pytest.raises(BadArgument, match=r"(?s)mixes the samples.*where.*why.*fix"):
            call(make(), x)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("call", CALLS)
def test_random_outputs_are_found(name, call):
    net = RANDOM[name]()
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with pytest.raises(BadArgument, match=r"(?s)output is random.*where.*why.*fix"):
        CALLS[call](net, ROWS)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


def test_an_own_generator_behind_a_gate_is_found():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(BadArgument, match="output is random"):
        gramian.empirical_ntk(Gated(lambda h: h * torch.randn(4, generator=generator)), ROWS)


HARMLESS = {
    "a gate": lambda: Gated(torch.tanh),
    "a difference": lambda: Difference(),
    "numbers that are drawn and not used": lambda: Gated(lambda h: (random.random(), np.random.rand(), h)[2], 1.0),  # noqa: NPY002
    "a bias before a normalization": lambda: Net(
        lambda layers, x: layers[2](layers[1](layers[0](x))), linear, lambda: nn.LayerNorm(4), linear_back
    ),
    "sequences": lambda: Net(lambda layers, x: layers[0](x[:, None])[0][:, 0], lambda: nn.GRU(3, 4, batch_first=True)),
    "no influence of one layer": lambda: Net(lambda layers, x: layers[0](x) + 0 * layers[1](x), linear, linear),
}


def linear_back():
    return nn.Linear(4, 2)


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_nothing_is_found_where_there_is_nothing(name, dtype):
    net = HARMLESS[name]().to(dtype)
    for n in (1, 2, 6):
        for call in list(CALLS.values())[:-1]:
            call(net, ROWS[:n].to(dtype))


def test_outputs_near_zero_are_no_sign_of_mixing():
    for seed in range(40):
        torch.manual_seed(seed)
        net, x = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1)), torch.randn(20, 64)
        with torch.no_grad():
            net[2].bias -= net(x[:1])[0]
        assert gramian.empirical_ntk(net, x).shape == (20, 20)
