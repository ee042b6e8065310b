"""Refuses a kernel that is not finite, with the row and the layer where that begins."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor

from gramian.arch.inputs import Inputs, leaves, precision, rows
from gramian.arch.structure import Structure
from gramian.errors import BadData, GramianError
from gramian.limit import torch_engine

LARGEST = {torch.float16: "6.5e4", torch.bfloat16: "3.4e38", torch.float32: "3.4e38", torch.float64: "1.8e308"}


def check_finite(arch: Structure, x: Inputs, x2: Inputs | None, *kernels: Tensor) -> None:
    """Raises BadData where a number of these kernels, shapes (n, m, ...), is infinite or NaN."""
    for k in kernels:
        if not k.numel() or bool(torch.isfinite(k.detach()).all()):
            continue
        finite = torch.isfinite(k.detach())
        if finite.ndim > 2:
            finite = finite.flatten(2).all(2)
        bad = torch.nonzero(~finite)
        i, j = bad[0].tolist()
        refuse(arch, x, x2, (i, j), len(bad), k.dtype)


def refuse(
    arch: Structure, x: Inputs, x2: Inputs | None, pair: tuple[int, int], count: int, dtype: torch.dtype
) -> NoReturn:
    """The refusal of a kernel that is not finite at this pair of rows, the first of so many."""
    i, j = pair
    other = x if x2 is None else x2
    row, column = (rows(t, slice(at, at + 1)) for t, at in ((x, i), (other, j)))
    where, size = _begins(arch, row, None if x2 is None and i == j else column)
    if x2 is None and i == j:
        names = f"row {i}"
    elif x2 is None:
        names = f"rows {i} of x and {j} of x"
    else:
        names = f"rows {i} of x and {j} of x2"
    if count > 1:
        count_of_pairs = f", first of {count} pairs."
    else:
        count_of_pairs = "."
    largest = max(float(t.abs().max()) for r in (row, column) for t in leaves(r) if t.is_floating_point() and t.numel())
    why = f"numbers above {LARGEST.get(dtype, 'the largest')} have no place in {dtype}: "
    if size is not None:
        why += f"the values' variance below this layer is {size:.2g}, "
    fix = "scale the inputs to norm sqrt(d), give the law a smaller sigma_w"
    if dtype != torch.float64:
        fix += ", or use float64: x.double()"
    raise BadData(
        f"The kernel is not finite in {dtype} at {names}{count_of_pairs}",
        where=where or "the result",
        why=f"{why}the inputs' largest number {largest:.2g}; or a layer divides by zero",
        fix=fix,
    )


def _begins(arch: Structure, row: Inputs, column: Inputs | None) -> tuple[str, float | None]:
    """The first step after which a kernel of one pair is not finite, and the variance below it; by bisection."""
    dtype = precision([t for t in leaves(row) if isinstance(t, Tensor)])

    def finite(number: int) -> tuple[bool, float | None]:
        cut = replace(arch, steps=arch.steps[: number + 1], output=number)
        try:
            with torch.no_grad():
                moments = torch_engine.pair_moments(cut, row, column)
        except (GramianError, ArithmeticError, ValueError, RuntimeError):  # of numbers that are not finite
            return False, None
        numbers = [t for t in (moments.xx, moments.yy, moments.xy, moments.theta) if t is not None]
        return all(bool(torch.isfinite(t.to(dtype)).all()) for t in numbers), float(moments.xx.abs().max())

    steps = [n for n, step in enumerate(arch.steps[: arch.output + 1]) if not step.data]
    low, high, size = -1, len(steps) - 1, None
    if not steps or finite(steps[-1])[0]:
        return "", None
    while high - low > 1:
        # finite after steps[low], not after steps[high]
        middle = (low + high) // 2
        fine, variance = finite(steps[middle])
        if fine:
            low, size = middle, variance
        else:
            high = middle
    return arch.steps[steps[high]].where, size
