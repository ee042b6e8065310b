"""The answer in three plain sentences: whether, how fast, and why we know."""

from __future__ import annotations

import math
from typing import Any

from gramian.certify.evidence import Evidence
from gramian.certify.goal import REACHED, Goal, last_accuracy, last_loss, steps_taken
from gramian.certify.proofs import proves_minimum
from gramian.certify.width import Sweep
from gramian.conditions import CONTRADICTED, IMPLIED, OBSERVED, TRAINING, UP_TO_CONSTANTS, Certificate
from gramian.prove.proof import PROVED

METHODS = {"gd": "gradient descent", "sgd": "SGD", "momentum": "heavy ball", "nesterov": "Nesterov's method",
           "adam": "Adam"}  # fmt: skip


def why(did: str, certificates: tuple[Certificate, ...]) -> str:
    """How we know what a run did: only a theorem about training makes it more than observed, and only if it did.

    "proved": the run reached the goal, and an exact minimum near the weights that it left is proved, or that the exact
    run from its initial weights ends in one.
    """
    statuses = {c.status for c in certificates if c.about == TRAINING}
    if did == REACHED and CONTRADICTED not in statuses:
        if proves_minimum(certificates):
            return PROVED
        return next((word for word in (IMPLIED, UP_TO_CONSTANTS) if word in statuses), OBSERVED)
    return OBSERVED


def percent(share: float) -> str:
    """A share in percent; only 1 itself is 100%, and a large one is a factor.

    Example:
        >>> percent(0.0093), percent(0.9996), percent(0.00001), percent(25.0)
        ('0.93%', '99.9%', '0.001%', '25 times')
    """
    if share >= 10:
        return f"{share:.3g} times"
    if 0.99 < share < 1:
        return f"{math.floor(1000 * share) / 10}%"
    return f"{100 * share:.3g}%"


def share_words(loss: float, aim: Goal) -> str:
    """A loss with its share of the best constant predictor's."""
    share = aim.share_of(loss)
    if share is None:
        return f"{loss:.3g}"
    if "times" in percent(share):
        of = " "
    else:
        of = " of "
    return f"{percent(share)}{of}the best constant predictor's ({loss:.3g} of {aim.best_constant:.3g})"


def whether(e: Evidence, did: str, aim: Goal, train: dict[str, Any] | None, still: bool) -> str:
    """First sentence: what the run did, with its numbers, and what counts as the global minimum.

    Args:
        e: evidence of the run.
        did: "reached" or "not reached".
        aim: the goal.
        train: scores on the training rows, in the targets' own unit.
        still: whether no step moved the network.
    """
    loss, steps, method = last_loss(e.trace), steps_taken(e.trace), METHODS[e.optimizer]
    means = f"the global minimum counts as reached with {aim.words}, at the last step"
    if e.trace.diverged:
        reason = e.trace.reason.removeprefix("diverged: ").partition(". ")[0].rstrip(".")
        return f"Not reached: training diverged at this learning rate: {reason}; {means}."
    if loss is None:
        return f"Not reached: the run ended before anything was measured; {means}."
    where = f"{share_words(loss, aim)}{_scores(train, last_accuracy(e.trace) if aim.classes else None)}"
    if steps == 1:
        counted = "1 step"
    else:
        counted = f"{steps:,} steps"
    if did == REACHED:
        return f"Reached: {method} brought the training loss to {where} in {counted}; {means}."
    if e.trace.interrupted:
        return f"Not reached: interrupted after {counted}, with the training loss at {where}; {means}."
    if steps == 0:
        if aim.met_by(loss, last_accuracy(e.trace)):
            already = ", which is already the minimum: no training was seen"
        else:
            already = ""
        return f"Not reached: no step was taken, and the training loss is {where}{already}; {means}."
    if still:
        return (
            f"Not reached: no step moved the network, because all its gradients are zero (dead units, or outputs that "
            f"do not depend on the weights); the training loss is {where}; {means}."
        )
    return f"Not reached: after {counted} {method} left the training loss at {where}; {means}."


def _scores(train: dict[str, Any] | None, accuracy: float | None) -> str:
    """Accuracy, or R^2 and RMSE, behind the loss."""
    said = ""
    if accuracy is not None:
        said = f", with {_exact(accuracy)} training accuracy"
    if train is not None and "rmse" in train:
        errors = ", ".join(f"{v:.3g}" for v in train["rmse"][:3])
        if len(train["rmse"]) > 3:
            errors += ", ..."
        if said:
            said += ", and "
        else:
            said += ", "
        if train["r2"] is not None:
            said += f"R^2 {_below(train['r2'])} and "
        said += f"RMSE {errors} on the training rows"
    return said


