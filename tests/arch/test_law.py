"""The law of the weights, layer by layer."""

import copy
import math
from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn

from gramian import architecture, empirical_ntk
from gramian.errors import BadArgument


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def laws(law):
    return [(a.sigma_w, a.sigma_b) for a in architecture(net(), torch.zeros(1, 6), law=law).affine]


def test_named_laws():
    he = (math.sqrt(2), 0.0)
    assert laws("he") == [he, he, (1.0, 0.0)]
    assert laws("lecun") == [(1.0, 0.0)] * 3
    assert laws((1.3, 0.2)) == [(1.3, 0.2)] * 3


def test_the_law_of_torch_is_the_variance_of_its_initialization():
    torch.manual_seed(0)
    big = nn.Linear(400, 5000)
    ((sigma_w, sigma_b),) = ((a.sigma_w, a.sigma_b) for a in architecture(big, torch.zeros(1, 400), law="torch").affine)
    assert float(big.weight.detach().std()) == pytest.approx(sigma_w / math.sqrt(400), rel=2e-3)  # 2,000,000 draws
    assert float(big.bias.detach().std()) == pytest.approx(sigma_b, rel=3e-2)  # 5,000 draws


def test_a_mapping_an_exact_path_beats_readout_beats_a_pattern():
    assert laws({"*": (1.5, 0.1), "readout": (1, 0)}) == [(1.5, 0.1), (1.5, 0.1), (1.0, 0.0)]
    assert laws({"*": (1.5, 0.1), "4": (3, 0), "readout": (1, 0)})[-1] == (3.0, 0.0)
    assert laws({"*": "he"})[-1] == (1.0, 0.0)
    assert laws({"0": (2, 0), "*": "lecun"})[0] == (2.0, 0.0)


@pytest.mark.parametrize(
    ("law", "text"),
    [
        ({"0": "he"}, r"no entry for the layer `2`.*fix: add \"2\""),
        ("glorot", r"Unknown law 'glorot'.*fix: law=\"he\""),
        ((1.0, -1.0), r"not a pair of standard deviations"),
        ((1.0,), r"not a pair of standard deviations"),
        ((math.nan, 0), r"not a pair of standard deviations"),
    ],
)
def test_a_law_that_makes_no_sense_is_refused(law, text):
    with pytest.raises(BadArgument, match="(?s)" + text):
        laws(law)


def sizes():
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def test_rates_multiply_each_parameters_part_of_the_kernel():
    x, net = torch.randn(4, 3), sizes()
    rates = {"0.weight": 0.3, "0.bias": 2.0, "1.*": 0.7, "3.*": 0.0, "5.*": 1.5}
    expected = torch.zeros(4, 4)
    for name, _ in net.named_parameters():
        alone = copy.deepcopy(net)
        for other, p in alone.named_parameters():
            p.requires_grad_(other == name)
        rate = next(r for pattern, r in rates.items() if fnmatchcase(name, pattern))
        expected = expected + rate * architecture(alone, x, law=(1.3, 0.4)).ntk(x)
    arch = architecture(net, x, law=(1.3, 0.4), rates=rates)
    torch.testing.assert_close(arch.ntk(x), expected, rtol=1e-12, atol=1e-12)
    finite = torch.stack([empirical_ntk(arch.network(256, seed=draw), x) for draw in range(24)])
    assert ((finite.mean(0) - expected).abs() / (finite.std(0) / 24**0.5)).max() < 5  # standard errors


def test_rates_are_those_of_the_users_optimizer():
    x, net = torch.randn(4, 3), sizes()
    groups = [{"params": net[0].parameters(), "lr": 0.2}, {"params": net[5].parameters(), "lr": 0.1}]
    by_optimizer = architecture(net, x, rates=torch.optim.SGD(groups, lr=0.3)).ntk(x)
    by_name = architecture(net, x, rates={"1.*": 0.0, "3.*": 0.0, "5.*": 0.5}).ntk(x)
    assert torch.equal(by_optimizer, by_name)


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ({"nowhere.*": 0.5}, "no parameter is called"),
        ({"0.weight": -1.0}, "is no rate"),
        ({"0.weight": float("nan")}, "is no rate"),
    ],
)
def test_what_is_no_rate_is_refused(rates, text):
    with pytest.raises(BadArgument, match=f"(?s){text}.*where: argument `rates`.*fix: rates="):
        architecture(sizes(), torch.randn(2, 3), rates=rates)


@pytest.mark.parametrize("name", ["biases", "residual", "convolution"])
def test_kernels_are_differentiable_in_the_law(name):
    nets = {
        "biases": (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), (3,)),
        "residual": (wide_resnet_block(), (3,)),
        "convolution": (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)), (2, 5)),
    }
    net, shape = nets[name]
    x = torch.randn(3, *shape, dtype=torch.float64)
    x = torch.cat([x, x[:1] + 1e-9])  # nearly equal rows too

    def kernels(sigma_w, sigma_b):
        return torch.stack(architecture(net, x, law=(sigma_w, sigma_b)).kernels(x)).sum()

    law = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in (1.3, 0.4)]
    found = torch.autograd.grad(kernels(*law), law)
    for k, step in ((0, 1e-6), (1, 1e-6)):
        ahead, back = ([float(s.detach()) + sign * step * (i == k) for i, s in enumerate(law)] for sign in (1, -1))
        slope = (kernels(*ahead) - kernels(*back)) / (2 * step)
        assert float(found[k]) == pytest.approx(float(slope), rel=1e-7)
    torch.testing.assert_close(kernels(*law).detach(), kernels(1.3, 0.4))


def wide_resnet_block():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            h = self.a(x)
            return self.c(torch.relu(h + self.b(torch.relu(h))))

    return Block()


def test_a_law_of_tensors_draws_finite_networks_and_has_a_phase():
    sigma = torch.tensor(1.5, requires_grad=True)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    arch = architecture(net, torch.zeros(1, 3), law=(sigma, 0.1))
    plain = architecture(net, torch.zeros(1, 3), law=(1.5, 0.1))
    x = torch.ones(2, 3, dtype=torch.float64)
    made = [a.network(16, seed=0, dtype=torch.float64)(x).detach() for a in (arch, plain)]
    torch.testing.assert_close(*made)
    assert str(arch.phase()[0]) == str(plain.phase()[0])
