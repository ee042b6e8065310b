"""Numbers of the answer in the user's units: the learning rate to paste, RMSE, balanced accuracy, the useful width."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.certify import certify
from gramian.certify.scores import scores
from gramian.network.zoo import cnn
from gramian.report import summary_rows
from gramian.train.batches import Batches

N = 30


def data(loss, c):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(N, 4, generator=draw, dtype=torch.float64)
    y = torch.randint(c, (N,), generator=draw) if loss != "real" else torch.randn(N, c, generator=draw).double()
    return x, y


def make(c):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, c)).double()


LOOPS = [
    ("gd", "classes", "squared", 3), ("sgd", "classes", "squared", 3), ("sgd", "real", "squared", 2),
    ("momentum", "real", "squared", 1), ("nesterov", "classes", "cross-entropy", 3),
    ("sgd", "classes", "cross-entropy", 4), ("adam", "real", "squared", 2), ("adam", "classes", "cross-entropy", 3),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "kind", "loss", "c"), LOOPS)
def test_a_plain_loop_with_the_line_follows_the_same_losses(optimizer, kind, loss, c):
    x, y = data("real" if kind == "real" else "", c)
    more = {"batch_size": 7} if optimizer == "sgd" else {}
    one = certify(make(c), x, y, optimizer=optimizer, loss=loss, steps=25, accuracy=1e-9, **more)
    rate = one.run["loss"]["torch"]
    assert rate["line"] in str(one)
    net = make(c)
    code, said = rate["line"].split("  # for ")
    step = eval(code, {"torch": torch, "net": net})
    criterion = eval(said.split(",")[0], {"nn": nn})
    one_hot = nn.functional.one_hot
    targets = eval(rate["targets"], {"y": y, "one_hot": one_hot})
    batches = Batches(N, rate["batch_size"], torch.Generator().manual_seed(0))
    assert (f"batches of {rate['batch_size']}" in said) == (optimizer == "sgd")
    factor = N if loss == "cross-entropy" else N * c / 2
    for ours in one.trace.losses[:25]:
        rows = batches.next() if rate["batch_size"] < N else slice(None)
        step.zero_grad()
        value = criterion(net(x[rows]), targets[rows])
        assert factor * float(value.detach()) == pytest.approx(ours, rel=1e-6 if optimizer != "adam" else 1e-4)
        value.backward()
        step.step()


def test_the_line_of_a_network_that_is_drawn_says_how_to_draw_it():
    x, y = data("", 3)
    one = certify(make(3), x, y, width=20, optimizer="gd", steps=5)
    rate = one.run["loss"]["torch"]
    net = eval(rate["network"], {"gramian": gramian, "module": make(3), "x": x, "torch": torch})
    out, targets = net(x.float()), nn.functional.one_hot(y, 3) - 1 / 3
    assert float((out - targets).detach().square().sum() / 2) == pytest.approx(one.run["loss"]["measured"][0], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum"])
def test_the_learning_rate_chosen_has_three_digits_where_it_is_pasted(optimizer):
    x, y = data("", 3)
    one = certify(make(3), x, y, optimizer=optimizer, steps=2)
    shown = re.search(r"lr=([^,)]+)", one.run["loss"]["torch"]["line"])[1]
    assert float(shown) == pytest.approx(one.run["loss"]["torch"]["lr"], rel=1e-12)
    assert len(shown.replace(".", "").lstrip("0").split("e")[0]) <= 3
    assert f"The learning rate was {float(shown):.3g} for nn.MSELoss()" in one.answer[1]
    [row] = summary_rows({"runs": [one.run], "data": one.data})
    assert row["Learning rate / largest"].startswith(f"{float(shown):,.3g}")


@pytest.mark.parametrize("parametrization", [None, "ntk"])
def test_regression_is_reported_in_the_target_s_unit(parametrization):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=draw)
    y = 2e5 + 5e4 * x[:, :1] + 1e3 * torch.randn(60, 1, generator=draw)
    settings = {"optimizer": "momentum", "targets": "standardized", "steps": 400, "accuracy": 1e-3}
    module = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    width = {} if parametrization is None else {"width": 64}
    one = certify(
        module, x[:40], y[:40], x_test=x[40:], y_test=y[40:], parametrization=parametrization, **settings, **width
    )
    assert one.data["standardized"]
    sigma = float(y[:40].std(correction=0))
    goal, train = one.run["goal"], one.run["scores"]["train"]
    assert train["rmse"][0] == pytest.approx(sigma * np.sqrt(2 * goal["loss"] / 40), rel=1e-4)
    assert train["r2"] == pytest.approx(1 - goal["share"], abs=1e-6)
    assert 100 < train["rmse"][0] < 2e4
    test = one.run["test"]
    assert (test["unit"], test["quantity"]) == ("RMSE", "RMSE, in the target's unit")
    assert test["network_error"][-1] == pytest.approx(one.run["scores"]["test"]["rmse"][0], rel=1e-4)
    assert test["kernel_error"] == pytest.approx(one.run["scores"]["kernel"]["rmse"][0])
    assert 100 < test["kernel_error"] < 5e4
    [row] = summary_rows({"runs": [one.run], "data": one.data})
    assert {"Training R²", "Test RMSE", "Test R²", "Kernel's test RMSE", "Kernel's test R²"} <= set(row)
    assert "Training accuracy" not in row


def test_a_minority_of_3_percent_has_its_base_rate_and_balanced_accuracy():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 3, generator=draw), torch.zeros(100, dtype=torch.int64)
    y[:3] = 1
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    one = certify(module, x, y, x_test=x, y_test=y, optimizer="gd", steps=1)
    assert one.data["imbalanced"]
    assert one.data["base_rate"] == {"train": 0.97, "test": 0.97}
    [row] = summary_rows({"runs": [one.run], "data": one.data})
    assert row["Constant's test error"] == "3 %"
    assert row["Balanced test accuracy"].endswith("%")
    wrong = scores(torch.tensor([[1.0, 0.0]]).expand(100, 2), y)
    assert wrong == {"accuracy": 0.97, "balanced_accuracy": 0.5}
    even = certify(module, x, torch.arange(100) % 2, optimizer="gd", steps=1)
    assert not even.data["imbalanced"]


def test_singular_matrices_are_not_positive():
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)[:, None]  # two rays: the bias-free kernel has rank 2
    module = nn.Sequential(nn.Linear(1, 16, bias=False), nn.ReLU(), nn.Linear(16, 1, bias=False))
    one = certify(module, x, x.abs(), width=16, optimizer="gd", steps=2)
    assert one.run["spectrum"]["singular"]
    assert "The limit's Gram matrix is singular to working precision" in one.answer[2]
    assert "is positive" not in one.answer[2]
    for c in one:
        for p in c.premises:
            if "lambda_min" in p.says and p.sense == ">":
                assert not p.holds


def test_report_and_certificate_ask_a_convolutional_network_for_one_width():
    torch.manual_seed(0)
    x, y = torch.randn(6, 1, 6, 6), torch.arange(6) % 3
    one = certify(cnn((1, 6, 6), 3, depth=3, width=4), x, y, width=4, optimizer="gd", steps=2)
    asked = {p["theorem"]: p["width"] for p in one.run["width"]["papers"]}
    assert asked
    for c in one:
        for p in c.premises:
            if p.says.startswith("width") and c.theorem.partition(":")[0] in asked:
                assert asked[c.theorem.partition(":")[0]] == p.needs


def test_a_run_is_in_the_regime_only_within_the_tolerance():
    torch.manual_seed(0)
    x, y = torch.randn(20, 4), torch.arange(20) % 2
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    for seed in range(2):
        width = certify(module, x, y, width=64, optimizer="gd", steps=1, seed=seed, tolerance=0.2).run["width"]
        assert width["in_regime"] == (width["run_error"] <= 0.2)
        assert width["useful_low"] <= width["useful_width"] <= width["useful_high"]


@pytest.mark.slow
def test_the_useful_width_is_the_same_within_15_percent_over_seeds():
    """Ten sweeps of one network on one set: about 95 of 100 pairs of a value and the median are within 15 %."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.arange(64) % 2
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    found = [
        certify(module, x, y, parametrization="ntk", optimizer="gd", steps=1, seed=1000 * s).run["width"]
        for s in range(10)
    ]
    middle = sorted(w["useful_width"] for w in found)[5]
    off = [abs(w["useful_width"] / middle - 1) for w in found]
    print("useful widths:", [w["useful_words"] for w in found])
    assert sum(v <= 0.15 for v in off) >= 8
    assert max(off) < 0.3
    assert sum(w["useful_low"] <= middle <= w["useful_high"] for w in found) >= 8
