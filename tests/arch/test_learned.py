"""Parameters that are added to the values, or stand beside them."""

import pytest
import torch
from layers import Net, linear
from torch import nn

from gramian import architecture, empirical_ntk
from gramian.errors import BadArgument, NoLimit

LAW = {"p": (0.7, 0), "*": (1.3, 0.3)}


def network(function, p, width=8):
    layers = {"a": linear(3, width), "b": linear(width, width), "r": linear(width, 1), "p": p}
    return Net(lambda n, x: n.r(torch.relu(n.b(function(n, n.a(x), x))).mean(1)), **layers)


def table(rows, width=8):
    return nn.Parameter(torch.zeros(1, rows, width))


SAME = {
    "a parameter": (lambda n, h, x: h + n.p, table(4)),
    "the first of more": (lambda n, h, x: h + n.p[:, : h.shape[1]], table(6)),
    "subtracted": (lambda n, h, x: h - n.p, table(4)),
    "channels first, transposed": (lambda n, h, x: (h.mT + n.p).mT, nn.Parameter(torch.zeros(8, 4))),
    "an embedding": (lambda n, h, x: h + n.p(torch.arange(h.shape[1])), nn.Embedding(9, 8)),
}


@pytest.mark.parametrize("way", SAME)
def test_learned_positions_add_their_variance_to_equal_positions(way):
    x = torch.randn(3, 4, 3)
    law = {**LAW, "p.weight": (0.7, 0)}
    nngp, ntk = architecture(network(*SAME[way]), x, law=law).kernels(x)
    # the same by hand: one layer on the input with the number of the position beside it, as a unit vector
    wide = torch.cat([x * 1.3 / 3**0.5, 0.7 * torch.eye(4).expand(3, 4, 4), torch.full((3, 4, 1), 0.3)], 2)
    layers = {"a": nn.Linear(8, 8, bias=False), "b": linear(8, 8), "r": linear(8, 1)}
    one = Net(lambda n, x: n.r(torch.relu(n.b(n.a(x))).mean(1)), **layers)
    expected = architecture(one, wide, law={"a": (8**0.5, 0), "*": (1.3, 0.3)}).kernels(wide)
    torch.testing.assert_close((nngp, ntk), expected)


def test_one_vector_for_all_positions_is_a_bias_and_a_frozen_one_adds_no_ntk():
    x = torch.randn(3, 4, 3)
    bias = architecture(network(lambda n, h, x: h, table(1)), x, law={"a": (1.3, 0.5), "*": (1.3, 0.3)})
    shared = network(lambda n, h, x: h + n.p, nn.Parameter(torch.zeros(8)))
    trained = architecture(shared, x, law={**LAW, "p": (0.4, 0)})
    torch.testing.assert_close(trained.kernels(x), bias.kernels(x))  # 0.3^2 + 0.4^2 = 0.5^2
    frozen = architecture(
        network(lambda n, h, x: h + n.p, nn.Parameter(torch.zeros(8), False)), x, law={**LAW, "p": (0.4, 0)}
    )
    torch.testing.assert_close(frozen.nngp(x), bias.nngp(x))
    assert (frozen.ntk(x) < trained.ntk(x)).all()


def test_the_standard_parametrization_is_that_of_the_module_as_it_stands():
    x, width, draws = torch.randn(2, 4, 3), 128, 24
    arch = architecture(
        network(lambda n, h, x: h + n.p, table(4, width), width), x, law=LAW, parametrization="standard"
    )
    finite = torch.stack([empirical_ntk(arch.network(seed=draw), x) for draw in range(draws)])
    off = (finite.mean(0) - arch.ntk(x)).abs() / (finite.std(0) / draws**0.5)
    assert off.max() < 5
    assert (finite.mean(0) - arch.ntk(x)).norm() < 0.15 * arch.ntk(x).norm()


def test_fixed_positions_on_the_input_are_numbers():
    x, fixed = torch.randn(3, 4, 3), torch.randn(4, 3)
    net = Net(lambda n, x: n.r(torch.relu(n.a(x - 2 * n.p)).mean(1)), a=linear(3, 8), r=linear(8, 1), p=fixed)
    plain = Net(lambda n, x: n.r(torch.relu(n.a(x)).mean(1)), a=linear(3, 8), r=linear(8, 1))
    torch.testing.assert_close(architecture(net, x).ntk(x), architecture(plain, x).ntk(x - 2 * fixed))


@pytest.mark.parametrize("law", ["he", "torch", {"*": "lecun"}, {"a": "he", "b": "he", "r": "he"}])
def test_its_standard_deviation_has_to_be_said(law):
    with pytest.raises(BadArgument, match=r'(?s)nothing of the parameter `p`.*no fan-in.*law=\{"p": \(0.02, 0\)'):
        architecture(network(lambda n, h, x: h + n.p, table(4)), torch.randn(2, 4, 3), law=law)


@pytest.mark.parametrize(
    ("function", "p", "text"),
    [
        (lambda n, h, x: h + n.p, nn.Parameter(torch.zeros(4, 1)), r"`p` has 1 where the values have 8 channels"),
        (lambda n, h, x: h + n.p.expand(4, 8), nn.Parameter(torch.zeros(4, 1)), r"is in several channels"),
        (lambda n, h, x: h + torch.stack([n.p, n.p]).sum(0), table(4), r"computed from parameters.*add each one"),
        (lambda n, h, x: h + torch.tanh(n.p).exp(), table(4), r"computed from parameters.*add each one"),
        (lambda n, h, x: n.a(x + n.p), nn.Parameter(torch.zeros(4, 3)), r"added to the input itself"),
        (lambda n, h, x: h + torch.ones(4, 8), table(1), r"A fixed tensor is added to the network's values.*"
                                                              r"a Linear of its own"),
        (lambda n, h, x: h + torch.tanh(n.p), table(4), r"computed from parameters.*fix: add"),
    ],
)  # fmt: skip
def test_what_has_no_limit_is_refused(function, p, text):
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(network(function, p), torch.randn(2, 4, 3), law=LAW)
