"""How good predictions are: accuracy beside what guessing would give, errors in the unit of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def score_lines(what: str, truth: np.ndarray, predicted: np.ndarray, classes: bool) -> list[tuple[str, str]]:
    """Names and values: accuracy, balanced accuracy and base rate; or R^2 and the root of the mean squared error.

    Args:
        what: "training" or "test", or "".
        truth: labels; shape (n,), or (n, C) for a regression on several targets.
        predicted: as `truth`.
        classes: whether labels are classes.
    """
    import numpy as np
    from sklearn.metrics import r2_score

    from gramian.report.numbers import count, number, percent

    if what:
        name = f"{what} "
    else:
        name = ""
    n = len(truth)
    if classes:
        right = truth == predicted
        kinds, counts = np.unique(truth, return_counts=True)
        recalls = [float(right[truth == kind].mean()) for kind in kinds]
        usual = kinds[counts.argmax()]
        return [
            (f"{name}accuracy", f"{percent(float(right.mean()))} of {count(n, 'row')}"),
            (
                "  balanced",
                f"{percent(sum(recalls) / len(recalls))}, the mean over {count(len(kinds), 'class', 'classes')}",
            ),
            ("  base rate", f"{percent(float(counts.max() / n))}, by always saying {str(usual)!r}"),
        ]
    squared = (predicted - truth) ** 2
    spread = ((truth - truth.mean(0)) ** 2).sum()
    share = "not defined on targets that are all alike"
    if spread > 0:
        share = f"{float(r2_score(truth, predicted)):.3f} of {count(n, 'row')}"
    return [
        (f"{name}R²", share),
        ("  error", f"{number(float(squared.mean() ** 0.5))}, root of the mean square, in the target's unit"),
        ("  base error", f"{number(float((spread / truth.size) ** 0.5))}, by always saying the mean"),
    ]
