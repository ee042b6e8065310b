"""How do the gap to the predicted loss and the kernel's distance from its limit shrink with the width?

One hidden layer on 500 digits of ten classes, NTK parametrization with He weights, full-batch gradient descent, 100
steps, 32 draws a width, float32. The gap is max over the steps of |measured / predicted - 1| with the limit kernel and
the network's own first outputs, root mean square over the draws; theory says width^(-1/2) for both. The rate is half of
1/lambda_max of the limit: narrow networks have Gram matrices with up to twice its largest eigenvalue, and at the full
rate one of 32 draws of width 128 came so close to the edge of stability (gap 0.75) that the slope was -0.72.
"""

from __future__ import annotations

import math

import torch
from predicted_curve import digits, outputs
from timing import keep

from gramian import architecture, empirical_ntk, train
from gramian.gram import eigensystem
from gramian.network.zoo import mlp
from gramian.solve.dynamics import loss_curve

WIDTHS, DRAWS, STEPS, RATE = (128, 256, 512, 1024, 2048, 4096), 32, 100, 0.5


def root_mean_square(numbers: list[float]) -> float:
    return math.sqrt(sum(v * v for v in numbers) / len(numbers))


def slope(errors: list[float]) -> float:
    """Of log error against log width, least squares."""
    m, e = (torch.tensor(v, dtype=torch.float64).log() for v in (WIDTHS, errors))
    m = m - m.mean()
    return float(m @ e / (m @ m))


def sweep(activation: str) -> None:
    """One row a width, and one with the slopes."""
    x, y = digits(10)
    inputs, targets = x.float(), y.float()
    arch = architecture(mlp((1, 8, 8), 10, depth=2, width=8, activation=activation), x[:2])
    theta = arch.ntk(x)
    limit, at = eigensystem(theta), torch.arange(STEPS + 1)
    lr = RATE / float(limit.values[-1])
    gaps, kernels = [], []
    for width in WIDTHS:
        found: list[tuple[float, float]] = []
        for seed in range(DRAWS):
            network = arch.network(width, seed, dtype=torch.float32)
            off = float((empirical_ntk(network, inputs) - theta).norm() / theta.norm())
            r0 = outputs(network, inputs) - y
            losses = train(network, inputs, targets, lr=lr, steps=STEPS, probes=()).losses
            ratio = torch.tensor(losses, dtype=torch.float64) / loss_curve(limit, r0, at, lr)
            found.append((float((ratio - 1).abs().max()), off))
        gap, kernel = (root_mean_square([row[k] for row in found]) for k in (0, 1))
        gaps.append(gap)
        kernels.append(kernel)
        each = [round(row[0], 5) for row in found]
        _keep(activation, width=width, gap=round(gap, 5), gaps=each, kernel_error=round(kernel, 5))
    _keep(activation, slope_gap=round(slope(gaps), 3), slope_kernel=round(slope(kernels), 3))


def _keep(activation: str, **row: object) -> None:
    made = {
        "n": 500,
        "steps": STEPS,
        "lr_lambda_max": RATE,
        "draws": DRAWS,
        "dtype": "float32",
        "torch": torch.__version__,
    }
    keep("width_sweep", net=f"64-m-10, {activation}", **row, **made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for activation in ("relu", "gelu"):
        sweep(activation)
