"""Card 6: up to how many samples the kernel of one layer is positive, and how its smallest eigenvalue grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers, spread_text
from gramian.claims.seed_statistics import SeedInterval, crossing, exponent, over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.empirical import empirical_ntk
from gramian.report.picture import Picture

ROUNDING = 1e-12  # of the smallest eigenvalue over the mean one: float64 leaves 1e-14, and the first above is 1e-10
PLACE = 0.1  # of the transition: relative distance from n = m^2
GROWS = 0.8  # exponent in m^2 at least; the bound is of order m^2
ACTIVATIONS = {"tanh": nn.Tanh, "linear": nn.Identity}


def layer_spectrum(setting: Setting, n: int, m: int, generator: torch.Generator) -> torch.Tensor:
    """Eigenvalues of the second layer's part of the Gram matrix of a network d - m - m - 1 on n Gaussian inputs."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((setting["d"], m), (m, m), (m, 1)):
        layer = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64)
        std = inputs**-0.5
        if outputs == 1:
            std = 1.0  # of the readout, as the paper's last layer has it
        nn.init.normal_(layer.weight, std=std, generator=generator)
        layer.requires_grad_(outputs == m and inputs == m)
        layers += [layer, ACTIVATIONS[setting["activation"]]()]
    network = nn.Sequential(*layers[:-1])
    x = torch.randn(n, setting["d"], generator=generator, dtype=torch.float64)
    return torch.linalg.eigvalsh(empirical_ntk(network, x))


def measure_transition(setting: Setting, seed: int) -> Measured:
    """The smallest eigenvalue over the mean one at each number of samples, and the eigenvalue at each width."""
    generator, m = torch.Generator().manual_seed(seed), setting["m"]
    samples = [round(m * m / share) for share in setting["shares"]]
    relative = []
    for n in samples:
        spectrum = layer_spectrum(setting, n, m, generator)
        relative.append(float(spectrum[0] / spectrum.mean()))
    grown = []
    for width in setting["widths"]:
        smallest = [float(layer_spectrum(setting, setting["n"], width, generator)[0]) for _ in range(setting["draws"])]
        grown.append(sum(smallest) / len(smallest))
    return Measured(
        {}, {
            "share": [m * m / n for n in samples], "relative": relative,
            "m^2": [width**2 for width in setting["widths"]], "lambda": grown,
        },
    )  # fmt: skip


def located(measured: Sequence[Measured]) -> SeedInterval:
    """Where the relative eigenvalue leaves rounding, in m^2 / n."""
    at = []
    for m in measured:
        logs = [math.log10(max(value, 1e-16)) for value in m.values("relative")]
        at.append(crossing(m.values("share"), logs, math.log10(ROUNDING)))
    return over_seeds(at)


def growth(measured: Sequence[Measured]) -> SeedInterval:
    """The exponent of the smallest eigenvalue in m^2."""
    return exponent([m.values("m^2") for m in measured], [m.values("lambda") for m in measured])


def judge_transition(measured: Sequence[Measured]) -> Verdict:
    """Positive from m^2 = n on, and growing at least like m^2."""
    at, grows = located(measured), growth(measured)
    never = sum(math.isnan(value) for value in at.each)
    conditions = [
        Condition("seeds in which the eigenvalue never leaves 0", 0.0, float(never), "<="),
        Condition("m² / n where the eigenvalue leaves 0, farther end from 1", PLACE, at.distance(1), "<="),
        Condition("exponent of the eigenvalue in m², lower end", GROWS, grows.low, ">="),
    ]
    effects = [
        at.effect("m² / n where the eigenvalue leaves 0", 1.0, DERIVED),
        grows.effect("exponent of the eigenvalue in m²; that of the bound", 1.0, DERIVED),
    ]
    agreed = [abs(value - 1) <= PLACE for value in at.each]
    says = "An activation that is linear, or close to it; inputs in so few dimensions that they are nearly parallel."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_transition(measured: Sequence[Measured]) -> list[Picture]:
    """The relative eigenvalue around the transition, and its growth, all seeds."""
    share, squares = [m.values("share") for m in measured], [m.values("m^2") for m in measured]
    shown = [[max(value, 1e-16) for value in m.values("relative")] for m in measured]
    grown = [[max(value, 1e-16) for value in m.values("lambda")] for m in measured]
    return [
        powers("transition", "Where the kernel becomes positive", ("m² / n", "smallest over mean eigenvalue"),
               f"It leaves 0 at {spread_text(located(measured))}.", {"measured": (share, shown)}),
        powers("growth", "Smallest eigenvalue", ("m²", "smallest eigenvalue"),
               f"Fitted exponent: {spread_text(growth(measured))}; the line has exponent 1.",
               {"measured": (squares, grown)}, {"measured": 1.0}),
    ]  # fmt: skip


SHARES = (0.5, 0.7, 0.85, 0.95, 1.0, 1.05, 1.15, 1.3, 2.0)
COMMON = {"d": 20, "activation": "tanh", "shares": SHARES}
PAPER, (TRANSITION,) = statements("bombari2022memorization")
CLAIMS = (
    TRANSITION.claim(
        {
            "tiny": COMMON | {"d": 8, "m": 5, "n": 12, "widths": (16, 24, 32, 48), "draws": 2},
            "smoke": COMMON | {"m": 12, "n": 60, "widths": (40, 64, 96, 160, 256), "draws": 4},
            "paper": COMMON | {"m": 32, "n": 100, "widths": (60, 100, 160, 256, 400), "draws": 8},
        },
        measure_transition, judge_transition, picture_transition, {"activation": "linear"},
    ),
)  # fmt: skip
