"""Parametrizations that learn features: how weights and rates scale with the width, and what the kernel means."""

import math

import pytest
import torch
from nets import jacobian_gram
from torch import nn

from gramian import architecture, empirical_ntk
from gramian.errors import BadArgument, NoLimit
from gramian.network.zoo import cnn, mlp


def read(parametrization, depth=3, **settings):
    return architecture(mlp((4,), 1, depth, 8, "gelu", bias=True), torch.zeros(1, 4), (1.2, 0.3),
                        parametrization=parametrization, **settings)  # fmt: skip


def slope(values, widths):
    return math.log(values[-1] / values[0]) / math.log(widths[-1] / widths[0])


def test_the_exponents_are_those_of_the_maximal_update_parametrization():
    """a = (-1/2, 0, 1/2), b = 1/2 throughout, at rate n^0: measured between widths 64 and 1024."""
    arch, found = read("mup"), []
    for width in (64, 1024):
        network = arch.network(width, seed=0)
        rows = []
        for layer in (network.layers.get_submodule(path) for path in ("1", "3", "5")):
            rows.append((layer.scaling.weight, float(layer.layer.weight.detach().std())))
        rows[-1] = (rows[-1][0] * network.output_scale, rows[-1][1])
        found.append(rows)
    exponents = [
        [-math.log(high / low) / math.log(16) for low, high in zip(*layer, strict=True)]
        for layer in zip(*found, strict=True)
    ]
    assert [a for a, _ in exponents] == pytest.approx([-0.5, 0, 0.5])
    assert [b for _, b in exponents] == pytest.approx([0.5, 0.5, 0.5], abs=0.05)  # 64 weights in the readout


def test_the_kernel_of_the_first_step_is_that_of_the_ntk_parametrization_and_outputs_vanish():
    x, y = torch.randn(4, 4), torch.randn(3, 4)
    arch = read("mup", rates={"1.weight": 0.5})
    nngp, ntk = arch.kernels(x, y)
    torch.testing.assert_close(ntk, read("ntk", rates={"1.weight": 0.5}).ntk(x, y), rtol=0, atol=0)
    assert torch.equal(nngp, torch.zeros(4, 3))
    assert "mup parametrization: outputs start at 0, the NTK is the first step's" in str(arch)


@pytest.mark.parametrize("net", [mlp((4,), 1, 3, 8, "gelu", bias=True), cnn((2, 4, 4), 1, 3, 8, "gelu", bias=True)])
def test_finite_networks_approach_the_first_kernel_and_zero_outputs(net):
    """Widths 32, 128, 512, for images 16, 64, 256; 24 draws."""
    vectors = isinstance(net[1], nn.Linear)
    shape, widths = ((4,), (32, 128, 512)) if vectors else ((2, 4, 4), (16, 64, 256))
    x = torch.randn(4, *shape)
    arch = architecture(net, x, (1.2, 0.3), parametrization="mup")
    theta, errors, outputs = arch.ntk(x), [], []
    for width in widths:
        networks = [arch.network(width, seed=s) for s in range(24)]
        finite = torch.stack([empirical_ntk(network, x) for network in networks])
        errors.append(float((finite - theta).flatten(1).norm(dim=1).median()))
        with torch.no_grad():
            outputs.append(float(torch.stack([network(x) for network in networks]).square().mean().sqrt()))
    off = (finite.mean(0) - theta).abs() / (finite.std(0) / math.sqrt(24))
    assert off.max() < 5
    assert slope(errors, widths) == pytest.approx(-0.5, abs=0.2)
    assert slope(outputs, widths) == pytest.approx(-0.5, abs=0.1)


def test_mean_field_is_a_mean_over_neurons_and_the_same_network_as_mup():
    x = torch.randn(3, 4)
    arch = read("mean_field", depth=2)
    network = arch.network(100, seed=1)
    torch.testing.assert_close(network(x), read("mup", depth=2).network(100, seed=1)(x), rtol=0, atol=0)
    first, last = network.layers.get_submodule("1"), network.layers.get_submodule("3")
    w, b, v, c = (10 * p.weight for p in (first.layer, first.bias, last.layer, last.bias))  # of unit variance
    hidden = nn.functional.gelu(1.2 * x @ w.T / 2 + 0.3 * b.T)
    torch.testing.assert_close(network(x), 1.2 * (hidden * v).mean(1, keepdim=True) + 0.3 * c / 10)


def change(network, x, target):
    """Relative change of the kernel, from the same residual at first in both parametrizations."""
    before, start = jacobian_gram(network, x), network(x).detach()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for _ in range(20):
        optimizer.zero_grad()
        ((network(x) - start - target) ** 2).mean().backward()
        optimizer.step()
    return float((jacobian_gram(network, x) - before).norm() / before.norm())


def test_features_move_in_mup_and_not_in_the_ntk_parametrization():
    """The change of the kernel in 20 steps at rate 0.2, widths 64, 256, 1024, the median of 3 draws."""
    x = torch.randn(6, 4)
    target, widths, moved = torch.sin(3 * x[:, :1]), (64, 256, 1024), {}
    for parametrization in ("ntk", "mup"):
        moved[parametrization] = []
        for width in widths:
            networks = [read(parametrization).network(width, seed=seed) for seed in range(3)]
            moved[parametrization].append(sorted(change(network, x, target) for network in networks)[1])
    assert slope(moved["ntk"], widths) < -0.6, moved  # -1 in theory, for the mean
    assert slope(moved["mup"], widths) == pytest.approx(0, abs=0.15), moved
    assert moved["mup"][-1] > 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(NoLimit, match=r'(?s)mean-field parametrization of a network of 3.*fix: parametrization="mup"'):
        read("mean_field")
    with pytest.raises(NoLimit, match=r'(?s)mup parametrization of a network without a hidden.*parametrization="ntk"'):
        architecture(nn.Linear(4, 1), torch.zeros(1, 4), parametrization="mup")
    with pytest.raises(BadArgument, match=r"(?s)Unknown parametrization 'sp'.*there are four, 'ntk', 'standard'"):
        read("sp")
