"""What is differentiated: the module's output, or what a caller's function makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gramian.empirical.modules.calling import call_at


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples, and the target of each if the function of the outputs takes one."""

    x: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.x[rows], None if self.targets is None else self.targets[rows])


@dataclass(frozen=True, eq=False)
class Model:
    """A module and a function of its output on a batch of one (and of the target)."""

    module: nn.Module
    of: Callable[..., Tensor] | None = None

    def __call__(self, batch: Batch, theta: dict[str, Tensor] | None = None) -> Any:
        """The numbers to differentiate, for a batch of one, with other values of some parameters."""
        return self.apply(call_at(self.module, theta or {}, batch.x), batch)

    def apply(self, out: Any, batch: Batch) -> Any:
        """The function of the module's output alone."""
        if self.of is None:
            return out
        return self.of(out) if batch.targets is None else self.of(out, batch.targets)
