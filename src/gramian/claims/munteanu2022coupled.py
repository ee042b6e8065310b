"""Card 9: neurons in pairs of opposite signs start at output 0, with the same kernel. See munteanu2022movement.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gramian.bounds import h_infinity
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers
from gramian.claims.seed_statistics import exponent, over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere
from gramian.empirical import empirical_ntk
from gramian.report.picture import Picture
from gramian.train import two_layer_relu

ZERO = 1e-10  # of an output: sums of thousands of terms of size 1 / sqrt(m) in float64 cancel to less
FALLS = -0.4  # an exponent of the kernel's error in the width at most: -1/2 is expected


def start_errors(x: Tensor, width: int, pairs: bool, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """The largest output at the start, and the mean relative distance of the kernel from its limit."""
    limit, output, distance = h_infinity(x), 0.0, 0.0
    for _ in range(draws):
        network = two_layer_relu(x.shape[1], width, antisymmetric=pairs, generator=generator)
        output = max(output, float(network(x).detach().abs().max()))
        distance += float((empirical_ntk(network, x) - limit).norm() / limit.norm()) / draws
    return output, distance


def measure_start(setting: Setting, seed: int) -> Measured:
    """Outputs at the start and distances of kernels, at each width, in pairs and independent."""
    generator = torch.Generator().manual_seed(seed)
    x = correlated_sphere(setting["n"], setting["d"], generator=generator)
    series: dict[str, Sequence[float | None]] = {"width": list(setting["widths"])}
    for kind, pairs in (("pairs", setting["pairs"]), ("independent", False)):
        rows = [start_errors(x, width, pairs, setting["draws"], generator) for width in setting["widths"]]
        series |= {f"output, {kind}": [row[0] for row in rows], f"distance, {kind}": [row[1] for row in rows]}
    return Measured({}, series)


def judge_start(measured: Sequence[Measured]) -> Verdict:
    """Output 0, and a kernel that comes to its limit like one over the root of the width."""
    largest = [max(m.values("output, pairs")) for m in measured]
    widths = [m.values("width") for m in measured]
    falls = exponent(widths, [m.values("distance, pairs") for m in measured])
    apart = over_seeds(
        [
            sum(a / b for a, b in zip(m.values("distance, pairs"), m.values("distance, independent"), strict=True))
            / len(m.values("width"))
            for m in measured
        ]
    )
    conditions = [
        Condition("largest output at the start, any input, width and seed", ZERO, max(largest), "<="),
        Condition("exponent of the kernel's distance from its limit in the width, upper end", FALLS, falls.high, "<="),
    ]
    effects = [
        over_seeds(largest).effect("largest output at the start, in pairs", 0.0, DERIVED),
        over_seeds([max(m.values("output, independent")) for m in measured]).effect("the same, independent"),
        falls.effect("exponent of the kernel's distance in the width", -0.5, DERIVED),
        # half as many independent neurons: their average varies sqrt 2 as much
        apart.effect("the kernel's distance in pairs, over that of independent neurons", 2**0.5, DERIVED),
    ]
    agreed = [value <= ZERO for value in largest]
    return judged(conditions, agreed=agreed, effects=effects, says="Neurons that are not exactly in pairs.")


def picture_start(measured: Sequence[Measured]) -> list[Picture]:
    """The kernel's distance from its limit, all seeds."""
    widths = [m.values("width") for m in measured]
    rows = {kind: (widths, [m.values(f"distance, {kind}") for m in measured]) for kind in ("pairs", "independent")}
    words = "Lines have exponent -1/2; pairs are half as many independent neurons."
    axes = ("width", "relative distance")
    return [powers("kernel", "Distance of the kernel from H", axes, words, rows, dict.fromkeys(rows, -0.5))]


COMMON = {"pairs": True}
PAPER, (START, _) = statements("munteanu2022coupled")
CLAIMS = (
    START.claim(
        {
            "tiny": COMMON | {"n": 6, "d": 4, "widths": (32, 64, 128, 256), "draws": 4},
            "smoke": COMMON | {"n": 20, "d": 10, "widths": (128, 256, 512, 1024, 2048), "draws": 16},
            "paper": COMMON | {"n": 40, "d": 10, "widths": (1024, 2048, 4096, 8192, 16384), "draws": 16},
        },
        measure_start, judge_start, picture_start, {"pairs": False},
    ),
)  # fmt: skip
