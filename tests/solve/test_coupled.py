"""A constant kernel over samples and outputs takes the course of `gramian.train` on a linear model, step by step."""

import copy

import pytest
import torch
from torch import nn

from gramian.empirical import empirical_ntk
from gramian.solve import coupled_descent, minibatch_descent
from gramian.train import train
from gramian.train.batches import Batches


class TiedOutputs(nn.Module):
    """Linear in its weights, with outputs that share them: f_c(x) = sum_d w_d A_cd(x)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12))
        self.register_buffer("mixed", torch.randn(3, 12, 5))

    def forward(self, x):
        return torch.einsum("cdk,nk,d->nc", self.mixed, x, self.weight)


@pytest.mark.parametrize(("optimizer", "size"), [("gd", 9), ("sgd", 1), ("sgd", 4), ("momentum", 9), ("nesterov", 9)])
def test_the_course_is_that_of_a_network_with_coupled_outputs(optimizer, size):
    n, seed, lr, wanted = 9, 5, 0.0005, [0, 1, 2, 7, 20]
    x, y, start = torch.randn(n, 5), torch.randn(n, 3), TiedOutputs()
    theta = empirical_ntk(start, x, outputs="full")
    assert theta[:, :, 0, 1].abs().max() > 0.1 * theta[:, :, 0, 0].abs().max()  # coupled indeed
    batches = Batches(n, size, torch.Generator().manual_seed(seed))
    rows = [batches.next() if optimizer == "sgd" else None for _ in range(20)]
    beta = 0.9 if optimizer in ("momentum", "nesterov") else 0.0
    r0 = (start(x) - y).detach()
    found = coupled_descent(theta, r0, lr, rows, wanted, beta=beta, nesterov=optimizer == "nesterov")
    assert found.shape == (5, n, 3)
    for k, step in enumerate(wanted):
        net, batch_size = copy.deepcopy(start), size if optimizer == "sgd" else None
        train(net, x, y, optimizer=optimizer, batch_size=batch_size, lr=lr, steps=step, seed=seed, probes=("loss",))
        torch.testing.assert_close(net(x).detach() - y, found[k], rtol=0, atol=1e-10)


def test_without_coupling_it_is_the_descent_under_one_kernel():
    a, r0 = torch.randn(8, 10), torch.randn(8, 4)
    theta, rows = a @ a.mT, [torch.randperm(8)[:3] for _ in range(15)]
    full = theta[:, :, None, None] * torch.eye(4)
    found = coupled_descent(full, r0, 0.01, rows, [1, 15])
    torch.testing.assert_close(found, minibatch_descent(theta, r0, 0.01, rows, [1, 15]), rtol=0, atol=1e-12)
