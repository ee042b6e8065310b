"""Where a monitor's measurements go while training runs: a file of JSON lines, and TensorBoard."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from gramian.errors import BadData
from gramian.monitor.monitor_warnings import reason, tell
from gramian.train.probes.probe import Value
from gramian.train.trace import Series, Trace

SINCE_THE_START = frozenset(  # what compares with the start's weights
    ("distance", "relative_distance", "spectral_distance", "sign_flips", "kernel_drift", "kernel_cosine",
     "kernel_entry_drift", "linearization_gap", "semi_smoothness")
)  # fmt: skip
MOST_WAITING = 10_000  # lines


class Log:
    """Writes each measurement at once, so that a killed run leaves all that it measured.

    A line that cannot be written, on a full disk, waits for the next one: the file has whole lines only, and all of
    them once there is room again.
    """

    def __init__(self, lines: str | Path | None, tensorboard: str | Path | None) -> None:
        if lines is None:
            self.lines = None
        else:
            self.lines = Path(lines)
        self._waiting: list[str] = []
        self._warned: set[str] = set()
        if tensorboard is None:
            self.writer = None
        else:
            self.writer = self._writer(tensorboard)
        if self.lines is not None:
            try:
                self.lines.parent.mkdir(parents=True, exist_ok=True)
                with self.lines.open("ab+") as file:
                    _end_line(file)
            except OSError as error:
                self._tell(f"The log {self.lines}", error, 'log="monitor.jsonl"; until then its lines wait')

    def add(self, step: int, seconds: float, values: dict[str, Value], more: dict[str, Any]) -> None:
        """One line: step, seconds since the start, and each probe's value, or its values by layer."""
        if self.lines is not None and (values or more):
            line: dict[str, Any] = {"step": step, "seconds": round(seconds, 3), **more}
            line |= {name: _plain(value) for name, value in values.items()}
            self._waiting.append(json.dumps(line, default=str) + "\n")
            del self._waiting[:-MOST_WAITING]
            try:
                _append(self.lines, "".join(self._waiting).encode())
            except OSError as error:
                self._tell(f"The log {self.lines}", error, "its lines wait until there is room; free some")
            else:
                self._waiting.clear()
        if self.writer is not None:
            try:
                self._to_tensorboard(step, values)
            except Exception as error:
                self.writer = None
                self._tell("TensorBoard's file", error, 'free some room, and log="monitor.jsonl" on another disk')

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self.writer is not None:
            try:
                self.writer.close()
            except Exception as error:
                self._tell("TensorBoard's file", error, "some room on its disk")

    def _writer(self, folder: str | Path) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(str(folder))
        except ImportError:
            self._tell("TensorBoard's file", None, 'pip install tensorboard, or log="monitor.jsonl"')
        except Exception as error:
            self._tell("TensorBoard's file", error, "tensorboard=FOLDER that you may write to")
        return None

    def _to_tensorboard(self, step: int, values: dict[str, Value]) -> None:
        assert self.writer is not None
        for name, value in values.items():
            for label, number in value.items() if isinstance(value, dict) else [("", value)]:
                self.writer.add_scalar(f"gramian/{name}{'/' + label if label else ''}", number, step)
        self.writer.flush()

    def _tell(self, what: str, error: Exception | None, fix: str) -> None:
        if what in self._warned:
            return
        self._warned.add(what)
        if error is None:
            said = "TensorBoard is not installed"
        else:
            said = getattr(error, "strerror", None) or reason(error)
        tell(
            f"{what} cannot be written: {said}. The training goes on.",
            where="Monitor(..., log=, tensorboard=)",
            why="it is no dependency of gramian" if error is None else "the disk is full, or the folder is not yours",
            fix=fix,
        )


def read_log(path: str | Path) -> Trace:
    """The last run of a monitor's log as a trace; a last line that was cut short is left out.

    Raises:
        BadData: no line of it begins a run.
    """
    runs: list[list[dict[str, Any]]] = []
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # a killed process, a full disk
            continue
        if not isinstance(line, dict) or "step" not in line:
            continue
        if "run" in line:
            runs.append(_before(runs, line) if "resumed" in line else [])
        if runs:
            runs[-1].append(line)
    if not runs:
        raise BadData(
            f"{path} has no line that begins a run.",
            where="Monitor.report_of_log(log, folder)",
            why="it is no monitor's log, or its first line was not written whole",
            fix='the file that was given as Monitor(..., log="monitor.jsonl")',
        )
    lines = runs[-1]
    config = next(line["run"] for line in reversed(lines) if "run" in line) | {"seconds": lines[-1]["seconds"]}
    config |= {"step": max(line["step"] for line in lines)}
    measured = {}
    for name, (title, unit) in config["titles"].items():
        points = [(line["step"], _numbers(line[name])) for line in lines if name in line]
        if points:
            measured[name] = Series(title, unit, [step for step, _ in points], [value for _, value in points])
    loss = measured.get("loss", Series("", "", [], []))
    losses = [value for value in loss.values if isinstance(value, float)]
    return Trace(config, list(loss.steps), losses, measured, {}, reason=f"log up to step {lines[-1]['step']}")


def _before(runs: list[list[dict[str, Any]]], line: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of the run that this one goes on with, up to its step: a killed run was further than its checkpoint."""
    mark, step = line["resumed"], line["step"]
    if mark.get("replaces") and len(runs) > 1:  # what the monitor wrote before it was told
        runs.pop()
    if runs:
        older = runs.pop()
    else:
        older = []
    kept = [one for one in older if one["step"] < step or (one["step"] == step and "loss" not in line)]
    if mark["since"] < step:
        return kept
    return [{name: value for name, value in one.items() if name not in SINCE_THE_START} for one in kept]


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {label: _numbers(number) for label, number in value.items()}
    if value is None:
        return math.nan
    return float(value)


def _append(path: Path, text: bytes) -> None:
    """All of the text at the end of the file, or nothing: in one write, undone if only a part went in."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(file).st_size
        written = 0
        try:
            while written < len(text):
                written += os.write(file, text[written:])
        except OSError:
            if written:
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _end_line(file: Any) -> None:
    """A last line that was cut short gets its end, so that the next one is whole."""
    if file.seekable() and file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _plain(value: Value) -> Any:
    if isinstance(value, dict):
        return {label: _plain(number) for label, number in value.items()}
    if math.isfinite(value):
        return value
    return None
