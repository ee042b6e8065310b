"""Timers: seconds of a block, seconds by name, and what a call takes of this process on a busy machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stopwatch:
    """Seconds since it was made; `seconds` after `stop` is what they were then."""

    began: float = field(default_factory=time.perf_counter)
    stopped: float | None = None

    @property
    def seconds(self) -> float:
        """Elapsed time of the wall clock."""
        return (time.perf_counter() if self.stopped is None else self.stopped) - self.began

    def stop(self) -> None:
        """Ends the measurement."""
        self.stopped = time.perf_counter()


@dataclass(frozen=True)
class TimeLimit:
    """What a piece of work may take from now on, in seconds; infinite for whatever it takes.

    Example:
        >>> TimeLimit().over, TimeLimit(0.0).left
        (False, 0.0)
    """

    seconds: float = math.inf
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def used(self) -> float:
        return self.watch.seconds

    @property
    def left(self) -> float:
        """What is not spent yet, at least 0."""
        return max(self.seconds - self.used, 0.0)

    @property
    def over(self) -> bool:
        return self.used > self.seconds


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Times the block: `with stopwatch() as watch: ...; watch.seconds`."""
    watch = Stopwatch()
    try:
        yield watch
    finally:
        watch.stop()


class SecondsByName(dict[str, float]):
    """Seconds by name; the same name adds up.

    Example:
        >>> seconds = SecondsByName()
        >>> with seconds.timed("training"):
        ...     pass
        >>> list(seconds)
        ['training']
    """

    def spend(self, name: str, seconds: float) -> None:
        """Adds to the time of `name`."""
        self[name] = self.get(name, 0.0) + seconds

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time of the block to that of `name`, errors included."""
        watch = Stopwatch()
        try:
            yield
        finally:
            self.spend(name, watch.seconds)


def seconds_of(work: Callable[[], Any], *, on_cpu: bool = True) -> float:
    """Seconds that a call takes: on a CPU the process's own time, if that is the shorter.

    On a busy machine a call of a microsecond may have to wait for its turn a tenth of a second.
    """
    watch, busy = Stopwatch(), time.process_time()
    work()
    elapsed = watch.seconds
    if on_cpu:
        return min(elapsed, time.process_time() - busy)
    return elapsed
