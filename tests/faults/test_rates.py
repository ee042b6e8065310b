"""Learning rates are right or absent: what was found in use, and its siblings."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from gramian import suggest
from gramian.errors import BadArgument, BadData
from gramian.train.edge import stable_rate


class OwnBatchNorm(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.f = nn.EmbeddingBag(50, 16), nn.Linear(16, 2)

    def forward(self, t):
        return self.f(self.e(t))


class Lookups(Bag):
    """The same function by operations that have second derivatives."""

    def forward(self, t):
        return self.f(F.embedding(t, self.e.weight).mean(1))


def mlp(into, out, *after):
    return nn.Sequential(nn.Linear(into, 16), nn.Tanh(), nn.Linear(16, out), *after)


WRITTEN_TWICE = {
    "log_softmax and nll": (lambda x: x.log_softmax(1), F.nll_loss, nn.CrossEntropyLoss()),
    "softmax, log in the loss": (lambda x: x.softmax(1), lambda p, y: F.nll_loss(p.log(), y), nn.CrossEntropyLoss()),
    "sigmoid and bce": (
        lambda x: x.sigmoid(),
        lambda p, y: F.binary_cross_entropy(p, F.one_hot(y, 3).to(p)),
        lambda f, y: F.binary_cross_entropy_with_logits(f, F.one_hot(y, 3).to(f)),
    ),
    "the loss in the module": (
        lambda x: (x - 1).square().mean(1),
        lambda values, y: values.mean(),
        lambda f, y: (f - 1).square().mean(),
    ),
    "exponential": (lambda x: x.exp(), lambda e, y: e.mean(), lambda f, y: f.exp().mean()),
}


@pytest.mark.parametrize("name", WRITTEN_TWICE)
def test_one_function_of_the_weights_has_one_rate_however_it_is_written(name):
    last, loss, whole = WRITTEN_TWICE[name]

    class Last(nn.Module):
        def forward(self, x):
            return last(x)

    x, y = 3 * torch.randn(32, 8), torch.randint(0, 3, (32,))
    net = mlp(8, 3)
    for optimizer in ("sgd", "momentum", "adam"):
        tries = 20 if optimizer == "momentum" else 0
        one = suggest(nn.Sequential(net, Last()), (x, y), loss, optimizer, rehearse=tries, budget=20)
        other = suggest(net, (x, y), whole, optimizer, rehearse=tries, budget=20)
        assert one.largest == pytest.approx(other.largest, rel=5e-3)
        assert one.lr == pytest.approx(other.lr, rel=5e-3)


def test_nll_of_log_softmax_gets_a_rate_at_which_the_loss_falls():
    x, y = 20 * torch.randn(64, 8), torch.randint(0, 3, (64,))
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3), nn.LogSoftmax(1))
    advice = suggest(net, (x, y), F.nll_loss, "sgd")
    assert 0.005 < advice.largest < 0.02
    assert "-inf" not in str(advice)
    sgd, losses = torch.optim.SGD(net.parameters(), lr=advice.lr), []
    for _ in range(30):
        sgd.zero_grad()
        losses.append(F.nll_loss(net(x), y))
        losses[-1].backward()
        sgd.step()
    assert float(losses[-1].detach()) < 0.5 * float(losses[0].detach())


PIECEWISE_LINEAR = {
    "L1": (nn.L1Loss(), lambda: torch.randn(32, 2)),
    "summed L1": (nn.L1Loss(reduction="sum"), lambda: torch.randn(32, 2)),
    "hinge": (lambda f, y: (1 - f * y).clamp(min=0).mean(), lambda: torch.randn(32, 2).sign()),
    "multi margin": (nn.MultiMarginLoss(), lambda: torch.arange(32) % 2),
    "quantile": (lambda f, y: torch.maximum(0.9 * (y - f), 0.1 * (f - y)).mean(), lambda: torch.randn(32, 2)),
    "Huber, all far from its middle": (nn.HuberLoss(delta=1e-6), lambda: torch.randn(32, 2)),
}


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_piecewise_linear_loss_gets_no_rate_from_a_curvature(name, optimizer):
    loss, targets = PIECEWISE_LINEAR[name]
    y = targets()
    for net in (nn.Linear(5, 2), mlp(5, 2)):
        advice = suggest(net, (torch.randn(32, 5), y), loss, optimizer, rehearse=20)
        assert advice.largest is None
        assert not advice.over_the_edge
        assert "No largest stable learning rate follows" in str(advice)
        assert "piecewise linear" in str(advice)
        assert "at twice that" not in str(advice)
        assert advice.lr in [t.lr for t in advice.trials if t.held]  # what is advised was tried
        untried = suggest(net, (torch.randn(32, 5), y), loss, optimizer, rehearse=0)
        assert untried.lr is None
        assert str(untried).startswith("No learning rate is advised")


def test_where_nothing_is_curved_upwards_no_rate_follows():
    net, x = nn.Linear(3, 1), torch.randn(8, 3)
    for loss in (lambda f, y: f.mean(), lambda f, y: -(f - y).square().mean()):
        assert suggest(net, (x, torch.randn(8, 1)), loss, "sgd", rehearse=10).largest is None


def test_probabilities_get_an_advice_without_a_forecast():
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
    batch = torch.randn(64, 8), torch.randint(0, 2, (64, 1)).double()
    advice = suggest(net, batch, nn.BCELoss(), "sgd", rehearse=20)
    assert advice.forecast is None
    assert "No forecast of the loss" in str(advice)
    assert advice.largest == pytest.approx(
        suggest(net[:3], batch, nn.BCEWithLogitsLoss(), "sgd", rehearse=0, budget=20).largest
    )


class Text(nn.Module):
    def __init__(self, words=300):
        super().__init__()
        self.e, self.f = nn.Embedding(words, 8), nn.Linear(8, 2)

    def forward(self, t):
        return self.f(torch.tanh(self.e(t)).mean(1))


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad"])
def test_words_that_did_not_come_yet_do_not_set_the_rate(kind):
    words, loss = 300, nn.CrossEntropyLoss()
    x = torch.multinomial((1 / torch.arange(1, words)).expand(600, -1), 10, replacement=True)
    y = (x.float().log1p().mean(1) > 3).long()
    net = Text(words)
    optimizer = getattr(torch.optim, kind)(net.parameters(), lr=1e-2)
    for _ in range(60):
        rows = torch.randint(64, 600, (32,))
        optimizer.zero_grad()
        loss(net(x[rows]), y[rows]).backward()
        optimizer.step()
    seen, one_new = x[64:128], x[64:128].clone()
    one_new[0, 0] = words - 1  # the word of no row
    assert not optimizer.state[net.e.weight].get("exp_avg", net.e.weight.detach())[-1].isnan().any()
    with_it = stable_rate(net, one_new, y[64:128], loss, optimizer)
    without = stable_rate(net, seen, y[64:128], loss, optimizer)
    assert with_it.rule.unseen >= 8
    assert with_it.largest == pytest.approx(without.largest, rel=0.2)
    assert "had no gradient to speak of yet" in str(suggest(net, (one_new, y[64:128]), loss, optimizer, rehearse=0))


def test_weight_decay_does_not_depend_on_the_order_of_the_groups():
    x, y, loss = torch.randn(20, 4) * torch.tensor([3.0, 1, 0.5, 0.2]), torch.randn(20, 1), nn.MSELoss()
    net = nn.Linear(4, 1)
    groups = [{"params": [net.weight], "weight_decay": 50.0}, {"params": [net.bias], "weight_decay": 0.0}]
    for kind in (torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW):
        rates = [suggest(net, (x, y), loss, kind(order, 0.01), rehearse=0).largest for order in (groups, groups[::-1])]
        assert rates[0] == pytest.approx(rates[1], rel=1e-3)
        if kind is torch.optim.SGD:
            assert rates[0] < 0.035  # where it diverges


def test_a_summed_loss_has_the_edge_of_its_batches():
    x = torch.randn(256, 8)
    y = torch.randn(256, 1) + x[:, :1]
    net, loss = mlp(8, 1), nn.MSELoss(reduction="sum")
    whole = stable_rate(net, x, y, loss, "sgd")
    assert stable_rate(net, x, y, loss, "sgd", batch_size=16).largest == pytest.approx(16 * whole.largest, rel=2e-3)
    mean = stable_rate(net, x, y, nn.MSELoss(), "sgd", batch_size=16)
    assert mean.largest == pytest.approx(256 * whole.largest, rel=2e-3)
    decayed = torch.optim.SGD(net.parameters(), 0.1, weight_decay=100.0)
    sixteen = stable_rate(net, x, y, loss, decayed, batch_size=16)
    assert 2 / sixteen.largest < 100 + 2 / (16 * whole.largest) * 1.01  # the decay is not counted by rows
    said = str(suggest(net, (x, y), loss, "sgd", rehearse=20, batch_size=16))
    assert "16 rows like these" in said
    assert "for batches of 16" in said


def test_what_has_no_second_derivative_is_measured_by_differences_of_gradients():
    bag, t, y = Bag().double(), torch.randint(0, 50, (64, 12)), torch.randint(0, 2, (64,))
    found = suggest(bag, (t, y), nn.CrossEntropyLoss(), "sgd", rehearse=0, budget=20).largest
    bag.__class__ = Lookups
    assert found == pytest.approx(
        suggest(bag, (t, y), nn.CrossEntropyLoss(), "sgd", rehearse=0, budget=20).largest, rel=1e-3
    )
    x = torch.randn(64, 5).double()
    squared_hinge = suggest(nn.Linear(5, 2).double(), (x, y), nn.MultiMarginLoss(p=2), "sgd", rehearse=0)
    assert squared_hinge.largest > 0


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_get_a_rate():
    class Reentrant(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(checkpoint(torch.tanh, self.a(x), use_reentrant=True))

    net, x, y = Reentrant().double(), torch.randn(64, 8).double(), torch.randint(0, 2, (64,))
    plain = nn.Sequential(net.a, nn.Tanh(), net.b)
    rates = [suggest(m, (x, y), nn.CrossEntropyLoss(), "sgd", rehearse=0, budget=20).largest for m in (net, plain)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-3)


def test_a_batch_norm_of_ones_own_gets_an_advice_without_a_forecast():
    net = nn.Sequential(nn.Linear(5, 8), OwnBatchNorm(), nn.Linear(8, 2))
    advice = suggest(net, (torch.randn(32, 5), torch.randint(0, 2, (32,))), nn.CrossEntropyLoss(), "sgd")
    assert advice.lr is not None
    assert advice.forecast is None
    assert "mixes the samples" in str(advice)


@pytest.mark.parametrize(
    ("make", "loss", "what"),
    [
        (nn.ReLU, nn.CrossEntropyLoss(), "no trainable parameters"),
        (lambda: nn.Linear(5, 2).requires_grad_(False), nn.CrossEntropyLoss(), "no trainable parameters"),
        (lambda: nn.Linear(5, 2), nn.CrossEntropyLoss(reduction="none"), "not one number"),
        (lambda: nn.Linear(5, 2), lambda f, y: None, "not one number"),
        (lambda: nn.Linear(5, 2), nn.BCELoss(), "loss fails on the module's outputs"),
    ],
)
def test_refusals_have_four_parts(make, loss, what):
    with pytest.raises((BadArgument, BadData), match=rf"(?s){what}.*where: .*why: .*fix: "):
        suggest(make(), (torch.randn(8, 5), torch.arange(8) % 2), loss, "sgd")


def test_optimizers_whose_edge_is_not_known_are_refused():
    class Mine(torch.optim.SGD):
        def step(self, closure=None):
            return None

    net, batch = nn.Linear(5, 2), (torch.randn(8, 5), torch.arange(8) % 2)
    for optimizer in (
        Mine(net.parameters(), 0.1),
        torch.optim.Adadelta(net.parameters()),
        torch.optim.Rprop(net.parameters()),
    ):
        with pytest.raises(BadArgument, match=r"(?s)is not known.*where: .*why: .*fix: "):
            suggest(net, batch, nn.CrossEntropyLoss(), optimizer)
    both = torch.optim.SGD([{"params": [net.weight], "maximize": True}, {"params": [net.bias]}], 0.1)
    with pytest.raises(BadArgument, match=r"(?s)climbs.*where: .*why: .*fix: "):
        suggest(net, batch, nn.CrossEntropyLoss(), both)


def test_dropout_is_said_and_the_module_stays_as_it_was():
    first = prune.l1_unstructured(nn.Linear(8, 16), "weight", 0.3)
    net = nn.Sequential(first, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    mask = (torch.arange(16) > 3).to(net[4].weight)
    net[4].weight.register_hook(lambda g: g * mask)
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3)
    net(x).sum().backward()
    adam.step()
    objects = [*net.named_parameters(), *net.named_buffers()]
    numbers = copy.deepcopy({**net.state_dict(), **{f"grad {n}": p.grad for n, p in net.named_parameters()}})
    state, beside, random = copy.deepcopy(adam.state_dict()), first.weight, torch.get_rng_state()
    for optimizer in (adam, "momentum"):
        assert "trains with dropout" in str(suggest(net, (x, y), nn.CrossEntropyLoss(), optimizer, rehearse=20))
    assert all(a is b for (_, a), (_, b) in zip(objects, [*net.named_parameters(), *net.named_buffers()], strict=True))
    now = {**net.state_dict(), **{f"grad {n}": p.grad for n, p in net.named_parameters()}}
    assert all(torch.equal(numbers[name], now[name]) for name in numbers)
    assert torch.equal(random, torch.get_rng_state())
    assert first.weight is beside
    assert all(m.training for m in net.modules())
    for key, moved in adam.state_dict()["state"].items():
        assert all(torch.equal(moved[name], t) for name, t in state["state"][key].items())


def test_the_line_to_paste_makes_the_optimizer():
    net, batch = nn.Linear(5, 2), (torch.randn(8, 5), torch.arange(8) % 2)
    for name in ("sgd", "gd", "momentum", "nesterov", "adam"):
        advice = suggest(net, batch, nn.CrossEntropyLoss(), name, rehearse=10, budget=20)
        made = eval(advice.paste, {"torch": torch, "module": net})
        assert made.param_groups[0]["lr"] == pytest.approx(advice.lr, rel=5e-3)
        assert made.param_groups[0].get("momentum", 0) == (0.9 if name in ("momentum", "nesterov") else 0)
        assert f"    {advice.paste}" in str(advice)
    for lrs in ((0.3, 0.3), (0.3, 0.1)):
        groups = [{"params": [p], "lr": lr} for p, lr in zip(net.parameters(), lrs, strict=True)]
        optimizer = torch.optim.SGD(groups, lr=1.0)
        advice = suggest(net, batch, nn.CrossEntropyLoss(), optimizer, rehearse=10, budget=20)
        exec(advice.paste, {"optimizer": optimizer})
        rates = [g["lr"] for g in optimizer.param_groups]
        assert rates[0] == pytest.approx(advice.lr, rel=5e-3)
        assert rates[1] / rates[0] == pytest.approx(lrs[1] / lrs[0])


def test_momentum_with_minibatches_gets_far_less_than_its_full_batch_edge():
    """An MLP on rings of noise: at half of the full-batch edge, with minibatches, it ends at chance."""
    x = torch.randn(512, 12)
    y = ((x.square().sum(1) + 3 * torch.randn(512)) > 12).long()
    net = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    advice = suggest(net, (x[:64], y[:64]), nn.CrossEntropyLoss(), "momentum", budget=20)
    assert advice.lr < advice.largest / 8
    assert any(not t.held and t.lr <= advice.largest for t in advice.trials) or math.isclose(
        advice.trials[-1].lr * 2, advice.largest
    )


@pytest.mark.slow
def test_training_at_the_advice_for_momentum_is_never_ruined():
    """Networks of 128 on 5,000 rows, batches of 64, 1,500 steps: the advice once ruined 9 of 9 of these."""
    loss = nn.CrossEntropyLoss()
    for seed in range(3):
        torch.manual_seed(seed)
        teacher = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 2))
        x = torch.randn(6000, 12)
        y = (10 * teacher(x)).argmax(1)
        net = nn.Sequential(nn.Linear(12, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
        right = []
        for lr in (suggest(net, (x[:64], y[:64]), loss, "momentum").lr, 0.05):
            trained = copy.deepcopy(net)
            sgd = torch.optim.SGD(trained.parameters(), lr, momentum=0.9)
            draw = torch.Generator().manual_seed(seed)
            for _ in range(1500):
                rows = torch.randint(5000, (64,), generator=draw)
                sgd.zero_grad()
                loss(trained(x[rows]), y[rows]).backward()
                sgd.step()
            right.append(float((trained(x[5000:]).argmax(1) == y[5000:]).double().mean()))
        print(f"seed {seed}: {right[0]:.3f} at the advice, {right[1]:.3f} at 0.05")
        assert right[0] > right[1] - 0.02


def test_a_readout_of_zeros_does_not_make_the_cross_entropy_linear():
    """Its Hessian was asked along 1 + outputs, which is 1 there: the one direction in which it is flat."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 10), torch.randint(0, 4, (64,))
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
    for p in net[2].parameters():
        nn.init.zeros_(p)
    text = str(suggest(net, (x, y), nn.CrossEntropyLoss(), "sgd"))
    assert "linear in the outputs" not in text
    assert "Linearized, on this batch alone" in text


def test_the_spread_of_gradients_does_not_depend_on_how_the_loss_is_reduced():
    """Of a sum it was 64 times too small beside the gradient."""
    from gramian.train.edge import _gradients

    torch.manual_seed(0)
    x, y = torch.randn(64, 10, dtype=torch.float64), torch.randint(0, 4, (64,))
    net = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    shares = []
    for reduction in ("mean", "sum"):
        loss = nn.CrossEntropyLoss(reduction=reduction)
        now, squares = _gradients(net, x, y, loss, reduction == "sum")
        shares.append({name: squares[name] / now[name].square() for name in now})
    for name, share in shares[0].items():
        torch.testing.assert_close(share, shares[1][name], rtol=1e-9, atol=1e-9, equal_nan=True)
