"""Card 16: gradient descent, heavy ball and Nesterov on a wide network, at settings from its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gramian.claims.claim import DERIVED, FROM_MEMORY, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import over_steps, powers, spread_text
from gramian.claims.problems import wide_network
from gramian.claims.seed_statistics import SeedInterval, exponent, ratio_over_seeds
from gramian.claims.statements import statements
from gramian.conditions import Condition
from gramian.report.picture import Picture
from gramian.solve import tuning
from gramian.train import TunedRun, tuned_run

GD, BEST, POLYAK, NESTEROV, HEAVY = "gd-theory", "gd-best", "polyak", "nesterov-theory", "heavy-ball-theory"
ROWS = (GD, "gd-safe", BEST, HEAVY, POLYAK, NESTEROV, "nesterov")  # the card's control rows
GROWTH = {GD: 1.0, BEST: 1.0, POLYAK: 0.5, NESTEROV: 0.5}  # exponents in kappa, derived
FASTER = 0.6  # of the descent's steps at most: the card's limit, which held on fresh seeds
CLOSE = 0.1  # relative distance of steps from those under the constant kernel
LOW, HIGH = 0.7, 0.8  # an exponent of 1/2 stays below the first, one of 1 above the second


def runs_of(setting: Setting, seed: int, correlation: float, rules: Sequence[str]) -> tuple[float, list[TunedRun]]:
    """The condition number of a wide network's kernel at the start, and a run for each rule."""
    network, x, y, spectrum = wide_network(setting, seed, correlation)
    ends = float(spectrum.values[0]), float(spectrum.values[-1])
    settings = [tuning(*ends, rule) for rule in rules]
    if not setting["momentum"]:
        # a step of momentum beyond 2/lambda_max would not be stable without it
        settings = [replace(one, method="gd", beta=0.0, lr=min(one.lr, 1 / ends[1])) for one in settings]
    limits = {"accuracy": setting["accuracy"], "most_steps": setting["most_steps"]}
    return ends[1] / ends[0], [tuned_run(network, x, y, one, spectrum=spectrum, **limits) for one in settings]


def measure_rates(setting: Setting, seed: int) -> Measured:
    """Residuals of a run for each row, and what the constant kernel predicts."""
    kappa, runs = runs_of(setting, seed, setting["correlation"], (setting["descent"], *ROWS[1:]))
    numbers: dict[str, float | None] = {"kappa": kappa, "bound": 1 - 0.5 * (4 / 3 * kappa) ** -0.5}
    series: dict[str, Sequence[float | None]] = {}
    for row, run in zip(ROWS, runs, strict=True):
        numbers |= {f"steps, {row}": run.steps, f"predicted steps, {row}": run.predicted_steps}
        numbers |= {f"rate, {row}": run.rate(), f"derived rate, {row}": run.tuning.rate}
        series[row] = [float(f"{value:.4g}") for value in run.residuals[: (run.steps or 0) + 1]]
    return Measured(numbers, series)


def judge_rates(measured: Sequence[Measured]) -> Verdict:
    """Fewer steps than descent at the theory's settings, and as many as the constant kernel predicts."""
    faster = {row: ratio_over_seeds(measured, f"steps, {row}", f"steps, {GD}") for row in (NESTEROV, HEAVY)}
    predicted = {row: ratio_over_seeds(measured, f"steps, {row}", f"predicted steps, {row}") for row in (GD, NESTEROV)}
    conditions = [
        Condition(f"steps of {row} over those of {GD}, upper end", FASTER, ratio.high, "<=")
        for row, ratio in faster.items()
    ]
    compared = [
        Condition(
            f"steps of {row} over those under the constant kernel, farther end from 1", CLOSE, ratio.distance(1), "<="
        )
        for row, ratio in predicted.items()
    ]
    effects = [ratio.effect(f"steps of {row} over those of {GD}") for row, ratio in faster.items()]
    for row, other in ((BEST, HEAVY), (POLYAK, BEST), ("nesterov", BEST)):
        ratio = ratio_over_seeds(measured, f"steps, {row}", f"steps, {other}")
        effects.append(ratio.effect(f"control row: steps of {row} over those of {other}"))
    effects += [ratio_over_seeds(measured, f"steps, {row}").effect(f"steps of {row}") for row in ROWS]
    for row in ROWS:
        derived = ratio_over_seeds(measured, f"derived rate, {row}").value
        rate = ratio_over_seeds(measured, f"rate, {row}")
        effects.append(rate.effect(f"rate per step, {row}", derived, DERIVED))
    bound = ratio_over_seeds(measured, "bound").value
    rate = ratio_over_seeds(measured, f"rate, {NESTEROV}")
    effects.append(rate.effect(f"rate per step, {NESTEROV}, beside the paper's bound", bound, FROM_MEMORY))
    agreed = [all(ratio.each[k] <= FASTER for ratio in faster.values()) for k in range(len(measured))]
    says = (
        "A descent with a larger step: the theory gives it half of 1/lambda_max, and most of the gap is that. At its "
        "best step, 2/(lambda_min + lambda_max), the theory's heavy ball is no longer faster; only tuned momentum is."
    )
    return judged(conditions, compared, agreed=agreed, effects=effects, says=says)