def _exact(accuracy: float) -> str:
    # 99.96 % are not 100 %
    if accuracy == 1:
        return "100%"
    return f"{math.floor(1000 * accuracy) / 10}%"


def _below(r2: float) -> str:
    # 0.99996 is not 1
    if r2 == 1:
        return "1"
    return f"{math.floor(r2 * 1e4) / 1e4:.4g}"


def how_fast(
    e: Evidence, rate: dict[str, Any], limit_steps: float | None, first: int | None, still: bool = False
) -> str:
    """Second sentence: the learning rate for the loss as people write it, and how well the kernel predicted the run."""
    text = f"The learning rate was {rate['lr']:.3g} for {rate['loss']}"
    if rate.get("batches"):
        text += f", {rate['batches']}"
    if e.optimizer != "adam":
        text += f" (here lr={e.lr:.3g}, for the loss summed over the rows)"
    if rate["lr_max"] is not None:
        share = rate["lr"] / rate["lr_max"]
        if share < 2:
            said = f"{share:.0%} of"
        else:
            said = f"{share:.3g} times"
        text += f", {said} the largest stable one at the start ({rate['lr_max']:.3g})"
        if e.trace.diverged:
            if share > 1:
                text += f"; try {rate['lr_max'] / 2:.1g}"
            else:
                text += f"; the network left its linearization; try {rate['lr'] / 4:.1g}"
    if limit_steps is not None and math.isfinite(limit_steps):
        text += f"; the infinitely wide network would need {limit_steps:,.0f} steps to the goal's loss"
        if first is not None:
            text += f", this one took {first:,}"
    # a prediction of no progress is no prediction
    if still:
        return text + "."
    if e.predicted_error is not None and e.predicted_error <= 0.25:
        text += f"; the loss predicted from it was right within {_within(e.predicted_error)}{_at(e)}"
    elif e.own_error is not None and e.own_error <= 0.25:
        text += f"; its own Gram matrix at initialization predicts the loss within {_within(e.own_error)}{_at(e)}"
    return text + "."


def _within(error: float) -> str:
    """A bound in whole percent, so never rounded down."""
    return f"{max(math.ceil(100 * error), 1)}%"


def _at(e: Evidence) -> str:
    """At how many steps after the first a prediction was compared with the run: until the goal's loss."""
    last = math.inf if e.accuracy_steps is None else e.accuracy_steps
    count = sum(0 < step <= last for step in e.losses[0])
    if count == 1:
        return " at the one step measured"
    return f" at {count} measured steps"


def because(
    e: Evidence, sweep: Sweep | None, word: str, certificates: tuple[Certificate, ...], singular: bool, did: str,
    proved: str = "",
) -> str:  # fmt: skip
    """Third sentence: how we know it, with what is `proved` or why nothing is, and what the kernel says."""
    if e.trace.diverged:
        return "Observed. A step above 2 over the largest curvature increases the loss along that direction."
    named = next((c.theorem for c in certificates if c.about == TRAINING and c.status == word), "")
    said = f"{proved} ".lstrip()
    if word == PROVED:
        return said + _kernel(e, sweep, singular, did)
    if word == IMPLIED:
        text = f"Implied by a theorem whose premises all hold ({named}). "
    elif word == UP_TO_CONSTANTS:
        text = f"Implied by a theorem whose premises all hold with each open constant taken to be 1 ({named}). "
    else:
        text = "Observed: no theorem about training has all its premises met here. "
    return text + said + _kernel(e, sweep, singular, did)


def _kernel(e: Evidence, sweep: Sweep | None, singular: bool, did: str) -> str:
    drift = e.extreme("kernel_drift")
    if drift is None:
        moved = ""
    else:
        moved = f" and moved by at most {drift:.0%}"
    if e.lambda_min is None or e.gram_error is None:
        # of a whole training
        if drift is not None and did == REACHED:
            lazy = f": {_regime(drift)}"
        else:
            lazy = ""
        return f"This network has no limit kernel here, so only its own Gram matrix was watched{moved}{lazy}."
    if singular:
        text = "The limit's Gram matrix is singular to working precision"
    else:
        text = f"The limit's Gram matrix is positive (smallest eigenvalue {e.lambda_min:.3g})"
    text += f", and the network's own, at width {e.width}, is within {percent(e.gram_error)} of it{moved}"
    if sweep is not None:
        text += f"; {sweep.tolerance:.0%} is expected from width {sweep.words} on"
        if e.width >= sweep.useful_width and e.gram_error > sweep.tolerance:
            text += ", on average over draws of the weights: this draw lies above it"
    return text + "."


def _regime(drift: float) -> str:
    if drift < 0.2:
        return "the lazy regime"
    return "features were learned"
