"""`parametrization="own"` trains the user's module in place: its trained weights change, and nothing else of it."""

import copy

import pytest
import torch
from torch import nn

from gramian.certify import certify
from gramian.errors import BadArgument


class Counted(nn.Module):
    """Mixed modes, precisions and frozen parts, with buffers that a forward pass in evaluation mode leaves alone."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.activation, self.last = activation, nn.Linear(6, 2)
        self.register_buffer("shift", torch.tensor([0.5], dtype=torch.float32))
        self.unused = nn.Linear(1, 1, dtype=torch.float32)
        self.first.bias.requires_grad_(False)
        self.train()
        self.norm.eval()
        self.drop.eval()

    def forward(self, x):
        return self.last(self.drop(self.activation(self.norm(self.first(x))))) + self.shift.to(x.dtype)


def state(module):
    return {
        "modes": [part.training for part in module.modules()],
        "dtypes": [t.dtype for t in (*module.parameters(), *module.buffers())],
        "devices": [t.device for t in (*module.parameters(), *module.buffers())],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
        "attributes": [sorted(vars(part)) for part in module.modules()],
    }


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Softmax(-1)], ids=["with a limit", "without"])
@pytest.mark.parametrize("more", [{}, {"dtype": torch.float64}, {"device": "cpu"}], ids=["plain", "dtype", "device"])
def test_only_the_trained_weights_change(activation, more):
    module = Counted(activation)
    objects = [id(t) for t in (*module.parameters(), *module.buffers())]
    before, weights = state(module), copy.deepcopy(module.state_dict())
    one = certify(module, torch.randn(10, 4), torch.arange(10) % 2, parametrization="own", steps=3, **more)
    assert one.run["trained"]["what"] == "your module itself, in place"
    assert state(module) == before
    assert [id(t) for t in (*module.parameters(), *module.buffers())] == objects
    changed = {name for name, t in module.state_dict().items() if not torch.equal(t, weights[name])}
    assert changed == {"first.weight", "norm.weight", "norm.bias", "last.weight", "last.bias"}


def test_batch_normalization_in_training_mode_keeps_its_statistics_as_any_loop_does():
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    x, y = torch.randn(10, 4), torch.arange(10) % 2
    before = state(module)
    certify(module, x, y, parametrization="own", optimizer="gd", steps=3)
    assert state(module) == before
    assert module[1].num_batches_tracked == 3  # of the three steps; what was measured left no trace


@pytest.mark.parametrize("asked", [{"dtype": torch.float32}, {"device": "meta"}])
def test_another_precision_or_device_is_refused_and_nothing_has_happened(asked):
    module = Counted(nn.Tanh())
    before, weights = state(module), copy.deepcopy(module.state_dict())
    with pytest.raises(BadArgument, match=r"(?s)for a module that is.*where: certify.*why: .*in place.*fix: module.to"):
        certify(module, torch.randn(10, 4), torch.arange(10) % 2, parametrization="own", steps=3, **asked)
    assert state(module) == before
    assert all(torch.equal(t, weights[name]) for name, t in module.state_dict().items())


def test_an_error_on_the_way_leaves_it_as_it_was():
    module = Counted(nn.Tanh())
    before, weights = state(module), copy.deepcopy(module.state_dict())
    with pytest.raises(BadArgument, match="2 outputs for targets"):
        certify(module, torch.randn(10, 4), torch.arange(10) % 3, parametrization="own", steps=3)
    assert state(module) == before
    assert all(torch.equal(t, weights[name]) for name, t in module.state_dict().items())


def test_without_a_parametrization_the_module_is_not_touched_at_all():
    module = Counted(nn.Tanh())
    before, weights = state(module), copy.deepcopy(module.state_dict())
    certify(module, torch.randn(10, 4), torch.arange(10) % 2, steps=3, dtype=torch.float32)
    assert state(module) == before
    assert all(torch.equal(t, weights[name]) for name, t in module.state_dict().items())
