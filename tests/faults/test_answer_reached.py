"""Whether a run reached the global minimum: against the best constant predictor, at the last step, in any edge case."""

import math

import pytest
import torch
from torch import nn

from gramian.certify import certify
from gramian.certify.goal import goal


def perceptron(d=5, c=1, width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, c)).double()


def r_squared(out, y):
    return 1 - float((out - y).square().sum() / (y - y.mean(0)).square().sum())


def test_far_targets_are_measured_against_their_mean_not_against_the_start():
    """60 rows of noise about 30: the loss falls to 1 % of its start long before it explains anything."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 5).double(), 30 + torch.randn(60, 1).double()
    one = certify(perceptron(), x, y, width=256, optimizer="gd", lr=0.001, steps=301, targets="as given")
    losses = one.run["loss"]["measured"]
    assert losses[-1] < 0.1 * losses[0]
    assert one.did == "not reached"
    best = float((y - y.mean()).square().sum() / 2)
    assert one.run["goal"]["best_constant"] == pytest.approx(best)
    assert one.run["scores"]["train"]["r2"] == pytest.approx(1 - losses[-1] / best, abs=1e-3)
    assert "R^2 -" in one.answer[0]
    assert any("far from a network's first outputs" in w for w in one.run["warnings"])


def test_a_large_law_and_wrong_rows_are_not_reached():
    torch.manual_seed(0)
    x, y = torch.randn(40, 6), torch.randint(10, (40,))
    one = certify(perceptron(6, 10), x, y, width=64, law=(6.0, 0.0), optimizer="adam", steps=100)
    accuracy = one.run["accuracy"]["train"][-1]
    assert accuracy < 1
    assert one.did == "not reached"
    assert f"{math.floor(1000 * accuracy) / 10}% training accuracy" in one.answer[0]


def test_one_column_is_many_inputs():
    """Positive multiples of one row: the sine, which no scaling to norm one tells apart."""
    x = torch.linspace(-3, 3, 40, dtype=torch.float64)[:, None].clone()
    one = certify(perceptron(1, width=32), x, torch.sin(x), optimizer="momentum", steps=3000, parametrization="own")
    assert one.did == "reached"
    assert one.run["scores"]["train"]["r2"] >= 0.99
    assert one.data["geometry"]["duplicates"] == []
    counts = torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.0, 3.0], [2.0, 6.0]])
    assert certify(perceptron(2, 2), counts, torch.tensor([0, 1, 1, 0]), steps=3).did != "impossible"


@pytest.mark.parametrize(
    ("parametrization", "width"), [("own", {}), ("ntk", {"width": 64}), ("standard", {}), ("allen-zhu", {"width": 64})]
)
def test_zero_rows_and_rows_of_any_norm_are_taken(parametrization, width):
    x, y = torch.tensor([[0.0, 0.0], [1e-3, 0.0], [0.0, 500.0]]), torch.tensor([0, 1, 1])
    module = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    one = certify(module, x, y, parametrization=parametrization, optimizer="gd", steps=3, **width)
    assert one.did in ("reached", "not reached")
    premise = [p for c in one for p in c.premises if "norm one" in p.says]
    assert all(p.holds == (parametrization == "allen-zhu") for p in premise)


def test_impossible_only_where_the_network_gets_equal_rows():
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0 + 1e-9], [3.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([0, 1, 1])
    equal = certify(perceptron(2, 2), x, y, dtype=torch.float32)
    assert equal.status == "impossible, implied"
    assert "in float32, in which the network gets them" in equal.answer[0]
    assert "In float64 these rows differ: dtype=torch.float64" in equal.answer[2]
    assert certify(perceptron(2, 2), x, y, steps=2).did == "not reached"  # the module is float64


def test_real_targets_at_equal_rows_have_a_floor():
    x = torch.cat([torch.eye(4), torch.eye(4)[:1]]).double()
    y = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1.0]]).double()
    floor, best = 0.25, float((y - y.mean()).square().sum() / 2)
    one = certify(perceptron(4), x, y)
    assert one.did == "impossible"
    assert one.run["goal"]["floor"] == pytest.approx(floor)
    assert f"{100 * floor / best:.3g}% of the best constant predictor's" in one.answer[1]
    some = certify(perceptron(4), x, y, accuracy=0.1, optimizer="momentum")  # more than the floor is asked for
    assert some.did == "reached"
    assert any(f"{floor / best:.2%}" in w for w in some.run["warnings"])


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6])
def test_constant_targets_leave_only_zero(value):
    x, y = torch.randn(6, 3).double(), torch.full((6, 1), value).double()
    one = certify(perceptron(3), x, y, optimizer="gd", steps=5)
    assert one.run["goal"]["best_constant"] == 0
    assert one.run["goal"]["share"] is None
    assert one.did == "not reached"
    assert "zero to working precision" in one.answer[0]
    if value == 3.0:
        assert certify(perceptron(3), x, y, optimizer="momentum", steps=4000).did == "reached"


def test_one_row():
    one = certify(perceptron(3), torch.ones(1, 3).double(), torch.ones(1, 1).double(), optimizer="gd", steps=500)
    assert one.did == "reached"
    assert float(one.run["goal"]["loss"]) < 1e-12


def test_the_goal_of_the_cross_entropy_is_that_of_the_frequencies():
    y = torch.tensor([0, 0, 0, 1])
    aim = goal(torch.zeros(4, 2), y, "cross-entropy", 0.01, torch.float32, [(0, 3)])
    p = torch.tensor([0.75, 0.25]).double()
    assert aim.best_constant == pytest.approx(-4 * float((p * p.log()).sum()))
    assert aim.floor == pytest.approx(2 * math.log(2))
    one = certify(perceptron(4, 2), torch.eye(4), y, loss="cross-entropy", optimizer="gd", lr=1.0, steps=3000)
    assert one.did == "reached"
    assert one.run["goal"]["share"] <= 0.01


def dead():
    """No unit fires on positive inputs, and the readout has no bias."""
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.fill_(-1.0)
        net[0].bias.fill_(-1.0)
    return net


class Constant(nn.Module):
    """Outputs that do not depend on the weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.sum(1, keepdim=True) + 0 * self.w


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum", "adam"])
@pytest.mark.parametrize("make", [dead, Constant])
def test_a_network_without_gradients_ends_with_its_reason(make, optimizer):
    x, y = torch.rand(40, 3).double(), torch.rand(40, 1).double()
    one = certify(make(), x, y, optimizer=optimizer, steps=5, parametrization="own")
    assert one.status == "not reached, observed"
    assert "all its gradients are zero" in one.answer[0]


