"""The native engine for networks on vectors: a tile of the Gram matrix goes through all layers while in the cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramian.arch.ops import Piecewise
from gramian.arch.ops.relu import LeakyReLU
from gramian.arch.structure import Structure
from gramian.duals.dual_table import LEAST_PAIRS
from gramian.errors import Unsupported
from gramian.library import library
from gramian.limit import torch_engine
from gramian.limit.finite import NotFinite
from gramian.limit.kernel_program import Data, Dual, Other, Program, Weights, Window, instruction_name
from gramian.limit.tile_starts import tile_starts
from gramian.limit.vector_inputs import Code, Diagonal, code, side, slopes, table

ROWS, COLS = 256, 512  # of a tile: its cosines, half a megabyte in float32, stay in the second cache
PAD = 64  # the loops read factors this far beyond the end
# Pairs with 1 - |cosine| below this get it from their distance: a product's rounding errors, about 1e-7 and 2e-16, move
# the angle, sqrt(2 (1 - cosine)), by less than 5e-7 and 2e-14 above.
NEAR = {torch.float32: 2e-2, torch.float64: 1e-4}
NEAR_IN_DOUBLE = 1e-8
NEAR_ONE_IN = 64  # where more than 1 in so many pairs are near, all of the tile's cosines are computed in double
SHARED_WEIGHTS = "a sum of values that share random weights"


def prepare(p: Program) -> Program:
    """The program that `kernels` runs.

    Raises:
        Unsupported: this part of the engine cannot run it.
    """
    if p.joint:
        raise Unsupported(
            "only the torch engine keeps their covariances", op="a sum of values that share random weights"
        )
    if sum(isinstance(line.does, Data) for line in p.lines) > 1:
        raise Unsupported("it starts from one matrix of inner products", op="several values made from the input")
    for line in p.lines:
        why = _refused(line.does)
        if len(line.shape) != 1:
            why = f"it computes with vectors, this has shape {line.shape}"
        if why:
            raise Unsupported(why, op=instruction_name(line.does), where=line.where)
    if len(p.lines) < 2:
        raise Unsupported("there is nothing to compute", op="a network without layers")
    return p


def _refused(does: object) -> str:
    """Why this instruction cannot be run; empty if it can."""
    if isinstance(does, Weights) and not does.sigma_w2:
        return "its weights are zero"
    if isinstance(does, Dual) and isinstance(does.activation, LeakyReLU) and not slopes(does.activation)[0]:
        return "it is zero everywhere"
    if isinstance(does, Window | Other):
        return "only the torch engine has this op"
    return ""


def worthwhile(p: Program, pairs: int) -> bool:
    """Whether so many pairs pay for the tables that its activations need."""
    duals = [line.does.activation for line in p.lines if isinstance(line.does, Dual)]
    return pairs >= LEAST_PAIRS or not any(isinstance(op, Piecewise) and op.nonsmooth for op in duals)


def conditions(p: Program) -> str:
    """What the inputs must be like; empty if nothing."""
    duals = [line.does.activation for line in p.lines if isinstance(line.does, Dual)]
    bent = sorted({op.name for op in duals if isinstance(op, Piecewise) and op.nonsmooth and any(op.kinks)})
    if bent:
        return f"for {', '.join(bent)} where all inputs have one norm"
    return ""


def kernels(
    arch: Structure,
    p: Program,
    x: Tensor,
    x2: Tensor | None,
    *,
    ntk: bool,
    tile: tuple[int, int] = (ROWS, COLS),
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)`, see `gramian.limit.kernels`; `tile` has so many rows and columns."""
    rows, cols, c = sides(arch, p, x, x2)
    shape = len(rows.values), len(cols.values)
    of_numpy: type[np.floating[Any]]
    if x.dtype == torch.float32:
        of_numpy = np.float32
    else:
        of_numpy = np.float64
    nngp, theta = (torch.from_numpy(np.empty(s, of_numpy)) for s in (shape, shape if ntk else (0, 0)))  # in huge pages
    work = partial(_tile, size=tile, rows=rows, cols=cols, c=c, symmetric=x2 is None, nngp=nngp, ntk=theta)
    _in_threads(work, list(tile_starts(shape, tile, symmetric=x2 is None)))
    finish(arch, x, x2, rows, cols, nngp, theta)
    return nngp, theta if ntk else x.new_empty(0)


def sides(arch: Structure, p: Program, x: Tensor, x2: Tensor | None) -> tuple[Inputs, Inputs, Code]:
    """What the loops need of the rows and of the columns, and the program as they read it."""
    rows = Inputs(arch, p, x)
    if x2 is None:
        cols = rows
    else:
        cols = Inputs(arch, p, x2)
    n = len(rows.values)
    try:
        if x2 is None:
            q = rows.q
        else:
            q = torch.cat([rows.q, cols.q])
        if x2 is None:
            pairs = n * (n + 1) / 2
        else:
            pairs = n * len(cols.values)
        values = side(p, q, x.dtype, pairs)
    except NotFinite as error:
        row = error.pair[0]
        if x2 is None:
            pair = (row, row)
        else:
            pair = (min(row, n - 1), max(row - n, 0))
        raise NotFinite(pair, x.dtype) from None
    c = code(p, values)
    parts = [(rows, slice(n))]
    if x2 is not None:
        parts.append((cols, slice(n, None)))
    for inputs, at in parts:
        inputs.factors = table(c, values, at, PAD).to(x.dtype)
        inputs.last = Diagonal(values[-1].q[at], values[-1].theta[at])
        inputs.zeros = torch.nonzero(torch.stack([s.q[at] for s in values]).eq(0).any(0)).flatten()
    return rows, cols, c


