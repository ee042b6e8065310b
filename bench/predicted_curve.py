"""How closely does the loss of a width-4096 network on 500 digits follow the predicted one until it fell 100-fold?

Full-batch gradient descent on the squared loss, rate 1/lambda_max of the limit, float32, rows of norm sqrt(64), NTK
parametrization with He weights, one hidden layer. Four predictions from the network's own first outputs: the limit
kernel; its own first Gram matrix averaged over outputs; the same over all outputs, 500 C x 500 C, which couples them;
and, to tell the kernel's motion apart, its drift is given. The gap is max |measured / predicted - 1| over all steps.
"""

from __future__ import annotations

import sys
import time

import torch
from timing import keep
from torch import Tensor, nn

from gramian import architecture, empirical_ntk, train
from gramian.data import load, unit_norm
from gramian.gram import eigensystem
from gramian.network.zoo import mlp
from gramian.solve import time_to
from gramian.solve.dynamics import loss_curve

N, FALL = 500, 100


def digits(n_outputs: int) -> tuple[Tensor, Tensor]:
    """500 rows of norm 8, and targets: ten centered classes, or +1 for a zero and -1 for any other digit."""
    data = load("digits", n=N)
    y = data.targets if n_outputs == 10 else 2.0 * (data.y == 0).double()[:, None] - 1
    return 8 * unit_norm(data.x), y


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Shape (n, C), float64."""
    with torch.no_grad():
        return network(x).double()


def all_outputs_curve(network: nn.Module, x: Tensor, r0: Tensor, lr: float, steps: int) -> Tensor:
    """Losses at steps 0 .. steps under J J^T over all outputs; shape (steps + 1,)."""
    gram = empirical_ntk(network, x, outputs="full").permute(0, 2, 1, 3).reshape(r0.numel(), r0.numel()).contiguous()
    r, losses = r0.to(gram).reshape(-1).clone(), []
    for _ in range(steps + 1):
        losses.append(float(r.double().square().sum() / 2))
        r -= lr * (gram @ r)
    return torch.tensor(losses, dtype=torch.float64)


def gap(measured: Tensor, predicted: Tensor) -> float:
    return round(float((measured / predicted - 1).abs().max()), 5)


def follow(activation: str, n_outputs: int, seed: int, centered: bool, width: int = 4096) -> None:
    """One run; keeps one row. `centered` subtracts the first outputs, so that the network starts at zero."""
    x, y = digits(n_outputs)
    arch = architecture(mlp((1, 8, 8), n_outputs, depth=2, width=8, activation=activation), x[:2])
    limit = eigensystem(arch.ntk(x))
    network, inputs = arch.network(width, seed, dtype=torch.float32), x.float()
    f0 = outputs(network, inputs)
    r0, targets = (-y, y + f0) if centered else (f0 - y, y)
    lr = 1 / float(limit.values[-1])
    expected = time_to(limit, r0, 1 / FALL, lr)
    first = empirical_ntk(network, inputs)
    steps = int(1.5 * expected)
    with_coupling = all_outputs_curve(network, inputs, r0, lr, steps)
    stop = float(r0.square().sum() / 2) / FALL
    began = time.perf_counter()
    trace = train(network, inputs, targets.float(), lr=lr, steps=steps, stop_loss=stop, probes=())
    seconds = time.perf_counter() - began
    losses, at = torch.tensor(trace.losses, dtype=torch.float64), torch.tensor(trace.steps)
    drift = (empirical_ntk(network, inputs) - first).norm() / first.norm()
    keep(
        "predicted_curve", net=f"64-{width}-{n_outputs}, {activation}", n=N, dtype="float32", seed=seed,
        centered=centered, steps=len(losses) - 1, steps_predicted=expected,
        fell=round(float(losses[0] / losses[-1]), 1),
        gap_limit=gap(losses, loss_curve(limit, r0, at, lr)),
        gap_own_mean=gap(losses, loss_curve(eigensystem(first.double()), r0, at, lr)),
        gap_own_all_outputs=gap(losses, with_coupling[: len(losses)]),
        kernel_drift=round(float(drift), 5), seconds=round(seconds, 1), torch=torch.__version__,
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed in range(3):
        follow("gelu", 10, seed, centered=False)
        follow("relu", 10, seed, centered=False)
        follow("gelu", 1, seed, centered=False)
        follow("gelu", 1, seed, centered=True)
        follow("relu", 1, seed, centered=True)
    print("gap: max over all steps of |measured / predicted - 1|", file=sys.stderr)
