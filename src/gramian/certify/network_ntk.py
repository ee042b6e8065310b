"""The NTK of a network as it stands, on some rows, and its distance from the limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.empirical import empirical_ntk
from gramian.train.forward import evaluating


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


def affordable_rows(network: nn.Module, x: Tensor, operations: float) -> int:
    """On how many rows the network's own NTK takes about so many operations at most, from those that 64 rows take.

    Counted, not timed: the same run watches the same rows on every machine and on every day.
    """
    if len(x) <= 64:
        return len(x)
    with FlopCounterMode(display=False) as counter:
        kernel_error(network, x[:64], None)
    once = max(counter.get_total_flops(), 1)
    # a Gram matrix takes time in proportion to the square of its rows
    return min(len(x), max(64, int(64 * math.sqrt(operations / once))))
