"""Card 13: a large constant bias silences neurons, training keeps them silent, and the kernel is known."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from scipy.special import ndtr
from torch import Tensor, nn

from gramian.bounds import bias_ntk
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import beside_printed, mean_series
from gramian.claims.seed_statistics import over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere, random_signs
from gramian.empirical import empirical_ntk
from gramian.report.picture import Picture
from gramian.train import train, two_layer_relu

NEAR = 0.02  # of a share of active neurons
KERNEL = 0.15  # relative distance of the network's kernel from the formula, in the Frobenius norm


def active_share(network: nn.Sequential, x: Tensor) -> float:
    """The share of pairs of a neuron and an input in which the neuron is active."""
    with torch.no_grad():
        return float((network[0](x) > 0).double().mean())


def measure_activity(setting: Setting, seed: int) -> Measured:
    """At each threshold: active shares before and after training, the kernel's distance, eigenvalues of the formula."""
    generator = torch.Generator().manual_seed(seed)
    x = correlated_sphere(setting["n"], setting["d"], generator=generator)
    y = random_signs(len(x), 1, generator=generator)
    names = ("before", "after", "distance", "lambda, biases trained", "lambda, biases fixed")
    series: dict[str, list[float | None]] = {name: [] for name in names}
    for threshold in setting["thresholds"]:
        network = two_layer_relu(
            setting["d"], setting["width"], antisymmetric=True, threshold=threshold, generator=generator
        )
        if not setting["constant"]:
            half = threshold * torch.randn(setting["width"] // 2, generator=generator, dtype=x.dtype)
            with torch.no_grad():
                network.get_parameter("0.bias").copy_(torch.cat([half, half]))
        gram = bias_ntk(x, threshold)
        spectrum = torch.linalg.eigvalsh(gram)
        trained = copy.deepcopy(network)
        train(trained, x, y, optimizer="gd", lr=1 / float(spectrum[-1]), steps=setting["steps"], probes=(),
              stop_loss=1e-4 * len(x) / 2)  # fmt: skip
        fixed = torch.linalg.eigvalsh(bias_ntk(x, threshold, bias_trained=False))
        distance = float((empirical_ntk(network, x) - gram).norm() / gram.norm())
        values = (active_share(network, x), active_share(trained, x), distance, float(spectrum[0]), float(fixed[0]))
        for name, value in zip(names, values, strict=True):
            series[name].append(value)
    expected = [float(ndtr(-threshold)) for threshold in setting["thresholds"]]
    return Measured({}, {"threshold": list(setting["thresholds"]), "expected": expected, **series})


def farthest(m: Measured, name: str, other: str) -> float:
    """The largest distance of two series at any threshold."""
    return max(abs(a - b) for a, b in zip(m.values(name), m.values(other), strict=True))


def judge_activity(measured: Sequence[Measured]) -> Verdict:
    """Shares as expected and kept, the kernel as the formula has it, and a larger eigenvalue with trained biases."""
    off = [farthest(m, "before", "expected") for m in measured]
    kept = [farthest(m, "after", "before") for m in measured]
    kernel = [max(m.values("distance")) for m in measured]
    price = [
        max(a / b for a, b in zip(m.values("lambda, biases fixed"), m.values("lambda, biases trained"), strict=True))
        for m in measured
    ]
    conditions = [
        Condition("active share off Φ(-B), worst threshold and seed", NEAR, max(off), "<="),
        Condition("change of the active share by training, worst threshold and seed", NEAR, max(kept), "<="),
        Condition("kernel off the formula, worst threshold and seed", KERNEL, max(kernel), "<="),
        Condition("eigenvalue with fixed biases over that with trained ones, worst", 1.0, max(price), "<"),
    ]
    effects = []
    for case, threshold in enumerate(measured[0].values("threshold")):
        share = over_seeds([m.values("before")[case] for m in measured])
        effects.append(share.effect(f"active share at B = {threshold:g}", float(ndtr(-threshold)), DERIVED))
    first, last = measured[0].values("threshold")[0], measured[0].values("threshold")[-1]
    loss = over_seeds(
        [m.values("lambda, biases trained")[-1] / m.values("lambda, biases trained")[0] for m in measured]
    )
    effects.append(loss.effect(f"smallest eigenvalue at B = {last:g} over that at B = {first:g}"))
    agreed = [a <= NEAR and b <= NEAR and c <= KERNEL for a, b, c in zip(off, kept, kernel, strict=True)]
    says = "Widths so small, or labels so large, that training moves many neurons across their thresholds."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_activity(measured: Sequence[Measured]) -> list[Picture]:
    """Active shares and smallest eigenvalues against the threshold, mean of the seeds."""
    thresholds, sentence = measured[0].values("threshold"), f"Mean of {len(measured)} seeds."
    shares = {name: mean_series(measured, name) for name in ("before", "after")}
    shares["Φ(-B)"] = mean_series(measured, "expected")
    kinds = ("biases trained", "biases fixed")
    eigenvalues = {kind: mean_series(measured, f"lambda, {kind}") for kind in kinds}
    return [
        beside_printed("active", "Active neurons", ("B", "share"), sentence, thresholds, shares, {}),
        beside_printed("price", "Its price", ("B", "smallest eigenvalue"), sentence, thresholds, eigenvalues, {}),
    ]


COMMON = {"constant": True, "thresholds": (0.0, 0.5, 1.0, 1.5)}
PAPER, (ACTIVITY,) = statements("yang2023bias")
CLAIMS = (
    ACTIVITY.claim(
        {
            "tiny": COMMON | {"n": 6, "d": 6, "width": 2000, "steps": 60},
            "smoke": COMMON | {"n": 20, "d": 20, "width": 8000, "steps": 400},
            "paper": COMMON | {"n": 50, "d": 20, "width": 20000, "steps": 1000},
        },
        measure_activity, judge_activity, picture_activity, {"constant": False},
    ),
)  # fmt: skip
