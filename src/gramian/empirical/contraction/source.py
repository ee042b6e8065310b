"""A model that was read once: what its factors are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gramian.empirical.modules.observed_pass import ObservedPass
from gramian.empirical.modules.output_functions import Model
from gramian.empirical.modules.structured_parameters import Uses

# a vmap over samples with one over outputs inside; a vmap over samples for each output; each sample on its own
WAYS = ("nested", "single", "apart")


@dataclass(frozen=True, eq=False)
class Source:
    """A model read once: what factors are made from."""

    model: Model
    uses: Uses
    parameters: dict[str, Tensor]
    n_outputs: int
    dtype: torch.dtype
    full: bool
    way: str = "nested"  # one of WAYS
    room: int = 0  # numbers that a check may hold
    observed: ObservedPass | None = None
    tried: set[Any] = field(default_factory=set)  # shapes and units whose factors agreed with plain backward passes

    def sizes(self) -> list[tuple[str, int]]:
        """Name and number of entries of each parameter."""
        return [(name, p.numel()) for name, p in self.parameters.items()]

    @property
    def batched(self) -> bool:
        """Whether samples are run together; else each has its own backward passes."""
        return self.way != "apart"
