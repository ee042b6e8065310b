"""Where a monitor's measurements go while training runs: a file of JSON lines, and TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from gramian.errors import BadArgument
from gramian.train.probes.probe import Value


class Log:
    """Writes each measurement at once, so that a killed run leaves all that it measured."""

    def __init__(self, lines: str | Path | None, tensorboard: str | Path | None) -> None:
        self.lines = None if lines is None else Path(lines)
        self.writer = None if tensorboard is None else _writer(tensorboard)
        if self.lines is not None:
            try:
                self.lines.parent.mkdir(parents=True, exist_ok=True)
                self.lines.open("a", encoding="utf-8").close()
            except OSError as error:
                raise BadArgument(
                    f"The log {self.lines} cannot be written: {error.strerror}.",
                    where="Monitor(..., log=)",
                    why="the folder is read-only, or the path is a folder",
                    fix='log="monitor.jsonl"',
                ) from None

    def add(self, step: int, seconds: float, values: dict[str, Value]) -> None:
        """One line: step, seconds since the start, and each probe's value, or its values by layer."""
        if self.lines is not None and values:
            line: dict[str, Any] = {"step": step, "seconds": round(seconds, 3)}
            line |= {name: _plain(value) for name, value in values.items()}
            with self.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                for label, number in value.items() if isinstance(value, dict) else [("", value)]:
                    self.writer.add_scalar(f"gramian/{name}{'/' + label if label else ''}", number, step)
            self.writer.flush()


def _writer(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadArgument(
            "TensorBoard is not installed.",
            where="Monitor(..., tensorboard=)",
            why="it is no dependency of gramian",
            fix='pip install tensorboard, or log="monitor.jsonl"',
        ) from None
    return SummaryWriter(str(folder))


def _plain(value: Value) -> Any:
    if isinstance(value, dict):
        return {label: _plain(number) for label, number in value.items()}
    return value if math.isfinite(value) else None
