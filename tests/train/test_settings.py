"""`Settings`: one value that `train` and `certify` take, whole or as plain keywords."""

import inspect
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from torch import nn

import gramian
from gramian import Description, Settings, train
from gramian.certify import certify
from gramian.errors import BadArgument
from gramian.train.settings import SettingsKeywords

X, Y = torch.eye(4).double(), torch.tensor([[1.0], [2.0], [3.0], [4.0]]).double()
LABELS = torch.tensor([0, 1, 0, 1])


def net(seed=0, c=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, c))


def losses(**arguments):
    return train(net(), X, Y, probes=("loss",), **{"lr": 0.01, "steps": 5} | arguments).losses


def test_a_value_to_keep():
    settings = Settings(lr=0.1, optimizer="sgd", batch_size=2)
    assert settings == Settings(lr=0.1, optimizer="sgd", batch_size=2) == pickle.loads(pickle.dumps(settings))
    with pytest.raises(FrozenInstanceError):
        settings.lr = 0.2
    with pytest.raises(TypeError):
        Settings("gd")


def test_keywords_are_the_fields_and_mean_the_same():
    assert list(SettingsKeywords.__annotations__) == [field.name for field in fields(Settings)]
    given = {"optimizer": "sgd", "lr": 0.02, "batch_size": 2, "steps": 4, "seed": 3}
    plain = train(net(), X, Y, **given)
    whole = train(net(), X, Y, settings=Settings(**given))
    assert plain.losses == whole.losses
    assert plain.config == whole.config | {"learning_rate": plain.config["learning_rate"]}


def test_a_keyword_beside_settings_wins():
    settings = Settings(optimizer="momentum", momentum=0.5, lr=0.01, steps=5)
    both = train(net(), X, Y, settings=settings, momentum=0.0, lr=0.02, probes=("loss",))
    assert both.losses == losses(lr=0.02)
    assert (both.config["optimizer"], both.config["momentum"]) == ("momentum", 0.0)


def test_each_function_has_its_own_optimizer_where_none_is_said():
    assert train(net(), X, Y, settings=Settings(steps=1)).config["optimizer"] == "gd"
    one = certify(net(c=2), X, LABELS, settings=Settings(steps=1, lr=0.1))
    assert one.run["loss"]["optimizer"] == "sgd"
    assert one.run["goal"]["asked"] == 0.01


def test_accuracy_is_a_share_of_the_best_constant_predictor_s_loss():
    best = float((Y - Y.mean()).square().sum() / 2)
    trace = train(nn.Linear(4, 1), X, Y, accuracy=0.1, lr=0.2, steps=200, probes=("loss",))
    assert trace.losses[-1] <= 0.1 * best < trace.losses[-2]
    assert trace.measured["loss"].values[-1] == pytest.approx(trace.losses[-1], rel=1e-12)
    at_once = train(nn.Linear(4, 1), X, Y, stop_loss=1e9, probes=("loss",))
    assert at_once.losses == pytest.approx(at_once.measured["loss"].values, rel=1e-12)
    assert trace.config["stop_loss"] == pytest.approx(0.1 * best)
    classes = train(net(c=2), X, LABELS, loss="cross-entropy", accuracy=0.1, steps=0)
    assert classes.config["stop_loss"] == pytest.approx(0.1 * 4 * torch.log(torch.tensor(2.0)))
    asked = certify(net(c=2), X, LABELS, accuracy=0.1, steps=1, loss="cross-entropy").run["goal"]
    assert asked["target"] == pytest.approx(classes.config["stop_loss"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"accuracy": 1.5}, r"accuracy=1.5 is no share.*where: setting `accuracy`.*why: .*fix: accuracy=0.01"),
        ({"accuracy": 0.1, "stop_loss": 1.0}, r"accuracy=0.1 and stop_loss=1.*where: train.*why: .*fix: one of them"),
        ({"accuracy": 0.1, "loss": lambda f, y: (f - y).sum()}, r"accuracy=0.1 with the loss.*why: .*fix: stop_loss"),
        ({"settings": {"lr": 0.1}}, r"settings is a dict.*where: argument `settings` of train.*fix: .*Settings\(lr"),
    ],
)
def test_what_is_refused(arguments, text):
    with pytest.raises(BadArgument, match=f"(?s){text}"):
        losses(**arguments)


@pytest.mark.parametrize(
    ("function", "name", "text"),
    [
        (train, "momentun", r"train\(\) got an unexpected keyword argument 'momentun'\n  fix: momentum="),
        (train, "stop_los", r"train\(\) got an unexpected keyword argument 'stop_los'\n  fix: stop_loss="),
        (train, "zzz", r"train\(\) got an unexpected keyword argument 'zzz'$"),
        (certify, "name", r"certify\(\) got an .* 'name'\n  fix: description=gramian.Description\(name=...\)"),
        (certify, "optimiser", r"certify\(\) got an .* 'optimiser'\n  fix: optimizer="),
    ],
)
def test_an_unknown_keyword_is_python_s_own_error_with_a_way_out(function, name, text):
    with pytest.raises(TypeError, match=text):
        function(net(), X, Y, **{name: 1})


def test_signatures_are_short():
    assert len(inspect.signature(gramian.train).parameters) <= 16
    assert len(inspect.signature(gramian.certify).parameters) <= 19  # `prove` is the nineteenth


def test_a_description_is_for_the_report():
    about = Description(name="mine", data_name="squares", source="a book", rows=[3, 5, 7, 9], notes=["by hand"])
    assert about == Description(name="mine", data_name="squares", source="a book", rows=torch.tensor([3, 5, 7, 9]),
                                notes=("by hand",))  # fmt: skip
    one = certify(net(), X, Y, steps=1, description=about)
    assert one.run["title"].startswith("mine")
    assert (one.data["name"], one.data["source"]) == ("squares", "a book")
    assert one.run["warnings"][0] == "by hand"
    with pytest.raises(BadArgument, match=r"(?s)classes='cat' is one string.*fix: classes=\['cat'\]"):
        Description(classes="cat")


def test_the_predicted_curves_stand_in_predicted_alone():
    for name in ("gradient_flow", "gradient_descent", "momentum", "nesterov"):
        assert hasattr(gramian.predicted, name)
        assert name not in gramian.__all__
        with pytest.raises(AttributeError):
            getattr(gramian, name)
