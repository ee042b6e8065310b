"""What is differentiated: the module's output, or what a caller's function makes of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples, changed
from gramian.empirical.modules.calling import call_at


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples, and the target of each if the function of the outputs takes one."""

    x: Samples
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice | list[int]) -> Batch:
        if self.targets is None:
            return Batch(self.x[rows])
        return Batch(self.x[rows], self.targets[rows])

    def take(self, rows: list[int]) -> Batch:
        """Copies of some samples."""
        return self[rows]

    def clone(self) -> Batch:
        """The same samples in memory of their own."""
        return self[list(range(len(self)))]

    @property
    def target_axis(self) -> int | None:
        """The axis of the samples in the targets, for `vmap`."""
        if self.targets is None:
            return None
        return 0

    @classmethod
    def of_one(cls, sample: Samples, target: Tensor | None) -> Batch:
        """The batch of one of a sample without its first axis, as `vmap` has it."""
        x = changed(sample, lambda t: t[None])
        if target is None:
            return cls(x)
        return cls(x, target[None])


@dataclass(frozen=True, eq=False)
class Model:
    """A module and a function of its output on a batch of one (and of the target)."""

    module: nn.Module
    of: Callable[..., Tensor] | None = None

    @classmethod
    def with_outputs(cls, module: nn.Module, outputs: str | Callable[..., Tensor]) -> Model:
        """The module, and the function if `outputs` is none of the words."""
        if isinstance(outputs, str):
            return cls(module)
        return cls(module, outputs)

    def __call__(
        self, batch: Batch, theta: dict[str, Tensor] | None = None, watched: AbstractContextManager | None = None
    ) -> Any:
        """The numbers to differentiate, for a batch of one, with other values of some parameters."""
        out = call_at(self.module, theta or {}, batch.x, watched)
        if self.of is None or watched is None:
            return self.apply(out, batch)
        with watched:
            return self.apply(out, batch)

    def apply(self, out: Any, batch: Batch) -> Any:
        """The function of the module's output alone."""
        if self.of is None:
            return out
        if batch.targets is None:
            return self.of(out)
        return self.of(out, batch.targets)
