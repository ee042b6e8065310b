"""Losses that pair outputs with the targets of other rows, and forwards that draw random numbers, are told."""

import pytest
import torch
from torch import nn

import gramian
from gramian.errors import BadData

LOSSES = {
    "lambda": lambda out, y: ((out - y) ** 2).mean(),
    "power": lambda out, y: (out - y).abs().pow(1.5).mean(),
    "logistic": lambda out, y: nn.functional.softplus(-(2 * y - 1) * out).mean(),
    "sum": lambda out, y: ((out - y) ** 2).sum(),
}


def network(flat):
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), *([nn.Flatten(0)] if flat else []))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("flat", [False, True], ids=["(n, 1) and (n,)", "(n,) and (n, 1)"])
def test_a_loss_that_broadcasts(name, flat):
    net, x, y = network(flat), torch.randn(24, 4), torch.rand(24)
    shaped, fitting = (y[:, None], y) if flat else (y, y[:, None])
    with pytest.raises(BadData, match=r"(?s)several of the targets.*where.*why: torch broadcasts.*fix"):
        gramian.suggest(net, (x, shaped), LOSSES[name], "sgd", rehearse=0)
    assert gramian.suggest(net, (x, fitting), LOSSES[name], "sgd", rehearse=0).largest > 0
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    with pytest.warns(RuntimeWarning, match=r"(?s)pairs outputs .* of other rows.*where.*why.*fix"):
        one = gramian.Monitor(net, sgd, LOSSES[name], x, shaped)
    two = gramian.Monitor(net, sgd, LOSSES[name], x, fitting)
    assert one.answer()[1] == two.answer()[1]  # the edge of stability of the loss row by row


def test_a_loss_that_shapes_its_targets_itself_is_taken():
    net, x, y = network(False), torch.randn(24, 4), torch.rand(24)
    for loss in (lambda out, y: (out[:, 0] - y).square().mean(), lambda out, y: (out - y.view(-1, 1)).square().mean()):
        assert gramian.suggest(net, (x, y), loss, "sgd", rehearse=0).largest > 0
        gramian.Monitor(net, torch.optim.SGD(net.parameters(), lr=0.01), loss, x, y)


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.a, self.b, self.noise = nn.Linear(4, 8), nn.Linear(8, 1), noise

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)) + self.noise(x))


def test_a_random_forward_is_noted():
    generator, x, y = torch.Generator(), torch.randn(24, 4), torch.rand(24, 1)
    for noise in (lambda x: 0.1 * torch.randn(8), lambda x: 0.1 * torch.randn(8, generator=generator)):
        notes = gramian.suggest(Noisy(noise), (x, y), nn.MSELoss(), "sgd", rehearse=2).notes
        assert any("draws random numbers" in note for note in notes)
    assert not gramian.suggest(Noisy(lambda x: 0.1), (x, y), nn.MSELoss(), "sgd", rehearse=2).notes
