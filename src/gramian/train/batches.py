"""Which samples a step uses: all of them, or minibatches from a fresh seeded permutation each epoch."""

from __future__ import annotations

import torch
from torch import Tensor


class Batches:
    """Row numbers of one minibatch after another; the last one of an epoch is smaller if the sizes do not divide.

    Example:
        >>> batches = Batches(5, 2, torch.Generator().manual_seed(0))
        >>> [len(batches.next()) for _ in range(4)]
        [2, 2, 1, 2]
    """

    def __init__(self, n: int, size: int, generator: torch.Generator) -> None:
        self.n, self.size, self.generator = n, size, generator
        self.order, self.position = torch.empty(0, dtype=torch.int64), 0

    def next(self) -> Tensor:
        """Rows of the next minibatch; shape (size,) or fewer."""
        if self.position >= len(self.order):
            self.order, self.position = torch.randperm(self.n, generator=self.generator), 0
        rows = self.order[self.position : self.position + self.size]
        self.position += self.size
        return rows

    def first_epoch(self) -> list[Tensor]:
        """The minibatches of the first epoch, without drawing from the generator."""
        # a copy of the generator draws what the first `next` will draw
        copy = torch.Generator(self.generator.device)
        copy.set_state(self.generator.get_state())
        return list(torch.randperm(self.n, generator=copy).split(self.size))

    def state(self) -> dict[str, Tensor]:
        """The order of the rows and the generator's state, for a checkpoint."""
        return {
            "order": self.order,
            "position": torch.tensor([self.position]),
            "generator": self.generator.get_state(),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a kept state."""
        self.order, self.position = state["order"], int(state["position"])
        self.generator.set_state(state["generator"])
