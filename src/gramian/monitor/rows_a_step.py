"""How many rows a step of the loop takes: a loss that is a sum has an edge only with a batch size."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from gramian.monitor.batch_rows import tensors

STEPS_COUNTED = 20  # of the last steps the median counts


class RowsOfSteps:
    """Counts the rows that go through a module between two steps, with a graph, while it is on.

    It is a forward hook that copies and pickles as nothing: a copy of the module counts for nobody.
    """

    def __init__(self, axis: int = 0) -> None:
        self._axis, self._now, self._seen = axis, 0, deque[int](maxlen=STEPS_COUNTED)
        self.counting = True
        self._handle: Any = None

    def on(self, module: nn.Module) -> None:
        """Begins to count the module's calls."""
        self._handle = module.register_forward_hook(self, with_kwargs=True)

    def off(self) -> None:
        """Takes the hook off."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def step(self) -> None:
        """A step was made of what went through since the last one."""
        if self._now:
            self._seen.append(self._now)
        self._now = 0

    @property
    def rows(self) -> int | None:
        """Rows of a step; None as long as none was seen."""
        if self._seen:
            return sorted(self._seen)[len(self._seen) // 2]
        return None

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if not self.counting or not torch.is_grad_enabled() or not module.training:
            return
        if args or kwargs:
            inputs = tensors((*args, *kwargs.values()))
        else:
            inputs = []
        if inputs:
            self._now += _length(inputs[0])

    def __deepcopy__(self, _memo: Any) -> RowsOfSteps:
        return _nothing()

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _nothing, ()


def _nothing() -> RowsOfSteps:
    counter = RowsOfSteps()
    counter.counting = False
    return counter


def _length(t: Tensor) -> int:
    if t.ndim:
        return len(t)
    return 0
