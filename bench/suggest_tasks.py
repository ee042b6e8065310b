"""Does training at the rate that `suggest` advises reach the test accuracy of the optimizer's customary rate?

Ten small tasks with minibatches of 32 or 64 and a fixed number of steps, three seeds each. The advice is asked once a
seed, for one random batch of training rows at the initial weights. Customary: SGD 0.1, momentum 0.9 with 0.01, Adam
and RMSprop 1e-3; SGD 0.01 and momentum 0.1 beside them. "At least equal" is a mean accuracy of no more than half a
point below; a bad loss is more than three points. Sets that are not below GRAMIAN_DATA are left out, and said.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

import torch
from timing import keep
from torch import Tensor, nn

import gramian.data
from gramian import suggest
from gramian.errors import GramianError

SEEDS, EQUAL, BADLY = (20, 21, 22), 0.005, 0.03
CUSTOMARY = {"sgd": (0.1, 0.01), "momentum": (0.01, 0.1), "adam": (1e-3,), "rmsprop": (1e-3,)}  # the first one counts


def mlp(d: int, c: int, *widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(d, width), activation()]
        d = width
    return nn.Sequential(*layers, nn.Linear(d, c))


def cnn(channels: int, c: int, width: int, *, normalized: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((channels, width), (width, 2 * width)):
        layers += [nn.Conv2d(before, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after)] if normalized else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, c))


@dataclass(frozen=True)
class Task:
    """A set, how many training rows, a network, "ce" or "mse" (on one-hot rows), rows a batch, steps."""

    data: str
    n: int
    net: Callable[[], nn.Module]
    loss: str
    batch: int
    steps: int


TASKS = {
    "digits, MLP, cross-entropy": Task("digits", 1200, lambda: mlp(64, 10, 128, 128), "ce", 32, 1000),
    "digits, tanh MLP, mean squares": Task(
        "digits", 1200, lambda: mlp(64, 10, 128, 128, activation=nn.Tanh), "mse", 32, 1000
    ),
    "Fashion-MNIST, MLP, cross-entropy": Task("fashion-mnist", 4000, lambda: mlp(784, 10, 256, 128), "ce", 64, 1000),
    "Fashion-MNIST, CNN, mean squares": Task("fashion-mnist", 3000, lambda: cnn(1, 10, 8), "mse", 64, 600),
    "MNIST, CNN, cross-entropy": Task("mnist", 3000, lambda: cnn(1, 10, 8), "ce", 32, 600),
    "CIFAR-10, CNN with BatchNorm, cross-entropy": Task(
        "cifar10", 4000, lambda: cnn(3, 10, 16, normalized=True), "ce", 64, 600
    ),
    "letter, MLP, cross-entropy": Task("uci:letter", 8000, lambda: mlp(16, 26, 128, 128), "ce", 64, 1500),
    "landsat, deep MLP, cross-entropy": Task(
        "uci:statlog-landsat", 3000, lambda: mlp(36, 6, 64, 64, 64, 64), "ce", 32, 1500
    ),
    "wall-following, MLP, mean squares": Task("uci:wall-following", 4000, lambda: mlp(24, 4, 64, 64), "mse", 32, 1500),
    "optical, MLP, cross-entropy": Task("uci:optical", 3000, lambda: mlp(62, 10, 128), "ce", 32, 1000),
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of a task, targets as its loss takes them."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    labels_test: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]


def prepared(task: Task) -> Prepared:
    data = gramian.data.load(task.data, n=task.n, normalize="standardize", dtype=torch.float32)
    if task.loss == "mse":
        y = nn.functional.one_hot(data.y, len(data.classes)).float()
        return Prepared(data.x, y, data.x_test, data.y_test, nn.MSELoss())
    return Prepared(data.x, data.y, data.x_test, data.y_test, nn.CrossEntropyLoss())


def optimizer_of(name: str, net: nn.Module, lr: float) -> torch.optim.Optimizer:
    if name == "rmsprop":
        return torch.optim.RMSprop(net.parameters(), lr=lr)
    if name == "adam":
        return torch.optim.Adam(net.parameters(), lr=lr)
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9 if name == "momentum" else 0.0)


def accuracy(task: Task, rows: Prepared, name: str, lr: float, seed: int) -> float:
    """On the test rows after training; nothing is chosen by it."""
    torch.manual_seed(seed)
    net = task.net()
    optimizer, draw = optimizer_of(name, net, lr), torch.Generator().manual_seed(seed)
    order, at = torch.randperm(len(rows.x), generator=draw), 0
    for _ in range(task.steps):
        if at + task.batch > len(order):
            order, at = torch.randperm(len(rows.x), generator=draw), 0
        batch = order[at : at + task.batch]
        at += task.batch
        optimizer.zero_grad()
        value = rows.loss(net(rows.x[batch]), rows.y[batch])
        if not math.isfinite(float(value.detach())):
            break
        value.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        return float((net(rows.x_test).argmax(1) == rows.labels_test).double().mean())


def advised(task: Task, rows: Prepared, name: str, seed: int) -> float | None:
    """The rate for a batch that training could draw."""
    torch.manual_seed(seed)
    net = task.net()
    batch = torch.randperm(len(rows.x), generator=torch.Generator().manual_seed(1000 + seed))[: task.batch]
    optimizer = optimizer_of(name, net, CUSTOMARY[name][0]) if name == "rmsprop" else name
    return suggest(net, (rows.x[batch], rows.y[batch]), rows.loss, optimizer).lr


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--optimizers", nargs="*", default=list(CUSTOMARY))
    options.add_argument("--tasks", nargs="*", default=list(TASKS))
    options = options.parse_args()
    won: dict[tuple[str, float], list[float]] = {}
    for title in options.tasks:
        task = TASKS[title]
        try:
            rows = prepared(task)
        except GramianError as error:
            print(f"{title}: left out, {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            continue
        for name in options.optimizers:
            rates = [advised(task, rows, name, seed) for seed in SEEDS]
            usual = [[accuracy(task, rows, name, lr, seed) for seed in SEEDS] for lr in CUSTOMARY[name]]
            ours = []
            for k, (lr, seed) in enumerate(zip(rates, SEEDS, strict=True)):
                if lr == CUSTOMARY[name][0]:  # the same run
                    ours.append(usual[0][k])
                elif lr is not None:
                    ours.append(accuracy(task, rows, name, lr, seed))
            row = {"task": title, "optimizer": name, "dtype": "float32"}
            row["lr"] = [lr and float(f"{lr:.3g}") for lr in rates]
            row |= {"accuracy": [round(a, 4) for a in ours]}
            for lr, theirs in zip(CUSTOMARY[name], usual, strict=True):
                row[f"at {lr:g}"] = [round(a, 4) for a in theirs]
                if len(ours) == len(SEEDS):
                    won.setdefault((name, lr), []).append(mean(ours) - mean(theirs))
            keep("suggest_tasks", **row)
    for (name, usual), gains in won.items():
        said = {"optimizer": name, "customary": usual, "tasks": len(gains), "mean_gain": round(mean(gains), 4)}
        said |= {"equal_or_better": sum(g >= -EQUAL for g in gains), "badly": sum(g < -BADLY for g in gains)}
        keep("suggest_tasks", **said, least_gain=round(min(gains), 4))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
