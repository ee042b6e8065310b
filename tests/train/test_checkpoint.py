"""A run that was cut off and resumed is the run that was not, bit for bit."""

import os

import pytest
import torch
from torch import nn

from gramian.errors import BadData
from gramian.train import train
from gramian.train.checkpoint import Checkpoint
from gramian.train.probes import PROBES

X, LABELS = torch.randn(14, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(14) % 3


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )


class Cut(Exception):
    pass


class CutAt:
    """Ends the process, as far as the run can tell, at a step."""

    name, title, unit, cost = "cut", "", "", "cheap"

    def __init__(self, step=None):
        self.step = step

    def start(self, run):
        pass

    def measure(self, run):
        if run.step == self.step:
            raise Cut
        return


@pytest.mark.parametrize("optimizer", ["gd", "sgd", "momentum", "nesterov", "adam"])
def test_resumed_equals_uninterrupted(optimizer, tmp_path):
    options = {"optimizer": optimizer, "steps": 40, "lr": None if optimizer in ("gd", "sgd") else 1e-3}
    if optimizer != "gd":
        options["batch_size"] = 4
    probes = [name for name in PROBES if name not in ("test_loss", "test_accuracy", "sample_gradient_over_loss")]
    whole = net()
    uninterrupted = train(whole, X, LABELS, probes=[*probes, CutAt()], **options)
    path = tmp_path / "run.safetensors"
    first = net()
    with pytest.raises(Cut):
        train(
            first,
            X,
            LABELS,
            checkpoint=path,
            probes=[*probes, CutAt(uninterrupted.measured["loss"].steps[-6])],
            **options,
        )
    second = net(seed=5)  # other weights: all of them come from the checkpoint
    resumed = train(second, X, LABELS, checkpoint=path, resume=True, probes=[*probes, CutAt()], **options)
    for (name, p), (_, q) in zip(whole.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(p, q), name
    assert resumed.steps == uninterrupted.steps
    assert resumed.losses == uninterrupted.losses
    assert resumed.measured == uninterrupted.measured
    assert resumed.config == uninterrupted.config
    assert set(resumed.measured) == set(probes)


def test_frozen_random_weights_come_from_the_checkpoint_too(tmp_path):
    path = tmp_path / "run.safetensors"
    first, second = net(0), net(1)
    first[0].requires_grad_(False)
    second[0].requires_grad_(False)
    train(first, X, LABELS, steps=10, checkpoint=path)
    train(second, X, LABELS, steps=10, checkpoint=path, resume=True)
    assert torch.equal(first[0].weight, second[0].weight)


def test_a_finished_run_resumes_to_itself_and_can_go_on(tmp_path):
    path = tmp_path / "run.safetensors"
    once = train(net(), X, LABELS, steps=20, every=5, lr=1e-2, checkpoint=path)
    again = train(net(2), X, LABELS, steps=20, every=5, lr=1e-2, checkpoint=path, resume=True)
    assert (again.losses, again.measured) == (once.losses, once.measured)
    further = train(net(2), X, LABELS, steps=30, every=5, lr=1e-2, checkpoint=path, resume=True)
    straight = train(net(), X, LABELS, steps=30, every=5, lr=1e-2)
    assert further.losses == straight.losses
    assert further.measured["loss"] == straight.measured["loss"]


def test_nothing_to_resume_starts_from_the_beginning(tmp_path):
    path = tmp_path / "run.safetensors"
    trace = train(net(), X, LABELS, steps=5, checkpoint=path, resume=True)
    assert trace.steps[0] == 0
    assert Checkpoint.read(path).step == 5


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"optimizer": "adam", "lr": None},
            r"(?s)from another run: optimizer is gd there, adam here.*fix: optimizer as in",
        ),
        ({"lr": 0.5}, r"(?s)lr is 0.01 there, 0.5 here"),
        ({"loss": "cross-entropy"}, r"(?s)data is"),
        ({"steps": 3}, r"(?s)is at step 10, this run ends at 3.*fix: steps=10 or more"),
        ({"probes": ("loss",)}, r"(?s)probes is"),
    ],
)
def test_another_runs_checkpoint_is_refused(changes, text, tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"steps": 10, "lr": 0.01, "checkpoint": path}
    train(net(), X, LABELS, **options)
    with pytest.raises(BadData, match=text):
        train(net(), X, LABELS, resume=True, **{**options, **changes})


def test_another_networks_checkpoint_is_refused_by_the_parameters_name(tmp_path):
    path = tmp_path / "run.safetensors"
    train(nn.Linear(6, 3), X, LABELS, steps=2, checkpoint=path)
    with pytest.raises(BadData, match=r"(?s)parameters 'bias' is \(3,\) torch.float64 there, missing here"):
        train(nn.Linear(6, 3, bias=False), X, LABELS, steps=2, checkpoint=path, resume=True)
    with pytest.raises(BadData, match=r"data is"):
        train(nn.Linear(6, 3), X * 2, LABELS, steps=2, checkpoint=path, resume=True)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    train(net(), X, LABELS, steps=2, checkpoint=path)
    whole = path.read_bytes()
    for length in (0, 5, 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadData, match=r"(?s)cannot be read as a checkpoint.*why: the file was cut off.*fix:"):
            train(net(), X, LABELS, steps=2, checkpoint=path, resume=True)


def test_some_other_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.ones(2)}, str(path))
    with pytest.raises(BadData, match="not a checkpoint of a training run"):
        train(net(), X, LABELS, steps=2, checkpoint=path, resume=True)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "run.safetensors"
    save_file({"now/w": torch.ones(2)}, str(path), metadata={"format": "gramian training checkpoint 1", "made": "{}"})
    with pytest.raises(BadData, match=r"(?s)is a gramian training checkpoint 1; this version reads 2.*why:.*fix:"):
        train(net(), X, LABELS, steps=2, checkpoint=path, resume=True)


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    train(net(), X, LABELS, steps=2, checkpoint=path)
    before = path.read_bytes()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(ValueError, match="No space left on device"):
        train(net(), X, LABELS, steps=2, checkpoint=path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
