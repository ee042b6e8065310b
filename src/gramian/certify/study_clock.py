"""Where the time of a study went, and what is being done while it takes long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gramian.timing import SecondsByName

PATIENCE = 3.0  # seconds; what takes longer gets a bar
Tell = Callable[[float, float], None]


class Clock:
    """Seconds by name: `with clock("training"): ...`; the same name adds up.

    With `aloud` each name is said on stderr when its work begins, and what takes longer than `PATIENCE` gets a bar: it
    moves where the work tells how far it is, `with clock("limit kernel") as tell: tell(done, of)`.
    """

    def __init__(self, *, aloud: bool = False) -> None:
        self.seconds = SecondsByName()
        self.aloud = aloud

    @contextmanager
    def __call__(self, name: str, *, bar: bool = True) -> Iterator[Tell]:
        """Times a piece of work; `bar=False` for work that has a bar of its own."""
        if self.aloud and name not in self.seconds:
            print(f"{name} ...", file=sys.stderr)
        late = None
        if self.aloud and bar:
            late = _LateBar(name)
        with self.seconds.timed(name):
            try:
                yield _silent if late is None else late.tell
            finally:
                if late is not None:
                    late.stop()

    def say(self, text: str) -> None:
        """A line on stderr, if aloud."""
        if self.aloud:
            print(text, file=sys.stderr)


def _silent(done: float, of: float) -> None:
    """Nobody listens."""


class _LateBar:
    """A bar on stderr that appears once the work has taken `PATIENCE` seconds."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
        self.progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        # it pulses until somebody tells how far it is
        self.task = self.progress.add_task(name, total=None)
        self.lock, self.over = threading.Lock(), False
        self.timer = threading.Timer(PATIENCE, self._start)
        self.timer.daemon = True
        self.timer.start()

    def _start(self) -> None:
        with self.lock:
            if not self.over:
                self.progress.start()

    def tell(self, done: float, of: float) -> None:
        """How much of the work is done."""
        self.progress.update(self.task, completed=done, total=of)

    def stop(self) -> None:
        """The work is over, or has failed."""
        with self.lock:
            self.over = True
            self.timer.cancel()
            self.progress.stop()
