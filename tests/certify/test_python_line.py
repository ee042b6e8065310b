"""The line of Python in a report runs the study again: the same trace, whatever the settings were."""

import inspect

import pytest
import torch
from torch import nn

import gramian
from gramian import Settings
from gramian.certify import certify
from gramian.certify.python_line import defaults

REAL = {"y": "quantity"}
CASES = {
    "defaults": {},
    "optimizer, momentum, seed": {"optimizer": "momentum", "momentum": 0.6, "seed": 3},
    "nesterov, given rate": {"optimizer": "nesterov", "lr": 0.01, "momentum": 0.3},
    "adam, loss, accuracy": {"optimizer": "adam", "loss": "cross-entropy", "accuracy": 0.37},
    "batch size, steps": {"batch_size": 5, "steps": 11, "seed": 7},
    "width": {"width": 24, "optimizer": "gd"},
    "width, law": {"width": 24, "law": (1.2, 0.2)},
    "law by layer, parametrization": {
        "law": {"*": (1.3, 0.1), "readout": "lecun"},
        "parametrization": "ntk",
        "width": 9,
    },
    "standard": {"parametrization": "standard", "seed": 5},
    "allen-zhu": {"parametrization": "allen-zhu", "width": 32, "steps": 5},
    "own": {"parametrization": "own", "steps": 9, "accuracy": 0.2},
    "dtype": {"dtype": torch.float32, "device": "cpu"},
    "targets standardized": {"targets": "standardized", **REAL},
    "targets as given": {"targets": "as given", "parametrization": "ntk", "width": 16, **REAL},
    "targets auto, drawn anew by a width": {"width": 16, **REAL},
    "no proof": {"prove": False, "steps": 3},
    "a proof whatever it takes": {"prove": True, "steps": 3},
    "tolerance": {"parametrization": "ntk", "width": 16, "tolerance": 0.3},
}


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2))


@pytest.mark.parametrize("with_test", [False, True], ids=["", "with test rows"])
@pytest.mark.parametrize("name", CASES)
def test_the_line_gives_the_same_trace(name, with_test):
    arguments = {"steps": 8, **CASES[name]}
    generator = torch.Generator().manual_seed(1)
    x, x_test = (torch.randn(n, 4, generator=generator) for n in (14, 6))
    y, y_test = torch.arange(14) % 2, torch.arange(6) % 2
    if arguments.pop("y", "") == "quantity":
        y, y_test = 3 * x[:, :2] + 5, 3 * x_test[:, :2] + 5
    test = {"x_test": x_test, "y_test": y_test} if with_test else {}
    one = certify(module(), x, y, **test, **arguments)
    line = one.run["origin"]["python"]
    names = {"gramian": gramian, "torch": torch, "module": module(), "x": x, "y": y, **test}
    again = eval(line, names)
    assert again.trace.losses == one.trace.losses
    assert again.trace.measured["loss"].values == one.trace.measured["loss"].values
    assert again.run["origin"]["python"] == line
    assert again.run["goal"] == one.run["goal"]
    assert again.run["width"].get("tolerance") == one.run["width"].get("tolerance")
    for keyword, value in arguments.items():
        is_default = value == defaults()[keyword]
        assert (f"{keyword}=" in line) != is_default


def test_defaults_are_those_of_certify():
    parameters = inspect.signature(gramian.certify).parameters
    shared = set(defaults()) & set(parameters)
    assert {"law", "parametrization", "width", "tolerance", "targets", "dtype", "device", "prove"} <= shared
    assert {name: defaults()[name] for name in shared} == {name: parameters[name].default for name in shared}


def test_settings_as_one_value_are_in_the_line_too():
    x, y = torch.eye(4), torch.arange(4) % 2
    one = certify(module(), x, y, settings=Settings(optimizer="gd", accuracy=0.3, seed=2, steps=4))
    line = one.run["origin"]["python"]
    assert all(word in line for word in ("optimizer='gd'", "accuracy=0.3", "seed=2", "steps=4"))
    assert "settings" not in line
