"""The monitor's answers in words, each with how much was measured: the regime, layers that stopped, slow samples."""

from __future__ import annotations

import math

from gramian.monitor.edge_words import edge_sentence
from gramian.monitor.phrases import fold, good, last, measured_at, names_of, since_when, why_not
from gramian.monitor.slow_samples import Slow
from gramian.train.trace import Series, Trace

LAZY, FEATURES = 0.1, 0.5  # relative change of the Gram matrix
SAME_SHAPE_COSINE = 0.95  # cosine of two Gram matrices that are one up to their size
STILL_SHARE = 0.01  # a layer that moved by less than this share of its way since two thirds of the run has stopped
MANY_DIRECTIONS = 0.5  # of the directions: if more are slow, their number says nothing
SLOWED_SHARE = 0.25  # and one that moved by less than this is named
SMALL_GRADIENT_SHARE = 0.01  # of the largest share of the squared gradient that the layer had
LEAST_FALL = 0.1  # of the loss: a run whose loss fell by less has not shown yet how it learns
LEARNED_LOSS_SHARE = 0.01  # of the first loss: below it a network has learned its rows, and all layers stop
LEAST_MEASUREMENTS = 3  # measurements that it takes to say how something goes


QUESTIONS = (
    "Lazy, or feature learning?",
    "Learning rate over the edge of stability?",
    "Which layer stopped learning?",
    "Which samples are slowest?",
)


def sentences(trace: Trace, slow: Slow | None) -> tuple[str, ...]:
    """One sentence or two for each of the four `QUESTIONS`; of a run that broke, first where."""
    said = (_regime(trace), edge_sentence(trace), _layers(trace), _slow(slow, trace))
    lost = _lost(trace)
    if lost:
        return (lost, *said)
    return said


def _lost(trace: Trace) -> str:
    """Where the loss stopped being a finite number; "" if it is one."""
    finite = [step for step, loss in zip(trace.steps, trace.losses, strict=True) if math.isfinite(loss)]
    if not trace.steps or trace.steps[-1] in finite:
        return ""
    first = next(step for step in trace.steps if not finite or step > finite[-1])
    broken = trace.config.get("broken")
    if broken is not None:
        since = f"since step {broken + 1:,}"
    else:
        since = f"at step {first:,}"
    if finite:
        before = f"; at step {finite[-1]:,} it was finite"
    else:
        before = ""
    edge = last(trace, "edge")
    if edge is not None and edge > 0.8:
        why = f" The learning rate was {edge:.2g} times the largest stable one when last measured."
    else:
        why = ""
    if finite:
        after = " What follows is from before."
    else:
        after = ""
    return f"The loss is not finite {since}{before}.{why}{after}"


def _regime(trace: Trace) -> str:
    drift, gap = last(trace, "kernel_drift"), last(trace, "linearization_gap")
    if drift is None:
        return f"Lazy or feature learning: not measured{why_not(trace, 'kernel_drift')}."
    series = trace.measured["kernel_drift"]
    start = int(trace.config.get("since", 0))
    if not _after(series, start):
        return "Lazy or feature learning: not known before a step was made."
    if _unmoved(trace):
        return f"Lazy or feature learning: not known, no weight has moved up to step {series.steps[-1]:,}."
    when = f" ({measured_at(series)})"
    if gap is None:
        near = ""
    else:
        near = f", and the outputs are {gap:.0%} off the network's linearization"
    if drift < LAZY:
        little = f"the kernel has changed by {drift:.0%} {since_when(trace)}{near}{when}"
        fell = _fell(trace)
        if fell is not None and fell < LEAST_FALL:
            return f"Lazy or feature learning: too early to say, the loss fell by {max(fell, 0.0):.0%}; {little}."
        if gap is not None and gap > FEATURES:
            theory = ""
        else:
            theory = "; so far kernel theory describes this run"
        return f"Lazy: {little}{theory}."
    moved = _turned(trace, drift, last(trace, "kernel_cosine"), trace.measured.get("gram_max"))
    if drift > FEATURES:
        return f"Feature learning: {moved}{near}{when}. The kernel at the start says little about what is learned."
    return f"Between lazy and feature learning: {moved}{near}{when}."


