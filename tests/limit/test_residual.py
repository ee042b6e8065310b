"""The post-activation residual network's limit: against densities on a grid, and against finite networks."""

import math

import pytest
import torch
from nets import jacobian_gram
from numpy.polynomial.legendre import leggauss
from torch import nn
from torch.nn import functional as F

from gramian import architecture, monte_carlo
from gramian.empirical import empirical_ntk_by_layer
from gramian.errors import BadArgument, BadData, NoLimit
from gramian.limit import allen_zhu_resnet_kernels
from gramian.train.theorem_networks import AllenZhuNetwork

LAW = {"first": "he", "blocks.*": (1, 0), "last": (1.3, 0), "readout": (1, 0)}


class ResNet(nn.Module):
    def __init__(self, width, depth, tau, last=False):
        super().__init__()
        self.first, self.readout = nn.Linear(4, width, bias=False), nn.Linear(width, 1, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.last = nn.Linear(width, width, bias=False) if last else None
        self.tau = tau

    def forward(self, x):
        h = F.relu(self.first(x))
        for block in self.blocks:
            h = F.relu(h + self.tau * block(h))
        return self.readout(h if self.last is None else F.relu(self.last(h)))


def on_a_grid(depth, tau, nodes=400):
    """NNGP and NTK of one input with |x|^2 = d, by carrying the coordinate's density: an independent integration."""
    u, w = (torch.from_numpy(t) for t in leggauss(nodes))

    def normal(value, std):
        return torch.exp(-((value / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))

    u, w = 8 * (1 + tau) * (u + 1), 8 * (1 + tau) * w  # (0, 16 (1 + tau)), ten standard deviations and more
    atom, density = torch.tensor(0.5), normal(u, math.sqrt(2))
    k, joint = [float((w * density * u * u).sum())], {(0, 0): 0.5}
    alive = {0: density}
    for j in range(1, depth + 1):
        step = normal(u[:, None] - u, tau * k[-1] ** 0.5) * w
        density = step @ density + atom * normal(u, tau * k[-1] ** 0.5)
        alive = {l: step @ kept for l, kept in alive.items()} | {j: density}
        joint |= {(l, j): float((w * kept).sum()) for l, kept in alive.items()}
        atom = 1 - (w * density).sum()
        k.append(float((w * density * u * u).sum()))
    entered, ntk = {depth: 1.0}, k[-1]
    for l in range(depth, -1, -1):
        back = sum(entered[j] * joint[l, j] for j in range(l, depth + 1))
        ntk += (tau**2 * k[l - 1] if l else 2.0) * back
        entered[l - 1] = tau**2 * back
    return k[-1], ntk


@pytest.mark.parametrize(("depth", "tau"), [(1, 1.0), (2, 0.5), (3, 0.7), (5, 0.2)])
def test_equal_inputs_agree_with_densities_on_a_grid(depth, tau):  # 5 standard errors of 16 replicates
    coarse, fine = on_a_grid(depth, tau, 300), on_a_grid(depth, tau)
    assert fine == pytest.approx(coarse, rel=1e-9)
    k = allen_zhu_resnet_kernels(2 * torch.ones(1, 4), depth=depth, tau=tau, tolerance=1e-3)
    assert k.reached
    assert abs(k.nngp / 4 - fine[0]) <= 5 * k.nngp_error / 4
    assert abs(k.ntk / 4 - fine[1]) <= 5 * k.ntk_error / 4
    assert k.ntk_error / k.ntk < 1e-3


def test_the_stated_error_is_the_spread_of_other_scramblings():  # 16 seeds know their spread to 18 per cent
    x = torch.randn(3, 4)
    found = [allen_zhu_resnet_kernels(x, depth=2, tau=0.7, tolerance=1e-9, max_points=512, seed=s) for s in range(16)]
    exact = allen_zhu_resnet_kernels(x, depth=2, tau=0.7, tolerance=1e-9, max_points=2**14)
    for name in ("ntk", "nngp"):
        values, stated = (torch.stack([getattr(k, name + end) for k in found]) for end in ("", "_error"))
        ratio = stated.mean(0) / values.std(0)
        assert (ratio > 0.6).all(), ratio
        assert (ratio < 2).all(), ratio  # it counts the interpolation too
        off = (values.mean(0) - getattr(exact, name)).abs()  # reusing each K_l below the next one adds no bias
        assert (off < 4 * (stated.mean(0) / 4 + getattr(exact, name + "_error"))).all(), off


@pytest.mark.parametrize(
    ("depth", "tau", "last"), [pytest.param(1, 1.0, False, marks=pytest.mark.slow), (2, 0.7, True), (3, 0.5, False)]
)
def test_finite_networks_have_it_as_their_mean(depth, tau, last):  # width 512, 60 draws, 4 standard errors
    x, y = torch.randn(3, 4), torch.randn(2, 4)
    k = allen_zhu_resnet_kernels(x, y, depth=depth, tau=tau, sigma_last=1.3 if last else None)
    m = monte_carlo(ResNet(512, depth, tau, last), x, y, law=LAW, kind="both", accuracy=1e-9, draws=60, seed=depth)
    assert ((m.ntk - k.ntk).abs() <= 4 * (m.ntk_error + k.ntk_error)).all()
    assert ((m.nngp - k.nngp).abs() <= 4 * (m.nngp_error + k.nngp_error)).all()
    assert m.ntk_error.norm() < 0.03 * k.ntk.norm()


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_finite_networks_approach_it_like_one_over_root_width(depth):  # widths 32 and 512, 16 draws
    x = torch.randn(3, 4)
    exact = allen_zhu_resnet_kernels(x, depth=depth, tau=0.7).ntk
    error = {}
    for width in (32, 512):
        net = architecture(ResNet(8, depth, 0.7), x, LAW)
        off = [jacobian_gram(net.network(width, seed=s), x) - exact for s in range(16)]
        error[width] = torch.stack(off).square().mean().sqrt()
    assert math.log(error[512] / error[32]) / math.log(16) == pytest.approx(-0.5, abs=0.15)


def test_the_papers_own_network():  # width 512, 6 draws of 40 outputs; relative error 8 per cent
    """h_L = phi(W_L h_{L-1}) at the end, branches of 1 / L, hidden layers trained; the paper's own weights."""
    x, depth, width, outputs, found = torch.randn(3, 4), 3, 512, 40, 0
    for seed in range(6):
        net = AllenZhuNetwork(4, outputs, depth, width, "resnet", generator=torch.Generator().manual_seed(seed))
        inner, second, last = empirical_ntk_by_layer(net, x).values()
        found = found + ((inner + second) / depth**2 + 2 * last) / width / 6  # times the variance of the weights
    k = allen_zhu_resnet_kernels(
        2 * x, depth=depth - 1, tau=1 / depth, sigma_last=2**0.5, sigma_readout=outputs**-0.5, trained=["hidden"]
    )
    assert k.reached
    assert (found - k.ntk).norm() < 0.08 * k.ntk.norm()


def test_numbers_and_options():
    x = torch.tensor([[1.0, 2.0], [-2.0, -4.0], [0.0, 0.0], [1.0, 2.0 + 1e-9]])
    k = allen_zhu_resnet_kernels(x, depth=2, tau=0.5)
    assert torch.equal(k.ntk, k.ntk.T)
    assert k.ntk[0, 0] * 4 == pytest.approx(float(k.ntk[1, 1]))  # homogeneous
    assert k.ntk[0, 3] == pytest.approx(float(k.ntk[0, 0]), rel=1e-6)
    assert (k.ntk[2] == 0).all()
    again, other = (allen_zhu_resnet_kernels(x, x, depth=2, tau=0.5, seed=s) for s in (0, 1))
    torch.testing.assert_close(again.ntk, k.ntk)
    assert ((other.ntk - k.ntk).abs() <= 6 * (other.ntk_error + k.ntk_error)).all()
    assert not torch.equal(other.ntk, again.ntk)
    parts = [allen_zhu_resnet_kernels(x, depth=2, tau=0.5, trained=[p]).ntk for p in ("first", "hidden", "readout")]
    torch.testing.assert_close(sum(parts), k.ntk, rtol=1e-2, atol=1e-2)  # each stops at its own number of points
    torch.testing.assert_close(parts[2], k.nngp, rtol=1e-2, atol=1e-2)
    assert allen_zhu_resnet_kernels(x.float(), depth=1, tau=0.5).ntk.dtype == torch.float32
    short = allen_zhu_resnet_kernels(x, depth=2, tau=0.5, tolerance=1e-6, max_points=512)
    assert (short.reached, short.points) == (False, 512)
    assert short.ntk_error[0, 0] > 1e-6 * short.ntk[0, 0]


def test_without_branches_it_is_the_arc_cosine_kernel():
    x = torch.randn(5, 4)
    net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False))
    nngp, ntk = architecture(net, x).kernels(x)
    k = allen_zhu_resnet_kernels(x, depth=1, tau=0.0)
    scale = x.norm(dim=1)[:, None] * x.norm(dim=1) / 4
    assert ((k.ntk - ntk).abs() < 2e-3 * 2 * scale).all()
    assert ((k.nngp - nngp).abs() < 2e-3 * scale).all()


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"depth": 0}, "`depth` is 0", "depth=3"),
        ({"tau": math.nan}, "`tau` is nan", "tau=1 / depth"),
        ({"sigma_first": -1.0}, "The sigmas are", "sigma_first"),
        ({"trained": "all"}, "`trained` is 'all'", "first"),
        ({"tolerance": 0.0}, "`tolerance` is 0.0", "tolerance=1e-3"),
        ({"max_points": 1}, "`max_points` is 1", "max_points"),
    ],
)
def test_options_out_of_range(options, what, fix):
    said = rf"(?s){what}.*out of range.*where: allen_zhu.*why: .*fix: .*{fix}"
    with pytest.raises(BadArgument, match=said):
        allen_zhu_resnet_kernels(torch.ones(1, 2), **{"depth": 1, "tau": 1.0} | options)


def test_bad_inputs():
    x = torch.ones(3, 2)
    with pytest.raises(BadData, match=r"(?s)`x` has shape \(3, 2, 1\).*where: .*why: .*fix: x = x.flatten\(1\)"):
        allen_zhu_resnet_kernels(x[..., None], depth=1, tau=1.0)
    with pytest.raises(BadData, match=r"(?s)`x2` has shape \(3, 3\).*where: .*`x2`"):
        allen_zhu_resnet_kernels(x, torch.ones(3, 3), depth=1, tau=1.0)
    x[1, 1] = math.inf
    with pytest.raises(BadData, match=r"(?s)NaN or infinite.*where: first in row 1.*fix: keep"):
        allen_zhu_resnet_kernels(x, depth=1, tau=1.0)


def test_the_limit_is_refused_in_closed_form():
    with pytest.raises(NoLimit, match="not Gaussian"):
        architecture(ResNet(8, 1, 1.0), torch.randn(2, 4)).ntk(torch.randn(2, 4))
