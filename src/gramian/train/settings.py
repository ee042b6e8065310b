"""The settings of a run: `Settings`, which `train` and `certify` take, and what `train` alone takes beside them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any, TypedDict

import torch
from torch import nn

from gramian.errors import BadArgument, message
from gramian.train.objective import Loss

OPTIMIZERS = ("gd", "sgd", "momentum", "nesterov", "adam")
SGD_BATCH, ADAM_LR = 32, 1e-3


class SettingsKeywords(TypedDict, total=False):
    """The fields of `Settings` as plain keywords of `train` and `certify`."""

    optimizer: str | None
    lr: float | None
    batch_size: int | None
    momentum: float
    loss: Loss
    steps: int | None
    accuracy: float | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained: one value for `train` and `certify`, checked when it is made.

    Where None is allowed it means "chosen by the function that gets the settings", whose docstring says how.

    Args:
        optimizer: "gd", "sgd", "momentum" (heavy ball), "nesterov" (torch's form) or "adam". None: `train` takes "gd",
            `certify` "sgd".
        lr: learning rate of the loss *summed over the rows*. None: from the largest stable one at initialization.
        batch_size: samples per step. None: all of them, but 32 for "sgd".
        momentum: of "momentum" and "nesterov"; the others do not use it.
        loss: "squared" (half the squared errors), "cross-entropy"; for `train` also a differentiable function
            (outputs (n, C), targets) -> scalar *sum* over samples.
        steps: at most. None: `train` takes 1000, `certify` ten times what the kernel predicts.
        accuracy: share of the best constant predictor's loss at which the minimum counts as reached, and the run stops.
            None: `certify` takes 0.01; `train` does not stop for it.
        seed: of the minibatches and the module's own random numbers; of `certify` also of new weights.

    Raises:
        BadArgument: a setting that makes no sense.

    Example:
        >>> Settings(optimizer="sgd", batch_size=16).lr is None
        True
    """

    optimizer: str | None = None
    lr: float | None = None
    batch_size: int | None = None
    momentum: float = 0.9
    loss: Loss = "squared"
    steps: int | None = None
    accuracy: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer is not None:
            _one_of("optimizer", self.optimizer, OPTIMIZERS)
        lr_is_known = self.lr is None or (_is_number(self.lr) and self.lr > 0)
        _check("lr", self.lr, lr_is_known, "a positive number, or None to have it chosen")
        _check("steps", self.steps, self.steps is None or _is_whole(self.steps, 0), "a whole number, 0 or more")
        batch_is_known = self.batch_size is None or _is_whole(self.batch_size, 1)
        _check("batch_size", self.batch_size, batch_is_known, "a whole number, 1 or more")
        momentum_is_known = _is_number(self.momentum) and 0 <= self.momentum < 1
        _check("momentum", self.momentum, momentum_is_known, "a number from 0 up to, not including, 1")
        if self.accuracy is not None and not (_is_number(self.accuracy) and 0 < self.accuracy < 1):
            raise BadArgument(
                f"accuracy={self.accuracy!r} is no share between 0 and 1.",
                where="setting `accuracy`",
                why="it is the share of the best constant predictor's loss that counts as the minimum",
                fix="accuracy=0.01",
            )
        if self.optimizer == "gd" and self.batch_size is not None:
            raise BadArgument(
                f"batch_size={self.batch_size} with optimizer='gd', which uses all samples in each step.",
                where="settings `optimizer` and `batch_size`",
                fix="optimizer='sgd'",
            )

    def rows_per_step(self, n: int) -> int:
        """Samples in a step, of n."""
        if self.optimizer == "sgd" and self.batch_size is None:
            return min(SGD_BATCH, n)
        return min(self.batch_size or n, n)

    @property
    def effective_momentum(self) -> float:
        """The momentum that enters the steps: 0 for the methods without one."""
        if self.optimizer in ("momentum", "nesterov"):
            return self.momentum
        return 0.0

    def torch_optimizer(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The torch optimizer; "momentum" is heavy ball, "nesterov" is torch's form of Nesterov's method."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=lr)
        beta = self.effective_momentum
        return torch.optim.SGD(parameters, lr=lr, momentum=beta, nesterov=self.optimizer == "nesterov" and beta > 0)


@dataclass(frozen=True)
class RunOptions:
    """What `train` takes beside the settings: when a run stops, and how much of it is measured."""

    stop_loss: float | None = None
    stop_accuracy: float | None = None
    every: int | None = None
    gram_rows: int = 128

    def __post_init__(self) -> None:
        _check("every", self.every, self.every is None or _is_whole(self.every, 1), "a whole number, 1 or more")
        _check("gram_rows", self.gram_rows, _is_whole(self.gram_rows, 1), "a whole number, 1 or more")
        _check("stop_loss", self.stop_loss, self.stop_loss is None or _is_number(self.stop_loss), "a number")
        is_share = self.stop_accuracy is None or (_is_number(self.stop_accuracy) and 0 < self.stop_accuracy <= 1)
        _check("stop_accuracy", self.stop_accuracy, is_share, "a share: 1.0 is 100 %")


def merged_settings(
    function: Callable[..., Any],
    settings: Settings | None,
    keywords: Mapping[str, Any],
    *,
    elsewhere: Mapping[str, str] | None = None,
    **defaults: Any,
) -> Settings:
    """The settings with the plain keywords in their places, and the function's own defaults where both say nothing.

    A keyword that stands beside `settings` wins, as in `dataclasses.replace`.

    Args:
        function: that was called.
        settings: its argument of this name.
        keywords: its plain keywords.
        elsewhere: keywords that belong to another object, with what to write instead.
        defaults: in place of None.

    Raises:
        TypeError: a keyword that is no setting, as Python would say it, with the nearest one.
        BadArgument: `settings` is something else; a setting that makes no sense.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise BadArgument(
            f"settings is a {type(settings).__name__}.",
            where=f"argument `settings` of {function.__name__}",
            why="settings are one value of the class gramian.Settings, or plain keywords",
            fix="settings=gramian.Settings(lr=0.1, steps=100), or lr=0.1, steps=100",
        )
    names = [field.name for field in fields(Settings)]
    for name in keywords:
        if name not in names:
            raise _unexpected(function, name, names, elsewhere or {})
    chosen = replace(settings or Settings(), **keywords)
    return replace(chosen, **{name: value for name, value in defaults.items() if getattr(chosen, name) is None})


def _unexpected(function: Callable[..., Any], name: str, names: list[str], elsewhere: Mapping[str, str]) -> TypeError:
    """Python's own error for a keyword that a function does not have, with what was probably meant."""
    known = [*names, *(each for each in signature(function).parameters if each != "keywords")]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    fix = elsewhere.get(name, "")
    if not fix and nearest:
        fix = f"{nearest[0]}="
    return TypeError(message(f"{function.__name__}() got an unexpected keyword argument {name!r}", fix=fix))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadArgument(
            f"{name}={value!r} is not known.", where=f"setting `{name}`", fix=f"one of {', '.join(known)}"
        )


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise BadArgument(f"{name}={value!r} makes no sense.", where=f"setting `{name}`", fix=wanted)