def _after(series: Series, start: int) -> list[int]:
    """Steps of the measurements that are not the one of the start."""
    return [step for step, value in zip(series.steps, series.values, strict=True) if step > start and value is not None]


def _unmoved(trace: Trace) -> bool:
    way = trace.measured.get("distance")
    if way is None or not way.values:
        return False
    value = way.values[-1]
    return isinstance(value, dict) and not any(value.values())


def _fell(trace: Trace) -> float | None:
    """The part of the first loss by which it fell; None where that is not known."""
    losses = [loss for loss in trace.losses if math.isfinite(loss)]
    if len(losses) < 2 or losses[0] <= 0:
        return None
    return 1 - losses[-1] / losses[0]


def _turned(trace: Trace, drift: float, cosine: float | None, largest: Series | None) -> str:
    """A drift taken apart into size and direction: its square is g^2 - 2 g c + 1, g the growth and c the cosine."""
    if cosine is None:
        return f"the kernel has changed {_much(drift)} {since_when(trace)}"
    # g^2 - 2 g c + 1 = drift^2 has the solutions g = c +- sqrt(c^2 - 1 + drift^2)
    root = math.sqrt(max(drift**2 + cosine**2 - 1, 0.0))
    if largest is not None:
        values = [v for v in largest.values if good(v)]
    else:
        values = []
    # of the two solutions, the one nearer to the growth of the largest eigenvalue
    if values and values[0]:
        near = values[-1] / values[0]
    else:
        near = 2.0
    grown = min((cosine + root, cosine - root), key=lambda g: abs(g - near))
    if 0.9 < grown < 1.1:
        size = f"kept its size, changed by {drift:.0%}"
    else:
        if grown >= 10:
            size = f"grown {fold(grown)}"
        else:
            size = _factor(grown)
    if cosine > SAME_SHAPE_COSINE:
        shape = "kept its shape"
    else:
        shape = "turned"
    return f"{since_when(trace)} the kernel has {size} and {shape} (cosine {cosine:.2f})"


def _factor(grown: float) -> str:
    if grown > 1:
        return f"grown {grown:.1f}-fold"
    return f"shrunk to {max(grown, 0.0):.0%} of its size"


def _layers(trace: Trace) -> str:
    gradient, way = trace.measured.get("layer_gradient_over_loss"), trace.measured.get("distance")
    finite = _finite(gradient)
    if gradient is None or not finite:
        return f"Which layer stopped learning: not measured{why_not(trace, 'layer_gradient_over_loss')}."
    step, now = finite[-1]
    if _lost(trace):
        return f"Which layer stopped learning: all, when the loss was no number any more (last seen at step {step:,})."
    if not any(now.values()):
        return f"No gradient reaches any layer at step {step:,}: the loss of the watched rows does not pull any more."
    moved = way is not None and bool(_after(way, int(trace.config.get("since", 0))))
    dead = [name for name, value in now.items() if value == 0]
    if dead:
        if moved:
            why = ": dead units, or parameters that the loss does not use"
        else:
            why = ""
        return f"No gradient reaches {names_of(dead)} at step {step:,}{why}."
    if not moved or way is None:
        return "Which layer stopped learning: not known before a step was made."
    unmoved = [name for name in way.labels if way.of(name)[-1] == 0]
    if unmoved:
        several = len(unmoved) > 1
        return (
            f"{names_of(unmoved)} never moved: in no optimizer, or at a learning rate of 0. "
            f"{'Their' if several else 'Its'} gradient is not zero."
        )
    if len(way.values) < LEAST_MEASUREMENTS:
        return f"Which layer stopped learning: too early to say; all have a gradient and moved ({measured_at(way)})."
    return _stopped(trace, finite, way)


