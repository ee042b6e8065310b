"""How far above the measured test error are the proved bounds of trained networks on images?

Rows are drawn at random, so that they are independent samples: two classes of Fashion-MNIST or MNIST with an exact
minimum proved (`gramian.prove`), and ten classes. The prior is the initial network, or one
trained on other rows than those that the bound counts. The control has random labels. Sets below GRAMIAN_DATA.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass

import torch
from timing import keep
from torch import Tensor, nn

import gramian
import gramian.data
from gramian.bounds import arora2019, noisy_error, pac_bayes, rademacher

WIDTH, SCALE, DRAWS, DELTA, TEST_DRAWS = 512, 512.0, 1000, 0.05, 20


class TwoLayer(nn.Module):
    """GELU, weights N(0, 1) in pairs of opposite signs, so that f = 0 at the start; the readout is fixed."""

    def __init__(self, inputs: int):
        super().__init__()
        half = torch.randn(WIDTH // 2, inputs, dtype=torch.float64)
        signs = torch.cat([torch.ones(WIDTH // 2), -torch.ones(WIDTH // 2)]).double()
        self.first = nn.Linear(inputs, WIDTH, bias=False).double()
        self.last = nn.Linear(WIDTH, 1, bias=False).double()
        self.first.weight.data = torch.cat([half, half])
        self.last.weight.data = SCALE / math.sqrt(WIDTH) * signs[None]
        self.last.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.gelu(self.first(x)))


@dataclass(frozen=True)
class Case:
    """A set, two classes (or all), rows of the bound and rows of the prior's training."""

    data: str
    classes: tuple[int, ...]
    n: int
    prior_rows: int = 0
    random_labels: bool = False


CASES = {
    "Fashion-MNIST, trousers against ankle boots": Case("fashion-mnist", (1, 9), 2000),
    "Fashion-MNIST, trousers against ankle boots, prior of 1,000 rows": Case("fashion-mnist", (1, 9), 1000, 1000),
    "MNIST, 0 against 1": Case("mnist", (0, 1), 2000),
    "Fashion-MNIST, T-shirts against shirts": Case("fashion-mnist", (0, 6), 1000),
    "Fashion-MNIST, T-shirts against shirts, prior of 1,000 rows": Case("fashion-mnist", (0, 6), 1000, 1000),
    "Fashion-MNIST, random labels": Case("fashion-mnist", (1, 9), 1000, random_labels=True),
    "Fashion-MNIST, ten classes, prior of 5,000 rows": Case("fashion-mnist", (), 5000, 5000),
}


def rows(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = gramian.data.load(case.data, normalize="unit")
    x, y, x_test, y_test = data.x.flatten(1), data.y, data.x_test.flatten(1), data.y_test
    if case.classes:
        one = case.classes[0]
        kept, kept_test = (torch.isin(labels, torch.tensor(case.classes)) for labels in (y, y_test))
        x, x_test = x[kept], x_test[kept_test]
        y, y_test = (torch.where(labels == one, 1.0, -1.0) for labels in (y[kept], y_test[kept_test]))
    draw = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: case.n + case.prior_rows]
    x, y = x[draw], y[draw]
    if case.random_labels:
        y = torch.randn(len(y), generator=torch.Generator().manual_seed(1)).sign()
    return x, y, x_test, y_test


def two_classes(case: Case, x: Tensor, y: Tensor) -> tuple[nn.Module, nn.Module, gramian.Certificate]:
    """The minimum proved for all rows, and the prior: the start, or the minimum of the first rows alone."""
    net = TwoLayer(x.shape[1])
    prior = copy.deepcopy(net)
    if case.prior_rows:
        gramian.prove(prior, x[: case.prior_rows], y[: case.prior_rows, None].double(), in_place=True)
        net = copy.deepcopy(prior)
    proof = gramian.prove(net, x, y[:, None].double(), in_place=True)
    return net, prior, proof


def ten_classes(case: Case, x: Tensor, y: Tensor) -> tuple[nn.Module, nn.Module, gramian.Certificate]:
    """Adam on the first rows, then a little on all of them: whether their classes are separated is said."""
    prior = nn.Sequential(nn.Linear(x.shape[1], 256), nn.GELU(), nn.Linear(256, 10)).float()
    trained(prior, x[: case.prior_rows].float() * 10, y[: case.prior_rows], epochs=12, lr=1e-3)
    net = copy.deepcopy(prior)
    trained(net, x.float() * 10, y, epochs=2, lr=2e-5)
    return net, prior, gramian.prove(net, x.float().double() * 10, y, loss="cross-entropy")


def trained(net: nn.Module, x: Tensor, y: Tensor, *, epochs: int, lr: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    for name, case in CASES.items():
        if parser.parse_args().only not in name:
            continue
        torch.manual_seed(0)
        x, y, x_test, y_test = rows(case)
        start = time.process_time()
        net, prior, proof = (two_classes if case.classes else ten_classes)(case, x, y)
        proved = time.process_time() - start
        if not case.classes:
            x, x_test = x.float() * 10, x_test.float() * 10
        counted = slice(case.prior_rows, None)
        radius = proof.numbers.get("radius", 0.0)
        row = {
            "case": name,
            "n": case.n,
            "prior_rows": case.prior_rows,
            "proof": proof.status,
            "delta": DELTA,
            "dtype": "float64, float32",
        }
        row |= {"parameters": sum(p.numel() for p in net.parameters() if p.requires_grad), "radius": radius}
        if case.classes and not case.prior_rows:
            near = rademacher(net, x, y, prior, radius=radius, failure_probability=DELTA)
            wide = arora2019(x, y, math.inf, antisymmetric=True, failure_probability=DELTA)
            row |= {"rademacher": round(near.value, 4), "arora_infinite_width": round(wide.numbers["value"], 4)}
        net, prior, start = net.float(), prior.float(), time.process_time()
        bound = pac_bayes(
            net, x[counted].float(), y[counted], prior, radius=radius, draws=DRAWS, pilot_draws=4,
            failure_probability=DELTA,
        )  # fmt: skip
        with torch.no_grad():
            output = net(x_test.float())
        wrong = output[:, 0] * y_test <= 0 if case.classes else output.argmax(1) != y_test
        noisy = noisy_error(net, x_test.float(), y_test, bound.numbers["sigma"], draws=TEST_DRAWS)
        row |= {
            "pac_bayes": round(bound.value, 4), "vacuous": bound.vacuous, "sigma": bound.numbers["sigma"],
            "divergence": round(bound.numbers["divergence"], 1),
            "noisy_train_error": round(bound.numbers["error on the samples, noisy"], 4),
            "noisy_test_error": round(noisy, 4), "test_error": round(float(wrong.double().mean()), 4),
            "seconds_proof": round(proved, 1), "seconds_bound": round(time.process_time() - start, 1),
        }  # fmt: skip
        keep("pac_bayes", **row)


if __name__ == "__main__":
    main()
