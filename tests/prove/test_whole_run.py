"""`prove(..., statement="run")` from a torch module to a checked file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from run_promises import (
    assert_claim_fails_by_name,
    assert_other_content_fails,
    assert_plain_torch_takes_the_proved_steps,
    assert_saved_certificate_is_valid,
)
from sklearn.datasets import load_digits
from torch import nn

import gramian
from gramian.checker import checked
from gramian.errors import BadArgument, Unsupported


def rows(n: int = 16):
    x, classes = load_digits(return_X_y=True)
    x = x[:n] - x[:n].mean(0)
    x = 8 * x / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(classes[:n] % 2 == 0, 1.0, -1.0)[:, None]
    return torch.from_numpy(x), torch.from_numpy(y)


def network(*, activation=nn.Tanh, readout: bool = True, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    hidden, last = (nn.Linear(*size, bias=bias, dtype=torch.float64) for size in ((64, 48), (48, 1)))
    net = nn.Sequential(nn.Flatten(), hidden, activation(), last)
    net[3].requires_grad_(readout)
    return net


@pytest.fixture(scope="module")
def proof():
    x, y = rows()
    result = gramian.prove(network(), x, y, statement="run", lr=0.006)
    assert result.status == "proved", result.summary
    return result


@pytest.mark.parametrize(("activation", "readout", "bias"), [(nn.GELU, True, True), (nn.Softplus, False, False)])
def test_a_plain_module_is_proved_from_its_first_weights(activation, readout, bias):
    x, y = rows()
    net = network(activation=activation, readout=readout, bias=bias)
    before = [p.clone() for p in net.parameters()]
    result = gramian.prove(net, x, y, statement="run", lr=0.006 if readout else 0.02, accuracy=1e-2)
    assert result.status == "proved", result.summary
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)), "the module has changed"


def test_plain_torch_takes_the_proved_number_of_steps(proof):
    assert_plain_torch_takes_the_proved_steps(proof, network(), *rows(), lr=0.006)


def test_a_saved_certificate_is_valid(proof, tmp_path):
    assert_saved_certificate_is_valid(proof, tmp_path, *(a.numpy() for a in rows()))


@pytest.mark.parametrize(
    ("name", "factor", "line"),
    [
        ("lr", 1.01, None),
        ("lr", -1, "rate"),
        ("lr", 40, None),
        ("steps", 0.0, "tail"),
        ("steps", -1, "first"),
        ("steps", 1.0001, "steps"),
        ("steps", 1e6, "last"),
        ("steps", float("nan"), "first"),
        ("lr", float("inf"), "rate_size"),
        ("lr", float("nan"), "rate"),
        ("accuracy", -1, "accuracy"),
        ("accuracy", float("nan"), "accuracy"),
        ("time", float("nan"), "time"),
        ("distance", 0.9, "distance"),
        ("residual", 0.9, "residual"),
        ("sigma", 1.01, "sigma"),
        ("accuracy", 0.8, "time"),
        ("time", 0.9, "time"),
        ("distance", float("nan"), "distance"),
        ("sigma", float("nan"), "sigma"),
    ],
)
def test_a_claim_that_says_more_than_is_true_fails_by_name(proof, name, factor, line):
    assert_claim_fails_by_name(proof.content, name, factor, line)


def test_other_weights_targets_or_activations_fail(proof):
    assert_other_content_fails(proof.content, -proof.content.y[::-1] * 1.3)


def test_a_run_that_begins_in_ball_arithmetic_is_checked_with_it(proof):
    numbers = dict(proof.content.numbers) | {"precise_steps": 5, "bits": 100}
    assert checked(replace(proof.content, numbers=numbers)).valid
    nearer = numbers | {"distance": 0.99 * proof.numbers["distance"] / 1.05}
    assert checked(replace(proof.content, numbers=nearer)).valid, "five steps carry no error"
    for name, value in (("bits", 52), ("bits", 1e9), ("bits", 60.5), ("precise_steps", 2.5)):
        assert not checked(replace(proof.content, numbers=numbers | {name: value})).valid


def test_an_unstable_rate_is_named(proof):
    result = gramian.prove(network(), *rows(), statement="run", lr=1.0)
    assert result.status == "not proved"
    assert "smaller learning rate" in result.fix


def test_sizes_that_cannot_be_bounded_are_refused_with_the_way_out():
    x, y = rows()
    with pytest.raises(BadArgument, match=r"(?s)preactivations of size.*scaled to sizes near 1"):
        gramian.prove(network(), 1e5 * x, y, statement="run", lr=0.006)
    with pytest.raises(BadArgument, match=r"(?s)overflow.*scaled to sizes near 1"):
        gramian.prove(network(), x, 1e200 * y, statement="run", lr=0.006)


def test_the_cost_is_predicted_before_the_run():
    news: list[str] = []
    gramian.prove(network(), *rows(), statement="run", lr=0.006, most_steps=10, news=news.append)
    assert any("predicted" in line and "10 steps" in line for line in news[:-1])


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 1)),
        nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1)),
    ],
    ids=["convolution", "ReLU"],
)
def test_other_networks_are_refused_by_name(net):
    with pytest.raises(Unsupported, match=r"(?s)fully connected networks with smooth activations.*(affine|relu)"):
        gramian.prove(net, *rows(), statement="run")
