"""The diagonals of the limit kernels, at a cost of O(n)."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from gramian.arch.inputs import Inputs, precision
from gramian.arch.structure import Structure
from gramian.errors import BadArgument
from gramian.limit import torch_engine
from gramian.limit.engine_inputs import no_autocast, prepared
from gramian.limit.finite import NotFinite
from gramian.limit.not_finite import refuse
from gramian.limit.outputs import chosen_output

TILE_BYTES = 2**16  # of a tile's covariance, most of which is thrown away


def diagonals(
    arch: Structure, x: Inputs, *, engine: str = "auto", most_bytes: int = TILE_BYTES
) -> tuple[Tensor, Tensor]:
    """The diagonals of `(nngp, ntk)`, from tiles whose covariance takes at most `most_bytes`; shapes (n,)."""
    check_engine(engine)
    arch = chosen_output(arch, "mean")
    x, _, dtype = prepared(arch, x, None)
    x_all = arch.inputs.check(x, "x")
    pairs = torch_engine.demand(arch)
    rows = torch_engine.tile_rows(arch, precision(x_all).itemsize, pairs, most_bytes)
    parts = torch_engine.split(x_all, rows)
    first = [0, *accumulate(len(part[0]) for part in parts)]
    with no_autocast():
        try:
            tiles = [
                torch_engine.tile(arch, part, None, pairs, True, (at, at))
                for part, at in zip(parts, first, strict=False)
            ]
        except NotFinite as error:
            refuse(arch, x, None, error.pair, 1, error.dtype)
    diagonals = tuple(torch.cat([t.diagonal() for t in column]) for column in zip(*tiles, strict=True))
    if dtype is None:
        nngp, theta = diagonals
    else:
        nngp, theta = (t.to(dtype) for t in diagonals)
    for k in (nngp, theta):
        bad = torch.nonzero(~torch.isfinite(k.detach())).flatten().tolist()
        if bad:
            refuse(arch, x, None, (bad[0], bad[0]), len(bad), k.dtype)
    return nngp, theta


def check_engine(engine: str) -> None:
    """Raises BadArgument for an engine that has no diagonals of its own."""
    if engine not in ("auto", "torch"):
        raise BadArgument(
            f"The engine {engine!r} has no diagonals.",
            where="argument `engine` of Architecture.diag",
            why="they are few numbers, which plain torch operations compute on any device",
            fix='engine="auto"',
        )
