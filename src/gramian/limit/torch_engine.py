"""The limit kernels in plain torch, a tile at a time: the oracle of every faster engine."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.arch.architecture import Architecture
from gramian.arch.joint import Cross, data_cross
from gramian.arch.moments import Moments, input_moments
from gramian.errors import NoLimit

# bytes of one tile's covariance. A dozen such tensors live at once: on a CPU they should stay in the cache (2**28 is
# 7 times slower than 2**21 for a CNN on 400 images), on a GPU fill it.
BUDGET = {"cpu": 2**21, "cuda": 2**28}


def kernels(arch: Architecture, x: Tensor, y: Tensor | None = None, *, ntk: bool = True) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)` of an architecture at infinite width, see `gramian.limit.kernels`."""
    arch.check_input(x, "x")
    other = x if y is None else y
    if y is not None:
        arch.check_input(y, "y")
    pairs = demand(arch)
    rows = tile_rows(arch, x.element_size(), pairs, BUDGET.get(x.device.type, BUDGET["cuda"]))
    symmetric = y is None
    nngp_rows, ntk_rows = [], []
    grid: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    x_parts, y_parts = x.split(rows), other.split(rows)
    for i, part in enumerate(x_parts):
        for j, against in enumerate(y_parts):
            if symmetric and j < i:
                grid[i, j] = tuple(t.mT for t in grid.pop((j, i)))  # type: ignore[assignment]
                continue
            grid[i, j] = _tile(arch, part, None if symmetric and i == j else against, pairs, ntk)
            if symmetric and i == j:
                grid[i, j] = tuple(_mirrored(t) for t in grid[i, j])  # type: ignore[assignment]
        row = [grid[i, j] if symmetric and j > i else grid.pop((i, j)) for j in range(len(y_parts))]
        nngp_rows.append(torch.cat([k for k, _ in row], 1))
        ntk_rows.append(torch.cat([t for _, t in row], 1) if ntk else row[0][1])
    return torch.cat(nngp_rows), torch.cat(ntk_rows) if ntk else ntk_rows[0]


def check(arch: Architecture, x: Tensor, ntk: bool) -> None:
    """Raises NoLimit where an op of this network has no rule: computes one entry."""
    _tile(arch, x[:1], None, demand(arch), ntk)


def demand(arch: Architecture) -> tuple[bool, ...]:
    """For each step, whether its inputs must hold all pairs of positions: asked backwards from the output."""
    if arch.joint:  # covariances between values are kept at all pairs
        return (True,) * len(arch.steps)
    out = [False] * len(arch.steps)
    inputs = [False] * len(arch.steps)
    for number in range(len(arch.steps) - 1, -1, -1):
        step = arch.steps[number]
        inputs[number] = step.op.needs_pairs(out[number])
        for i in step.inputs:
            if i >= 0:
                out[i] = out[i] or inputs[number]
    return tuple(inputs)


def tile_rows(arch: Architecture, itemsize: int, pairs: tuple[bool, ...], budget: int) -> int:
    """Rows (and columns) of a tile whose largest covariance takes at most `budget` bytes; at most 1024."""
    most = 1
    for number, step in enumerate(arch.steps):
        below = [arch.steps[i].shape if i >= 0 else arch.in_shape for i in step.inputs]
        for shape in below if not step.data else ():
            positions = torch.Size(shape[1:]).numel()
            most = max(most, positions**2 if pairs[number] else positions)
    return max(1, min(1024, int((budget / itemsize / most) ** 0.5)))


def _tile(arch: Architecture, x: Tensor, y: Tensor | None, pairs: tuple[bool, ...], ntk: bool) -> tuple[Tensor, Tensor]:
    """One tile: the input and what is made of it alone by numbers, everything above by moments."""
    data = values_of_data(arch, x), None if y is None else values_of_data(arch, y)
    needed: dict[int, bool] = {}
    for number, step in enumerate(arch.steps):
        if not step.data:
            for i in step.inputs:
                if i < 0 or arch.steps[i].data:
                    needed[i] = needed.get(i, False) or pairs[number]
    start: dict[int, Moments] = {}
    for i, full in needed.items():
        try:
            start[i] = input_moments(data[0][i], None if data[1] is None else data[1][i], pairs=full, ntk=ntk)
        except IndexError:  # a value without channels
            raise NoLimit("The data have no channel axis here.", fix="reshape the input to (n, features)") from None
    at_x, at_y = data[0], data[0] if data[1] is None else data[1]

    def between(s: int, t: int, ntk: bool) -> Cross:
        return data_cross(at_x[s], at_x[t], at_y[s], at_y[t], ntk=ntk)

    result = arch.limit(start.get(-1), start, pairs, between)  # type: ignore[arg-type]
    return result.xy, result.xy.new_empty(0) if result.theta is None else result.theta


def values_of_data(arch: Architecture, x: Tensor) -> dict[int, Tensor]:
    """The input (-1), and what is made of it alone, by step."""
    values = {-1: x}
    for number, step in enumerate(arch.steps):
        if step.data:
            values[number] = step.op.apply(*(values[i] for i in step.inputs))
    return values


def _mirrored(tile: Tensor) -> Tensor:
    """The upper triangle on both sides: products and sums may round (i, j) and (j, i) differently."""
    return tile.triu() + tile.triu(1).mT if tile.ndim == 2 else tile
