"""Card 4: the curve of descent and the movement of the weights, beside those of the limit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gramian.bounds import h_infinity
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers, spread_text
from gramian.claims.seed_statistics import SeedInterval, exponent, over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere, random_signs
from gramian.report.picture import Picture
from gramian.train import KernelComparison, beside_kernel, two_layer_relu

FALLS = -0.25  # an exponent of the curve's error in the width at most: -1/2 is expected, 0 if width does not help
MOVED = 0.1  # relative distance of the movement from the limit's, at the largest width
LABELS = ("linear", "random")


def curve_run(setting: Setting, labels: str, width: int, seed: int) -> KernelComparison:
    """A network of this width beside its limit, from output 0, with labels of mean square 1."""
    generator = torch.Generator().manual_seed(seed)
    x = correlated_sphere(setting["n"], setting["d"], generator=generator)
    y = x @ torch.randn(setting["d"], 1, generator=generator, dtype=x.dtype)
    if labels == "random":
        y = random_signs(len(x), 1, generator=generator)
    scaling = setting["scaling"]
    network = two_layer_relu(setting["d"], width, antisymmetric=True, scaling=scaling, generator=generator)
    scale = {"1/sqrt(m)": 1.0, "1/m": 1 / width}[scaling]
    y = y * (len(x) ** 0.5 / y.norm())
    return beside_kernel(network, x, y, h_infinity(x), steps=setting["steps"], scale=scale)


def measure_curve(setting: Setting, seed: int) -> Measured:
    """Curve and movement at each width, for a linear and a random labeling."""
    series: dict[str, Sequence[float | None]] = {"width": list(setting["widths"])}
    for labels in LABELS:
        errors, distances = [], []
        for width in setting["widths"]:
            runs = [curve_run(setting, labels, width, 1000 * seed + draw) for draw in range(setting["draws"])]
            errors.append(sum(run.curve_error for run in runs) / len(runs))
            distances.append(sum(run.movement / run.predicted_movement for run in runs) / len(runs))
        series |= {f"curve error, {labels}": errors, f"movement, {labels}": distances}
    return Measured({}, series)


def falls(measured: Sequence[Measured]) -> dict[str, SeedInterval]:
    """By labels, the exponent of the curve's error in the width."""
    widths = [m.values("width") for m in measured]
    return {kind: exponent(widths, [m.values(f"curve error, {kind}") for m in measured]) for kind in LABELS}


def judge_curve(measured: Sequence[Measured]) -> Verdict:
    """The curve's error falls with the width, and the weights end where the limit says."""
    fitted = falls(measured)
    moved = {kind: over_seeds([m.values(f"movement, {kind}")[-1] for m in measured]) for kind in LABELS}
    conditions = [
        Condition(f"{kind} labels: exponent of the curve's error in the width, upper end", FALLS, one.high, "<=")
        for kind, one in fitted.items()
    ]
    conditions += [
        Condition(f"{kind} labels: movement over the limit's, farther end from 1", MOVED, one.distance(1), "<=")
        for kind, one in moved.items()
    ]
    effects = [
        one.effect(f"{kind} labels: exponent of the curve's error", -0.5, DERIVED) for kind, one in fitted.items()
    ]
    effects += [one.effect(f"{kind} labels: movement over the limit's", 1.0, DERIVED) for kind, one in moved.items()]
    agreed = [
        all(fitted[kind].each[k] <= FALLS and abs(moved[kind].each[k] - 1) <= MOVED for kind in LABELS)
        for k in range(len(measured))
    ]
    says = "Labels along the smallest eigenvalues, widths too small to stay near the start, or mean-field scaling."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_curve(measured: Sequence[Measured]) -> list[Picture]:
    """Errors of the curve against the width, all seeds."""
    widths = [m.values("width") for m in measured]
    rows = {f"{kind} labels": (widths, [m.values(f"curve error, {kind}") for m in measured]) for kind in LABELS}
    words = ", ".join(f"{kind} {spread_text(one)}" for kind, one in falls(measured).items())
    lines = dict.fromkeys(rows, -0.5)
    return [powers("curve-error", "Distance from the predicted curve", ("width", "largest distance"),
                   f"Fitted exponents: {words}; lines have exponent -1/2.", rows, lines)]  # fmt: skip


CURVE_SETTING = {"d": 10, "scaling": "1/sqrt(m)", "draws": 3}
PAPER, (_, CURVE, _) = statements("arora2019fine")
CLAIMS = (
    CURVE.claim(
        {
            "tiny": CURVE_SETTING | {"n": 8, "widths": (32, 64, 128, 256), "steps": 20, "draws": 1},
            "smoke": CURVE_SETTING | {"n": 50, "widths": (128, 256, 512, 1024, 2048), "steps": 300},
            "paper": CURVE_SETTING | {"n": 100, "widths": (512, 1024, 2048, 4096, 8192), "steps": 600},
        },
        measure_curve, judge_curve, picture_curve, {"scaling": "1/m"},
    ),
)  # fmt: skip
