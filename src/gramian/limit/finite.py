"""Numbers that are not finite: where the engines find them, and in what the module makes of the inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.errors import BadData


class NotFinite(ArithmeticError):
    """A kernel that is not finite at this row of x and this one of x2; `refuse` says it to the caller."""

    def __init__(self, pair: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__(f"not finite at {pair}")
        self.pair, self.dtype = pair, dtype


def check_data(value: Tensor, where: str, first: int = 0) -> None:
    """Raises BadData where a function of the inputs only is NaN; shape (n, ...).

    Infinite ones may be a mask, and show in the kernel where they are none.
    """
    if not value.is_floating_point() or not bool(torch.isnan(value.detach().sum())):
        return
    bad = torch.isnan(value.detach()).flatten(1).any(1)
    wrong = torch.nonzero(bad).flatten().tolist()
    if not wrong:  # infinities of both signs
        return
    raise BadData(
        f"What the module makes of the inputs is not a number in {len(wrong)} of {len(value)} rows, first in row "
        f"{first + wrong[0]}.",
        where=f"row {first + wrong[0]}, {where}",
        why="a logarithm or a root of a negative number, zero divided by zero, or an overflow before it",
        fix="repair these rows, or clamp what is divided by or taken the logarithm of",
    )
