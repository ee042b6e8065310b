"""Bars, and what is said before a long computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gramian.cli import show

ANNOUNCED_SECONDS = 3.0  # seconds from which on a computation is announced


@contextmanager
def bar(shown: bool) -> Iterator[Callable[[str, float], None]]:
    """`tell(what, share)` moves a bar with the name `what`; in a terminal alone."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("left"))
    console = show.err()
    progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown or not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def tell(what: str, share: float) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=1.0)
        progress.update(tasks[what], completed=share)

    with progress:
        yield tell


def announce(what: str, seconds: float, memory: float, shown: bool) -> None:
    """One line on what will take long, and how much memory it will take."""
    from gramian.report.numbers import duration

    if shown and seconds > ANNOUNCED_SECONDS:
        show.talk(f"{what}: about {duration(seconds)} and {memory / 2**30:.1f} GiB.")
