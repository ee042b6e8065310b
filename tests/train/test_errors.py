"""What bad input gets: four parts, by their text."""

import re
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from gramian.errors import BadArgument, BadData
from gramian.train import train

X, Y, LABELS = torch.ones(6, 4, dtype=torch.float64), torch.ones(6, 2, dtype=torch.float64), torch.arange(6) % 2


def net(out=2):
    return nn.Linear(4, out)


def with_nan(t, *at):
    t = t.clone()
    t[at] = torch.nan
    return t


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (with_nan(X, 3, 1), Y, r"(?s)not finite; the first is nan.*where: x, row 3, column 1.*why:.*fix:"),
        (X, with_nan(Y, 2, 0), r"(?s)not finite; the first is nan.*row 2, column 0"),
        (X[:0], Y[:0], r"(?s)no data: inputs of shape \(0, 4\)"),
        (X, Y[:4], r"(?s)x has 6 rows, y has 4\..*fix: one target for each input row"),
        (X, Y[:, :1], r"(?s)y has shape \(6, 1\), the module's outputs have shape \(6, 2\).*why:.*fix:"),
        (X[:, :3], Y, r"(?s)does not take inputs of shape \(6, 3\).*why: the shape of one sample"),
        (
            X.float(),
            Y,
            r"(?s)x is torch.float32, the module's parameters are torch.float64.*fix: x.to\(torch.float64\)",
        ),
        (X, LABELS + 1, r"(?s)class numbers 1 to 2.*the module has 2 outputs.*fix: a last layer with 3 outputs"),
        (X, LABELS - 1, r"(?s)class numbers -1 to 0"),
        (X, LABELS * 0, r"(?s)all 6 labels are class 0: there is nothing to tell apart"),
    ],
    ids=["nan", "nan target", "empty", "lengths", "columns", "features", "dtype", "classes", "negative", "one class"],
)
def test_data_that_cannot_be_trained_on(x, y, text):
    with pytest.raises(BadData, match=text):
        train(net(), x, y)


def test_one_output_takes_no_class_numbers():
    with pytest.raises(BadData, match=r"(?s)the module has 1 output\.\n.*fix: a last layer with 2 outputs"):
        train(net(1), X, LABELS)


def test_test_data_are_named():
    with pytest.raises(BadData, match=r"x_test has 6 rows, y_test has 5"):
        train(net(), X, Y, x_test=X, y_test=Y[:5])
    with pytest.raises(BadArgument, match=r"x_test and y_test go together"):
        train(net(), X, Y, x_test=X)
    assert train(net(), X, LABELS, x_test=X[:1], y_test=LABELS[:1], steps=1)  # one class is enough to test on


def test_cross_entropy_wants_class_numbers():
    with pytest.raises(BadData, match=r"(?s)takes class numbers, y is torch.float64.*fix: y as int64"):
        train(net(), X, Y, loss="cross-entropy")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "hinge"}, r"(?s)loss='hinge' is no loss.*fix:.*cross-entropy"),
        ({"loss": lambda f, y: (f - y).square(), "lr": 0.1}, r"(?s)gives a tensor of shape \(6, 2\).*fix:.*\.sum\(\)"),
        ({"loss": lambda f, y: (f - y).abs().sum()}, r"(?s)No learning rate can be chosen.*curvature.*fix: a number"),
        ({"optimizer": "lbfgs"}, r"(?s)optimizer='lbfgs' is not known.*fix: one of gd, sgd"),
        ({"optimizer": "gd", "batch_size": 3}, r"(?s)batch_size=3 with optimizer='gd'.*fix: optimizer='sgd'"),
        ({"lr": -1.0}, r"(?s)lr=-1.0 makes no sense.*fix: a positive number"),
        ({"lr": float("nan")}, r"lr=nan makes no sense"),
        ({"steps": 2.5}, r"(?s)steps=2.5 makes no sense.*whole number"),
        ({"every": 0}, r"every=0 makes no sense"),
        ({"momentum": 1.0}, r"momentum=1.0 makes no sense"),
        ({"stop_accuracy": 99}, r"(?s)stop_accuracy=99 makes no sense.*1.0 is 100 %"),
        ({"stop_accuracy": 0.9}, r"(?s)stop_accuracy=0.9 with real targets"),
        ({"probes": "speed"}, r"(?s)'speed' is no probe.*fix:.*kernel_drift"),
        ({"probes": ["loss", "loss"]}, r"Two probes are named 'loss'"),
        ({"probes": ["test_loss"]}, r"(?s)probe 'test_loss' has nothing to measure.*why: no test samples"),
        ({"resume": True}, r"(?s)resume=True without a checkpoint"),
    ],
)
def test_settings_that_make_no_sense(options, text):
    with pytest.raises(BadArgument, match=text):
        train(net(), X, Y, **options)


def test_nothing_to_train():
    with pytest.raises(BadArgument, match=r"(?s)no parameter to train.*fix: module.requires_grad_"):
        train(net().requires_grad_(False), X, Y)
    with pytest.raises(BadArgument, match="no parameter to train"):
        train(nn.ReLU(), X, X)


def test_a_network_that_does_not_depend_on_its_weights_has_no_learning_rate():
    class Zero(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0

    with pytest.raises(BadArgument, match=r"(?s)No learning rate can be chosen.*largest eigenvalue 0"):
        train(Zero(4, 2), X, Y)


def test_an_unwritable_folder_is_said_before_training():
    module = net()
    before = module.weight.clone()
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder) / "missing" / "run.safetensors", Path(folder)):
            with pytest.raises(BadArgument, match=rf"(?s)Cannot write {re.escape(str(path))}.*where:.*why:.*fix:"):
                train(module, X, Y, checkpoint=path)
        assert not list(Path(folder).iterdir())
    assert torch.equal(module.weight, before)


def test_a_target_per_row_for_one_output_is_not_broadcast():
    x, y = torch.randn(6, 4), torch.randn(6)
    module = net(1)
    trace = train(module, x, y, steps=0)
    module_loss = float((module(x).detach()[:, 0] - y).square().sum() / 2)
    assert trace.losses[0] == pytest.approx(module_loss)
