"""Card 9: the distance that weights travel from a start at 0, over that from a random one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gramian.bounds import h_infinity, start_cost
from gramian.claims.claim import DERIVED, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import beside_printed, mean_series
from gramian.claims.seed_statistics import over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.data import correlated_sphere, random_signs
from gramian.report.picture import Picture
from gramian.train import beside_kernel, two_layer_relu

CLOSE, OF_A_SEED = 0.1, 0.3  # relative distance of a ratio from the derived one: of all seeds, of one
LABELS = ("random", "linear", "random, size 1/4")


def measure_movement(setting: Setting, seed: int) -> Measured:
    """By labels, the ratio of root mean square distances, and the limit's."""
    generator = torch.Generator().manual_seed(seed)
    x = correlated_sphere(setting["n"], setting["d"], generator=generator)
    signs = random_signs(len(x), 1, generator=generator)
    linear = x @ torch.randn(setting["d"], 1, generator=generator, dtype=x.dtype)
    labels = dict(zip(LABELS, (signs, linear * (len(x) ** 0.5 / linear.norm()), signs / 4), strict=True))
    series: dict[str, Sequence[float | None]] = {"case": list(range(len(LABELS))), "ratio": [], "derived": []}
    ratios = []
    for y in labels.values():
        squares = []
        for pairs in (setting["pairs"], False):
            networks = [
                two_layer_relu(setting["d"], setting["width"], antisymmetric=pairs, generator=generator)
                for _ in range(setting["draws"])
            ]
            runs = [beside_kernel(net, x, y, h_infinity(x), steps=setting["steps"]) for net in networks]
            squares.append(sum(run.movement**2 for run in runs))
        ratios.append((squares[0] / squares[1]) ** 0.5)
    derived = [start_cost(x, y[:, 0]).ratio for y in labels.values()]
    return Measured({}, series | {"ratio": ratios, "derived": derived})


def judge_movement(measured: Sequence[Measured]) -> Verdict:
    """Shorter than from a random start, by the derived ratio."""
    conditions, compared, effects = [], [], []
    agreed = [
        all(abs(a / b - 1) <= OF_A_SEED for a, b in zip(m.values("ratio"), m.values("derived"), strict=True))
        for m in measured
    ]
    for case, kind in enumerate(LABELS):
        ratio = over_seeds([m.values("ratio")[case] for m in measured])
        over = over_seeds([m.values("ratio")[case] / m.values("derived")[case] for m in measured])
        conditions.append(
            Condition(f"{kind} labels: distance in pairs over independent, upper end", 1.0, ratio.high, "<")
        )
        says = f"{kind} labels: this ratio over the derived one, farther end from 1"
        compared.append(Condition(says, CLOSE, over.distance(1), "<="))
        derived = over_seeds([m.values("derived")[case] for m in measured]).value
        effects.append(ratio.effect(f"{kind} labels: distance in pairs over independent", derived, DERIVED))
    says = "Large random labels: their own cost hides that of the start. Widths at which the kernel moves."
    return judged(conditions, compared, agreed=agreed, effects=effects, says=says)


def picture_movement(measured: Sequence[Measured]) -> list[Picture]:
    """Ratios beside the derived ones, by labels."""
    names = "; ".join(f"{case}: {kind}" for case, kind in enumerate(LABELS))
    ours = {"measured": mean_series(measured, "ratio"), "derived": mean_series(measured, "derived")}
    sentence = (
        f"Distance from a start at 0 over that from a random one, mean of {len(measured)} seeds. Labels: {names}."
    )
    axes = ("labels", "ratio of distances")
    return [
        beside_printed("movement", "How far the weights travel", axes, sentence, list(range(len(LABELS))), ours, {})
    ]


COMMON = {"pairs": True}
PAPER, (_, MOVEMENT) = statements("munteanu2022coupled")
CLAIMS = (
    MOVEMENT.claim(
        {
            "tiny": COMMON | {"n": 6, "d": 6, "width": 128, "draws": 3, "steps": 20},
            "smoke": COMMON | {"n": 20, "d": 10, "width": 512, "draws": 12, "steps": 150},
            "paper": COMMON | {"n": 40, "d": 10, "width": 2048, "draws": 12, "steps": 600},
        },
        measure_movement, judge_movement, picture_movement, {"pairs": False},
    ),
)  # fmt: skip
