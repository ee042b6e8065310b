"""Card 7: where tangent features begin to fit all labels, where their test error peaks, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from gramian.bounds import h_infinity
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import powers
from gramian.claims.seed_statistics import crossing, over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere
from gramian.predict import TangentFeatureRegressor
from gramian.report.picture import Picture
from gramian.solve import solve

FITTED = 1e-8  # mean squared training error: rounding leaves 1e-20 and less, half a feature too few leaves 1e-2
PLACE = 0.1  # of the transition and of the peak: relative distance from Nd = n
AGREES = 0.2  # relative distance from the kernel's test error


def measure_transition(setting: Setting, seed: int) -> Measured:
    """Training and test errors at each number of neurons, and the infinite width's."""
    generator = torch.Generator().manual_seed(seed)
    n, d = setting["n"], setting["d"]
    unit = correlated_sphere(n + setting["n_test"], d, generator=generator)
    direction = torch.nn.functional.normalize(torch.randn(d, generator=generator, dtype=unit.dtype), dim=0)
    rows = unit * math.sqrt(d)
    clean = rows @ direction
    y = clean[:n] + setting["noise"] * torch.randn(n, generator=generator, dtype=unit.dtype)
    x, x_test = rows[:n].numpy(), rows[n:].numpy()
    neurons = [max(1, round(share * n / d)) for share in setting["shares"]]
    fits, tests = [], []
    for count in neurons:
        model = TangentFeatureRegressor(count, ridge=setting["ridge"], random_state=seed).fit(x, y.numpy())
        fits.append(float(np.mean((model.predict(x) - y.numpy()) ** 2)))
        tests.append(float(np.mean((model.predict(x_test) - clean[n:].numpy()) ** 2)))
    limit = solve(h_infinity(unit[:n]), y).predict(h_infinity(unit[n:], unit[:n]))
    wide = float((limit - clean[n:]).square().mean())
    return Measured(
        {"kernel": wide}, {"share": [count * d / n for count in neurons], "training error": fits, "test error": tests}
    )


def places(measured: Sequence[Measured]) -> tuple[list[float], list[float]]:
    """Of each seed: where the training error crosses `FITTED`, and where the test error is largest, in Nd / n."""
    fitted, peaks = [], []
    for m in measured:
        share, tests = m.values("share"), m.values("test error")
        logs = [math.log10(max(value, 1e-30)) for value in m.values("training error")]
        fitted.append(crossing(share, logs, math.log10(FITTED)))
        peaks.append(share[int(np.argmax(tests))])
    return fitted, peaks


def judge_transition(measured: Sequence[Measured]) -> Verdict:
    """Both at Nd = n, and the kernel's error in the end."""
    at, peak = (over_seeds(values) for values in places(measured))
    last = over_seeds([m.values("test error")[-1] / m.number("kernel") for m in measured])
    conditions = [
        Condition("Nd / n where all labels are fitted, farther end from 1", PLACE, at.distance(1), "<="),
        Condition("Nd / n where the test error is largest, farthest seed from 1", PLACE,
                  max(abs(value - 1) for value in peak.each), "<="),
        Condition("test error at the largest Nd over the kernel's, farther end from 1", AGREES, last.distance(1), "<="),
    ]  # fmt: skip
    effects = [
        at.effect("Nd / n where all labels are fitted", 1.0, DERIVED),
        peak.effect("Nd / n where the test error is largest", 1.0, DERIVED),
        last.effect("test error at the largest Nd over that of the infinite width", 1.0, DERIVED),
    ]
    agreed = [abs(a - 1) <= PLACE and abs(b - 1) <= PLACE for a, b in zip(at.each, peak.each, strict=True)]
    says = "A ridge, or noise that is 0: both take the peak away. Few test rows or features leave the last ratio open."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_transition(measured: Sequence[Measured]) -> list[Picture]:
    """Training and test errors against Nd / n, all seeds."""
    share = [m.values("share") for m in measured]
    pictures = []
    for name in ("test error", "training error"):
        shown = [[max(value, 1e-30) for value in m.values(name)] for m in measured]
        rows = {name: (share, shown)}
        if name == "test error":
            rows["infinite width"] = (
                share,
                [[m.number("kernel")] * len(s) for m, s in zip(measured, share, strict=True)],
            )
        axes = ("Nd / n", f"mean squared {name}")
        pictures.append(powers(name.replace(" ", "-"), name.capitalize(), axes, f"All {len(measured)} seeds.", rows))
    return pictures


SHARES = (0.2, 0.4, 0.6, 0.8, 0.93, 1.0, 1.07, 1.2, 1.5, 2.0, 4.0, 10.0, 20.0, 80.0)
COMMON = {"noise": 0.5, "ridge": 0.0, "n_test": 500, "shares": SHARES}
PAPER, (TRANSITION,) = statements("montanari2022interpolation")
CLAIMS = (
    TRANSITION.claim(
        {
            "tiny": COMMON | {"n": 60, "d": 6, "n_test": 50},
            "smoke": COMMON | {"n": 300, "d": 20},
            "paper": COMMON | {"n": 1500, "d": 50, "n_test": 2000},
        },
        measure_transition, judge_transition, picture_transition, {"ridge": 0.1},
    ),
)  # fmt: skip
