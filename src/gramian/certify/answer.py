"""The answer in three plain sentences: whether, how fast, and why we know."""

from __future__ import annotations

import math

from gramian.certify.evidence import Evidence
from gramian.certify.width import Sweep


def answer(e: Evidence, found: Sweep | None, lr_max: float | None, predicted_steps: float | None) -> tuple[str, ...]:
    """Three sentences on a run."""
    return _whether(e), _how_fast(e, lr_max, predicted_steps), _why(e, found)


def contradiction(pairs: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Three sentences on data that no network can fit."""
    i, j = pairs[0]
    others = len(pairs) - 1
    more = {0: "", 1: ", and so is one more pair"}.get(others, f", and so are {others} more pairs")
    return (
        f"No network can: rows {i} and {j} are the same input with different labels{more}.",
        "Every function is wrong at one of two such rows, so the loss can't go to zero at any learning rate or width.",
        "Correct the labels or drop one row of each pair, and ask again; nothing was trained.",
    )


def _whether(e: Evidence) -> str:
    steps, losses = e.losses
    if not losses:
        return "Not known: the run ended before anything was measured."
    share, accuracy = losses[-1] / losses[0] if losses[0] else 0.0, _last(e, "train_accuracy")
    exact = "" if accuracy is None else "100" if accuracy == 1 else f"{math.floor(1000 * accuracy) / 10}"
    fits = exact and f" and {exact}% training accuracy"  # 99.96 % are not 100 %
    method = {"gd": "gradient descent", "sgd": "SGD", "momentum": "heavy ball", "nesterov": "Nesterov's method",
              "adam": "Adam"}[e.optimizer]  # fmt: skip
    if e.trace.diverged:
        return f"No, not at this learning rate: {e.trace.reason.removeprefix('diverged: ').rstrip('.')}."
    if e.accuracy_steps is not None:
        return f"Yes: {method} brought the training loss down to {share:.2%} of its start in {steps[-1]:,} steps{fits}."
    if e.trace.interrupted:
        return f"Not yet: interrupted after {steps[-1]:,} steps, at {share:.2%} of the initial loss{fits}."
    return (
        f"Not in {steps[-1]:,} steps: {method} left {share:.2%} of the initial training loss{fits}; "
        f"{100 * e.accuracy:.3g}% was asked for."
    )


def _how_fast(e: Evidence, lr_max: float | None, predicted_steps: float | None) -> str:
    text = f"The learning rate was {e.lr:.3g}"
    if lr_max is not None:
        share = e.lr / lr_max
        text += f", {f'{share:.0%} of' if share < 2 else f'{share:.3g} times'} the largest stable one ({lr_max:.3g})"
    if predicted_steps is not None and math.isfinite(predicted_steps):
        text += f"; the infinitely wide network would need {predicted_steps:,.0f} steps"
        text += "" if e.accuracy_steps is None else f", this one took {e.accuracy_steps:,}"
    if e.predicted_error is not None and e.predicted_error <= 0.25:
        text += f"; the loss predicted from it was right within {e.predicted_error:.0%} all the way"
    elif e.own_error is not None and e.own_error <= 0.25:
        text += f"; its own Gram matrix at initialization predicts the loss within {e.own_error:.0%} all the way"
    return text + "."


def _why(e: Evidence, found: Sweep | None) -> str:
    if e.trace.diverged:
        return "A step above 2 over the largest eigenvalue of the Gram matrix increases the loss along that direction."
    if e.lambda_min is None or e.gram_error is None:
        drift = e.extreme("kernel_drift")
        moved = "" if drift is None else f", and the kernel moved by {drift:.0%}: {_regime(drift)}"
        return f"This network has no limit kernel here, so only its own Gram matrix was watched{moved}."
    text = (
        f"The limit's Gram matrix is positive (smallest eigenvalue {e.lambda_min:.3g}), and the network's own, "
        f"at width {e.width}, is within {e.gram_error:.0%} of it"
    )
    drift = e.extreme("kernel_drift")
    if drift is not None:
        text += f" and moved by {drift:.0%}"
    if found is not None:
        text += f"; {found.tolerance:.0%} is expected from width {found.useful_width:,} on"
    return text + ". The theorems' proofs ask for astronomical widths."


def _regime(drift: float) -> str:
    return "the lazy regime" if drift < 0.2 else "features were learned"


def _last(e: Evidence, name: str) -> float | None:
    series = e.trace.measured.get(name)
    value = series.values[-1] if series is not None and series.values else None
    return value if isinstance(value, float) else None
