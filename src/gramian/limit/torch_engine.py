"""The limit kernels in plain torch, a tile at a time: the oracle of every faster engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gramian.arch.cross_covariances import Cross, data_cross
from gramian.arch.inputs import Inputs, precision
from gramian.arch.moments import Moments
from gramian.arch.ops import Activation, Op, Tokens
from gramian.arch.ops.input_function import apply_to_data
from gramian.arch.structure import Structure
from gramian.errors import GramianError, NoLimit
from gramian.limit.finite import NotFinite, check_data
from gramian.limit.outputs import chosen_output
from gramian.limit.recursion import moments_of_output
from gramian.limit.token_covariances import token_cross

# bytes of one tile's covariance. A dozen such tensors live at once: on a CPU they should stay in the cache (2**28 is
# 7 times slower than 2**21 for a CNN on 400 images), on a GPU fill it.
TILE_BYTES = {"cpu": 2**21, "cuda": 2**28}


def kernels(
    arch: Structure,
    x: Inputs,
    x2: Inputs | None = None,
    *,
    ntk: bool = True,
    outputs: str = "mean",
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)` of an architecture at infinite width, see `gramian.limit.kernels`; `rows` of a tile, if not as
    many as stay in the cache."""
    arch = chosen_output(arch, outputs)
    x_all = arch.inputs.check(x, "x")
    if x2 is None:
        y_all = x_all
    else:
        y_all = arch.inputs.check(x2, "x2")
    pairs = demand(arch, outputs == "full")
    if rows is None:
        most_bytes = TILE_BYTES.get(x_all[0].device.type, TILE_BYTES["cuda"])
        rows = tile_rows(arch, precision(x_all).itemsize, pairs, most_bytes)
    symmetric = x2 is None
    nngp_rows, ntk_rows = [], []
    grid: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    x_parts, y_parts = split(x_all, rows), split(y_all, rows)
    for i, part in enumerate(x_parts):
        for j, against in enumerate(y_parts):
            if symmetric and j < i:
                grid[i, j] = tuple(_transposed(t) for t in grid.pop((j, i)))  # type: ignore[assignment]
                continue
            here = (i * rows, j * rows)
            grid[i, j] = tile(arch, part, None if symmetric and i == j else against, pairs, ntk, here)
            if symmetric and i == j:
                grid[i, j] = tuple(_mirrored(t) for t in grid[i, j])  # type: ignore[assignment]
        row = []
        for j in range(len(y_parts)):
            if symmetric and j > i:  # its transpose is still to come
                row.append(grid[i, j])
            else:
                row.append(grid.pop((i, j)))
        nngp_rows.append(torch.cat([k for k, _ in row], 1))
        if ntk:
            ntk_rows.append(torch.cat([t for _, t in row], 1))
        else:
            ntk_rows.append(row[0][1])
    if ntk:
        return torch.cat(nngp_rows), torch.cat(ntk_rows)
    return torch.cat(nngp_rows), ntk_rows[0]


def check_entry(arch: Structure, x: Inputs, ntk: bool) -> None:
    """Raises NoLimit where an op of this network has no rule: computes one entry."""
    tile(arch, tuple(t[:1] for t in arch.inputs.check(x, "x")), None, demand(arch), ntk)


