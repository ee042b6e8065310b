"""What theorems on descent ask of a run: the remainder of each step, and that a step was gradient descent."""

import pytest
import torch
from torch import nn

from gramian import Monitor
from gramian.empirical import empirical_ntk
from gramian.errors import BadArgument
from gramian.train import train


def problem(n=3, outputs=2, dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).to(dtype)
    return net, torch.randn(n, 4, dtype=dtype), torch.randn(n, outputs, dtype=dtype)


def test_the_remainder_is_what_the_gram_matrix_leaves_of_a_step():
    net, x, y = problem()
    blocks = empirical_ntk(net, x, outputs="full")  # (n, n, C, C)
    gram = blocks.permute(0, 2, 1, 3).reshape(6, 6)
    before = net(x).detach()
    trace = train(net, x, y, lr=0.05, steps=1, probes=("step_remainder",))
    after, r = net(x).detach(), (before - y).flatten()
    (found,) = trace.measured["step_remainder"].values
    remainder = (after - before).flatten() + 0.05 * gram @ r
    lam = torch.linalg.eigvalsh(gram)
    wanted = [float(v) for v in (lam[0], lam[-1], r.norm(), remainder.norm(), (after - y).norm())]
    assert list(found.values()) == pytest.approx(wanted)
    assert found["remainder"] > 1e-6  # tanh bends


def test_a_linear_network_leaves_nothing():
    net, x, y = nn.Linear(4, 2).double(), *problem()[1:]
    trace = train(net, x, y, lr=0.05, steps=5, probes=("step_remainder",))
    assert trace.measured["step_remainder"].steps == [1, 2, 3, 4, 5]
    assert max(v["remainder"] for v in trace.measured["step_remainder"].values) < 1e-14


def test_it_is_measured_after_every_step_whatever_the_schedule():
    net, x, y = problem()
    trace = train(net, x, y, lr=0.01, steps=50, every=25, probes=("loss", "step_remainder"))
    assert trace.measured["loss"].steps == [0, 25, 50]
    assert trace.measured["step_remainder"].steps == list(range(1, 51))


def test_a_run_that_goes_on_has_all_its_steps(tmp_path):
    settings = {"lr": 0.05, "probes": ("loss", "step_remainder"), "checkpoint": tmp_path / "run"}
    net, x, y = problem()
    whole = train(problem()[0], x, y, lr=0.05, steps=12, probes=("loss", "step_remainder"))
    train(net, x, y, steps=5, **settings)
    resumed = train(problem()[0], x, y, steps=12, resume=True, **settings)
    assert resumed.measured["step_remainder"] == whole.measured["step_remainder"]


def test_a_step_that_loses_all_numbers_is_not_measured():
    net, x, y = problem()
    trace = train(net, x, y * 1e200, lr=1e150, steps=3, probes=("loss", "step_remainder"))
    assert trace.diverged
    assert "step_remainder" not in trace.measured


def test_plain_steps_and_others():
    def off(dtype=torch.float64, **settings):
        net, x, y = problem(dtype=dtype)
        trace = train(net, x, y, steps=10, probes=("update_error",), **{"lr": 0.01} | settings)
        return max(trace.measured["update_error"].values)

    assert off() < 1e-12
    assert off(optimizer="sgd", batch_size=3) < 1e-12  # all samples are in a batch
    assert off(optimizer="momentum") > 0.5
    assert off(optimizer="sgd", batch_size=1) > 0.1
    assert off(optimizer="adam") > 0.1
    assert 1e-9 < off(torch.float32) < 1e-3
    assert off(torch.float32, lr=1e-9) > 0.1  # the step is below the last digit of most weights


def test_where_it_does_not_apply_it_says_why():
    net, x, y = problem()
    with pytest.raises(BadArgument, match="squared loss"):
        train(net, x, torch.tensor([0, 1, 0]), loss="cross-entropy", lr=0.1, steps=1, probes=("step_remainder",))
    many = problem(n=400)
    trace = train(*many, lr=1e-4, steps=1, probes=("standard", "step_remainder"), gram_rows=400)
    assert "400 rows with 2 outputs" in trace.config["skipped"]["step_remainder"]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    monitor = Monitor(net, optimizer, nn.MSELoss(), x, y, probes=("loss", "step_remainder"))
    assert "only `train`" in monitor.trace.config["skipped"]["step_remainder"]
    monitor.close()