def finish(
    arch: Structure, x: Tensor, x2: Tensor | None, rows: Inputs, cols: Inputs, nngp: Tensor, ntk: Tensor
) -> None:
    """The diagonal, and what the loops cannot compute; `ntk` is empty where it was not asked for."""
    if x2 is None:
        nngp.diagonal().copy_(rows.last.q)
        if len(ntk):
            ntk.diagonal().copy_(rows.last.theta)
    _patch_zeros(arch, x, x2, rows, cols, nngp, ntk)


class Inputs:
    """The rows (or columns): their numbers, unit vectors, and what the loops need of each alone."""

    def __init__(self, arch: Structure, p: Program, x: Tensor) -> None:
        first = p.lines[0].does
        assert isinstance(first, Data)
        self.values = plain(torch_engine.values_of_data(arch, (x,), x.dtype)[first.step])
        norm = torch.linalg.vector_norm(self.values, dim=1, dtype=torch.float64)
        self.inverse = torch.where(norm > 0, 1 / norm, 0.0)
        self.unit = plain(self.values * self.inverse[:, None].to(x.dtype))
        self.q = norm * norm / self.values.shape[1]
        self.factors = self.zeros = x
        self.last = Diagonal(self.q, self.q)


def plain(x: Tensor) -> Tensor:
    """Contiguous with the strides that its shape says: torch leaves any to an axis of one number."""
    x = x.contiguous()
    if x.stride() == (x.shape[1], 1):
        return x
    return x.new_empty(x.shape).copy_(x)


def _tile(
    place: tuple[int, int],
    *,
    size: tuple[int, int],
    rows: Inputs,
    cols: Inputs,
    c: Code,
    symmetric: bool,
    nngp: Tensor,
    ntk: Tensor,
) -> None:
    i, j = place
    here, there = slice(i, i + size[0]), slice(j, j + size[1])
    module = library().module
    assert module is not None

    def run(cosine: Tensor, near: float, most: int, gaps: bool) -> int:
        return module.vector_tile(
            c.ops.numpy(), c.settings.numpy(), c.out, cosine.numpy(), i, j, rows.factors.numpy(), cols.factors.numpy(),
            rows.values.numpy(), cols.values.numpy(), rows.inverse.numpy(), cols.inverse.numpy(), near, most, gaps,
            symmetric, nngp.numpy(), ntk.numpy(),
        )  # fmt: skip

    cosine = products(rows.unit[here], cols.unit[there])
    single = nngp.dtype == torch.float32
    most_near = cosine.numel()
    if single:
        most_near //= NEAR_ONE_IN
    bad = run(cosine, NEAR[nngp.dtype], most_near, False)
    if bad < 0:
        # so many pairs are near that a product in double is cheaper than their distances one by one
        x, y = (side.values[at] * side.inverse[at, None] for side, at in ((rows, here), (cols, there)))
        bad = run(folded(x @ y.mT).float(), NEAR_IN_DOUBLE, 0, True)
    if bad:
        infinite = [~torch.isfinite(k) for k in (nngp, ntk) if len(k)]
        wrong = infinite[0] | infinite[-1]
        wrong[rows.zeros], wrong[:, cols.zeros] = False, False  # which the oracle computes
        for at in torch.nonzero(wrong[here, there])[:1].tolist():
            raise NotFinite((i + at[0], j + at[1]), nngp.dtype)


def folded(cosine: Tensor) -> Tensor:
    """1 - |c|, below zero where c is: what the loops take where it is known to more digits than c has."""
    left = (1 - cosine.abs()).clamp_min(0)
    # the sign says which side it is: at c = -1 a number too small to count keeps it
    return torch.where(cosine < 0, -left.clamp_min(1e-36), left)


def products(x: Tensor, x2: Tensor) -> Tensor:
    """Inner products of rows. torch's BLAS uses AVX-512 on some processors only; its oneDNN, on all that have it."""
    if x.dtype == torch.float32 and library().isa == "AVX-512" and torch.backends.mkldnn.is_available():
        linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # no public name: nn.Linear takes the BLAS
        if linear is not None:
            return linear(x, x2, None, "none", [], "")
    return x @ x2.mT


def _in_threads(work: partial[None], places: list[tuple[int, int]]) -> None:
    """The tiles, on as many threads as torch uses; each thread multiplies its own."""
    before = torch.get_num_threads()
    threads = min(before, len(places))
    if threads == 1:
        for place in places:
            work(place)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, places))
    finally:
        torch.set_num_threads(before)  # a thread's own setting is also what new threads start with


def _patch_zeros(
    arch: Structure, x: Tensor, x2: Tensor | None, rows: Inputs, cols: Inputs, nngp: Tensor, ntk: Tensor
) -> None:
    """Inputs with a value of variance zero, which has no angle to others: their rows and columns by the oracle."""
    other, with_ntk = x if x2 is None else x2, len(ntk) > 0
    for at in rows.zeros.tolist():
        k, theta = torch_engine.kernels(arch, x[at : at + 1], other, ntk=with_ntk)
        nngp[at] = k[0]
        if with_ntk:
            ntk[at] = theta[0]
    for at in cols.zeros.tolist():
        k, theta = torch_engine.kernels(arch, x, other[at : at + 1], ntk=with_ntk)
        nngp[:, at] = k[:, 0]
        if with_ntk:
            ntk[:, at] = theta[:, 0]
