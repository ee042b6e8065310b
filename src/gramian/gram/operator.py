"""What the matrix-free estimators take: anything with a shape and products."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Generator, Tensor

from gramian.errors import BadArgument
from gramian.gram.gram import Gram


class Operator(Protocol):
    """A symmetric matrix that is only known by its products: `EmpiricalNTK`, `GaussNewton`, `Gram`, a tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __matmul__(self, other: Tensor, /) -> Tensor: ...


def check_operator(operator: Operator, where: str) -> int:
    """Its number of rows.

    Raises:
        BadArgument: it is not square, or its rows and columns are different samples.
    """
    shape = tuple(operator.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not getattr(operator, "symmetric", True):
        raise BadArgument(
            f"the operator of shape {shape} is not a symmetric matrix",
            where=where,
            why="its rows and columns are different samples",
            fix="EmpiricalNTK(module, x) or Gram(kernel, x), with one set of inputs",
        )
    return shape[0]


def device_of(operator: Operator) -> torch.device:
    """The device on which its products are computed."""
    if isinstance(operator, Gram):
        return next(operator.tiles())[2].device
    return torch.device(getattr(operator, "device", "cpu"))


def signs(n: int, k: int, generator: Generator) -> Tensor:
    """Rademacher vectors in the columns; shape (n, k), float64."""
    return torch.randint(0, 2, (n, k), generator=generator, dtype=torch.int8).double().mul_(2).sub_(1)


def check_probes(probes: int, least: int, where: str) -> None:
    """Refuses numbers of random vectors that give no error bar."""
    if probes < least:
        raise BadArgument(
            f"probes={probes}",
            where=where,
            why="an error bar is the spread of at least two independent estimates",
            fix=f"probes={max(least, 10)}",
        )
