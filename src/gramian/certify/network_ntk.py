"""The NTK of a network as it stands, on some rows, and its distance from the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.empirical import empirical_ntk
from gramian.train.forward import evaluating

LEAST_AFFORDABLE_ROWS = 64  # whose kernel is computed whatever it costs, and whose operations are counted


@dataclass(frozen=True, eq=False)
class KernelError:
    """A network's own NTK (float64, on some rows) and its relative distance from the limit; None without a limit."""

    ntk: Tensor
    relative: float | None


def kernel_error(network: nn.Module, x: Tensor, limit: Tensor | None) -> KernelError:
    """The NTK of a network on these rows, in its own precision, against the limit, relative in Frobenius norm."""
    device = next(network.parameters()).device
    with evaluating(network):
        own = empirical_ntk(network, x.to(device)).double().cpu()
    if limit is None:
        return KernelError(own, None)
    off = own - limit.double().cpu()
    size = float(limit.norm())
    return KernelError(own, float(off.norm()) / size if size > 0 else None)


@dataclass(frozen=True)
class KernelCost:
    """What a network's own NTK costs: counted once, and read for each budget.

    Counted, not timed: the same run watches the same rows on every machine and on every day.

    Args:
        rows: of the inputs.
        operations: that the kernel of the first 64 rows takes; 0 where there are no more rows than that.
    """

    rows: int
    operations: int

    def affordable_rows(self, operations: float) -> int:
        """On how many rows the kernel takes about so many operations at most; all where they are few."""
        if self.rows <= LEAST_AFFORDABLE_ROWS:
            return self.rows
        # a Gram matrix takes time in proportion to the square of its rows
        share = math.sqrt(operations / self.operations)
        return min(self.rows, max(LEAST_AFFORDABLE_ROWS, int(LEAST_AFFORDABLE_ROWS * share)))


def kernel_cost(network: nn.Module, x: Tensor) -> KernelCost:
    """The cost of a network's own NTK on these rows."""
    if len(x) <= LEAST_AFFORDABLE_ROWS:
        return KernelCost(len(x), 0)
    with FlopCounterMode(display=False) as counter:
        kernel_error(network, x[:LEAST_AFFORDABLE_ROWS], None)
    return KernelCost(len(x), max(counter.get_total_flops(), 1))
