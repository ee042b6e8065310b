"""Card 4: which functions are easy, by the bound of Corollary 6.2."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gramian.bounds import complexity_measure
from gramian.claims.claim import Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers
from gramian.claims.seed_statistics import over_seeds, worst_ratio
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere
from gramian.report.picture import Picture


def measure_powers(setting: Setting, seed: int) -> Measured:
    """The label norm sqrt(y'H^-1 y) of powers, at several n, and its bound."""
    series: dict[str, Sequence[float | None]] = {"n": list(setting["n"])}
    for p in setting["powers"]:
        norms = []
        for n in setting["n"]:
            generator = torch.Generator().manual_seed(seed)
            x = correlated_sphere(n, setting["d"], generator=generator)
            direction = torch.nn.functional.normalize(
                torch.randn(setting["d"], generator=generator, dtype=x.dtype), dim=0
            )
            norms.append(float(complexity_measure(x, (x @ direction) ** p)) * (n / 2) ** 0.5)
        series |= {f"norm, p = {p}": norms, f"bound, p = {p}": [3.0 * p] * len(norms)}
    return Measured({}, series)


def judge_powers(measured: Sequence[Measured]) -> Verdict:
    """The bound holds at every power and size, with its slack."""
    names = measured[0].kinds("norm")
    worst = {
        name: [worst_ratio(m.values(f"norm, {name}"), m.values(f"bound, {name}")) for m in measured] for name in names
    }
    conditions = [
        Condition(f"{name}: the largest number over its bound, at any n and seed", 1.0, max(each), "<=")
        for name, each in worst.items()
    ]
    effects = [over_seeds(each).effect(f"{name}: number over its bound, worst n") for name, each in worst.items()]
    agreed = [all(each[k] <= 1 for each in worst.values()) for k in range(len(measured))]
    return judged(conditions, agreed=agreed, effects=effects, says="An odd power beyond 1, as the control shows.")


def picture_powers(measured: Sequence[Measured]) -> list[Picture]:
    """Numbers over their bounds against n, all seeds."""
    sizes = [m.values("n") for m in measured]
    rows = {}
    for name in measured[0].kinds("norm"):
        bounds = measured[0].values(f"bound, {name}")
        ratios = [[v / b for v, b in zip(m.values(f"norm, {name}"), bounds, strict=True)] for m in measured]
        rows[name] = (sizes, ratios)
    return [powers("slack", "Label norm over its bound", ("samples", "number over bound"),
                   "At most 1 where the bound holds.", rows)]  # fmt: skip


PAPER, (_, _, POWERS) = statements("arora2019fine")
CLAIMS = (
    POWERS.claim(
        {
            "tiny": {"d": 2, "powers": (1, 2), "n": (30, 60)},
            "smoke": {"d": 3, "powers": (1, 2, 4, 6), "n": (50, 100, 200, 400)},
            "paper": {"d": 3, "powers": (1, 2, 4, 6), "n": (100, 200, 400, 800, 1600, 3200)},
        },
        measure_powers, judge_powers, picture_powers, {"powers": (3, 5)},
    ),
)  # fmt: skip
