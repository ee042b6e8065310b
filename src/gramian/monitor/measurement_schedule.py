"""When a monitor measures: what each kind of measurement costs, what was spent, and what may be."""

from __future__ import annotations

import math
import time

QUICK = {"loss", "test_loss", "train_accuracy", "test_accuracy", "distance", "relative_distance"}  # one forward pass
PART = {"quick": 0.3, "cheap": 0.2, "gram": 0.5}  # of the share
APART = {"quick": 1.02, "cheap": 1.05, "gram": 1.4}  # least ratio of two measured steps
AT_FIRST = 1.0  # seconds that may be spent before the share of the time is as much: the first steps tell most


def kind_of(name: str, cost: str) -> str:
    """Kind of a probe: "quick", "cheap" or "gram"."""
    if name in QUICK:
        return "quick"
    return cost


class MeasurementSchedule:
    """Seconds by kind of measurement, and which kinds are due.

    Attributes:
        share: of the training time that may be spent.
        costs: seconds that each kind took when it was last measured.
        measured: step at which it was.
        spent_on: seconds spent on it during the training; the first measurement and answers are not among them.
        aside: seconds of answers and reports.
    """

    def __init__(self, share: float) -> None:
        self.share, self.aside = share, 0.0
        self.costs, self.spent_on = dict.fromkeys(PART, 0.0), dict.fromkeys(PART, 0.0)
        self.measured = dict.fromkeys(PART, 0)
        self.began = time.perf_counter()

    def go_on(self, step: int, seconds: float) -> None:
        """A run of before had this many steps, and took so long."""
        self.measured = dict.fromkeys(PART, step)
        self.began -= seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self.began

    @property
    def spent(self) -> float:
        return sum(self.spent_on.values())

    @property
    def training(self) -> float:
        """Seconds of the training itself."""
        return self.elapsed - self.spent - self.aside

    @property
    def overhead(self) -> float:
        """Seconds spent over those of the training itself."""
        rest = self.training
        if rest > 0:
            return self.spent / rest
        return 0.0

    def due(self, step: int) -> set[str]:
        """The kinds that may be measured after this step; the quick ones whenever another is."""
        rest = self.training
        whole = max(self.share * rest, min(AT_FIRST, 0.3 * math.sqrt(max(rest, 0.0))))
        kinds = {
            kind
            for kind, cost in self.costs.items()
            if step >= max(APART[kind] * self.measured[kind], self.measured[kind] + 1)
            and self.spent_on[kind] + cost <= PART[kind] * whole
        }
        if kinds:
            return kinds | {"quick"}
        return kinds

    def took(self, kind: str, step: int, seconds: float) -> None:
        """A measurement was made."""
        self.costs[kind], self.measured[kind] = seconds, step