def picture_rates(measured: Sequence[Measured]) -> list[Picture]:
    """Residuals of the first seed."""
    sentence = f"Residual over the initial one, first seed, condition number {measured[0].number('kappa'):.3g}."
    curves = {row: measured[0].values(row) for row in ROWS}
    return [over_steps("residuals", "Three methods, seven settings", "residual", sentence, curves)]


def measure_growth(setting: Setting, seed: int) -> Measured:
    """Steps of four rows at several condition numbers."""
    results = [runs_of(setting, seed, correlation, tuple(GROWTH)) for correlation in setting["correlations"]]
    steps = {row: [runs[k].steps for _, runs in results] for k, row in enumerate(GROWTH)}
    return Measured({}, {"kappa": [kappa for kappa, _ in results], **steps})


def exponents(measured: Sequence[Measured]) -> dict[str, SeedInterval]:
    """By row, the exponent of its steps in the condition number."""
    kappa = [m.values("kappa") for m in measured]
    return {row: exponent(kappa, [m.values(row) for m in measured]) for row in GROWTH}


def judge_growth(measured: Sequence[Measured]) -> Verdict:
    """Exponents of steps in the condition number: near 1 for descent, near 1/2 with momentum."""
    fitted = exponents(measured)
    conditions = [
        Condition(f"exponent of the steps of {row}, upper end", LOW, fitted[row].high, "<=")
        for row in (POLYAK, NESTEROV)
    ]
    conditions += [
        Condition(f"exponent of the steps of {row}, lower end", HIGH, fitted[row].low, ">=") for row in (GD, BEST)
    ]
    effects = [fitted[row].effect(f"exponent of the steps of {row}", GROWTH[row], DERIVED) for row in GROWTH]
    agreed = [fitted[NESTEROV].each[k] <= LOW and fitted[GD].each[k] >= HIGH for k in range(len(measured))]
    says = "Labels or condition numbers so large that the network leaves the kernel regime before it is trained."
    return judged(conditions, agreed=agreed, effects=effects, says=says)


def picture_growth(measured: Sequence[Measured]) -> list[Picture]:
    """Steps against the condition number, all seeds."""
    fitted, kappa = exponents(measured), [m.values("kappa") for m in measured]
    rows = {row: (kappa, [m.values(row) for m in measured]) for row in GROWTH}
    sentence = "Fitted exponents: " + ", ".join(f"{row} {spread_text(one)}" for row, one in fitted.items()) + "."
    axes = ("condition number", "steps")
    return [powers("growth", "Steps against the condition number", axes, sentence, rows, GROWTH)]


COMMON = {"data": "sphere", "label": 0.02, "momentum": True, "accuracy": 1e-3, "most_steps": 20_000}
TINY = COMMON | {"n": 6, "d": 6, "width": 256}
SMOKE = COMMON | {"n": 20, "d": 10, "width": 1024}
ONE, MANY = {"correlation": 0.0, "descent": GD}, {"correlations": (0.0, 0.2, 0.4, 0.6)}
PAPER, (RATES, GROWING) = statements("liu2022nesterov")
CLAIMS = (
    RATES.claim(
        {"tiny": TINY | ONE, "smoke": SMOKE | ONE, "paper": SMOKE | ONE | {"n": 50, "d": 20, "width": 8000}},
        measure_rates, judge_rates, picture_rates, {"descent": BEST},
    ),
    GROWING.claim(
        {"tiny": TINY | MANY, "smoke": SMOKE | MANY, "paper": SMOKE | MANY | {"n": 50, "d": 20, "width": 8000}},
        measure_growth, judge_growth, picture_growth, {"momentum": False},
    ),
)  # fmt: skip
