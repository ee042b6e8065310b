"""The monitor's answers in words: lazy or not, stable or not, which layer stopped, which samples are slow."""

from __future__ import annotations

import math
from typing import TypeGuard

from gramian.certify.facts import layer_name
from gramian.certify.monitor.slow import Slow
from gramian.train.trace import Series, Trace

LAZY, FEATURES = 0.1, 0.5  # relative change of the Gram matrix
SAME = 0.95  # cosine of two Gram matrices that are one up to their size
STILL = 0.01  # a layer that moved by less than this share of its way since two thirds of the run has stopped
ROSE = 10.0  # times the smallest loss so far: what is worth telling
MANY = 0.5  # of the directions: if more are slow, their number says nothing
SLOWED = 0.25  # and one that moved by less than this is named
SMALL = 0.01  # of the largest squared gradient over the loss that the layer had


QUESTIONS = (
    "Lazy, or feature learning?",
    "Learning rate over the edge of stability?",
    "Which layer stopped learning?",
    "Which samples are slowest?",
)


def sentences(trace: Trace, slow: Slow | None) -> tuple[str, ...]:
    """One sentence or two for each of the four `QUESTIONS`; of a run that broke, first where."""
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
    near = "" if gap is None else f", and the outputs are {gap:.0%} off the network's linearization"
    if drift < LAZY:
        return f"Lazy: the kernel has changed by {drift:.0%} since the start{near}; kernel theory describes this run."
    moved = _turned(drift, _last(trace, "kernel_cosine"), trace.measured.get("gram_max"))
    if drift > FEATURES:
        return f"Feature learning: {moved}{near}. The kernel at the start says little about what is learned."
    return f"Between lazy and feature learning: {moved}{near}."


def _turned(drift: float, cosine: float | None, largest: Series | None) -> str:
    """A drift taken apart into size and direction: its square is g^2 - 2 g c + 1, g the growth and c the cosine."""
    if cosine is None:
        return f"the kernel has changed {_much(drift)} since the start"
    root = math.sqrt(max(drift**2 + cosine**2 - 1, 0.0))
    values = [v for v in largest.values if _good(v)] if largest is not None else []
    near = values[-1] / values[0] if values and values[0] else 2.0  # of the two solutions the one that is like this
    grown = min((cosine + root, cosine - root), key=lambda g: abs(g - near))
    size = "kept its size" if 0.9 < grown < 1.1 else f"grown {grown:,.0f}-fold" if grown >= 10 else _factor(grown)
    shape = "kept its shape" if cosine > SAME else "turned"
    return f"since the start the kernel has {size} and {shape} (cosine {cosine:.2f})"


def _factor(grown: float) -> str:
    return f"grown {grown:.1f}-fold" if grown > 1 else f"shrunk to {max(grown, 0.0):.0%} of its size"


def _edge(trace: Trace) -> str:
    return _rate(trace) + _rise(trace)


def _rate(trace: Trace) -> str:
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
    rate = f" ({rates[0]:.3g} of {rates[0] / edge:.3g})" if rates[0] and edge > 0 else ""
    times = f"The learning rate is {edge:.2g} times the largest stable one{rate}"
    before = f"; it came to {most:.2g} times it at step {step:,}" if most > max(1.3 * edge, 0.3) else ""
    if edge > 1.5:
        return f"{times}, above the edge of stability: lower it."
    if edge > 0.8:
        return f"{times}: training runs at the edge of stability{before}."
    return f"{times}: stable" + (", and could be larger" if edge < 0.3 else "") + f"{before}."


def _rise(trace: Trace) -> str:
    """The largest rise of the loss from what it had come down to; "" if it was no more than `ROSE`-fold."""
    low, most, peak = math.inf, 1.0, 0
    for step, loss in zip(trace.steps, trace.losses, strict=True):
        if math.isfinite(loss) and loss > 0:
            low = min(low, loss)
            most, peak = max((most, peak), (loss / low, step))
    return f" On the way the loss rose {most:,.0f}-fold, up to step {peak:,}." if most > ROSE else ""


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
    unmoved = [name for name in way.labels if way.of(name)[-1] == 0] if way is not None and way.steps[-1] else []
    if unmoved:
        return f"{_names(unmoved)} never moved: in no optimizer, or at a learning rate of 0. The gradient is not zero."
    weak = {name for name, value in last.items() if value < SMALL * max(gradient.of(name))}
    stopped = [name for name in _still(way) if name in weak] if way is not None else []
    if stopped:
        return f"{_names(stopped)} stopped learning: hardly any gradient, and no way made in the last third of the run."
    least = _least(way) if way is not None else ""
    return f"Every layer is still learning{least}."


def _least(way: Series) -> str:
    """The layer that made the smallest part of its way lately, and how small."""
    parts = {name: lately(way, name) for name in way.labels}
    known = {name: part for name, part in parts.items() if part is not None and math.isfinite(part)}
    if len(known) < 2:
        return ""
    name = min(known, key=lambda one: known[one])
    if known[name] > SLOWED:
        return ""
    return (
        f"; {_names([name])} least: {known[name]:.0%} of its way from the start was made in the last third of the run"
    )


def lately(way: Series, label: str) -> float | None:
    """How much of a layer's distance from initialization came in the last third of the steps; None if not known."""
    if len(way.values) < 3:
        return None
    since = next(k for k, step in enumerate(way.steps) if 3 * step >= 2 * way.steps[-1])
    far = way.of(label)
    since = min(since, len(far) - 2)
    return abs(far[-1] - far[since]) / far[-1] if far[-1] > 0 else None


def _still(way: Series) -> list[str]:
    """Layers that made less than `STILL` of their way from initialization in the last third of the steps."""
    parts = [(label, lately(way, label)) for label in way.labels]
    return [label for label, part in parts if part is not None and part <= STILL]


def _slow(slow: Slow | None, trace: Trace) -> str:
    if slow is None:
        return f"Slowest samples: not measured{_why(trace, 'gram_min')}."
    rows = f" The most residual has {_rows(slow.rows[:5])}." if slow.rows else ""
    if not slow.directions:
        return (
            f"None stands out: all {slow.of} directions of the watched samples have lost 1/e of their residual or more."
        )
    if slow.directions <= MANY * slow.of:
        return (
            f"In {slow.directions} of {slow.of} directions of the watched samples more than 1/e of the first residual "
            f"is left, {slow.share:.0%} of all that is left to learn.{rows}"
        )
    return (
        f"Of the first residual {slow.left:.0%} is left: {slow.strong:.0%} along the strongest tenth of the kernel's "
        f"directions, {slow.weak:.0%} along the weakest half.{rows}"
    )


def _rows(rows: tuple[int, ...]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]}"


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
