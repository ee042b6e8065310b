"""Data and modules as people hold them: frames, arrays, classes, meta; one behavior in Python and in the command."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gramian
import gramian.data
from gramian.certify import certify
from gramian.cli import app
from gramian.errors import BadArgument, BadData

FEW = {"optimizer": "gd", "steps": 3}


def perceptron(d=2, c=2, width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, c))


def table(n=30, seed=0):
    draw = np.random.default_rng(seed)
    return pd.DataFrame({"a": draw.normal(size=n), "b": draw.normal(size=n)})


def test_frames_series_arrays_and_names_are_taken_alike():
    frame = table()
    label = (frame["a"] > 0).astype(int)
    names = label.map({0: "no", 1: "yes"})
    x, y = torch.tensor(frame.to_numpy()), torch.tensor(label.to_numpy())
    plain = certify(perceptron(), x, y, x_test=x, y_test=y, **FEW)
    for given, target in (
        (frame, label),
        (frame, names),
        (frame.to_numpy(), label.to_numpy()),
        (x.tolist(), y.tolist()),
    ):
        one = certify(perceptron(), given, target, x_test=given, y_test=target, **FEW)
        assert one.trace.losses == plain.trace.losses
        assert one.run["scores"] == plain.run["scores"]
    assert certify(perceptron(), frame, names, **FEW).data["classes"] == ["no", "yes"]
    price = certify(perceptron(c=1), frame, 1000 * frame["a"] + 5000, **FEW)
    assert price.data["task"] == "regression"
    assert price.data["targets"]["mean"][0] == pytest.approx(float((1000 * frame["a"] + 5000).mean()))


def test_class_numbers_keep_their_meaning():
    """Output k is for class k, also where some classes have no row here."""
    one = certify(perceptron(c=4), table(), np.array([0, 2, 3] * 10), **FEW)
    assert one.data["n_outputs"] == 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(x)


def on_meta():
    with torch.device("meta"):
        return Net()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Net, r"the class Net, not a network.*where: certify.*why: .*fix: Net\(...\), called"),
        (lambda: torch.relu, r"not a network.*where: certify.*why: .*fix: an nn.Module"),
        (
            on_meta,
            r"2 tensors of the module are on the device meta, the first is linear.*why: .*fix: .*to_empty",
        ),
        (lambda: nn.Flatten(), r"no parameter to train.*why: .*fix: "),
        (lambda: Net().requires_grad_(False), r"no parameter to train.*why: .*fix: "),
    ],
)
def test_what_is_no_network_is_said_in_four_parts(make, text):
    with pytest.raises(BadArgument, match=f"(?s){text}"):
        certify(make(), table(), [0, 1] * 15, **FEW)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"loss": nn.MSELoss()}, r"is not known.*argument `loss`.*why: .*fix: "),
        ({"loss": "mse"}, r"'mse' is not known.*fix: loss=.squared."),
        ({"targets": "scaled"}, r"'scaled' is not known.*fix: one of"),
        ({"accuracy": True}, r"is no share.*why: .*fix: "),
        ({"width": 8, "parametrization": "mup"}, r"No certificate.*why: .*fix: "),
    ],
)
def test_words_that_are_not_known(settings, text):
    with pytest.raises(BadArgument, match=f"(?s){text}"):
        certify(perceptron(), table(), [0, 1] * 15, **FEW | settings)


def test_text_columns_are_refused_by_name():
    frame = table().assign(c="x")
    with pytest.raises(BadData, match=r"(?s)'c'.*where: x.*why: .*fix: "):
        certify(perceptron(3), frame, [0, 1] * 15, **FEW)


def with_modes():
    return nn.Sequential(
        nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
    )


def test_batch_norm_and_dropout_train_as_the_user_would():
    """In the mode in which the module is given; said; and it is left in that mode."""
    x = torch.tensor(table(40).to_numpy())
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    module = with_modes()
    one = certify(module, x, y, parametrization="own", steps=40)
    assert all(part.training for part in module.modules())
    assert int(module[1].num_batches_tracked) == 40  # steps, and nothing that only measures
    assert one.run["trained"]["mode"] == "BatchNorm1d, Dropout"
    assert any("trained in training mode (BatchNorm1d, Dropout)" in w for w in one.run["warnings"])
    assert one.run["loss"]["lr_max"] is None
    with torch.no_grad():
        out = module.eval()(x)
    assert one.run["accuracy"]["train"][-1] == pytest.approx(float((out.argmax(1) == y).float().mean()))
    still = with_modes().eval()
    still[1].running_mean.fill_(0.1)
    other = certify(still, x, y, parametrization="own", steps=5)
    assert other.run["trained"]["mode"] == ""
    assert not any(part.training for part in still.modules())
    assert int(still[1].num_batches_tracked) == 0


def test_a_regression_with_dropout_goes_on_until_it_is_there_in_evaluation_mode():
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Dropout(0.05), nn.Linear(64, 1))
    one = certify(net, x, x[:, :1], parametrization="own", optimizer="gd", steps=4000, accuracy=0.05)
    assert one.did == "reached"
    assert one.run["goal"]["share"] <= 0.05


def test_without_a_parametrization_a_copy_is_trained_at_its_own_widths():
    module = perceptron(width=24)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    one = certify(module, table(), [0, 1] * 15, **FEW)
    assert one.run["width"]["run_width"] == 24
    assert one.run["trained"]["what"] == "a copy of your module, as it stands"
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    own = certify(module, table(), [0, 1] * 15, parametrization="own", **FEW)
    assert own.trace.losses == one.trace.losses
    drawn = certify(module, table(), [0, 1] * 15, width=40, **FEW)
    assert drawn.run["trained"]["parametrization"] == "ntk"
    assert drawn.run["width"]["run_width"] == 40


@pytest.mark.parametrize("net", ["mine.py:make", "mlp"])
@pytest.mark.parametrize("target", ["label", "price"])
def test_the_command_and_python_give_the_same_numbers(net, target, tmp_path, monkeypatch):
    """From one CSV: the lines of Python that the report prints, and what a user would write without them."""
    frame = table(50)
    frame["label" if target == "label" else "price"] = (
        np.where(frame["a"] > 0, "yes", "no") if target == "label" else 2e5 + 5e4 * frame["a"].round(3)
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    outs = 2 if target == "label" else 1
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        f"def make():\n    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, {outs}))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.set_default_dtype(torch.float32)
    width = "--width 16 " if net == "mlp" else ""
    words = shlex.split(f"certify --data t.csv --target {target} --net {net} {width}--optimizer gd --steps 20 --quiet")
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 1), done.output
    facts = json.loads((tmp_path / "gramian-report" / "report.json").read_text())
    [run] = facts["runs"]
    *first, last = run["origin"]["python"].split("; ")
    names: dict = {}
    for line in first:
        exec(line, names)
    again = eval(last, names)
    assert again.run["loss"]["measured"] == run["loss"]["measured"]
    assert again.run["scores"] == run["scores"]
    if net != "mlp":
        data = gramian.data.load("t.csv", target=target)
        torch.manual_seed(0)
        from mine import make

        one = certify(make(), data.x, data.y, x_test=data.x_test, y_test=data.y_test, **FEW | {"steps": 20})
        assert one.run["loss"]["measured"] == run["loss"]["measured"]
        assert one.run["scores"] == run["scores"]
        del __import__("sys").modules["mine"]
    if target == "price":
        assert run["scores"]["train"]["rmse"][0] > 100  # in the price's own unit
        assert "Test RMSE" in done.stdout
        assert facts["data"]["standardized"]
