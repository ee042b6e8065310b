"""The steps of a program while a graph is read, and the two things that a call may give: a value, or a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from gramian.checker.program import ProgramStep
from gramian.errors import Unsupported

ROWS_AT_ONCE = 256  # columns of a linear map's matrix that are computed together


@dataclass(frozen=True)
class StepValue:
    """What a call of the graph gives: the number of a step, and the shape of one sample's tensor."""

    step: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Weight:
    """A parameter as a layer may take it: times an exact number, and perhaps as another matrix of the same numbers."""

    name: str
    tensor: Tensor
    scale: float = 1.0


class ProgramReading:
    """The steps so far, and their arrays."""

    def __init__(self, module: nn.Module) -> None:
        self.steps: list[ProgramStep] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.layouts: dict[str, tuple[int, ...]] = {}
        self.parameters = dict(module.named_parameters(remove_duplicate=False))  # tied ones have two names

    def add(self, step: ProgramStep, shape: Sequence[int]) -> StepValue:
        self.steps.append(step)
        return StepValue(len(self.steps) - 1, tuple(shape))

    def array(self, name: str, values: Any) -> str:
        self.arrays[name] = np.ascontiguousarray(values)
        return name

    def weight(self, weight: Weight, matrix: Tensor) -> str:
        """The name under which a parameter's numbers stand as this matrix; its strides say which entry is which."""
        own = (*matrix.shape, *matrix.stride())
        if self.layouts.setdefault(weight.name, own)[-2:] != own[-2:]:
            raise Unsupported(f"the parameter `{weight.name}` is used as two different matrices")
        return self.array(weight.name, matrix.detach().double().numpy())

    def linear(self, value: StepValue, matrix: sparse.spmatrix, shape: Sequence[int], offset: Any = None) -> StepValue:
        """An exact linear map of one sample's numbers, with an offset."""
        csr = sparse.csr_matrix(matrix)
        csr.sort_indices()
        number = len(self.steps)
        names = tuple(self.array(f"map{number}.{part}", getattr(csr, part)) for part in ("data", "indices", "indptr"))
        kept = ""
        if offset is not None and np.any(offset):
            kept = self.array(f"map{number}.offset", np.asarray(offset, dtype=np.float64))
        step = ProgramStep("linear", (value.step,), matrix=names, shape=csr.shape, offset=kept)  # type: ignore[arg-type]
        return self.add(step, shape)

    def value(self, of: StepValue | Weight) -> StepValue:
        """A parameter that no layer takes, as a step of its own."""
        if isinstance(of, StepValue):
            return of
        flat = of.tensor.detach().reshape(1, -1)
        step = ProgramStep("parameter", weight=self.weight(of, flat))
        if of.tensor.dim() == 1:  # it may be a bias as well
            self.arrays[of.name] = self.arrays[of.name].reshape(-1)
        value = self.add(step, of.tensor.shape)
        if of.scale == 1:
            return value
        return self.linear(value, sparse.identity(value.size) * of.scale, value.shape)

    def function(self, name: str, value: StepValue) -> StepValue:
        return self.add(ProgramStep("function", (value.step,), function=name), value.shape)

    def scaled(self, value: StepValue, factor: float) -> StepValue:
        return self.linear(value, sparse.identity(value.size, format="csr") * factor, value.shape)

    def sum(self, *values: StepValue) -> StepValue:
        return self.add(ProgramStep("sum", tuple(v.step for v in values)), values[0].shape)

    def product(self, a: StepValue, b: StepValue) -> StepValue:
        return self.add(ProgramStep("product", (a.step, b.step)), a.shape)

    def expanded(self, value: StepValue, shape: Sequence[int]) -> StepValue:
        """Broadcast to a larger shape."""
        if tuple(value.shape) == tuple(shape):
            return value
        return self.gathered(value, lambda t: t.expand(*shape))

    def gathered(self, value: StepValue, move: Callable[[Tensor], Tensor]) -> StepValue:
        """What moves, copies or leaves out numbers, or puts zeros beside them: found from the numbers 1, 2, ..."""
        moved = move(torch.arange(1, value.size + 1, dtype=torch.float64).reshape(value.shape))
        source = moved.reshape(-1).numpy().astype(np.int64) - 1
        rows = np.flatnonzero(source >= 0)
        ones = np.ones(len(rows))
        matrix = sparse.csr_matrix((ones, (rows, source[rows])), shape=(len(source), value.size))
        return self.linear(value, matrix, tuple(moved.shape))

    def mapped(self, value: StepValue, run: Callable[[Tensor], Tensor]) -> StepValue:
        """A linear map with an offset, by its columns."""
        zero = torch.zeros(value.shape, dtype=torch.float64)
        offset = run(zero)
        columns = []
        for first in range(0, value.size, ROWS_AT_ONCE):
            few = torch.eye(value.size, dtype=torch.float64)[first : first + ROWS_AT_ONCE]
            images = torch.stack([run(row.reshape(value.shape)) - offset for row in few])
            columns.append(sparse.csr_matrix(images.reshape(len(few), -1).numpy()))
        matrix = sparse.vstack(columns).T
        trial = torch.randn(value.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        computed = matrix @ trial.reshape(-1).numpy() + offset.reshape(-1).numpy()
        if not np.allclose(computed, run(trial).reshape(-1).numpy(), rtol=1e-11, atol=1e-12):
            raise Unsupported("a call that should be linear is not")
        return self.linear(value, matrix, tuple(offset.shape), offset.reshape(-1).numpy())
