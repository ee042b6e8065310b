"""What `suggest` takes and refuses: frames, arrays and lists; slips that torch says something else about."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call

from gramian import suggest
from gramian.errors import BadArgument, BadData
from gramian.train.batch_view import view
from gramian.train.curvature import sharpness
from gramian.train.forward import MOST_ROWS

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()


def test_frames_arrays_and_lists_are_taken_wherever_tensors_are():
    x, y, net = torch.randn(16, 5), torch.arange(16) % 2, nn.Linear(5, 2)
    right = suggest(net, (x, y), CE, "sgd", rehearse=10, budget=20)
    for rows, targets in (
        (x.numpy(), y.numpy()),
        (x.double().numpy(), y.int().numpy()),
        (pd.DataFrame(x.numpy()), pd.Series(y.numpy())),
        (pd.DataFrame(x.numpy()), pd.Series(np.where(y > 0, "yes", "no"))),
        (x.tolist(), y.tolist()),
    ):
        advice = suggest(net, (rows, targets), CE, "sgd", rehearse=10, budget=20)
        assert advice.largest == pytest.approx(right.largest, rel=1e-3)
        assert advice.loss == pytest.approx(right.loss, rel=1e-5)
    real = torch.randn(16, 1)
    one = suggest(nn.Linear(5, 1), (x.numpy(), real.double().numpy()), MSE, "sgd", rehearse=0, budget=20)
    assert one.largest > 0


SLIPS = {
    "a class": (lambda: nn.Linear, CE, "sgd", {}, "class Linear"),
    "a function": (lambda: lambda x: x, CE, "sgd", {}, "module is function"),
    "a loss class": (lambda: nn.Linear(5, 2), nn.CrossEntropyLoss, "sgd", {}, r"CrossEntropyLoss\(\)"),
    "an optimizer class": (lambda: nn.Linear(5, 2), CE, torch.optim.Adam, {}, "class Adam"),
    "meta": (lambda: nn.Linear(5, 2, device="meta"), CE, "sgd", {}, "device meta"),
    "complex": (lambda: nn.Linear(5, 2, dtype=torch.complex64), CE, "sgd", {}, "complex64"),
    "a lazy layer": (lambda: nn.LazyLinear(2), CE, "sgd", {}, "no shape yet"),
    "rehearse": (lambda: nn.Linear(5, 2), CE, "sgd", {"rehearse": -1}, "rehearse=-1"),
    "rehearse, a part": (lambda: nn.Linear(5, 2), CE, "sgd", {"rehearse": 1.5}, "rehearse=1.5"),
    "target": (lambda: nn.Linear(5, 2), CE, "sgd", {"target": float("nan")}, "target=nan"),
    "target, a word": (lambda: nn.Linear(5, 2), CE, "sgd", {"target": "low"}, "target='low'"),
    "budget": (lambda: nn.Linear(5, 2), CE, "sgd", {"budget": 0}, "budget=0"),
    "batch_size": (lambda: nn.Linear(5, 2), CE, "sgd", {"batch_size": 0}, "batch_size=0"),
    "mean squares of class numbers": (lambda: nn.Linear(5, 1), MSE, "sgd", {}, r"y\[:, None\]"),
    "half squares of class numbers": (lambda: nn.Linear(5, 1), "squared", "sgd", {}, r"y\[:, None\]"),
    "class numbers of more outputs": (lambda: nn.Linear(5, 2), MSE, "sgd", {}, "one_hot"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips_are_refused_in_four_parts(name):
    make, loss, optimizer, more, what = SLIPS[name]
    with pytest.raises((BadArgument, BadData), match=r"(?s)where: .*why: .*fix: ") as refused:
        suggest(make(), (torch.randn(8, 5), torch.arange(8) % 2), loss, optimizer, **more)
    refused.match(rf"(?s){what}")


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ((torch.randn(0, 5), torch.zeros(0, dtype=torch.long)), "no data"),
        ((torch.zeros(0, 5).long(), torch.zeros(0, dtype=torch.long)), "no rows"),
        ((torch.randn(8, 5), torch.zeros(7, dtype=torch.long)), "8 rows, y has 7"),
        ((torch.randn(8, 5), torch.full((8,), -100)), "loss on the batch is nan"),
        ((torch.randn(8, 5), torch.full((8, 2), torch.nan)), "targets that are not finite"),
        ((torch.full((8, 5), torch.nan), torch.arange(8) % 2), "not finite"),
        ((torch.randn(8, 5).double(), torch.arange(8) % 2), r"x\.to\(torch\.float32\)"),
        ((torch.randn(8, 5), None), "no targets"),
        (torch.randn(8, 5), "not a pair"),
    ],
)
def test_batches_without_a_loss_are_refused_in_four_parts(batch, what):
    with pytest.raises((BadArgument, BadData), match=rf"(?s){what}.*") as refused:
        suggest(nn.Linear(5, 2, dtype=torch.float32), batch, CE, "sgd")
    refused.match(r"(?s)where: .*why: .*fix: ")


def of_twelve(f, y):
    return nn.functional.triplet_margin_loss(f.view(3, 4, 2)[0], f.view(3, 4, 2)[1], f.view(3, 4, 2)[2])


def test_a_loss_that_takes_the_batch_as_it_is_is_tried_on_all_of_it():
    net, batch = nn.Linear(5, 2), (torch.randn(12, 5), torch.zeros(12))
    advice = suggest(net, batch, of_twelve, "sgd", rehearse=10, budget=20)
    assert "on these 12 rows" in str(advice)
    with pytest.raises(BadArgument, match=r"(?s)minibatch of 5.*where: .*why: .*fix: "):
        suggest(net, batch, of_twelve, "sgd", batch_size=5)


def test_single_rows_are_refused_where_batch_normalization_trains():
    net, x, y = (
        nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)),
        torch.randn(8, 5),
        torch.arange(8) % 2,
    )
    with pytest.raises(BadData, match=r"(?s)these 1 rows.*where: .*why: .*fix: "):
        suggest(net, (x[:1], y[:1]), CE, "sgd")
    with pytest.raises(BadArgument, match=r"(?s)minibatch of 1 .*where: .*why: .*fix: "):
        suggest(net, (x, y), CE, "sgd", batch_size=1)
    assert suggest(net.eval(), (x[:1], y[:1]), CE, "sgd", rehearse=10, budget=20).lr is not None


def test_inference_mode_is_refused_and_its_tensors_are_taken():
    with torch.inference_mode():
        x = torch.randn(8, 5)
        with pytest.raises(BadArgument, match=r"(?s)Inference mode.*where: .*why: .*fix: "):
            suggest(nn.Linear(5, 2), (x, torch.arange(8) % 2), CE, "sgd")
    assert suggest(nn.Linear(5, 2), (x, torch.arange(8) % 2), CE, "sgd", rehearse=10, budget=20).lr > 0


class Two(nn.Module):
    """A row of features and a token."""

    def __init__(self):
        super().__init__()
        self.features, self.tokens = nn.Linear(3, 4), nn.Embedding(6, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x, ids):
        return self.out(torch.tanh(self.features(x) + self.tokens(ids)))


class Packed(Two):
    """The same, of one tensor; parameters under the same names."""

    def forward(self, row):
        return super().forward(row[:, :3], row[:, 3].long())


class WithLogits(Two):
    """The same, with an object for its output."""

    def forward(self, x, ids):
        return SimpleNamespace(logits=super().forward(x, ids))


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_several_inputs_have_the_rates_of_the_same_numbers_in_one(optimizer):
    x, ids = torch.randn(20, 3), torch.randint(6, (20,))
    y = ids % 2
    one, two, named = Packed(), Two(), WithLogits()
    two.load_state_dict(one.state_dict())
    named.load_state_dict(one.state_dict())
    settings = {"rehearse": 20, "budget": 50}
    right = suggest(one, (torch.cat([x, ids[:, None].float()], 1), y), CE, optimizer, **settings)
    for net, inputs in ((two, (x, ids)), (two, (x.double(), ids.int())), (named, {"ids": ids, "x": x})):
        advice = suggest(net, (inputs, y), CE, optimizer, **settings)
        assert str(advice).splitlines()[0] == str(right).splitlines()[0]
        assert advice.largest == pytest.approx(right.largest, rel=1e-4)
        assert [t.last for t in advice.trials] == pytest.approx([t.last for t in right.trials], rel=1e-4)
        if right.forecast is not None:
            assert advice.forecast.losses == pytest.approx(right.forecast.losses, rel=1e-4)


def test_the_sharpness_of_several_inputs_in_parts_is_that_of_the_whole_hessian():
    n = MOST_ROWS + 100
    x, ids, net = torch.randn(n, 3), torch.randint(6, (n,)), Two().double()
    seen = view(net, CE, {"x": x, "ids": ids}, ids % 2)
    names, numbers = zip(*((name, p.detach()) for name, p in net.named_parameters()), strict=True)

    def goal(*at):
        return CE(functional_call(net, dict(zip(names, at, strict=True)), (x.double(), ids)), ids % 2)

    blocks = torch.autograd.functional.hessian(goal, numbers)
    rows = [torch.cat([b.reshape(p.numel(), -1) for b in row], 1) for p, row in zip(numbers, blocks, strict=True)]
    exact = float(torch.linalg.eigvalsh(torch.cat(rows))[-1])
    assert sharpness(seen.module, seen.x, seen.y, seen.loss, tolerance=1e-10) == pytest.approx(exact, rel=1e-8)


def test_a_refused_hook_of_a_model_with_logits_is_named_as_in_the_model():
    net = WithLogits()
    net.out.weight.register_hook(lambda g: 2 * g)
    batch = ({"x": torch.randn(8, 3), "ids": torch.randint(6, (8,))}, torch.arange(8) % 2)
    with pytest.raises(BadArgument, match=r"(?s)A gradient hook on `out\.weight` changes.*where: WithLogits"):
        suggest(net, batch, CE, "sgd")
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)
    with pytest.raises(BadArgument, match=r"module WithLogits"):
        suggest(WithLogits(), batch, CE, other)
