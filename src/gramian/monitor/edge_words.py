"""What is said of the learning rate against the largest stable one: how often it was measured, and at which rates."""

from __future__ import annotations

import math

from gramian.monitor.phrases import fold, good, last, why_not
from gramian.train.trace import Trace

EDGE, ABOVE, FAR_BELOW = 0.8, 1.5, 0.3  # times the largest stable rate: at the edge, above it, with room
LEAST_RISE = 10.0  # times the smallest loss so far: what is worth telling
CAME_DOWN = 0.5  # of the first loss: a run that is there was not ruined by its rate


def edge_sentence(trace: Trace) -> str:
    """The rate against the edge, and how the loss rose on the way."""
    return _rate(trace) + _rise(trace)


def _rate(trace: Trace) -> str:
    name = "Learning rate against the largest stable one"
    if last(trace, "edge") is None:
        return f"{name}: not measured{why_not(trace, 'edge')}."
    series = trace.measured["edge"]
    points = [(v, k) for v, k in zip(series.values, series.steps, strict=True) if good(v)]
    # at a rate of 0, of a warm-up or a schedule's end, all is stable
    moving = [(v, k) for v, k in points if v > 0]
    if not moving:
        steps = _at([k for _, k in points])
        return f"{name}: not known, the rate was 0 {steps}, where it was measured."
    rates = trace.config.get("lr", 0.0), trace.config.get("largest_lr", 0.0)
    # a schedule that went down: its end says nothing of the run
    if rates[0] < 0.5 * rates[1]:
        return _on_the_way(points, moving)
    edge, step = points[-1]
    if edge == 0:
        return _on_the_way(points, moving)
    return _now(trace, edge, step, moving, rates[0])


def _on_the_way(points: list[tuple[float, int]], moving: list[tuple[float, int]]) -> str:
    most, step = max(moving)
    if points[-1][1] != step:
        now = f", and is {points[-1][0]:.2g} times it now"
    else:
        now = ""
    where = f"The learning rate was {most:.2g} times the largest stable one at step {step:,}{now}"
    if most > ABOVE:
        return f"{where}: it was above the edge of stability on the way."
    if most > EDGE:
        return f"{where}: at the edge on the way."
    measured = _at([k for _, k in moving])
    if len(moving) == 1:
        return f"{where}: stable {measured}, where it was measured."
    return f"{where}: stable all the way, as far as it was measured ({measured})."


def _now(trace: Trace, edge: float, step: int, moving: list[tuple[float, int]], lr: float) -> str:
    if lr:
        rate = f" ({lr:.3g} of {lr / edge:.3g})"
    else:
        rate = ""
    if trace.config.get("loss_kind") == "sum":
        batch = trace.config.get("step_rows")
    else:
        batch = None
    if batch:
        of = f" of a batch of {batch:,} rows, as a step takes them"
    else:
        of = ""
    times = f"The learning rate is {edge:.2g} times the largest stable one{of}{rate}"
    most, highest = max(moving)
    if most > max(1.3 * edge, 0.3):
        before = f"; it came to {most:.2g} times it at step {highest:,}"
    else:
        before = ""
    unseen = trace.config.get("unseen")
    if unseen:
        but = f"; without {unseen:,} coordinates that had no gradient yet"
    else:
        but = ""
    once = f" (measured {_at([k for _, k in moving])}{but})"
    if edge > ABOVE:
        return f"{times}, above the edge of stability{_what_follows(trace)}{once}."
    if edge > EDGE:
        return f"{times}: training runs at the edge of stability{once}{before}."
    return f"{times}: stable" + (", and could be larger" if edge < FAR_BELOW else "") + f"{once}{before}."


def _what_follows(trace: Trace) -> str:
    """Above the edge the loss should grow; whether it did, and what to do."""
    losses = [loss for loss in trace.losses if math.isfinite(loss)]
    fell = len(losses) > 1 and losses[0] > 0 and losses[-1] < CAME_DOWN * losses[0]
    if fell:
        return f", though the loss came down from {losses[0]:.3g} to {losses[-1]:.3g}: watch it"
    if trace.config.get("adaptive"):
        return ": the loss swings there rather than grows, as the preconditioner follows the gradients"
    return ": lower it"


def _rise(trace: Trace) -> str:
    """The largest rise of the loss from what it had come down to; "" if it was no more than `LEAST_RISE`-fold."""
    low, most, peak = math.inf, 1.0, 0
    for step, loss in zip(trace.steps, trace.losses, strict=True):
        if math.isfinite(loss) and loss > 0:
            low = min(low, loss)
            most, peak = max((most, peak), (loss / low, step))
    if most > LEAST_RISE:
        return f" On the way the loss rose {fold(most)}, up to step {peak:,}."
    return ""


def _at(steps: list[int]) -> str:
    """At how many steps.

    Example:
        >>> _at([3]), _at([0, 4]), _at([0, 4, 9])
        ('once, at step 3', 'at steps 0 and 4', 'at 3 steps')
    """
    if len(steps) == 1:
        return f"once, at step {steps[0]:,}"
    if len(steps) == 2:
        return f"at steps {steps[0]:,} and {steps[1]:,}"
    return f"at {len(steps):,} steps"
