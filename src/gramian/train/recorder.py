"""Gathers what a run measures, and makes the trace of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gramian.train.probes.probe import Probe, Reading, Value
from gramian.train.trace import Series, Trace


class Recorder:
    """Losses, readings and seconds so far."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.points: dict[str, list[tuple[int, Reading]]] = {}
        self.seconds: dict[str, float] = {}
        self.measured: set[int] = set()

    def load(self, trace: Trace) -> None:
        """Go on from a trace."""
        self.steps, self.losses = list(trace.steps), list(trace.losses)
        self.seconds = {name: s + self.seconds.get(name, 0.0) for name, s in trace.seconds.items()}
        for name, series in trace.measured.items():
            bounds = zip(
                series.lower or [None] * len(series.steps), series.upper or [None] * len(series.steps), strict=True
            )
            rows = zip(series.steps, series.values, bounds, strict=True)
            self.points[name] = [(step, Reading(value, *bound)) for step, value, bound in rows]
            self.measured.update(series.steps)

    def loss(self, step: int, value: float) -> None:
        """The loss on the way through `step`."""
        self.steps.append(step)
        self.losses.append(value)

    def add(self, step: int, name: str, reading: Reading | Value) -> None:
        """What the probe `name` says at `step`."""
        self.points.setdefault(name, []).append((step, reading if isinstance(reading, Reading) else Reading(reading)))

    def spend(self, name: str, seconds: float) -> None:
        """Add to the time of `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to that of `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spend(name, time.perf_counter() - start)

    def trace(self, config: dict[str, Any], probes: list[Probe], **end: Any) -> Trace:
        """Everything so far; `end` says how the run ended."""
        measured = {
            probe.name: _series(probe, self.points[probe.name]) for probe in probes if probe.name in self.points
        }
        return Trace(config, list(self.steps), list(self.losses), measured, dict(self.seconds), **end)


def _series(probe: Probe, points: list[tuple[int, Reading]]) -> Series:
    lower, upper = [r.lower for _, r in points], [r.upper for _, r in points]
    return Series(
        title=probe.title,
        unit=probe.unit,
        steps=[step for step, _ in points],
        values=[r.value for _, r in points],
        lower=lower if any(b is not None for b in lower) else None,
        upper=upper if any(b is not None for b in upper) else None,
    )
