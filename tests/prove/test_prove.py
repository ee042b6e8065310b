"""`gramian.prove` as a user calls it: what is proved, what is not and why, and what is left alone."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.errors import BadArgument, BadData, Unsupported


class Attention(nn.Module):
    """A transformer block without normalization, whose mean over tokens is read out."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(4, 16), nn.Linear(16, 2)
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        h = self.embed(x.reshape(-1, 2, 4))
        h = h + nn.functional.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h))
        return self.out(torch.tanh(h).mean(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(8, 40), nn.Linear(40, 40), nn.Linear(40, 2)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + torch.tanh(self.inner(h)))


def mlp(activation, width=48, inputs=8, outputs=2):
    return nn.Sequential(
        nn.Linear(inputs, width), activation, nn.Linear(width, width), activation, nn.Linear(width, outputs)
    )


NETWORKS = {
    "tanh": lambda: mlp(nn.Tanh()),
    "gelu": lambda: mlp(nn.GELU()),
    "softplus": lambda: mlp(nn.Softplus()),
    "relu": lambda: mlp(nn.ReLU()),
    "residual": Residual,
    "attention": Attention,
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 12, 3, padding=1), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(24, 2),
    ),
    "max pool": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(40, 2),
    ),
    "batch norm": lambda: nn.Sequential(nn.Linear(8, 40), nn.BatchNorm1d(40), nn.Tanh(), nn.Linear(40, 2)),
}  # fmt: skip


@pytest.fixture
def data():
    torch.manual_seed(1)
    return torch.randn(10, 8), torch.randn(10, 2)


def trained(net, x, y, optimizer="adam", steps=60):
    make = {
        "adam": lambda p: torch.optim.Adam(p, 1e-2),
        "sgd": lambda p: torch.optim.SGD(p, 1e-2),
        "momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    }[optimizer]
    chosen = make(net.parameters())
    for _ in range(steps):
        chosen.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        chosen.step()
    return net


def off(net, x, y):
    with torch.no_grad():
        return float((net(x.double()) - y).norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_minimum_is_proved_for_each_kind_of_network(name, data, tmp_path):
    torch.manual_seed(0)
    proof = gramian.prove(NETWORKS[name](), *data)
    assert proof.status == "proved", str(proof)
    assert proof.numbers["radius"] < 1e-6
    assert proof.numbers["h"] < 0.1
    proof.save(tmp_path / "c.certificate")
    assert gramian.prove.check(tmp_path / "c.certificate", data[0].double().numpy()).valid


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "momentum"])
def test_whatever_trained_the_network_the_end_point_is_enough(optimizer, data):
    torch.manual_seed(0)
    net = trained(mlp(nn.Tanh()), *data, optimizer=optimizer)
    proof = gramian.prove(net, *data)
    assert proof.status == "proved"
    assert 0 < proof.numbers["moved"] < 10


def test_the_minimum_is_where_it_is_said_to_be(data):
    """From an end point that is only near, so that the proved radius is far above rounding."""
    torch.manual_seed(0)
    net = trained(nn.Sequential(nn.Linear(8, 300), nn.Tanh(), nn.Linear(300, 2)).double(), *(t.double() for t in data))
    near = copy.deepcopy(net)
    gramian.prove(near, *data, in_place=True)
    with torch.no_grad():
        for p in near.parameters():
            p.add_(torch.randn_like(p), alpha=1e-6)
    proof = gramian.prove(near, *data, polished=False)
    assert proof.status == "proved"
    radius = proof.numbers["radius"]
    assert 1e-6 < radius < 1e-2
    there = copy.deepcopy(near)
    after = gramian.prove(there, *data, in_place=True)
    assert after.status == "proved"
    assert after.numbers["moved"] <= radius  # Gauss-Newton finds a zero inside the ball
    assert off(there, *data) < 1e-12


def test_the_module_is_left_as_it_was(data):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 40), nn.Dropout(0.5), nn.BatchNorm1d(40), nn.Tanh(), nn.Linear(40, 2)).float()
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    data = data[0].float(), data[1].float()
    x, y = data[0].clone(), data[1].clone()
    proof = gramian.prove(net, *data)
    assert net.training
    assert all(torch.equal(a, state[k]) for k, a in net.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, data[0])
    assert torch.equal(y, data[1])
    assert any("evaluation mode" in text for text in proof.content.assumes)


def test_in_place_the_module_gets_the_polished_weights(data):
    torch.manual_seed(0)
    net = mlp(nn.Tanh()).double()
    before = [p.detach().clone() for p in net.parameters()]
    proof = gramian.prove(net, *data, in_place=True)
    moved = sum(float((p.detach() - b).square().sum()) for p, b in zip(net.parameters(), before, strict=True)) ** 0.5
    assert moved == pytest.approx(proof.numbers["moved"])
    assert off(net, *data) < 1e-12
    with pytest.raises(BadArgument, match="not float64"):
        gramian.prove(net.float(), *data, in_place=True)


