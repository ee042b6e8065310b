"""What `suggest` takes and refuses: frames, arrays and lists; slips that torch says something else about."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from gramian import suggest
from gramian.errors import BadArgument, BadData

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
