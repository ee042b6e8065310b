"""`train` against closed forms, against torch.optim by hand, and what it leaves untouched."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian.solve import gradient_descent, momentum, nesterov
from gramian.train import train
from gramian.train.forward import MOST_ROWS

N, D, C = 12, 20, 3


def data():
    return torch.randn(N, D), torch.randn(N, C)


def mlp(out=C):
    return nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, out))


def copy_of(module):
    twin = mlp()
    twin.load_state_dict(module.state_dict())
    return twin


@pytest.mark.parametrize(
    ("optimizer", "predicted"),
    [
        ("gd", lambda k, r, lr, s: gradient_descent(k, r, lr, s)),
        ("momentum", lambda k, r, lr, s: momentum(k, r, lr, 0.9, s)),
        ("nesterov", lambda k, r, lr, s: nesterov(k, r, lr, 0.9, s)),
    ],
)
def test_a_linear_model_follows_the_closed_form(optimizer, predicted):
    x, y = data()
    net = nn.Linear(D, C, bias=False)
    k, r0 = x @ x.T, (net(x) - y).detach()
    trace = train(net, x, y, optimizer=optimizer, steps=200, probes=())
    expected = predicted(k, r0, trace.config["lr"], list(range(201))).square().sum((1, 2)) / 2
    assert trace.steps == list(range(201))
    torch.testing.assert_close(torch.tensor(trace.losses), expected, rtol=1e-10, atol=1e-10 * float(expected[0]))
    assert trace.config["lr"] == pytest.approx(1 / float(torch.linalg.eigvalsh(k)[-1]), rel=2e-3)


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("gd", lambda p: torch.optim.SGD(p, lr=0.01)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8)),
        ("nesterov", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, nesterov=True)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01)),
    ],
)
@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_each_optimizer_is_torchs_own_on_the_summed_loss(optimizer, make, loss):
    x, labels = torch.randn(N, D), torch.arange(N) % C
    net = mlp()
    twin = copy_of(net)
    trace = train(net, x, labels, loss=loss, optimizer=optimizer, lr=0.01, momentum=0.8, steps=20, probes=())
    by_hand = make(twin.parameters())
    targets = F.one_hot(labels, C) - 1 / C
    losses = []
    for _ in range(20):
        by_hand.zero_grad()
        f = twin(x)
        value = (f - targets).square().sum() / 2 if loss == "squared" else F.cross_entropy(f, labels, reduction="sum")
        value.backward()
        by_hand.step()
        losses.append(value.item())
    assert trace.losses[:20] == losses
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_minibatches_are_scaled_to_the_whole_and_share_out_each_epoch(optimizer):
    x, y = data()
    net = mlp()
    twin = copy_of(net)
    trace = train(net, x, y, optimizer=optimizer, lr=1e-3, batch_size=5, steps=7, probes=(), seed=4)
    by_hand = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
        "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    }[optimizer](twin.parameters())
    generator = torch.Generator().manual_seed(4)
    batches = [b for _ in range(3) for b in torch.randperm(N, generator=generator).split(5)][:7]  # sizes 5, 5, 2, ...
    for step, rows in enumerate(batches):
        by_hand.zero_grad()
        value = (twin(x[rows]) - y[rows]).square().sum() / 2 * (N / len(rows))
        value.backward()
        by_hand.step()
        assert trace.losses[step] == pytest.approx(value.item(), rel=1e-12)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert trace.config["losses"] == "minibatch"
    assert trace.config["batch_size"] == 5


def test_a_minibatch_of_everything_is_gradient_descent():
    x, y = data()
    net = mlp()
    twin = copy_of(net)
    one = train(net, x, y, optimizer="sgd", batch_size=N, lr=0.01, steps=5, probes=())
    two = train(twin, x, y, optimizer="gd", lr=0.01, steps=5, probes=())
    assert one.losses == two.losses


def test_any_differentiable_loss():
    x, y = data()
    net = mlp()
    twin = copy_of(net)

    def half_squares(outputs, targets):
        return (outputs - targets).square().sum() / 2

    one = train(net, x, y, loss=half_squares, lr=0.01, steps=5, probes=())
    assert one.losses == train(twin, x, y, lr=0.01, steps=5, probes=()).losses
    assert one.config["loss"] == "half_squares"


def test_more_rows_than_go_through_at_once():
    rows = MOST_ROWS + 7
    x, y = torch.randn(rows, D), torch.randn(rows, C)
    net = mlp()
    twin = copy_of(net)
    parts, whole = train(net, x, y, steps=5, lr=1e-4), []
    for _ in range(6):
        loss = (twin(x) - y).square().sum() / 2
        whole.append(float(loss.detach()))
        for p, grad in zip(twin.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True):
            p.data -= 1e-4 * grad
    assert parts.losses == pytest.approx(whole, rel=1e-12)
    assert parts.losses != whole  # another order of summation: the parts were really taken


def test_frozen_parameters_stay():
    x, y = data()
    net = mlp()
    net[2].requires_grad_(False)
    before = {name: p.clone() for name, p in net.named_parameters()}
    trace = train(net, x, y, steps=5, lr=0.01)
    after = dict(net.named_parameters())
    assert torch.equal(before["2.weight"], after["2.weight"])
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert trace.measured["distance"].labels == ["0.weight", "0.bias"]
    assert trace.config["trainable"] == D * 16 + 16


def test_the_learning_rate_of_minibatches_is_stable_for_each_of_them():
    x = torch.eye(40)  # orthogonal samples: a batch of 1 meets 40 times the curvature of the full loss
    y = torch.randn(40, 1)
    net = nn.Linear(40, 1, bias=False)
    trace = train(net, x, y, optimizer="sgd", batch_size=1, steps=40, every=40)
    assert trace.config["lr"] == pytest.approx(1 / 40, rel=1e-2)
    assert "minibatches" in trace.config["lr_from"]
    assert trace.measured["loss"].values[-1] < 1e-3 * trace.measured["loss"].values[0]  # one step solves one sample


def test_cross_entropy_takes_its_own_curvature_into_account():
    x, labels = torch.randn(N, D), torch.arange(N) % C
    net = nn.Linear(D, C, bias=False)
    trace = train(net, x, labels, loss="cross-entropy", steps=1, probes=())
    assert trace.config["lr"] == pytest.approx(2 / float(torch.linalg.eigvalsh(x @ x.T)[-1]), rel=2e-3)


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov"])
def test_a_diverging_run_stops_and_says_why(optimizer):
    x, y = data()
    lam = float(torch.linalg.eigvalsh(x @ x.T)[-1])
    trace = train(nn.Linear(D, C, bias=False), x, y, optimizer=optimizer, lr=8 / lam, steps=1000)
    assert trace.diverged
    assert not trace.interrupted
    assert len(trace.losses) < 200
    limit = {"gd": 2, "momentum": 2 * 1.9, "nesterov": 3.8 / 2.8}[optimizer]
    times = re.search(r"is ([\d.]+) times the largest stable one at initialization", trace.reason)
    assert float(times[1]) == pytest.approx(8 / limit, rel=0.02)
    assert "2/lambda_max" in trace.reason


def test_a_loss_that_overflows_ends_the_run_without_an_exception():
    x, y = data()
    trace = train(mlp(), x, y, lr=1e200, steps=50, every=1)
    assert trace.diverged
    assert math.isnan(trace.losses[-1]) or trace.losses[-1] > 1e6 * trace.losses[0]


def test_a_loss_that_is_not_finite_at_the_start_ends_the_run():
    x, y = data()
    net = mlp()
    with torch.no_grad():
        net[0].weight.fill_(torch.nan)
    trace = train(net, x, y, lr=0.1, steps=5, probes=("loss",))
    assert trace.diverged
    assert "before the first step" in trace.reason


@pytest.mark.parametrize("optimizer", ["gd", "sgd"])
def test_stops_at_the_loss_or_the_accuracy_asked_for(optimizer):
    x, labels = torch.randn(N, D), torch.arange(N) % C
    trace = train(mlp(), x, labels, optimizer=optimizer, steps=3000, stop_loss=0.5, probes=("loss",))
    assert trace.measured["loss"].values[-1] <= 0.5
    assert "reached stop_loss=0.5" in trace.reason
    assert trace.measured["loss"].steps[-1] < 3000
    trace = train(mlp(), x, labels, optimizer=optimizer, steps=3000, stop_accuracy=1.0)
    assert trace.measured["train_accuracy"].values[-1] == 1.0
    assert trace.measured["train_accuracy"].values[-2] < 1.0
    assert "reached stop_accuracy=1 " in trace.reason
    assert trace.measured["gram_min"].steps[-1] <= trace.measured["train_accuracy"].steps[-1]


@pytest.mark.parametrize("optimizer", ["gd", "sgd"])
def test_a_loss_and_an_accuracy_asked_for_must_both_be_reached(optimizer):
    x, labels = torch.randn(N, D), torch.arange(N) % C
    probes = ("loss", "train_accuracy")
    trace = train(mlp(), x, labels, optimizer=optimizer, steps=3000, stop_loss=0.1, stop_accuracy=1.0, probes=probes)
    loss, accuracy = (trace.measured[name].values for name in probes)
    met = [a <= 0.1 and b == 1.0 for a, b in zip(loss, accuracy, strict=True)]
    assert met == [False] * (len(met) - 1) + [True]
    assert any(b == 1.0 for b in accuracy[:-1])  # the accuracy alone would have stopped it earlier


def test_the_callers_random_numbers_and_modes_stay_and_the_seed_decides():
    x, y = data()
    net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, C))
    start = {name: p.clone() for name, p in net.state_dict().items()}
    state = torch.get_rng_state()
    one = train(net, x, y, lr=1e-3, steps=10)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
    torch.randn(3)  # another state outside makes no difference inside
    net.load_state_dict(start)
    assert train(net, x, y, lr=1e-3, steps=10).losses == one.losses
    net.load_state_dict(start)
    assert train(net, x, y, lr=1e-3, steps=10, seed=1).losses != one.losses
    # the loss is measured without dropout, though trained with it
    net.load_state_dict(start)
    with torch.no_grad():
        assert one.measured["loss"].values[0] == pytest.approx(float((net.eval()(x) - y).square().sum() / 2))


def test_measuring_changes_nothing():
    x, y = data()
    net = mlp()
    twin = copy_of(net)
    one = train(net, x, y, optimizer="sgd", batch_size=5, lr=0.01, steps=30, every=1)
    two = train(twin, x, y, optimizer="sgd", batch_size=5, lr=0.01, steps=30, probes=())
    assert one.losses == two.losses
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True))


def test_a_generator_draws_the_minibatches():
    x, y = data()
    net = mlp()
    twin = copy_of(net)
    one = train(net, x, y, optimizer="sgd", batch_size=5, lr=0.01, steps=9, generator=torch.Generator().manual_seed(3))
    two = train(twin, x, y, optimizer="sgd", batch_size=5, lr=0.01, steps=9, seed=3)
    assert one.losses == two.losses


def test_no_steps_only_measures():
    x, y = data()
    trace = train(mlp(), x, y, steps=0)
    assert trace.measured["loss"].steps == [0]
    assert trace.losses == pytest.approx(trace.measured["loss"].values)


def test_progress_is_on_stderr_with_loss_and_accuracy(capsys):
    x, labels = torch.randn(N, D), torch.arange(N) % C
    train(mlp(), x, labels, steps=30, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "30/30" in shown.err
    assert "loss" in shown.err
    assert "accuracy" in shown.err
