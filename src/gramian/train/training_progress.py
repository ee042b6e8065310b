"""The progress bar: steps done, loss, accuracy and the time left, on stderr."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A bar over the steps of a run; does nothing if not `shown`."""

    def __init__(self, steps: int, shown: bool) -> None:
        self.shown = shown
        text = TextColumn("loss {task.fields[loss]} {task.fields[accuracy]}")
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), text, TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        self.progress = Progress(*columns, *left, console=Console(stderr=True), disable=not shown)
        self.task = self.progress.add_task("training", total=steps, loss="", accuracy="")

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def show(self, step: int, loss: float, accuracy: float | None) -> None:
        """Where the run stands."""
        if accuracy is None:
            share = ""
        else:
            share = f"accuracy {accuracy:.1%}"
        self.progress.update(self.task, completed=step, loss=f"{loss:.3e}", accuracy=share)

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()