def split(x: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """The same samples of every tensor, `count` at a time."""
    return list(zip(*(t.split(count) for t in x), strict=True))


def demand(arch: Structure, full: bool = False) -> tuple[bool, ...]:
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


def tile_rows(arch: Structure, itemsize: int, pairs: tuple[bool, ...], most_bytes: int) -> int:
    """Rows (and columns) of a tile whose largest covariance takes at most `most_bytes` bytes; at most 1024."""
    most = 1
    for number, step in enumerate(arch.steps):
        below = [arch.source_shape(i) for i in step.inputs]
        if step.data:
            continue
        for shape in below:
            # a pair of samples has one covariance at each pair of positions, or only at equal ones
            positions = torch.Size(shape[1:]).numel()
            most = max(most, positions**2 if pairs[number] else positions)
    # a tile of r x r pairs holds r^2 times the largest covariance of one pair
    return max(1, min(1024, int((most_bytes / itemsize / most) ** 0.5)))


def tile(
    arch: Structure,
    x: tuple[Tensor, ...],
    x2: tuple[Tensor, ...] | None,
    pairs: tuple[bool, ...],
    ntk: bool,
    here: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """One tile, whose first row and column are `here` in the whole."""
    result = _moments(arch, x, x2, pairs, ntk, here)
    return result.xy, result.xy.new_empty(0) if result.theta is None else result.theta


def pair_moments(
    arch: Structure, x: Inputs, x2: Inputs | None, watch: Callable[[Moments], None] | None = None
) -> Moments:
    """Moments of the last step for these inputs, at whatever positions it has; `watch` sees those of every step."""
    x_all = arch.inputs.check(x, "x")
    x2_all = None if x2 is None else arch.inputs.check(x2, "x2")
    return _moments(arch, x_all, x2_all, demand(arch), True, watch=watch)


def _moments(
    arch: Structure,
    x: tuple[Tensor, ...],
    x2: tuple[Tensor, ...] | None,
    pairs: tuple[bool, ...],
    ntk: bool,
    here: tuple[int, int] = (0, 0),
    watch: Callable[[Moments], None] | None = None,
) -> Moments:
    """The inputs and what is made of them alone by numbers, everything above by moments."""
    dtype = precision(x)
    at_x = values_of_data(arch, x, dtype, here[0])
    if x2 is None:
        at_y = at_x
    else:
        at_y = values_of_data(arch, x2, dtype, here[1])
    start = _starting_moments(arch, (at_x, None if x2 is None else at_y), pairs, ntk, dtype, here)
    if not any(t.requires_grad for t in (*x, *(() if x2 is None else x2))):
        start = {i: replace(m, still=True) for i, m in start.items()}

    def between(s: int, t: int, ntk: bool) -> Cross:
        if s >= 0:
            source = arch.steps[s].op
        else:
            source = None
        if isinstance(source, Tokens):
            return token_cross(source, at_x[s], at_x[t], at_y[s], at_y[t], ntk=ntk, dtype=dtype)
        return data_cross(at_x[s], at_x[t], at_y[s], at_y[t], ntk=ntk)

    def numbers(s: int) -> tuple[Tensor, Tensor]:
        return at_x[s], at_y[s]

    try:
        return moments_of_output(arch, start, pairs, between, numbers, watch)
    except (ValueError, OverflowError) as error:
        if isinstance(error, GramianError) or len(x[0]) + len(at_y[-1]) <= 2:
            raise
        raise _of_one_row(arch, x, x2, pairs, here, dtype, error) from None


def _starting_moments(
    arch: Structure,
    values: tuple[dict[int, Tensor], dict[int, Tensor] | None],
    pairs: tuple[bool, ...],
    ntk: bool,
    dtype: torch.dtype,
    here: tuple[int, int],
) -> dict[int, Moments]:
    """Moments of the inputs, and of what is computed from them alone, where a layer with weights reads them."""
    at_x, at_y = values
    needed: dict[int, bool] = {}
    for number, step in enumerate(arch.steps):
        if not step.data:
            for i in step.inputs:
                if i < 0 or arch.steps[i].data:
                    needed[i] = needed.get(i, False) or pairs[number]
    start: dict[int, Moments] = {}
    nonsmooth = any(isinstance(step.op, Activation) and step.op.nonsmooth for step in arch.steps)
    for i, full in needed.items():
        if i >= 0:
            op = arch.steps[i].op
        else:
            op = Op()
        try:
            of_y = None if at_y is None else at_y[i]
            moments = op.data_moments(at_x[i], of_y, all_pairs=full, ntk=ntk, dtype=dtype, gap=nonsmooth)
            start[i] = replace(moments, one_sample=at_y is None)
        except IndexError:  # a value without channels
            raise NoLimit("The data have no channel axis here.", fix="reshape the input to (n, features)") from None
        _check_start(start[i], here, at_y is None)
    return start


def _check_start(m: Moments, here: tuple[int, int], same: bool) -> None:
    """Raises NotFinite where the products of an input with itself overflow."""
    row = _first_not_finite(m.xx)
    if row is not None:
        raise NotFinite((here[0] + row, here[1] + row if same else here[1]), m.xx.dtype)
    if same:
        row = None
    else:
        row = _first_not_finite(m.yy)
    if row is not None:
        raise NotFinite((here[0], here[1] + row), m.xx.dtype)


def _first_not_finite(field: Tensor) -> int | None:
    finite = torch.isfinite(field.detach())
    if bool(finite.all()):
        return None
    return int(torch.nonzero(~finite.reshape(len(field), -1).all(1))[0, 0])


def _of_one_row(
    arch: Structure,
    x: tuple[Tensor, ...],
    x2: tuple[Tensor, ...] | None,
    pairs: tuple[bool, ...],
    here: tuple[int, int],
    dtype: torch.dtype,
    error: Exception,
) -> Exception:
    """Which row an op could not compute with, because a value in it is not finite; or its own error."""
    for given, of_columns in ((x, False), (x2, True)):
        for row in range(0 if given is None else len(given[0])):
            assert given is not None
            try:
                _moments(arch, tuple(t[row : row + 1] for t in given), None, pairs, False)
            except GramianError:
                continue
            except (ValueError, OverflowError, NotFinite):
                if x2 is None:
                    pair = here[0] + row, here[1] + row
                elif of_columns:
                    pair = here[0], here[1] + row
                else:
                    pair = here[0] + row, here[1]
                return NotFinite(pair, dtype)
    return error


def values_of_data(arch: Structure, x: tuple[Tensor, ...], dtype: torch.dtype, first: int = 0) -> dict[int, Tensor]:
    """Every input, and every function of the inputs only, by its step; `first` is the number of x's row 0.

    Raises:
        BadData: one that the network's weights act on is not a number.
    """
    values = {-1 - k: leaf for k, leaf in enumerate(x)}
    of_data = [number for number, step in enumerate(arch.steps) if step.data]
    for number in of_data:
        step = arch.steps[number]
        values[number] = apply_to_data(step.op, [values[i] for i in step.inputs], dtype)
    if of_data:
        used = {i for step in arch.steps if not step.data for i in step.inputs}
    else:
        used = set()
    for number in of_data:
        if number in used:
            check_data(values[number], arch.steps[number].where, first)
    return values


def _transposed(tile: Tensor) -> Tensor:
    """A tile with x and x2, and their positions, exchanged."""
    space = (tile.ndim - 2) // 2
    if tile.ndim > 1:
        return tile.permute(1, 0, *range(2 + space, tile.ndim), *range(2, 2 + space))
    return tile


def _mirrored(tile: Tensor) -> Tensor:
    """The upper triangle on both sides: products and sums may round (i, j) and (j, i) differently."""
    if tile.ndim == 2:
        return tile.triu() + tile.triu(1).mT
    return tile
