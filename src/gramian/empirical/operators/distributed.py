"""Samples shared out over processes: what each of them sums, gathers and refuses together with the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gramian.errors import BadArgument, GramianError


class Share:
    """This process's share of n samples; without a group it is all of them.

    Every method but `mine` is called by all processes of the group at the same time.
    """

    def __init__(self, group: Any | None, device: torch.device) -> None:
        if group is not None and not (dist.is_available() and dist.is_initialized()):
            raise BadArgument(
                "a process group was given, and torch.distributed is not initialized.",
                where="EmpiricalNTK(..., group=...)",
                why="the processes do not know each other yet",
                fix='torch.distributed.init_process_group("gloo"), or group=None for one process',
            )
        self.group, self.device = group, device
        self.rank, self.size = 0, 1
        if group is not None:
            self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def counts(self, n: int) -> list[int]:
        """The number of samples of each process, in the order of their ranks."""
        counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        counts[self.rank] = n
        self.add([counts])
        return counts.tolist()

    def add(self, tensors: Iterable[Tensor]) -> None:
        """The sum over all processes, in place."""
        if self.group is not None:
            for t in tensors:
                dist.all_reduce(t, group=self.group)

    def gather(self, part: Tensor, counts: list[int]) -> Tensor:
        """Parts of counts[rank] rows one below the other, on every process, in bits the same."""
        if self.group is None:
            return part
        whole = part.new_zeros(sum(counts), *part.shape[1:])
        self.mine(whole, counts).copy_(part)
        self.add([whole])
        return whole

    def mine(self, whole: Tensor, counts: list[int]) -> Tensor:
        """This process's rows."""
        start = sum(counts[: self.rank])
        return whole[start : start + counts[self.rank]]

    def agree(self, problem: GramianError | None) -> None:
        """Raises on all processes if one of them has a problem, so that none waits for it for ever."""
        flag = torch.tensor([int(problem is not None)], device=self.device)
        self.add([flag])
        if problem is not None:
            raise problem
        if int(flag):
            raise BadArgument(
                f"{int(flag)} of the other processes refused the module or its share of the samples.",
                where=f"EmpiricalNTK(..., group=...) on rank {self.rank}",
                why="the error on that process says",
                fix="the same module on each process, and for each at least one sample that it can take",
            )

    def same(self, theta: Iterable[Tensor]) -> None:
        """Raises if the parameters differ between the processes.

        Raises:
            BadArgument: with the two extremes of a checksum.
        """
        if self.group is None:
            return
        marks = torch.stack([w for i, p in enumerate(theta) for w in _marks(p, i)]).to(self.device)
        # the maximum of -marks is minus their minimum: all are equal if the two maxima cancel
        high, low = marks.clone(), -marks
        dist.all_reduce(high, dist.ReduceOp.MAX, group=self.group)
        dist.all_reduce(low, dist.ReduceOp.MAX, group=self.group)
        if not torch.equal(high, -low):
            raise BadArgument(
                "The parameters are not the same on all processes: a checksum of one of them is between "
                f"{float(-low[high != -low][0])!r} and {float(high[high != -low][0])!r}.",
                where=f"EmpiricalNTK(..., group=...) on rank {self.rank}",
                why="each process has drawn its own initial weights, or trained on its own",
                fix="load the same state_dict on each, or torch.manual_seed before the module is made",
            )


def _marks(p: Tensor, i: int) -> list[Tensor]:
    """Two sums that equal parameters share and others hardly can; both finite where the parameter is."""
    flat = p.detach().reshape(-1)
    return [flat.sum(dtype=torch.float64), (flat * flat.roll(1 + i)).sum(dtype=torch.float64)]