def test_class_numbers_are_the_targets_that_train_fits(data):
    torch.manual_seed(0)
    proof = gramian.prove(mlp(nn.Tanh()), data[0], torch.arange(10) % 2)
    assert proof.status == "proved"
    assert sorted(set(proof.content.y.ravel().tolist())) == [-0.5, 0.5]


def test_descent_is_proved_from_near_and_its_rate_says_what_to_change_from_afar(data):
    torch.manual_seed(0)
    net = mlp(nn.Tanh())
    far = gramian.prove(net, *data, "descent")
    assert far.status == "not proved"
    assert far.failing
    assert "polish" in far.fix
    near = gramian.prove(net, *data, "descent", polished=True)
    assert near.status == "proved"
    assert 0 < near.numbers["contraction"] < 1
    assert "converges to weights with training loss exactly 0" in near.summary
    fast = gramian.prove(net, *data, "descent", polished=True, lr=2.1 * near.numbers["step"])
    assert fast.status == "not proved"
    assert "learning rate" in fast.fix


def test_cross_entropy_is_a_margin(data):
    torch.manual_seed(0)
    net, x, y = mlp(nn.Tanh()), data[0], torch.arange(10) % 2
    before = gramian.prove(net, x, y, loss="cross-entropy")
    assert before.status == "not proved"
    assert "more training" in before.fix
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    proof = gramian.prove(net, x, y, loss="cross-entropy")
    assert proof.status == "proved"
    out = net.double()(x.double()).detach()
    own = out.gather(1, y[:, None])[:, 0]
    others = out.scatter(1, y[:, None], -torch.inf).max(1).values
    assert proof.numbers["margin"] == pytest.approx(float((own - others).min()), rel=1e-6)
    infimum = nn.functional.cross_entropy(1e4 * out, y)
    assert float(infimum) < 1e-12


def test_fewer_weights_than_outputs_are_no_proof(data):
    proof = gramian.prove(nn.Linear(8, 2), *data)
    assert proof.status == "not proved"
    assert "18 trained weights" in proof.summary
    assert "wider" in proof.fix


def test_equal_rows_are_never_proved_and_unequal_labels_are_named(data):
    torch.manual_seed(0)
    x, y = data[0].clone(), data[1].clone()
    x[3] = x[7]
    different = gramian.prove(mlp(nn.Tanh()), x, y)
    assert different.status == "not proved"
    y[3] = y[7]
    same = gramian.prove(mlp(nn.Tanh()), x, y)
    assert same.status == "not proved"
    assert "separate" in same.fix or "apart" in same.fix


class Detached(nn.Module):
    """Its outputs are smooth, and its gradient in torch is not theirs."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 30), nn.Linear(30, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)).detach())


class AlwaysDropped(Detached):
    def forward(self, x):
        return self.last(nn.functional.dropout(torch.tanh(self.first(x)), 0.5, training=True))


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (
            nn.Sequential(nn.Unflatten(1, (1, 2, 4)), nn.LPPool2d(3, 2), nn.Flatten(), nn.Linear(2, 2)),
            "sign",
        ),
        (nn.Sequential(nn.Linear(8, 9), nn.Hardswish(), nn.Linear(9, 2)), "hardswish"),
        (Detached(), "detach"),
        (nn.Sequential(nn.MaxPool1d(2), nn.Linear(4, 2)), "over the samples"),
        (AlwaysDropped(), "dropout"),
        (nn.Sequential(nn.Linear(8, 9), nn.ELU(0.5), nn.Linear(9, 2)), "alpha"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 9)), nn.Linear(9, 2)), "0"),
    ],
)
def test_a_layer_without_a_rule_is_refused_by_name(net, names, data):
    with pytest.raises(Unsupported, match=names):
        gramian.prove(net, *data)


def test_what_cannot_be_proved_about_is_refused(data):
    net = mlp(nn.Tanh())
    x, y = data
    with pytest.raises(BadData):
        gramian.prove(net, x.clone().fill_(float("nan")), y)
    with pytest.raises(BadData):
        gramian.prove(net, x, y[:5])
    with pytest.raises(BadData):
        gramian.prove(net, x[:, :3], y)
    with pytest.raises(BadArgument, match="whole numbers"):
        gramian.prove(nn.Embedding(4, 2), torch.arange(4), torch.zeros(4, 2))
    with pytest.raises(BadArgument, match="statement"):
        gramian.prove(net, x, y, "maximum")
    with pytest.raises(BadArgument, match="lr"):
        gramian.prove(net, x, y, "descent", lr=-1.0)
    with pytest.raises(BadArgument, match="cross-entropy"):
        gramian.prove(net, x, y, "descent", loss="cross-entropy")
    with pytest.raises(BadArgument, match="no parameter"):
        gramian.prove(copy.deepcopy(net).requires_grad_(False), x, y)
    with pytest.raises(BadArgument, match="max_bytes"):
        gramian.prove(net, x, y, max_bytes=1000)


def test_the_cost_is_said_before_it_is_paid(data):
    said = []
    gramian.prove(mlp(nn.Tanh()), *data, news=said.append)
    assert said[0].startswith("predicted: about")
    assert any("polishing: step 1" in text for text in said)


def test_a_proof_is_a_certificate(data):
    torch.manual_seed(0)
    proof = gramian.prove(mlp(nn.Tanh()), *data)
    facts = json.loads(proof.to_json())
    assert facts["status"] == "proved"
    assert all(premise["holds"] for premise in facts["premises"])
    assert "proved" in str(proof)


def test_matrix_free_steps_polish_as_well(data):
    from gramian.prove.polish import polish

    torch.manual_seed(0)
    net = mlp(nn.Tanh()).double()
    x, y = data[0].double(), data[1].double()
    result = polish(net, x, y, max_bytes=100)
    assert result.residuals[-1] < 1e-11
    assert gramian.prove(net, x, y, polished=False).status == "proved"


class InPlaceView(nn.Module):
    """A view is changed in place: the graph does not show that its base changes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 40), nn.Linear(40, 2)

    def forward(self, x):
        h = self.first(x).view(-1, 40)
        h[:, :20].relu_()
        return self.last(torch.tanh(h))


