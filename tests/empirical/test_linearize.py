"""The first-order model: tangent at the start, linear in its parameters, trained by the constant kernel."""

import io
import math
import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from zoo import Cube, make

from gramian.empirical import empirical_ntk, jacobian, linearize, quadratic
from gramian.errors import BadArgument

NAMES = ["mlp", "attention", "twice", "conv3d", "custom function", "tied", "weight_norm", "frozen bias"]


def moved(model, step):
    """Moves the parameters of `model` by `step` times fixed directions."""
    with torch.no_grad():
        for i, p in enumerate(p for p in model.parameters() if p.requires_grad):
            p += step * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_error_falls_like_the_square_of_the_step(name):
    net, shape = make(name)
    x = torch.randn(3, *shape)
    model = linearize(net)
    torch.testing.assert_close(model(x), net(x))
    steps = (1e-3, 1e-4)
    error = [(moved(linearize(net), s)(x) - moved(deepcopy(net), s)(x)).norm().item() for s in steps]
    if name == "frozen bias":
        assert all(not p.requires_grad for n, p in model.module.named_parameters() if n in ("0.bias", "2.weight"))
    assert math.log10(error[0] / error[1]) == pytest.approx(2, abs=0.1)


def test_its_kernel_never_changes_and_is_the_networks():
    net, shape = make("mlp")
    x = torch.randn(4, *shape)
    model = linearize(net)
    theta = empirical_ntk(net, x, outputs="full")
    for step in (0.0, 1.0):
        torch.testing.assert_close(empirical_ntk(moved(model, step), x, outputs="full"), theta)


def test_gradient_descent_on_it_is_descent_with_the_constant_kernel():
    net, shape = make("mlp")
    x, y = torch.randn(3, *shape), torch.randn(3, 2)
    model = linearize(net)
    j = jacobian(net, x).flatten(0, 1)
    r, lr = (net(x) - y).detach().flatten(), 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(20):
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum()).backward()
        optimizer.step()
        r = r - lr * j @ (j.T @ r)
    torch.testing.assert_close((model(x) - y).detach().flatten(), r, rtol=1e-10, atol=1e-10)


def test_the_module_is_copied():
    net, _ = make("mlp")
    before = [p.clone() for p in net.parameters()]
    model = moved(linearize(net), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert len(list(model.parameters())) == len(before)
    assert isinstance(model, nn.Module)
    again = linearize(net)
    again.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


both = pytest.mark.parametrize("expand", [linearize, quadratic])


class Two(nn.Module):
    """Of two tensors, the second by name."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x, other=None, scale=1.0):
        return scale * self.a(x).tanh() * self.b(other)


@both
def test_it_is_called_as_the_module_is(expand):
    net, x, other = Two(), torch.randn(5, 4), torch.randn(5, 4)
    model = expand(net)
    torch.testing.assert_close(model(x, other=other, scale=2.0), net(x, other, 2.0))
    torch.testing.assert_close(model(x=x, other=other), net(x, other))
    gaps = []
    for step in (1e-2, 1e-3):
        here, there = moved(deepcopy(model), step), moved(deepcopy(net), step)
        gaps.append(float((here(x, other=other) - there(x, other)).detach().norm()))
    assert math.log10(gaps[0] / gaps[1]) == pytest.approx(2 if expand is linearize else 3, abs=0.1)


@both
def test_train_leaves_the_module_in_its_mode_and_training_modes_that_mix_are_refused(expand):
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2)]
    net, x = nn.Sequential(*layers), torch.randn(5, 4)
    with torch.no_grad():
        net(x)
    with pytest.raises(BadArgument, match=r"(?s)mixes the samples.*where: 1 \(BatchNorm1d\).*fix: module.eval"):
        expand(net)
    model = moved(expand(net.eval()), 0.1)
    expected, buffers = model(x), [b.clone() for b in model.buffers()]
    assert model.train().training
    torch.testing.assert_close(model(x), expected)
    assert not model.module.training
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert not model.eval().training


@both
def test_a_parameter_that_is_frozen_later_keeps_its_step(expand):
    net, shape = make("mlp")
    x = torch.randn(3, *shape)
    model = moved(expand(net), 0.3)
    expected = model(x)
    model.module[0].requires_grad_(False)
    torch.testing.assert_close(model(x), expected)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), model.at_origin().parameters(), strict=True))
    torch.testing.assert_close(model.requires_grad_(False)(x), expected)


@both
def test_it_is_saved_copied_and_moved_to_another_precision(expand):
    net, shape = make("mlp")
    x = torch.randn(3, *shape)
    model = moved(expand(net), 0.1)
    expected = model(x)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert torch.equal(deepcopy(model)(x), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = expand(make("mlp")[0])
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), expected)
    torch.testing.assert_close(model.float()(x.float()), expected.float(), rtol=1e-4, atol=1e-4)
    assert all(t.dtype == torch.float32 for t in model.state_dict().values())
    with torch.inference_mode():
        torch.testing.assert_close(expand(net)(torch.ones_like(x)), net(torch.ones_like(x)))


@both
def test_recurrent_layers_whose_float32_kernels_have_no_forward_mode(expand):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.cells(x)[0][:, -1])

    net, x = Last(), torch.randn(3, 5, 4)
    model = moved(expand(net), 0.1)
    expected = model(x)
    torch.testing.assert_close(model.float()(x.float()).double(), expected, rtol=1e-4, atol=1e-4)
    assert "backward" in model.mode


@both
def test_names_that_differ_only_in_their_dots(expand):
    class Names(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.a__b = nn.ModuleDict({"b__c": nn.Linear(3, 3)}), nn.ModuleDict({"c": nn.Linear(3, 3)})

        def forward(self, x):
            return self.a__b["c"](self.a["b__c"](x).tanh())

    net, x = Names(), torch.randn(4, 3)
    torch.testing.assert_close(expand(net)(x), net(x))


@both
def test_what_cannot_be_added_is_refused(expand):
    class Several(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(
        BadArgument, match=r"(?s)returns a dict; .*where: (Linearized|Quadratic) of Several.*fix: .*logits"
    ):
        expand(Several(4, 2))(torch.randn(3, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        expand(nn.Linear(4, 2))(torch.randn(3, 5))
    with pytest.raises(BadArgument, match="no trainable parameter"):
        expand(nn.Linear(4, 2).requires_grad_(False))


def test_a_forward_mode_rule_that_is_wrong_is_not_used():
    net, x = Cube(), torch.randn(4, 3)
    model = linearize(net)
    j = jacobian(net, x)
    with torch.no_grad():
        model.module.first.weight += 0.1
    step = torch.zeros_like(j[0, 0])
    step[: model.module.first.weight.numel()] = 0.1
    torch.testing.assert_close(model(x), net(x) + j @ step)
    assert model.mode == "two backward passes"
