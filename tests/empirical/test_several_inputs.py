"""Several inputs reach the module as they are given: tokens as whole numbers, masks as True and False."""

import pytest
import torch
from torch import nn

import gramian
from gramian.empirical import EmpiricalNTK, Sketch, empirical_ntk, jacobian, projected_gradients
from gramian.errors import BadArgument


class Masked(nn.Module):
    """The mean of masked embeddings beside two features."""

    def __init__(self):
        super().__init__()
        self.embedding, self.inner, self.outer = nn.Embedding(9, 4), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, tokens, x, mask):
        assert (tokens.dtype, x.dtype, mask.dtype) == (torch.int64, torch.float64, torch.bool)
        h = torch.where(mask[..., None], self.embedding(tokens), 0.0).mean(1)
        return self.outer(self.inner(torch.cat([h, x], 1)).tanh())


def draw(n):
    return torch.randint(9, (n, 5)), torch.randn(n, 2), torch.rand(n, 5) > 0.3


@pytest.mark.parametrize("by_name", [False, True], ids=["in order", "by name"])
def test_every_function_takes_them(by_name):
    net, given = Masked(), draw(5)
    j = torch.cat([jacobian(net, tuple(t[i : i + 1] for t in given)) for i in range(5)])
    x = dict(zip(("tokens", "x", "mask"), given, strict=True)) if by_name else given
    torch.testing.assert_close(jacobian(net, x), j)
    full, flat = torch.einsum("icp,jdp->ijcd", j, j), j.flatten(0, 1)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), full)
    few = {name: t[:2] for name, t in x.items()} if by_name else tuple(t[:2] for t in x)
    torch.testing.assert_close(empirical_ntk(net, x, few, outputs="full"), full[:, :2])
    operator, v = EmpiricalNTK(net, x), torch.randn(10)
    torch.testing.assert_close(operator @ v, flat @ (flat.T @ v))
    torch.testing.assert_close(operator.dense(), flat @ flat.T)
    features = torch.zeros(10, 8)
    for number, part in enumerate(flat.split([p.numel() for p in net.parameters()], 1)):
        Sketch(8).add_to(features, part, number)
    torch.testing.assert_close(projected_gradients(net, x, Sketch(8), "full"), features)
    assert gramian.monte_carlo(net, x, draws=2, kind="both").nngp.shape == (5, 5)


def test_whole_numbers_above_what_a_float_holds():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, number, x):
            return self.layer(x) * (number - 2**60)[:, None]

    net, x, number = Offset(), torch.randn(3, 2), torch.tensor([1, 2, 5])
    scale = number.double()
    expected = scale[:, None] * empirical_ntk(net.layer, x) * scale
    torch.testing.assert_close(empirical_ntk(net, (number + 2**60, x)), expected)


def test_neighbors_are_others_in_the_same_places():
    """A module that mixes samples in one of its inputs only."""

    class Mixes(Masked):
        def forward(self, tokens, x, mask):
            return super().forward(tokens, x - x.mean(0), mask)

    with pytest.raises(BadArgument, match="mixes the samples"):
        empirical_ntk(Mixes(), draw(5))