class Detached(InPlaceView):
    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h) + h[:, :2].detach()


class BiasTwice(InPlaceView):
    def forward(self, x):
        return self.last(torch.tanh(self.first(x))) + self.last.bias


@pytest.mark.parametrize(("net", "names"), [(InPlaceView, "in place"), (Detached, "detach")])
def test_a_graph_that_does_not_show_what_the_module_does_is_refused(net, names, data):
    torch.manual_seed(0)
    with pytest.raises(Unsupported, match=names):
        gramian.prove(net(), *data)


def test_softplus_where_torch_takes_the_identity_is_refused(data):
    torch.manual_seed(0)
    net = mlp(nn.Softplus())
    with torch.no_grad():
        net[0].bias[0] = 30.0
        net[2].weight[:, 0] = 0.0  # so that no output shows it
    with pytest.raises(Unsupported, match="softplus of"):
        gramian.prove(net, *data)
    with pytest.raises(Unsupported, match="threshold"):
        gramian.prove(mlp(nn.Softplus(threshold=5)), *data)


def test_a_bias_that_is_added_twice_is_one_parameter(data):
    torch.manual_seed(0)
    proof = gramian.prove(BiasTwice(), *data)
    assert proof.status == "proved"
    assert gramian.prove(nn.Sequential(InPlaceView().first, nn.Tanh(), nn.Linear(40, 2)), *data).status == "proved"


def test_the_sentence_rounds_to_the_side_on_which_it_is_true(data):
    torch.manual_seed(0)
    proof = gramian.prove(mlp(nn.Tanh()), *data)
    said = float(proof.checked.says.split("within ")[1].split(" ")[0])
    assert proof.numbers["radius"] <= said <= 1.1 * proof.numbers["radius"]
    proof = gramian.prove(mlp(nn.Tanh()), *data, "descent", polished=True)
    assert float(proof.summary.split("(1 - ")[1].split(")")[0]) <= proof.numbers["contraction"]
    assert repr(float(proof.numbers["step"])) in proof.summary


class Shifted(nn.Module):
    """Constants far from the values: (1 + c) - c would not be 1."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 40), nn.BatchNorm1d(40), nn.Linear(40, 2)
        self.norm.running_mean.fill_(1000 / 3)
        self.register_buffer("place", torch.full((40,), 1000 / 3, dtype=torch.float64))

    def forward(self, x):
        h = torch.tanh(self.norm(self.first(x) + self.place))
        return 1000 / 3 - (self.last(h) + (1000 / 3 + h[:, :2])) + 1000 / 3


def test_a_constant_that_is_added_leaves_the_factor_1(data):
    torch.manual_seed(0)
    net = Shifted().double()
    net.norm.running_var.fill_(1 - net.norm.eps)
    proof = gramian.prove(net, *data)
    assert proof.status == "proved", str(proof)
    arrays = proof.content.program.arrays
    factors = np.concatenate([a for name, a in arrays.items() if name.startswith("map") and name.endswith(".data")])
    assert set(np.abs(factors)) == {1.0}