def _stopped(trace: Trace, finite: list[tuple[int, dict[str, float]]], way: Series) -> str:
    now, known = finite[-1][1], set(finite[-1][1])
    totals = [math.fsum(value.values()) for _, value in finite]
    # a layer's share of the gradient: where the loss goes to zero all gradients do, and no layer has stopped by itself
    shares = [
        {n: v / total for n, v in value.items()} for (_, value), total in zip(finite, totals, strict=True) if total
    ]
    weak = {n for n in now if shares[-1][n] < SMALL_GRADIENT_SHARE * max(share[n] for share in shares)}
    fell = _fell(trace)
    still = [name for name in _still(way) if name in known]
    if fell is not None and fell > 1 - LEARNED_LOSS_SHARE:
        left = f"{1 - fell:.2g} of the first loss is left at step {trace.steps[-1]:,}"
        return f"The watched rows are learned ({left}): that layers slow down now says nothing of them."
    stopped = [name for name in still if name in weak]
    if stopped:
        return (
            f"{names_of(stopped)} stopped learning: hardly any gradient, and no way made in the last third of the run "
            f"({measured_at(way)})."
        )
    if len(still) > MANY_DIRECTIONS * len(known):
        return f"Most layers hardly move in the last third of the run, all with a gradient ({measured_at(way)})."
    return f"Every layer is still learning{_least(way)} ({measured_at(way)})."


def _finite(gradient: Series | None) -> list[tuple[int, dict[str, float]]]:
    if gradient is None:
        return []
    pairs = zip(gradient.steps, gradient.values, strict=True)
    return [(k, v) for k, v in pairs if isinstance(v, dict) and v and all(map(math.isfinite, v.values()))]


def _least(way: Series) -> str:
    """The layer that made the smallest part of its way lately, and how small."""
    parts = {name: lately(way, name) for name in way.labels}
    known = {name: part for name, part in parts.items() if part is not None and math.isfinite(part)}
    if len(known) < 2:
        return ""
    name = min(known, key=lambda one: known[one])
    if known[name] > SLOWED_SHARE:
        return ""
    return (
        f"; {names_of([name])} least: {known[name]:.0%} of its way from the start was made in the last third of the run"
    )


def lately(way: Series, label: str) -> float | None:
    """How much of a layer's distance from initialization came in the last third of the steps; None if not known."""
    if len(way.values) < LEAST_MEASUREMENTS:
        return None
    since = next(k for k, step in enumerate(way.steps) if 3 * step >= 2 * way.steps[-1])
    far = way.of(label)
    since = min(since, len(far) - 2)
    if far[-1] > 0:
        return abs(far[-1] - far[since]) / far[-1]
    return None


def _still(way: Series) -> list[str]:
    """Layers that made less than `STILL_SHARE` of their way from initialization in the last third of the steps."""
    parts = [(label, lately(way, label)) for label in way.labels]
    return [label for label, part in parts if part is not None and part <= STILL_SHARE]


def _slow(slow: Slow | None, trace: Trace) -> str:
    if slow is None:
        before = trace.config.get("step", 1) == trace.config.get("since", 0)
        if before:
            why = " (before a step was made)"
        else:
            why = why_not(trace, "gram_min", "slowest samples")
        return f"Slowest samples: not measured{why}."
    if slow.rows:
        rows = f" The most residual has {_rows(slow.rows[:5])}."
    else:
        rows = ""
    if not slow.directions:
        return (
            f"None stands out: all {slow.of} directions of the watched samples have lost 1/e of their residual or more."
        )
    if slow.directions <= MANY_DIRECTIONS * slow.of:
        return (
            f"In {slow.directions} of {slow.of} directions of the watched samples more than 1/e of the first residual "
            f"is left, {slow.share:.0%} of all that is left to learn.{rows}"
        )
    return (
        f"Of the first residual {slow.left:.0%} is left: {slow.strong:.0%} along the strongest tenth of the kernel's "
        f"directions, {slow.weak:.0%} along the weakest half.{rows}"
    )


def _rows(rows: tuple[int, ...]) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    return f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]}"


def _much(share: float) -> str:
    if share < 2:
        return f"by {share:.0%}"
    return fold(share)
