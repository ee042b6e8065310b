"""The monitor's answers in words: lazy or not, stable or not, which layer stopped, which samples are slow."""

from __future__ import annotations

import math
from typing import TypeGuard

from gramian.certify.facts import layer_name
from gramian.certify.monitor.slow import Slow
from gramian.train.trace import Series, Trace

LAZY, FEATURES = 0.1, 0.5  # relative change of the Gram matrix
STILL = 0.01  # a layer that moved by less than this share of its way since two thirds of the run has stopped
SMALL = 0.01  # of the largest squared gradient over the loss that the layer had


def sentences(trace: Trace, slow: Slow | None) -> tuple[str, ...]:
    """One sentence or two for each of the four questions; of a run that broke, first where."""
    said = (_regime(trace), _edge(trace), _layers(trace), _slow(slow, trace))
    lost = _lost(trace)
    return (lost, *said) if lost else said


def _lost(trace: Trace) -> str:
    """Where the loss stopped being a finite number; "" if it is one."""
    good = [step for step, loss in zip(trace.steps, trace.losses, strict=True) if math.isfinite(loss)]
    if not trace.steps or trace.steps[-1] in good:
        return ""
    first = next(step for step in trace.steps if not good or step > good[-1])
    broken = trace.config.get("broken")
    since = f"since step {broken + 1:,}" if broken is not None else f"at step {first:,}"
    before = f"; at step {good[-1]:,} it was finite" if good else ""
    edge = _last(trace, "edge")
    why = (
        f" The learning rate was {edge:.2g} times the largest stable one when last measured."
        if edge is not None and edge > 0.8
        else ""
    )
    return f"The loss is not finite {since}{before}.{why} What follows is from before."


def _regime(trace: Trace) -> str:
    drift, gap = _last(trace, "kernel_drift"), _last(trace, "linearization_gap")
    if drift is None:
        return "Lazy or feature learning: not measured."
    near = "" if gap is None else f", and the outputs are {gap:.0%} off its linearization"
    moved = f"the kernel has changed {_much(drift)} since the start{near}"
    if drift < LAZY:
        return f"Lazy: {moved}; kernel theory describes this run."
    if drift > FEATURES:
        return f"Feature learning: {moved}; its first kernel says little about what it learns."
    return f"Between lazy and feature learning: {moved}."


def _edge(trace: Trace) -> str:
    edge = _last(trace, "edge")
    if edge is None or not math.isfinite(edge):
        return f"Learning rate against the largest stable one: not measured{_why(trace, 'edge')}."
    series = trace.measured["edge"]
    most, step = max((v, k) for v, k in zip(series.values, series.steps, strict=True) if _good(v))
    rates = trace.config.get("lr", 0.0), trace.config.get("largest_lr", 0.0)
    if rates[0] < 0.5 * rates[1]:  # a schedule that went down: its end says nothing of the run
        where = f"{most:.2g} times the largest stable one at step {step:,}, and is {edge:.2g} times it now"
        if most > 1.5:
            return f"The learning rate was {where}: it went far above the edge of stability on the way."
        return f"The learning rate was {where}: " + ("at the edge on the way." if most > 0.8 else "stable all the way.")
    times = f"{edge:.2g} times the largest stable one"
    if edge > 1.5:
        return f"The learning rate is {times}, above the edge of stability: lower it."
    if edge > 0.8:
        return f"The learning rate is {times}: training runs at the edge of stability."
    return f"The learning rate is {times}: stable" + (", and could be larger." if edge < 0.3 else ".")


def _layers(trace: Trace) -> str:
    gradient, way = trace.measured.get("layer_gradient_over_loss"), trace.measured.get("distance")
    if gradient is None or not gradient.labels:
        return "Which layer stopped learning: not measured."
    finite = [v for v in gradient.values if isinstance(v, dict) and all(map(math.isfinite, v.values()))]
    if not finite:
        return "Which layer stopped learning: not measured."
    last = finite[-1]
    dead = [name for name, value in last.items() if value == 0]
    if dead:
        return f"No gradient reaches {_names(dead)}: dead units, or parameters that the loss does not use."
    weak = {name for name, value in last.items() if value < SMALL * max(gradient.of(name))}
    stopped = [name for name in _still(way) if name in weak] if way is not None else []
    if stopped:
        return f"{_names(stopped)} stopped learning: hardly any gradient, and no way made in the last third of the run."
    return "Every layer is still learning."


def _still(way: Series) -> list[str]:
    """Layers that made less than `STILL` of their way from initialization in the last third of the steps."""
    if len(way.values) < 3:
        return []
    since = next(k for k, step in enumerate(way.steps) if 3 * step >= 2 * way.steps[-1])
    since = min(since, len(way.values) - 2)
    found = []
    for label in way.labels:
        far = way.of(label)
        if abs(far[-1] - far[since]) <= STILL * far[-1]:
            found.append(label)
    return found


def _slow(slow: Slow | None, trace: Trace) -> str:
    if slow is None:
        return f"Slowest samples: not measured{_why(trace, 'gram_min')}."
    if not slow.directions:
        return f"All {slow.of} directions of the watched samples are being learned."
    rows = ", ".join(map(str, slow.rows))
    return (
        f"In {slow.directions} of {slow.of} directions of the watched samples more than 1/e of the first residual is "
        f"left, {slow.share:.0%} of all that is left to learn; rows with the most of it: {rows}."
    )


def _last(trace: Trace, name: str) -> float | None:
    series = trace.measured.get(name)
    values = [] if series is None else [v for v in series.values if _good(v)]
    return values[-1] if values else None


def _good(value: object) -> TypeGuard[float]:
    return isinstance(value, float | int) and math.isfinite(value)


def _why(trace: Trace, name: str) -> str:
    reason = trace.config.get("skipped", {}).get(name)
    return f" ({reason.rstrip('.')})" if reason else ""


def _much(share: float) -> str:
    return f"by {share:.0%}" if share < 2 else f"{share:,.0f}-fold"


def _names(layers: list[str]) -> str:
    names = [f"`{layer_name(name)}`" for name in layers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
