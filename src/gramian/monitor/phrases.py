"""Parts of sentences about a trace: what was measured last, at how many steps, since when, and why not."""

from __future__ import annotations

import math
from typing import TypeGuard

from gramian.certify.run_facts import layer_name
from gramian.train.trace import Series, Trace

MOST_LAYERS_NAMED = 5  # layers that a sentence names


def last(trace: Trace, name: str) -> float | None:
    """The last finite number of a series; None without one."""
    series = trace.measured.get(name)
    if series is None:
        values = []
    else:
        values = [v for v in series.values if good(v)]
    if values:
        return values[-1]
    return None


def good(value: object) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, float | int) and math.isfinite(value)


def fold(factor: float) -> str:
    """A factor in words; one that is beyond all use in a power of ten.

    Example:
        >>> fold(25.0), fold(1.9e16)
        ('25-fold', '1.9e+16-fold')
    """
    if factor < 1e6:
        return f"{factor:,.0f}-fold"
    return f"{factor:.1e}-fold"


def measured_at(series: Series) -> str:
    """At how many steps, and up to which.

    Example:
        >>> measured_at(Series("", "", [0], [1.0])), measured_at(Series("", "", [0, 5, 9], [1.0, 1.0, 1.0]))
        ('measured once, at step 0', 'measured at 3 steps, last at 9')
    """
    steps = series.steps
    if len(steps) == 1:
        return f"measured once, at step {steps[0]:,}"
    return f"measured at {len(steps):,} steps, last at {steps[-1]:,}"


def since_when(trace: Trace) -> str:
    """Since the start, or since the step at which a resumed run was taken up."""
    start = int(trace.config.get("since", 0))
    if start:
        return f"since step {start:,}"
    return "since the start"


def why_not(trace: Trace, *names: str) -> str:
    """Why the first of these was left out, in brackets; "" where no reason is known."""
    skipped = trace.config.get("skipped", {})
    reason = next((skipped[name] for name in names if skipped.get(name)), "")
    if reason:
        return f" ({reason.rstrip('.')})"
    return ""


def names_of(layers: list[str]) -> str:
    """Names of layers, as code; of many the first ones and how many more."""
    names = [f"`{layer_name(name)}`" for name in layers[:MOST_LAYERS_NAMED]]
    if len(layers) > MOST_LAYERS_NAMED:
        return f"{', '.join(names)} and {len(layers) - MOST_LAYERS_NAMED} more"
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
