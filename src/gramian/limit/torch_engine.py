"""The limit kernels in plain torch, a tile at a time: the oracle of every faster engine."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gramian.arch.architecture import Architecture
from gramian.arch.cross import Cross, data_cross
from gramian.arch.inputs import Inputs, precision
from gramian.arch.moments import Moments
from gramian.arch.ops import Activation, Op, Tokens
from gramian.arch.ops.input_function import apply_to_data
from gramian.arch.tokens import token_cross
from gramian.errors import BadArgument, NoLimit
from gramian.limit.outputs import chosen_output

# bytes of one tile's covariance. A dozen such tensors live at once: on a CPU they should stay in the cache (2**28 is
# 7 times slower than 2**21 for a CNN on 400 images), on a GPU fill it.
BUDGET = {"cpu": 2**21, "cuda": 2**28}
FEW = 2**16  # the same for a diagonal, of whose tiles most is thrown away


def kernels(
    arch: Architecture,
    x: Inputs,
    y: Inputs | None = None,
    *,
    ntk: bool = True,
    outputs: str = "mean",
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)` of an architecture at infinite width, see `gramian.limit.kernels`."""
    arch = chosen_output(arch, outputs)
    x_all = arch.inputs.check(x, "x")
    y_all = x_all if y is None else arch.inputs.check(y, "y")
    pairs = demand(arch, outputs == "full")
    rows = tile_rows(arch, precision(x_all).itemsize, pairs, BUDGET.get(x_all[0].device.type, BUDGET["cuda"]))
    symmetric = y is None
    nngp_rows, ntk_rows = [], []
    grid: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    x_parts, y_parts = split(x_all, rows), split(y_all, rows)
    for i, part in enumerate(x_parts):
        for j, against in enumerate(y_parts):
            if symmetric and j < i:
                grid[i, j] = tuple(_transposed(t) for t in grid.pop((j, i)))  # type: ignore[assignment]
                continue
            grid[i, j] = _tile(arch, part, None if symmetric and i == j else against, pairs, ntk)
            if symmetric and i == j:
                grid[i, j] = tuple(_mirrored(t) for t in grid[i, j])  # type: ignore[assignment]
        row = [grid[i, j] if symmetric and j > i else grid.pop((i, j)) for j in range(len(y_parts))]
        nngp_rows.append(torch.cat([k for k, _ in row], 1))
        ntk_rows.append(torch.cat([t for _, t in row], 1) if ntk else row[0][1])
    return torch.cat(nngp_rows), torch.cat(ntk_rows) if ntk else ntk_rows[0]


def diagonals(arch: Architecture, x: Inputs, *, engine: str = "auto") -> tuple[Tensor, Tensor]:
    """The diagonals of `(nngp, ntk)`, from tiles of a few rows; shapes (n,)."""
    check_engine(engine)
    arch = chosen_output(arch, "mean")
    x_all = arch.inputs.check(x, "x")
    pairs = demand(arch)
    parts = split(x_all, tile_rows(arch, precision(x_all).itemsize, pairs, FEW))
    tiles = [_tile(arch, part, None, pairs, ntk=True) for part in parts]
    return torch.cat([k.diagonal() for k, _ in tiles]), torch.cat([t.diagonal() for _, t in tiles])


def check(arch: Architecture, x: Inputs, ntk: bool) -> None:
    """Raises NoLimit where an op of this network has no rule: computes one entry."""
    _tile(arch, tuple(t[:1] for t in arch.inputs.check(x, "x")), None, demand(arch), ntk)


def check_engine(engine: str) -> None:
    """Raises BadArgument for an engine that has no diagonals of its own."""
    if engine not in ("auto", "torch"):
        raise BadArgument(
            f"The engine {engine!r} has no diagonals.",
            where="argument `engine` of Architecture.diag",
            why="they are few numbers, which plain torch operations compute on any device",
            fix='engine="auto"',
        )


def split(x: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """The same samples of every tensor, `count` at a time."""
    return list(zip(*(t.split(count) for t in x), strict=True))


def demand(arch: Architecture, full: bool = False) -> tuple[bool, ...]:
    """For each step, whether its inputs must hold all pairs of positions: asked backwards from the output, of which
    `full` takes them."""
    if arch.joint:  # covariances between values are kept at all pairs
        return (True,) * len(arch.steps)
    out = [False] * len(arch.steps)
    out[arch.output] = full
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
        below = [arch.source_shape(i) for i in step.inputs]
        for shape in below if not step.data else ():
            positions = torch.Size(shape[1:]).numel()
            most = max(most, positions**2 if pairs[number] else positions)
    return max(1, min(1024, int((budget / itemsize / most) ** 0.5)))


def _tile(
    arch: Architecture, x: tuple[Tensor, ...], y: tuple[Tensor, ...] | None, pairs: tuple[bool, ...], ntk: bool
) -> tuple[Tensor, Tensor]:
    """One tile: the inputs and what is made of them alone by numbers, everything above by moments."""
    dtype = precision(x)
    at_x = values_of_data(arch, x, dtype)
    at_y = at_x if y is None else values_of_data(arch, y, dtype)
    needed: dict[int, bool] = {}
    for number, step in enumerate(arch.steps):
        if not step.data:
            for i in step.inputs:
                if i < 0 or arch.steps[i].data:
                    needed[i] = needed.get(i, False) or pairs[number]
    start: dict[int, Moments] = {}
    sharp = any(isinstance(step.op, Activation) and step.op.sharp for step in arch.steps)
    for i, full in needed.items():
        made = arch.steps[i].op if i >= 0 else Op()
        try:
            of_y = None if y is None else at_y[i]
            found = made.data_moments(at_x[i], of_y, pairs=full, ntk=ntk, dtype=dtype, gap=sharp)
            start[i] = replace(found, one_sample=y is None)
        except IndexError:  # a value without channels
            raise NoLimit("The data have no channel axis here.", fix="reshape the input to (n, features)") from None

    def between(s: int, t: int, ntk: bool) -> Cross:
        op = arch.steps[s].op if s >= 0 else None
        if isinstance(op, Tokens):
            return token_cross(op, at_x[s], at_x[t], at_y[s], at_y[t], ntk=ntk, dtype=dtype)
        return data_cross(at_x[s], at_x[t], at_y[s], at_y[t], ntk=ntk)

    def numbers(s: int) -> tuple[Tensor, Tensor]:
        return at_x[s], at_y[s]

    result = arch.limit(start, pairs, between, numbers)
    return result.xy, result.xy.new_empty(0) if result.theta is None else result.theta


def values_of_data(arch: Architecture, x: tuple[Tensor, ...], dtype: torch.dtype) -> dict[int, Tensor]:
    values = {-1 - k: leaf for k, leaf in enumerate(x)}
    for number, step in enumerate(arch.steps):
        if step.data:
            values[number] = apply_to_data(step.op, [values[i] for i in step.inputs], dtype)
    return values


def _transposed(tile: Tensor) -> Tensor:
    """Of x and y, and of their positions."""
    space = (tile.ndim - 2) // 2
    return tile.permute(1, 0, *range(2 + space, tile.ndim), *range(2, 2 + space)) if tile.ndim > 1 else tile


def _mirrored(tile: Tensor) -> Tensor:
    """The upper triangle on both sides: products and sums may round (i, j) and (j, i) differently."""
    return tile.triu() + tile.triu(1).mT if tile.ndim == 2 else tile
