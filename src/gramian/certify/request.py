"""What `certify` was asked: its arguments, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gramian.arch.law import Law
from gramian.certify.description import Description
from gramian.certify.setup import check_parametrization
from gramian.empirical.modules.module_copy import copied as deep_copy
from gramian.errors import BadArgument
from gramian.train.settings import Settings

LOSSES = ("squared", "cross-entropy")
TARGETS = ("auto", "as given", "standardized")


@dataclass(frozen=True, eq=False)
class Request:
    """The arguments of `certify`, data aside, as they were given; see its docstring.

    `settings` are complete but for what is chosen on the way: `lr` and `steps` may be None.
    """

    module: nn.Module
    settings: Settings
    description: Description
    law: Law | None = None
    parametrization: str | None = None
    width: int | str = "auto"
    tolerance: float = 0.1
    targets: str = "auto"
    dtype: torch.dtype | None = None
    device: str | None = None
    checkpoint: str | Path | None = None
    resume: bool = False
    progress: bool = False
    prove: bool | str = "auto"

    def __post_init__(self) -> None:
        check_words(self.settings.loss, self.targets, self.tolerance)
        check_width(self.width)
        check_prove(self.prove)
        check_module(self.module)
        check_parametrization(self.network_kind)
        self._check_batch_size()
        if self.in_place:
            self._check_in_place()

    @property
    def in_place(self) -> bool:
        """Whether the module itself is trained, not a copy."""
        return self.parametrization == "own"

    @property
    def network_kind(self) -> str:
        """The parametrization that is meant: where none was said, the module as it stands or, at a width, "ntk"."""
        if self.parametrization is not None:
            return self.parametrization
        if self.width == "auto":
            return "own"
        return "ntk"

    @property
    def training_dtype(self) -> torch.dtype:
        """Precision of the training: the module's own where it is trained, else float32."""
        if self.dtype is not None:
            return self.dtype
        if self.network_kind == "own":
            return self._first_parameter().dtype
        return torch.float32

    @property
    def training_device(self) -> str:
        """Device of the training: the module's own where it is trained, else the CPU."""
        if self.device is not None:
            return self.device
        if self.network_kind == "own":
            return str(self._first_parameter().device)
        return "cpu"

    @property
    def accuracy(self) -> float:
        """Share of the best constant predictor's loss that counts as the minimum."""
        assert self.settings.accuracy is not None
        return self.settings.accuracy

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return str(self.settings.loss)

    def _first_parameter(self) -> nn.Parameter:
        return next(p for p in self.module.parameters() if p.is_floating_point())

    def _check_batch_size(self) -> None:
        """Momentum and Adam take all rows in each step here, as the predictions have it."""
        if self.settings.batch_size is not None and self.settings.optimizer != "sgd":
            raise BadArgument(
                f"batch_size={self.settings.batch_size} with optimizer={self.settings.optimizer!r}.",
                where="certify(module, x, y, optimizer=, batch_size=)",
                why="what certify predicts of this optimizer is about steps on all rows",
                fix='optimizer="sgd", or no batch_size; gramian.train takes minibatches with each but "gd"',
            )

    def _check_in_place(self) -> None:
        """The user's own module is neither cast nor moved: they say so themselves, with `module.to`."""
        own = self._first_parameter()
        for name, asked, has in (
            ("dtype", self.training_dtype, own.dtype),
            ("device", torch.device(self.training_device), own.device),
        ):
            if not _same(asked, has):
                raise BadArgument(
                    f"{name}={asked} for a module that is {has}.",
                    where=f'certify(module, x, y, parametrization="own", {name}=)',
                    why="it is trained in place, and casting or moving it would change the user's own object",
                    fix="module.to(...) first, or without parametrization: a copy is trained",
                )


def _same(asked: torch.dtype | torch.device, has: torch.dtype | torch.device) -> bool:
    """Equal; "cuda" is any device of CUDA."""
    if isinstance(asked, torch.device) and isinstance(has, torch.device):
        return asked.type == has.type and asked.index in (None, has.index)
    return asked == has


def check_words(loss: object, targets: str, tolerance: float) -> None:
    """Raise unless the settings that are words or shares are known."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < 1:
        raise BadArgument(
            f"tolerance={tolerance!r} is no share between 0 and 1.",
            where="argument `tolerance` of certify",
            why="it is the kernel's relative error that counts as being in the regime of the limit",
            fix="tolerance=0.1",
        )
    if loss not in LOSSES:
        raise BadArgument(
            f"loss={loss!r} is not known.",
            where="argument `loss` of certify",
            why="the answer needs the least that a constant predictor can have, which is known for two losses",
            fix='loss="squared" (nn.MSELoss) or "cross-entropy" (nn.CrossEntropyLoss); gramian.train takes any loss',
        )
    if targets not in TARGETS:
        raise BadArgument(
            f"targets={targets!r} is not known.",
            where="argument `targets` of certify",
            why="real targets are trained on as they are given, or brought to mean 0 and deviation 1 first",
            fix=f"one of {', '.join(map(repr, TARGETS))}",
        )


def check_width(width: object) -> None:
    """Raise unless it is a whole number or "auto"."""
    if width != "auto" and (not isinstance(width, int) or isinstance(width, bool) or width < 1):
        raise BadArgument(
            f"width={width!r} is no width.",
            where="argument `width` of certify",
            why='a width is a whole number, 1 or more, or "auto"',
            fix='width=512, or width="auto"',
        )


def check_prove(prove: object) -> None:
    """Raise unless it is "auto", True or False."""
    if prove != "auto" and not isinstance(prove, bool):
        raise BadArgument(
            f"prove={prove!r} is not known.",
            where="argument `prove` of certify",
            why="a proof is tried where it fits into the study's time, whatever it takes, or not at all",
            fix='prove="auto", True or False',
        )


def check_module(module: object) -> nn.Module:
    """The module, if it is one that can be trained.

    Raises:
        BadArgument: a class, a function, a module without numbers (on `meta`), or without a parameter to train.
    """
    where = "certify(module, x, y)"
    if isinstance(module, type):
        raise BadArgument(
            f"The module is the class {module.__name__}, not a network.",
            where=where,
            why="a network is an object, made by calling its class",
            fix=f"{module.__name__}(...), called",
        )
    if not isinstance(module, nn.Module):
        raise BadArgument(
            f"The module is a {type(module).__name__}, not a network.",
            where=where,
            why="it is given first",
            fix="an nn.Module, then inputs, then targets",
        )
    meta = [name for name, p in (*module.named_parameters(), *module.named_buffers()) if p.is_meta]
    if meta:
        raise BadArgument(
            f"{len(meta)} tensors of the module are on the device meta, the first is {meta[0]}.",
            where=where,
            why="they have shapes and no numbers, so there is nothing to train or to measure",
            fix='module.to_empty(device="cpu") and an initialization, or make it outside `with torch.device("meta")`',
        )
    if not any(p.requires_grad for p in module.parameters()):
        raise BadArgument(
            "The module has no parameter to train.",
            where=where,
            why="it has none, or all have requires_grad=False",
            fix="module.requires_grad_(True), or a module with weights",
        )
    return module


def copied(module: nn.Module) -> nn.Module:
    """A copy of the user's module, to be trained in its place."""
    try:
        return deep_copy(module)
    except BadArgument as error:
        raise BadArgument(
            error.what,
            where=error.where,
            why="certify trains a copy of your module, and something in it has none, such as an open file",
            fix='parametrization="own" trains the module itself, in place',
        ) from None
