"""Card 5: the smallest eigenvalue of a deep ReLU network's kernel in the dimension, and which layer keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gramian.bounds import lambda_min_bounds
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers, spread_text
from gramian.claims.seed_statistics import exponent, over_seeds, worst_ratio
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import unit_norm
from gramian.empirical import empirical_ntk
from gramian.report.picture import Picture

LOW, HIGH = 0.8, 1.3  # an exponent near 1; at a dimension near the number of samples it is larger than 1
PLACES = ("first", "second")  # hidden layer that is wide


def gaussian_network(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """A ReLU network without biases, all weights from N(0, 1) and trained."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64)
        nn.init.normal_(layer.weight, generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def gaussian_rows(n: int, d: int, unit: bool, generator: torch.Generator) -> Tensor:
    """Gaussian inputs, of a length near the root of d, or of length 1."""
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if unit:
        rows = unit_norm(rows)
    return rows


def measure_dimension(setting: Setting, seed: int) -> Measured:
    """The smallest eigenvalue over the product of the widths, mean of several networks, at each dimension."""
    generator, means = torch.Generator().manual_seed(seed), []
    for d in setting["dimensions"]:
        values = []
        for _ in range(setting["draws"]):
            x = gaussian_rows(setting["n"], d, setting["unit"], generator)
            network = gaussian_network((d, setting["width"], setting["width"], 1), generator)
            values.append(float(torch.linalg.eigvalsh(empirical_ntk(network, x))[0]) / setting["width"] ** 2)
        means.append(sum(values) / len(values))
    return Measured({}, {"dimension": list(setting["dimensions"]), "lambda": means})


def judge_dimension(measured: Sequence[Measured]) -> Verdict:
    """An exponent near 1."""
    fitted = exponent([m.values("dimension") for m in measured], [m.values("lambda") for m in measured])
    conditions = [
        Condition("exponent of the smallest eigenvalue in the dimension, lower end", LOW, fitted.low, ">="),
        Condition("exponent of the smallest eigenvalue in the dimension, upper end", HIGH, fitted.high, "<="),
    ]
    effects = [fitted.effect("exponent of the smallest eigenvalue in the dimension", 1.0, DERIVED)]
    agreed = [LOW <= each <= HIGH for each in fitted.each]
    says = "Dimensions that are not much larger than the number of samples: there the exponent is larger than 1."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_dimension(measured: Sequence[Measured]) -> list[Picture]:
    """The eigenvalue against the dimension, all seeds."""
    x, y = ([m.values(name) for m in measured] for name in ("dimension", "lambda"))
    words = f"Fitted exponent: {spread_text(exponent(x, y))}; the line has exponent 1."
    axes = ("dimension", "smallest eigenvalue over the widths")
    return [powers("dimension", "Smallest eigenvalue", axes, words, {"measured": (x, y)}, {"measured": 1.0})]


def measure_layer(setting: Setting, seed: int) -> Measured:
    """Bounds and eigenvalue at each width of the wide layer, which is the first or the second."""
    series: dict[str, Sequence[float | None]] = {"width": list(setting["widths"])}
    for place in PLACES:
        generator = torch.Generator().manual_seed(seed)
        x = gaussian_rows(setting["n"], setting["d"], False, generator)
        rows = []
        for width in setting["widths"]:
            hidden = {"first": (width, setting["narrow"]), "second": (setting["narrow"], width)}[place]
            network = gaussian_network((setting["d"], *hidden, 1), generator)
            bounds = lambda_min_bounds(network, x)
            rows.append((bounds.lower, float(torch.linalg.eigvalsh(empirical_ntk(network, x))[0]), bounds.upper))
        for name, values in zip(("lower", "lambda", "upper"), zip(*rows, strict=True), strict=True):
            series[f"{name}, {place}"] = list(values)
    return Measured({"n": setting["n"]}, series)


def judge_layer(measured: Sequence[Measured]) -> Verdict:
    """Between the bounds at every width; positive by the lower one wherever a layer is wide."""
    conditions, effects = [], []
    agreed = [all(min(m.values(f"lower, {place}")) > 0 for place in PLACES) for m in measured]
    for place in PLACES:
        least = min(min(m.values(f"lower, {place}")) for m in measured)
        above = max(worst_ratio(m.values(f"lambda, {place}"), m.values(f"upper, {place}")) for m in measured)
        slack = [worst_ratio(m.values(f"lower, {place}"), m.values(f"lambda, {place}")) for m in measured]
        conditions += [
            Condition(f"{place} layer wide: the smallest lower bound, any width and seed", 0.0, least, ">"),
            Condition(
                f"{place} layer wide: lower bound over the eigenvalue, worst width and seed", 1.0, max(slack), "<="
            ),
            Condition(f"{place} layer wide: eigenvalue over the upper bound, worst width and seed", 1.0, above, "<="),
        ]
        effects.append(over_seeds(slack).effect(f"{place} layer wide: lower bound over the eigenvalue, worst width"))
    says = "A narrow layer that is 0 for some sample: what lies before it no longer counts there."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_layer(measured: Sequence[Measured]) -> list[Picture]:
    """Bounds and eigenvalue against the width, first layer wide, all seeds."""
    pictures = []
    for place in PLACES:
        widths = [m.values("width") for m in measured]
        names = {"lambda": "eigenvalue", "lower": "lower bound", "upper": "upper bound"}
        rows = {words: (widths, [m.values(f"{name}, {place}") for m in measured]) for name, words in names.items()}
        title = f"The {place} layer is wide"
        axes = ("neurons of the wide layer", "eigenvalue and bounds")
        pictures.append(powers(f"layer-{place}", title, axes, f"All {len(measured)} seeds.", rows))
    return pictures


PAPER, (DIMENSION, LAYER) = statements("nguyen2021tight")
CLAIMS = (
    DIMENSION.claim(
        {
            "tiny": {"n": 5, "width": 40, "dimensions": (20, 40, 80, 160), "draws": 8, "unit": False},
            "smoke": {"n": 20, "width": 200, "dimensions": (100, 200, 400, 800, 1600), "draws": 5, "unit": False},
            "paper": {"n": 50, "width": 400, "dimensions": (200, 400, 800, 1600, 3200), "draws": 20, "unit": False},
        },
        measure_dimension, judge_dimension, picture_dimension, {"unit": True},
    ),
    LAYER.claim(
        {
            "tiny": {"n": 12, "d": 5, "narrow": 8, "widths": (24, 96)},
            "smoke": {"n": 60, "d": 10, "narrow": 30, "widths": (120, 240, 480, 960)},
            "paper": {"n": 200, "d": 20, "narrow": 60, "widths": (400, 800, 1600, 3200)},
        },
        measure_layer, judge_layer, picture_layer, {"widths": (8, 11)},
    ),
)  # fmt: skip
