"""The settings of a run, checked: what `train` takes, as one frozen value, and the optimizer that it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gramian.errors import BadArgument

OPTIMIZERS = ("gd", "sgd", "momentum", "nesterov", "adam")
SGD_BATCH, ADAM_LR = 32, 1e-3


@dataclass(frozen=True)
class Settings:
    """The numbers that `train` takes, as given."""

    optimizer: str
    lr: float | None
    steps: int
    batch_size: int | None
    momentum: float
    seed: int
    stop_loss: float | None
    stop_accuracy: float | None
    every: int | None
    gram_rows: int

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _check(
            "lr",
            self.lr,
            self.lr is None or (_number(self.lr) and self.lr > 0),
            "a positive number, or None to have it chosen",
        )
        _check("steps", self.steps, _whole(self.steps, 0), "a whole number, 0 or more")
        _check(
            "batch_size",
            self.batch_size,
            self.batch_size is None or _whole(self.batch_size, 1),
            "a whole number, 1 or more",
        )
        _check(
            "momentum",
            self.momentum,
            _number(self.momentum) and 0 <= self.momentum < 1,
            "a number from 0 up to, not including, 1",
        )
        _check("every", self.every, self.every is None or _whole(self.every, 1), "a whole number, 1 or more")
        _check("gram_rows", self.gram_rows, _whole(self.gram_rows, 1), "a whole number, 1 or more")
        _check("stop_loss", self.stop_loss, self.stop_loss is None or _number(self.stop_loss), "a number")
        good = self.stop_accuracy is None or (_number(self.stop_accuracy) and 0 < self.stop_accuracy <= 1)
        _check("stop_accuracy", self.stop_accuracy, good, "a share: 1.0 is 100 %")
        if self.optimizer == "gd" and self.batch_size is not None:
            raise BadArgument(
                f"batch_size={self.batch_size} with optimizer='gd', which uses all samples in each step.",
                where="train(..., optimizer=, batch_size=)",
                fix="optimizer='sgd'",
            )

    def batch(self, n: int) -> int:
        """Samples in a step, of n."""
        if self.optimizer == "sgd" and self.batch_size is None:
            return min(SGD_BATCH, n)
        return min(self.batch_size or n, n)

    def make(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The torch optimizer; "momentum" is heavy ball, "nesterov" is torch's form of Nesterov's method."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=lr)
        if self.optimizer in ("momentum", "nesterov"):
            beta = self.momentum
        else:
            beta = 0.0
        return torch.optim.SGD(parameters, lr=lr, momentum=beta, nesterov=self.optimizer == "nesterov" and beta > 0)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadArgument(
            f"{name}={value!r} is not known.", where=f"train(..., {name}=...)", fix=f"one of {', '.join(known)}"
        )


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise BadArgument(f"{name}={value!r} makes no sense.", where=f"train(..., {name}=...)", fix=wanted)
