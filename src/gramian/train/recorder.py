"""Gathers what a run measures, and makes the trace of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from gramian.timing import SecondsByName
from gramian.train.probes.probe import Probe, Reading, Value
from gramian.train.trace import Series, Trace


class Recorder:
    """Losses, readings and seconds so far."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.points: dict[str, list[tuple[int, Reading]]] = {}
        self.seconds = SecondsByName()
        self.measured: set[int] = set()

    def load(self, trace: Trace) -> None:
        """Go on from a trace."""
        self.steps, self.losses = list(trace.steps), list(trace.losses)
        for name, seconds in trace.seconds.items():
            self.seconds.spend(name, seconds)
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
        if not isinstance(reading, Reading):
            reading = Reading(reading)
        self.points.setdefault(name, []).append((step, reading))

    def spend(self, name: str, seconds: float) -> None:
        """Add to the time of `name`."""
        self.seconds.spend(name, seconds)

    def timed(self, name: str) -> AbstractContextManager[None]:
        """Add the time of the block to that of `name`."""
        return self.seconds.timed(name)

    def trace(self, config: dict[str, Any], probes: list[Probe], **end: Any) -> Trace:
        """Everything so far; `end` says how the run ended."""
        measured = {
            probe.name: _series(probe, self.points[probe.name]) for probe in probes if probe.name in self.points
        }
        return Trace(config, list(self.steps), list(self.losses), measured, dict(self.seconds), **end)


def _series(probe: Probe, points: list[tuple[int, Reading]]) -> Series:
    return Series(
        title=probe.title,
        unit=probe.unit,
        steps=[step for step, _ in points],
        values=[r.value for _, r in points],
        lower=_bounds([r.lower for _, r in points]),
        upper=_bounds([r.upper for _, r in points]),
    )


def _bounds(values: list[Value | None]) -> list[Value | None] | None:
    """None where no reading has one."""
    if all(value is None for value in values):
        return None
    return values
