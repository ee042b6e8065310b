"""What a run left behind: its losses, what was measured, how it was made. Plain data: no module, no tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gramian.errors import BadData
from gramian.files import replace_file

Value = float | dict[str, float]
TRACE_SCHEMA = 1


@dataclass(frozen=True)
class Series:
    """One quantity over the run.

    Attributes:
        title: what it is, in words.
        unit: of the values; "" for a pure number.
        steps: at which it was measured.
        values: one per step: a number, or one per label (a layer's name).
        lower, upper: bounds that theory or measurement gives for each value; None where there is none.
    """

    title: str
    unit: str
    steps: list[int]
    values: list[Value]
    lower: list[Value | None] | None = None
    upper: list[Value | None] | None = None

    @property
    def labels(self) -> list[str]:
        """Names of the labels; empty for a series of numbers."""
        if self.values:
            first = self.values[0]
        else:
            first = 0.0
        if isinstance(first, dict):
            return list(first)
        return []

    def of(self, label: str) -> list[float]:
        """The values of one label."""
        return [value[label] for value in self.values if isinstance(value, dict)]


@dataclass(frozen=True)
class Trace:
    """A training run as data; made by `train`.

    Attributes:
        config: how it was made: loss, optimizer, learning rate and where it came from, seed, dtype, device, sizes.
        steps: step numbers of `losses`.
        losses: full batch: the loss at every step, the last one included. Minibatches: (n/|S|) times the loss of each
            step's minibatch, an estimate of the full loss, which is `measured["loss"]`.
        measured: by name of the probe.
        seconds: spent on training, on each probe by name, on Gram matrices that probes share, on checkpoints.
        interrupted: stopped by Ctrl-C.
        diverged: stopped because the loss was not finite or a million times the first one.
        reason: why the run ended, in words.

    Example:
        >>> trace = Trace({"optimizer": "gd", "lr": 0.5}, [0, 1], [2.0, 0.5], {}, {}, reason="all 1 steps done")
        >>> trace.to_dict()["losses"]
        [2.0, 0.5]
    """

    config: dict[str, Any]
    steps: list[int]
    losses: list[float]
    measured: dict[str, Series] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    diverged: bool = False
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, fit for JSON; numbers that are not finite become None."""
        return {
            "schema": TRACE_SCHEMA,
            "config": _plain(self.config),
            "steps": list(self.steps),
            "losses": _plain(self.losses),
            "measured": {name: _plain(vars(series)) for name, series in self.measured.items()},
            "seconds": _plain(self.seconds),
            "interrupted": self.interrupted,
            "diverged": self.diverged,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Trace:
        """The trace of `to_dict`; None among losses and values becomes nan."""
        measured = {name: _series(series) for name, series in facts["measured"].items()}
        fields = {name: facts[name] for name in ("config", "steps", "seconds", "interrupted", "diverged", "reason")}
        return cls(losses=_numbers(facts["losses"]), measured=measured, **fields)

    def save(self, path: str | Path) -> None:
        """Write as JSON, to a temporary name first.

        Raises:
            BadArgument: the folder cannot be written.
        """
        text = json.dumps(self.to_dict(), allow_nan=False)
        replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def open(cls, path: str | Path) -> Trace:
        """Read what `save` wrote.

        Raises:
            BadData: no such file, not JSON, or not a trace.
        """
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_dict(facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadData(
                f"{path} is not a trace that can be read: {type(error).__name__}: {error}",
                where="Trace.open",
                why="another file's name, or a file that was cut off",
                fix="the path that Trace.save wrote",
            ) from None

    def __str__(self) -> str:
        settings = ("loss", "optimizer", "lr", "batch_size", "seed", "dtype", "device")
        head = ", ".join(
            f"{name} {_short(self.config[name])}" for name in settings if self.config.get(name) is not None
        )
        names = [n for n in ("loss", "train_accuracy", "test_accuracy") if n in self.measured]
        columns: dict[str, dict[int, float]] = {
            n: dict(zip(self.measured[n].steps, _scalars(n, self), strict=True)) for n in names
        }
        if "loss" not in columns:
            columns = {"loss": dict(zip(self.steps, self.losses, strict=True)), **columns}
        steps = sorted(set().union(*columns.values()))
        if steps:
            shown = sorted({steps[round(k * (len(steps) - 1) / 7)] for k in range(8)})
        else:
            shown = []
        rows = [["step", *(n.replace("_", " ") for n in columns)]]
        rows += [[str(s), *(_short(c.get(s, "")) for c in columns.values())] for s in shown]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        total = sum(self.seconds.values())
        end = (
            f"{self.reason or 'unfinished'}; {total:.1f} s, of which training {self.seconds.get('training', 0.0):.1f} s"
        )
        return "\n".join([head, *table, end])


def _scalars(name: str, trace: Trace) -> list[float]:
    return [value for value in trace.measured[name].values if not isinstance(value, dict)]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> Any:
    """Lists and dicts all the way down, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(values: list) -> list:
    """None back to nan, in numbers and in one number per label."""

    def number(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: number(v) for key, v in value.items()}
        return math.nan if value is None else value

    return [number(value) for value in values]


def _series(facts: Mapping[str, Any]) -> Series:
    return Series(**{**facts, "values": _numbers(facts["values"])})
