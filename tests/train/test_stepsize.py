"""The largest eigenvalue without the matrix, against the matrix."""

import pytest
import torch
from torch import nn

from gramian.empirical import empirical_ntk
from gramian.train.largest_eigenvalue import largest_eigenvalue, largest_eigenvalue_of_batches

NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), (6,)),
    "cnn": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), (2, 4, 4)),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 9), nn.Dropout(), nn.Linear(9, 2)), (6,)),
}


def gram_matrix(net, x):
    blocks = empirical_ntk(net.eval(), x, outputs="full")
    size = len(x) * blocks.shape[-1]
    return blocks.permute(0, 2, 1, 3).reshape(size, size)


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_largest_and_never_above(name):
    make, shape = NETS[name]
    net, x = make(), torch.randn(7, *shape)
    found = largest_eigenvalue(net, x, tolerance=1e-8)
    exact = float(torch.linalg.eigvalsh(gram_matrix(net, x))[-1])
    assert found == pytest.approx(exact, rel=1e-5)
    assert found <= exact * (1 + 1e-12)


def test_it_is_the_largest_where_the_inputs_are_tokens():
    net, x = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2)), torch.randint(10, (6, 3))
    exact = float(torch.linalg.eigvalsh(gram_matrix(net, x))[-1])
    assert largest_eigenvalue(net, x, tolerance=1e-8) == pytest.approx(exact, rel=1e-5)


def test_batches_that_share_out_the_data_are_never_below_the_whole():
    net, x = NETS["mlp"][0](), torch.randn(12, 6)
    batches = list(torch.randperm(12).split(4))
    one = max(3 * float(torch.linalg.eigvalsh(gram_matrix(net, x[rows]))[-1]) for rows in batches)
    assert largest_eigenvalue_of_batches(net, x, batches) == pytest.approx(one, rel=2e-2)
    assert one >= largest_eigenvalue(net, x)
