"""Every quantity that Allen-Zhu, Li and Song (arXiv:1811.03962) bound, seen on small networks."""

import math

import pytest
import torch
from torch.nn import functional as F

from gramian.data import normalize_and_pad
from gramian.train import AllenZhuNetwork, SemiSmoothness, train

N, D, C, L, STEPS, WIDTHS = 10, 16, 5, 3, 400, (128, 256, 512)


def data(draw):
    """Unit inputs that end in 1/sqrt 2, and unit targets."""
    generator = torch.Generator().manual_seed(draw)
    x = F.normalize(torch.randn(N, D - 1, generator=generator))
    x = normalize_and_pad(x)[:, [*range(D - 1), D]]  # the padded coordinate is 0: all norms are equal already
    return x, F.normalize(torch.randn(N, C, generator=generator))


def run(width, draw, x, y):
    net = AllenZhuNetwork(D, C, L, width, generator=torch.Generator().manual_seed(1000 + draw))
    probes = ["gradient_over_loss", "spectral_distance", "sign_flips", "forward_norms", "separability"]
    probes.append(SemiSmoothness(scale=net.smoothness(N)))
    return train(net, x, y, lr=net.suggested_lr(N), steps=STEPS, every=40, probes=probes)


def r_squared(losses):
    """Of a straight line through log loss against step."""
    both = torch.stack([torch.arange(float(len(losses))), torch.tensor(losses).log()])
    return float(torch.corrcoef(both)[0, 1]) ** 2


def slope(values):
    """Exponent of the width, by least squares on logarithms."""
    m, v = torch.tensor(WIDTHS).double().log(), torch.tensor(values).log()
    return float(((m - m.mean()) * (v - v.mean())).sum() / (m - m.mean()).square().sum())


def mean_log(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def mean_flips(trace):
    """Mean over the trained layers; the first activation's inputs are fixed, so it has no flips."""
    first, *trained = trace.measured["sign_flips"].values[-1].values()
    assert first == 0
    return sum(trained) / L


def share(checks):
    return sum(checks) / len(checks)


@pytest.mark.slow
def test_everything_that_the_theory_bounds_is_within_its_bounds():
    """n = 10, 16 inputs, 5 outputs, depth 3, widths 128 to 512, 400 steps at d/(m n L), 12 draws of data and weights.

    Single runs scatter (slopes of the flips from -.15 to -.53), so slopes are those of the geometric mean over draws,
    and what the theory gives with high probability is asked of nine runs in ten.
    """
    runs, delta = {m: [] for m in WIDTHS}, []
    for draw in range(12):
        x, y = data(draw)
        delta.append(float(torch.pdist(x).min()))
        for m in WIDTHS:
            runs[m].append(run(m, draw, x, y))
    straight, smooth, norms_near_one, apart = [], [], [], []
    for m in WIDTHS:
        for trace, separation in zip(runs[m], delta, strict=True):
            assert all(b < a for a, b in zip(trace.losses, trace.losses[1:], strict=False))
            rho = [v * C / m for v in trace.measured["gradient_over_loss"].values]
            assert min(rho) * N**2 / separation >= 1
            assert max(rho) <= 4 * L * N
            straight.append(r_squared(trace.losses) >= 0.98)
            smooth.append(max(trace.measured["semi_smoothness"].values) <= 1)
            h = trace.measured["forward_norms"]
            window = 6 * math.sqrt(L / m)
            norms_near_one.append(1 - window <= min(h.lower[0].values()) and max(h.upper[0].values()) <= 1 + window)
            apart.append(min(trace.measured["separability"].values[0].values()) >= separation / 2)
    distance = [mean_log([max(t.measured["spectral_distance"].values[-1].values()) for t in runs[m]]) for m in WIDTHS]
    flips = [mean_log([mean_flips(t) for t in runs[m]]) for m in WIDTHS]
    print(f"\nspectral distance {distance}, slope {slope(distance):.3f}; flips {flips}, slope {slope(flips):.3f}")
    shares = [share(straight), share(smooth), share(norms_near_one), share(apart)]
    print(f"straight, smooth, norms near one, apart: {shares}")
    assert min(shares) >= 0.9
    assert -0.65 <= slope(distance) <= -0.40
    assert slope(flips) <= -0.30
