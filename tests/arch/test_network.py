"""Finite networks: their law, their parametrizations, and the rate at which they approach the limit."""

import math

import pytest
import torch
from nets import SumOfPosts, jacobian_gram
from torch import nn

from gramian import architecture
from gramian.errors import BadArgument
from gramian.network.zoo import DuResNet, ResNet, cnn, mlp

FAMILIES = {  # family: module, input shape, law, widths, draws
    "mlp": (lambda: mlp((6,), 1, 3, 8, "gelu", bias=True), (6,), (1.3, 0.3), (16, 64, 256), 40),
    "cnn, flatten": (lambda: cnn((2, 5, 5), 1, 3, 8), (2, 5, 5), "he", (16, 64, 256), 12),
    "cnn, pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 1)
        ), (2, 5, 5), (1.3, 0.3), (16, 64, 256), 16,
    ),
    "resnet": (lambda: ResNet((6,), 1, 4, 8, "gelu", bias=True), (6,), (1.2, 0.2), (16, 64, 256), 40),
    "du-resnet": (lambda: DuResNet((6,), 1, 4, 8), (6,), (1, 0), (16, 64, 256), 40),
    "sum of posts": (lambda: SumOfPosts(), (6,), (1.1, 0.2), (16, 64, 256), 40),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_finite_networks_approach_the_limit_like_one_over_root_width(family):
    make, shape, law, widths, draws = FAMILIES[family]
    torch.manual_seed(0)
    x = torch.randn(4, *shape)
    arch = architecture(make(), x, law=law)
    limit = arch.ntk(x)
    errors, bias = [], None
    for width in widths:
        off = torch.stack([jacobian_gram(arch.network(width, seed=s), x) - limit for s in range(draws)])
        errors.append(float(off.square().mean().sqrt()))
        bias = off.mean(0).abs().max() / limit.abs().mean()
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.2)  # in both directions: a wrong limit would flatten out
    assert bias < 0.15  # width 256: the mean over the draws, its standard error 1-4 % of the kernel


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_have_the_nngp_covariance(family):
    make, shape, law, _, _ = FAMILIES[family]
    x = torch.randn(3, *shape)
    arch = architecture(make(), x, law=law)
    draws, width = 400, 64  # the covariance's standard error is 1/sqrt(400) = 5 %, and 1/64 is the width's
    outs = torch.stack([arch.network(width, seed=s)(x).detach()[:, 0] for s in range(draws)])
    scale = arch.nngp(x).diagonal().max()
    assert ((outs.T @ outs / draws - arch.nngp(x)).abs() / scale).max() < 0.25


def test_standard_parametrization_is_the_explicit_gram_matrix_at_its_width():
    x = torch.randn(4, 6)
    arch = architecture(mlp((6,), 1, 3, 512, bias=True), x, law="torch", parametrization="standard")
    grams = torch.stack([jacobian_gram(arch.network(seed=s), x) for s in range(8)])
    assert ((grams.mean(0) - arch.ntk(x)).abs() / arch.ntk(x).abs().max()).max() < 0.1  # 8 draws at width 512


def test_a_seed_fixes_the_draw_and_dtype_is_kept():
    arch = architecture(mlp((6,), 2, 3, 8), torch.zeros(1, 6))
    a, b, c = arch.network(16, seed=1), arch.network(16, seed=1), arch.network(16, seed=2)
    x = torch.randn(3, 6)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))
    assert arch.network(16, dtype=torch.float32)(x.float()).dtype == torch.float32
    assert {p.shape[0] for p in arch.network(widen=3).parameters()} == {24, 2}


def test_frozen_stays_frozen_and_names_are_the_users():
    net = SumOfPosts()
    net.readout.requires_grad_(False)
    drawn = architecture(net, torch.zeros(1, 6), law=(1, 0.1)).network(5)
    trains = {name: p.requires_grad for name, p in drawn.named_parameters()}
    assert trains["layers.a.layer.weight"]
    assert not trains["layers.readout.layer.weight"]
    assert not trains["layers.readout.bias.weight"]


def test_a_width_that_makes_no_sense_is_refused():
    arch = architecture(mlp((6,), 2, 3, 8), torch.zeros(1, 6))
    with pytest.raises(BadArgument, match=r"`width` is 0.*(?s:.*)fix: width=1024"):
        arch.network(0)


def test_a_width_that_does_not_split_into_groups_is_refused_with_one_that_does():
    net = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=3), nn.Flatten(), nn.Linear(6, 1))
    arch = architecture(net, torch.zeros(1, 1, 1, 1))
    assert arch.network(12)(torch.zeros(2, 1, 1, 1)).shape == (2, 1)
    with pytest.raises(BadArgument, match=r"(?s)groups=3 cannot have 100 channels.*multiple of 3, such as 99"):
        arch.network(100)
