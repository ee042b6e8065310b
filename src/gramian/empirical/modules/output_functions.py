"""What is differentiated: the module's output, or what a caller's function makes of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.calling import call_at


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples, and the target of each if the function of the outputs takes one."""

    x: Samples
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.x[rows], None if self.targets is None else self.targets[rows])

    def take(self, rows: list[int]) -> Batch:
        """Copies of some samples."""
        return Batch(self.x[rows], None if self.targets is None else self.targets[rows])

    def clone(self) -> Batch:
        """The same samples in memory of their own."""
        return Batch(self.x.clone(), None if self.targets is None else self.targets.clone())


@dataclass(frozen=True, eq=False)
class Model:
    """A module and a function of its output on a batch of one (and of the target)."""

    module: nn.Module
    of: Callable[..., Tensor] | None = None

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
        return self.of(out) if batch.targets is None else self.of(out, batch.targets)
