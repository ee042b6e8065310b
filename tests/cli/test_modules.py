"""FILE.py:NAME: the user's networks and the user's mistakes."""

import re

import pytest
import torch
from torch import nn

from gramian.cli.modules import is_file, own_module
from gramian.errors import GramianError

X = torch.ones(3, 1, 8, 8, dtype=torch.float64)


def message_of(spec: str, x: torch.Tensor = X) -> str:
    with pytest.raises(GramianError) as caught:
        own_module(spec, x, 10, seed=0)
    assert caught.value.where
    assert caught.value.fix
    return str(caught.value)


@pytest.fixture(autouse=True)
def _there(nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["net", "make", "told"])
def test_an_instance_a_function_and_one_that_is_told_the_shapes(name):
    module = own_module(f"mynets.py:{name}", X, 10, seed=0)
    assert isinstance(module, nn.Module)
    assert module(X).shape == (3, 10)


def test_the_same_seed_draws_the_same_weights():
    first, again, other = (own_module("mynets.py:make", X, 10, seed=seed)[1].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_trying_a_network_changes_nothing_in_it(tmp_path):
    (tmp_path / "norm.py").write_text(
        "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))\n"
    )
    module = own_module("norm.py:net", X, 10, seed=0)
    assert module.training
    assert int(module[2].num_batches_tracked) == 0


def test_what_the_file_prints_goes_to_stderr(capsys):
    own_module("mynets.py:make", X, 10, seed=0)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "talk of the user's file" in printed.err


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("width = 7\n")
    (tmp_path / "uses.py").write_text(
        "from beside_it import width\nfrom torch import nn\n"
        "def f(): return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))\n"
    )
    assert own_module("uses.py:f", X, 10, seed=0)[1].out_features == 7


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("mynets.py", r"was not said.*it holds mynets\.py:net, mynets\.py:make.*fix: --net mynets\.py:net"),
        ("mynets.py:mke", r"no name mke.*Did you mean 'make'.*fix: one of mynets\.py:net"),
        ("mynet.py:make", r"no file mynet\.py.*Did you mean 'mynets\.py'"),
        ("mynets.py:number", r"number is 3, no network"),
        ("mynets.py:needs", r"needs needs depth.*fix: give depth a default value"),
        ("mynets.py:forgets", r"gives a NoneType, no torch\.nn\.Module.*why: a return is missing"),
        ("mynets.py:raises", r"raises\(\) raised: TypeError.*where: \S*mynets\.py, line \d+: return nn\.Linear\(3\)"),
        ("mynets.py:five", r"five gives \(2, 5\).*these labels need \(2, 10\).*fix: 10 outputs in the last layer"),
        ("mynets.py:Crooked", r"does not run on inputs of shape \(2, 1, 8, 8\).*line \d+: return self\.layer\(x"),
        ("mynets.py:vectors", r"where: mynets\.py; layer 0 Linear\(in_features=64.*fix: --flatten"),
    ],
)
def test_a_mistake_is_shown_at_the_users_own_line(spec, text):
    message = message_of(spec)
    assert re.search(f"(?s){text}", message), message


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "import no_such_package",
            r"ModuleNotFoundError.*line 1: import no_such_package.*fix: install no_such_package",
        ),
        ("x = 1\ndef f(:\n", r"cannot be imported: .*where: .*line 2: def f\(:"),
        ("x = 1\n1 / 0", r"ZeroDivisionError.*line 2: 1 / 0"),
        ("import sys\nsys.exit(3)", r"ends the program \(exit 3\).*__main__"),
        ("x = 1", r"no name f.*fix: write one into it, e\.g\. def make\(\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_shown_at_its_line(tmp_path, source, text):
    (tmp_path / "bad.py").write_text(source)
    message = message_of("bad.py:f")
    assert re.search(f"(?s){text}", message), message


def test_vectors_run_when_flattened():
    assert own_module("mynets.py:vectors", X.flatten(1), 10, seed=0)(X.flatten(1)).shape == (3, 10)


@pytest.mark.parametrize(("spec", "meant"), [("a.py:f", True), ("a.py", True), ("mlp", False), ("./b/a.py:f", True)])
def test_what_is_a_file(spec, meant):
    assert is_file(spec) is meant
