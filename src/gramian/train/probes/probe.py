"""What a probe is: something that looks at the network at chosen steps and says a number, or one per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from gramian.train.run import Run

Value = float | dict[str, float]


class NotApplicable(Exception):
    """Raised by `start`: this run has nothing for the probe to measure, and why."""


@dataclass(frozen=True)
class Reading:
    """One measurement, with bounds where there are any."""

    value: Value
    lower: Value | None = None
    upper: Value | None = None


@runtime_checkable
class Probe(Protocol):
    """One quantity, measured at chosen steps.

    A probe keeps what it needs from `start` (the network is at its initialization then) and nothing from later steps
    but what the optional method `before(run)` gives it, which is called before each step that leads to a measured one.
    That is why a resumed run measures the same numbers.

    Attributes:
        name: key in `Trace.measured`.
        title: what it is, in words.
        unit: "" for a pure number.
        cost: "cheap" (a few passes through the network), "gram" (measured at a dozen steps only) or "step" (asked
            after each step, right after `before` at its start).
    """

    name: str
    title: str
    unit: str

    @property
    def cost(self) -> Literal["cheap", "gram", "step"]: ...

    def start(self, run: Run) -> None:
        """At initialization. Raises NotApplicable."""

    def measure(self, run: Run) -> Reading | Value | None:
        """At a measured step; None if there is nothing to say at this one."""