def test_a_network_that_is_at_the_minimum_was_not_brought_there():
    x = torch.randn(8, 3).double()
    net = nn.Linear(3, 1).double()
    y = net(x).detach()
    one = certify(net, x, y, optimizer="gd")
    assert one.did == "not reached"
    assert "no step was taken" in one.answer[0]
    assert "already the minimum" in one.answer[0]
    assert certify(net, x, y, optimizer="sgd", batch_size=2, steps=0).did == "not reached"


class Breaks(nn.Module):
    """Not a number once its weight has grown."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x):
        out = self.linear(x)
        return out / (self.linear.weight.abs().sum() < 1.2)  # 0 / 0 or 1 / 0 from there on


def test_not_a_number_on_the_way_is_not_reached():
    torch.manual_seed(0)
    x, net = torch.randn(12, 3), Breaks()
    with torch.no_grad():
        net.linear.weight.fill_(0.1)
    one = certify(net, x, 5 * x.sum(1, keepdim=True), optimizer="gd", steps=200, parametrization="own")
    assert one.status == "not reached, observed"
    assert "diverged" in one.answer[0]


def test_every_answer_agrees_with_the_network_itself():
    """In place: what `module(x)` gives afterwards is what was reported, on the user's scale."""
    torch.manual_seed(0)
    x, y = 3 * torch.randn(30, 4) + 1, 100 + 20 * torch.randn(30, 2)
    for steps in (0, 3, 401):
        net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
        one = certify(net, x, y, parametrization="own", optimizer="momentum", steps=steps)
        out = net(x).detach()
        loss = float((out - y).square().sum() / 2)
        assert one.run["goal"]["loss"] == pytest.approx(loss, rel=1e-4)
        assert one.run["scores"]["train"]["r2"] == pytest.approx(r_squared(out, y), abs=1e-4)
        assert one.run["scores"]["train"]["rmse"] == pytest.approx((out - y).square().mean(0).sqrt().tolist(), rel=1e-3)
        best = float((y - y.mean(0)).square().sum() / 2)
        assert one.reached == (steps > 0 and loss <= 0.01 * best)
