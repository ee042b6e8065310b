"""J J^T v without J."""

import pytest
import torch
from zoo import make

from gramian.empirical import jacobian, ntk_product
from gramian.errors import BadData


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "twice",
        "attention",
        "tied",
        "raw",
        "norms",
        "frozen bias",
        "scalar",
        "weight_norm",
        "custom function",
        "branch",
    ],
)
def test_equals_the_explicit_product(name):
    net, shape = make(name)
    x = torch.randn(4, *shape)
    v = torch.randn(net(x).shape)
    j = jacobian(net, x).flatten(0, 1)
    torch.testing.assert_close(ntk_product(net, x, v).flatten(), j @ (j.T @ v.flatten()), rtol=1e-10, atol=1e-10)
    assert all(p.grad is None for p in net.parameters())


def test_it_is_symmetric():
    net, shape = make("pooling")
    x = torch.randn(3, *shape)
    u, v = torch.randn(2, *net(x).shape)
    torch.testing.assert_close((u * ntk_product(net, x, v)).sum(), (v * ntk_product(net, x, u)).sum())


def test_a_vector_of_another_shape():
    net, shape = make("mlp")
    with pytest.raises(
        BadData, match=r"(?s)`v` has shape \(4,\).*has \(4, 2\).*where:.*why:.*fix: v = v.reshape\(\(4, 2\)\)"
    ):
        ntk_product(net, torch.randn(4, *shape), torch.ones(4))
