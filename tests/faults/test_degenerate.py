"""Constants at the ends of their ranges: no exception after the run, nothing implied, no number that is none."""

import math

import pytest
import torch
from torch import nn

import gramian
from gramian.conditions import NOT_SHOWN

POSITIVE = "lambda"  # in the words of the premise that an eigenvalue is positive


def mlp(bias=True, width=16, outputs=1):
    return nn.Sequential(nn.Linear(3, width, bias=bias), nn.ReLU(), nn.Linear(width, outputs, bias=bias))


def dead():
    net = mlp()
    with torch.no_grad():
        net[0].bias.fill_(-100.0)
        net[2].bias.zero_()
    net[2].bias.requires_grad_(False)
    return net


def rows(n=6):
    x = torch.randn(n, 3)
    return x / x.norm(dim=1, keepdim=True)


def numbers_and_words(facts):
    if isinstance(facts, dict | list | tuple):
        for part in facts.values() if isinstance(facts, dict) else facts:
            yield from numbers_and_words(part)
    else:
        yield facts


SINGULAR = {  # inputs and network for which the limit's Gram matrix is singular
    "equal rows": lambda x: (torch.cat([x[:3], x[:3]]), mlp()),
    "rows in one direction": lambda x: (torch.cat([x[:3], 2 * x[:3]]), mlp(bias=False)),
    "rows of zeros": lambda x: (0 * x, mlp()),
    "a linear network": lambda x: (x, nn.Linear(3, 1)),
}


@pytest.mark.parametrize(
    ("name", "way"), [("equal rows", "ntk"), ("equal rows", "allen-zhu"), *((name, "own") for name in SINGULAR)]
)
def test_bounds_of_an_eigenvalue_of_zero_show_nothing(name, way):
    x, net = SINGULAR[name](rows())
    y = torch.cat([x[:3, :1], x[:3, :1]]) + 0.1
    result = gramian.certify(net, x, y, parametrization=way, width="auto" if way == "own" else 16,
                             optimizer="gd", steps=5)  # fmt: skip
    flat = [c for c in result if any(POSITIVE in p.says and "Gram" in p.says and p.holds is False for p in c.failing)]
    about_rates = [c for c in flat if "(1 - lr lambda" in str(c) or "exp(-lambda_0 t)" in str(c)]
    assert about_rates
    for c in about_rates:
        assert c.status == NOT_SHOWN, str(c)
    for c in result:
        assert not c.status.startswith("implied")
        assert not any(word in c.summary for word in ("inf ", "nan", "at most inf")), c.summary
    for value in numbers_and_words(result.run):
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum", "adam"])
@pytest.mark.parametrize(("n", "width"), [(1, 16), (2, 16), (6, 1)])
def test_one_row_two_rows_and_a_width_of_one_have_an_answer(n, width, optimizer):
    x = rows(n)
    y = x[:, :1].clone()
    result = gramian.certify(mlp(width=width), x, y, optimizer=optimizer, steps=10, x_test=x, y_test=y)
    assert "accuracy" not in result.answer[0].replace("training accuracy of", "")
    for value in numbers_and_words(result.run):
        assert not isinstance(value, float) or math.isfinite(value)


def test_a_network_without_gradients_has_no_prediction_and_no_bound():
    x = rows()
    result = gramian.certify(dead(), x, x[:, :1].clone(), optimizer="gd", steps=5)
    assert "no step moved the network" in result.answer[0]
    assert "predict" not in result.answer[1]
    assert all(not c.status.startswith("implied") for c in result)


def test_two_values_of_real_targets_are_no_classes():
    x, y = rows(), torch.tensor([[3.0], [5.0]] * 3)
    for kind in ("standardized", "as given"):
        result = gramian.certify(mlp(), x, y, optimizer="gd", steps=5, targets=kind)
        assert "training accuracy" not in result.answer[0]
        assert result.run["accuracy"]["train"] is None
        assert result.run["goal"]["accuracy"] is None
    signs = gramian.certify(mlp(), x, y - 4, parametrization="ntk", width=16, optimizer="gd", steps=5)
    assert "training accuracy" in signs.answer[0]
    assert not signs.data["standardized"]


def test_a_module_that_was_not_read_has_no_width():
    class OfOwnWriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Linear(3, 400, bias=False)

        def forward(self, x):
            return self.weights(x).abs().sum(1, keepdim=True) / 20

    x = rows()
    result = gramian.certify(OfOwnWriting(), x, x[:, :1].clone(), optimizer="gd", steps=2)
    assert result.run["title"] == "network"
    assert result.run["width"]["run_width"] is None
    assert "lazy" not in result.answer[2]


def test_a_loop_that_broke_has_no_layer_that_learns():
    x, net = rows(), mlp()
    sgd = torch.optim.SGD(net.parameters(), lr=500.0)
    monitor = gramian.Monitor(net, sgd, nn.MSELoss(), x, x[:, :1].clone(), share=0.9)
    for _ in range(60):
        sgd.zero_grad()
        nn.functional.mse_loss(net(x), x[:, :1]).backward()
        sgd.step()
    said = str(monitor)
    assert "The loss is not finite" in said
    assert "still learning" not in said
    assert "000,000-fold" not in said
    assert all(len(word) < 30 for word in said.split() if "-fold" in word)
