"""Card 4: the complexity measure against label noise. Its other claims: arora2019curve.py, arora2019powers.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.stats import spearmanr

from gramian.bounds import complexity_measure, h_infinity
from gramian.claims.claim import PRINTED, PRINTED_OF_ANOTHER, Measured, Setting, Verdict, judged
from gramian.claims.claim_pictures import beside_printed, mean_series
from gramian.claims.problems import two_classes
from gramian.claims.seed_statistics import over_seeds
from gramian.claims.statements import printed_numbers, statements
from gramian.conditions import Condition
from gramian.data import with_label_noise
from gramian.report.picture import Picture
from gramian.solve import solve

FIGURE = printed_numbers("arora2019fine")
PRINTED_ROWS = 10_000  # of the figure
RISE, FOLLOWS = 0.6, 0.8  # measure of true labels over that of random ones; rank correlation with the error
PRECISION, READING = 0.05, 0.005  # of a measure against the printed one: relative, and half of its last digit


def measure_labels(setting: Setting, seed: int) -> Measured:
    """The measure, and the limit's test error, at each portion of random labels."""
    portions = setting["portions"]
    numbers: dict[str, float | None] = {"n": setting["n"]}
    series: dict[str, Sequence[float | None]] = {"portion": list(portions)}
    for name, classes in setting["pairs"]:
        generator = torch.Generator().manual_seed(seed)
        x, y, x_test, y_test = two_classes(name, classes, setting["n"], setting["n_test"], generator)
        if setting["permuted"]:
            y = y[torch.randperm(len(y), generator=generator)]
        # the same rows first: each portion adds to the noise of the one before
        targets = torch.stack([with_label_noise(y, p, generator=generator.clone_state()) for p in portions], 1)
        limit, pair = solve(h_infinity(x), targets), f"{name} {classes[0]}-{classes[1]}"
        wrong = (limit.predict(h_infinity(x_test, x)).sign() != y_test[:, None]).double().mean(0)
        share = torch.tensor(portions, dtype=wrong.dtype)
        series |= {
            f"measure, {pair}": complexity_measure(None, targets, solution=limit).tolist(),
            f"test error, {pair}": wrong.tolist(),
            # with the same noise in test labels, the replaced ones are wrong with probability 1/2
            f"noisy test error, {pair}": (share / 2 + (1 - share) * wrong).tolist(),
        }
    return Measured(numbers, series)


def judge_labels(measured: Sequence[Measured]) -> Verdict:
    """The measure rises with the noise, the error with the measure, and both as printed where sizes are the paper's."""
    conditions, compared, effects, agreed = [], [], [], [True] * len(measured)
    pairs = measured[0].kinds("measure")
    for pair in pairs:
        measures = [m.values(f"measure, {pair}") for m in measured]
        errors = [m.values(f"noisy test error, {pair}") for m in measured]
        rise = over_seeds([values[0] / values[-1] for values in measures])
        follows = over_seeds([spearmanr(a, b).statistic for a, b in zip(measures, errors, strict=True)])
        conditions += [
            Condition(f"{pair}: measure of true labels over that of random ones, upper end", RISE, rise.high, "<="),
            Condition(f"{pair}: rank correlation of measure and error, lower end", FOLLOWS, follows.low, ">="),
        ]
        agreed = [ok and r <= RISE and f >= FOLLOWS for ok, r, f in zip(agreed, rise.each, follows.each, strict=True)]
        figure = FIGURE.get(pair.split()[0])
        if figure is None or measured[0].number("n") != PRINTED_ROWS:
            effects.append(rise.effect(f"{pair}: measure of true labels over that of random ones"))
            continue
        off = []
        for k, portion in enumerate(measured[0].values("portion")):
            ours, printed = over_seeds([values[k] for values in measures]), figure["measure"][k]
            off.append(abs(ours.value - printed) / (PRECISION * printed + READING))
            effects.append(ours.effect(f"{pair}: measure at portion {portion:g}", printed, PRINTED))
        for k, portion in enumerate(measured[0].values("portion")):
            error = over_seeds([values[k] for values in errors])
            effects.append(
                error.effect(f"{pair}: test error at portion {portion:g}", figure["test error"][k], PRINTED_OF_ANOTHER)
            )
        says = f"{pair}: measures off the printed ones, over {PRECISION:.0%} and {READING:g}, the worst portion"
        compared.append(Condition(says, 1.0, max(off), "<="))
    says = "Labels that the kernel fits no better than random ones; rows that are equal and have different labels."
    return judged(conditions, compared, agreed=agreed, effects=effects, says=says)


def picture_labels(measured: Sequence[Measured]) -> list[Picture]:
    """Measures and errors against the portion of random labels, with the printed ones."""
    pairs = measured[0].kinds("measure")
    pictures = []
    for quantity, series in (("measure", "measure"), ("test error", "noisy test error")):
        ours = {pair: mean_series(measured, f"{series}, {pair}") for pair in pairs}
        printed, diamonds = {}, ""
        if measured[0].number("n") == PRINTED_ROWS:
            diamonds = "; diamonds are the paper's"
            printed = {pair: FIGURE[pair.split()[0]][quantity] for pair in pairs if pair.split()[0] in FIGURE}
        sentence = f"The {quantity} against label noise, mean of {len(measured)} seeds{diamonds}."
        axes = ("portion of random labels", quantity)
        name = quantity.replace(" ", "-")
        pictures.append(
            beside_printed(name, quantity.capitalize(), axes, sentence, measured[0].values("portion"), ours, printed)
        )
    return pictures


PORTIONS = tuple(k / 10 for k in range(11))
DIGITS = {"pairs": (("digits", (0, 1)), ("digits", (3, 8))), "n_test": 70, "permuted": False}
SETTINGS = {
    "tiny": DIGITS | {"n": 40, "portions": (0.0, 0.25, 0.5, 0.75, 1.0)},
    "smoke": DIGITS | {"n": 250, "portions": PORTIONS},
    "paper": DIGITS | {"n": PRINTED_ROWS, "n_test": 2000, "portions": PORTIONS,
                       "pairs": (("mnist", (0, 1)), ("cifar10", (0, 1)))},
}  # fmt: skip
PAPER, (MEASURE, _, _) = statements("arora2019fine")
CLAIMS = (MEASURE.claim(SETTINGS, measure_labels, judge_labels, picture_labels, {"permuted": True}),)
