"""What the monitor says of the learning rate, against what the run does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gramian
from gramian import Monitor


@pytest.fixture(autouse=True)
def _single():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def descend(net, optimizer, loss, x, y, steps, batch):
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,))
        optimizer.zero_grad()
        value = loss(net(x[rows]), y[rows])
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def edge(monitor):
    monitor.answer()
    return monitor.trace.measured["edge"].values[-1]


def test_of_a_summed_loss_the_edge_is_that_of_the_loop_s_batches():
    x = torch.randn(512, 8)
    y = torch.randn(512, 1) + x[:, :1]
    net, loss = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1)), nn.MSELoss(reduction="sum")
    lr = 0.3 * gramian.suggest(net, (x[:16], y[:16]), loss, "sgd", rehearse=0).largest
    sgd = torch.optim.SGD(net.parameters(), lr=lr)
    monitor = Monitor(net, sgd, loss, x[:256], y[:256])
    assert "no batch of the loop was seen yet" in monitor.answer()[1]
    descend(net, sgd, loss, x, y, 60, 16)
    own = [
        gramian.suggest(net, (x[k : k + 16], y[k : k + 16]), loss, "sgd", rehearse=0).largest for k in (0, 16, 32, 48)
    ]
    assert edge(monitor) == pytest.approx(sum(lr / one for one in own) / 4, rel=0.1)
    assert 0.15 < edge(monitor) < 0.5
    assert "of a batch of 16 rows, as a step takes them" in monitor.answer()[1]
    assert "above" not in monitor.answer()[1]
    monitor.close()
    assert not net._forward_hooks


def test_accumulated_batches_of_a_summed_loss_count_together():
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    net, loss = nn.Linear(4, 1), nn.MSELoss(reduction="sum")
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3)
    monitor = Monitor(net, sgd, loss, x, y, share=1.0)
    for k in range(6):
        loss(net(x[8 * k : 8 * k + 8]), y[8 * k : 8 * k + 8]).backward()
        with torch.no_grad():
            net(x)  # a look at all rows is no part of a step
        if k % 2:
            sgd.step()
            sgd.zero_grad()
    assert monitor.trace.config["step_rows"] == 16


def test_words_that_were_not_seen_yet_make_no_edge():
    words, n = 500, 1000
    x = torch.multinomial((1 / torch.arange(1, words + 1.0)).expand(n, -1), 10, replacement=True)
    y = (x.float().log1p().mean(1) > 3.8).long()
    net = nn.Sequential(nn.EmbeddingBag(words, 8), nn.Tanh(), nn.Linear(8, 2))
    adagrad, loss = torch.optim.Adagrad(net.parameters(), lr=1e-2), nn.CrossEntropyLoss()
    monitor = Monitor(net, adagrad, loss, x[:64], y[:64], probes=("loss", "distance"))
    assert monitor.watching
    said = [""]
    table = nn.Embedding(words, 8)

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.f = table, nn.Linear(8, 2)

        def forward(self, t):
            return self.f(torch.tanh(self.e(t)).mean(1))

    net = Text()
    adagrad = torch.optim.Adagrad(net.parameters(), lr=1e-2)
    monitor = Monitor(net, adagrad, loss, x[:64], y[:64])
    losses = descend(net, adagrad, loss, x[64:], y[64:], 60, 32)
    said = monitor.answer()[1]
    assert losses[-1] < losses[0]
    assert "stable" in said
    assert "lower it" not in said
    assert edge(monitor) < 0.1


def test_log_probabilities_have_the_edge_of_the_logits():
    x, y = torch.randn(32, 5), torch.arange(32) % 3
    edges = []
    for tail, loss in ((nn.Identity(), nn.CrossEntropyLoss()), (nn.LogSoftmax(1), F.nll_loss)):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(5, 3), tail)
        sgd = torch.optim.SGD(net.parameters(), 0.5)
        monitor = Monitor(net, sgd, loss, x, y)
        descend(net, sgd, loss, x, y, 3, 32)
        edges.append(edge(monitor))
    assert edges[0] > 0.01
    assert edges[1] == pytest.approx(edges[0], rel=0.1)


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.MultiMarginLoss()])
def test_a_loss_without_curvature_has_no_edge_and_says_so(loss):
    x = torch.randn(32, 5)
    y = torch.arange(32) % 3 if isinstance(loss, nn.MultiMarginLoss) else torch.randn(32, 3)
    net = nn.Linear(5, 3)
    sgd = torch.optim.SGD(net.parameters(), 0.01)
    monitor = Monitor(net, sgd, loss, x, y)
    descend(net, sgd, loss, x, y, 3, 32)
    assert monitor.answer()[1].startswith(
        "Learning rate against the largest stable one: not measured (the loss is piece"
    )


def test_a_loss_that_is_neither_mean_nor_sum_has_no_edge():
    x, y = torch.randn(32, 5), torch.arange(32) % 3
    net = nn.Linear(5, 3)
    sgd = torch.optim.SGD(net.parameters(), 0.01)

    def odd(f, y):
        return F.cross_entropy(f, y, reduction="sum") / len(f) ** 0.5

    for loss, says in (
        (odd, "neither a mean nor a sum"),
        (nn.CrossEntropyLoss(reduction="none"), "a number for each row"),
    ):
        monitor = Monitor(net, sgd, loss, x, y)
        assert says in monitor.answer()[1]
        monitor.close()
