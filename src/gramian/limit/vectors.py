"""The native engine for networks on vectors: a tile of the Gram matrix goes through all layers while in the cache."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gramian.arch.architecture import Architecture
from gramian.arch.ops import Erf, Sign, Smooth, Step
from gramian.arch.ops.relu import LeakyReLU
from gramian.limit import torch_engine
from gramian.limit.factors import Code, TooLong, code, ratio, side, table, terms
from gramian.limit.library import library
from gramian.limit.program import Data, Dual, Lack, Other, Plus, Program, Weights, Window

ROWS, COLS = 256, 512  # of a tile: its cosines, half a megabyte in float32, stay in the second cache
PAD = 64  # the loops read factors this far beyond the end
# Pairs with 1 - cosine below this get it from their distance: a product's rounding errors, about 1e-7 and 2e-16, move
# the angle, sqrt(2 (1 - cosine)), by less than 5e-7 and 2e-14 above.
NEAR = {torch.float32: 2e-2, torch.float64: 1e-4}
NEAR_IN_DOUBLE = 1e-8
DEEP = 16  # at depth 1000 erf's kernel was no longer positive semidefinite to rounding
MANY = 64  # where more than 1 in so many pairs are near, all of the tile's cosines are computed in double


class Unable(ValueError):
    """These inputs, not the network, are beyond this engine."""


def lacks(p: Program) -> Lack | None:
    """What keeps this part of the engine from running the program; None if nothing does."""
    if p.joint:
        return Lack("a sum of values that share random weights", "", "only the torch engine keeps their covariances")
    if sum(isinstance(line.does, Data) for line in p.lines) > 1:
        return Lack("several values made from the input", "", "it starts from one matrix of inner products")
    ratios: list[float] = []
    for line in p.lines:
        below = [ratios[i] for i in line.inputs]
        if len(line.shape) != 1:
            return Lack(_name(line.does), line.where, f"it computes with vectors, this has shape {line.shape}")
        why = _refused(line.does, below)
        if why:
            return Lack(_name(line.does), line.where, why)
        ratios.append(_ratio(line.does, below))
    if sum(_subtracts(line.does) for line in p.lines) > DEEP:
        return Lack(f"more than {DEEP} activations that are no ReLU", "", "their rounding errors would add up")
    if len(p.lines) < 2:
        return Lack("a network without layers", "", "there is nothing to compute")
    return None


def _subtracts(does: object) -> bool:
    """Whether the loops get u as a difference here, so that a unit of the last place is lost."""
    return isinstance(does, Dual) and isinstance(does.activation, Erf | Smooth)


def _name(does: object) -> str:
    if isinstance(does, Dual):
        return does.activation.name
    return does.op.name if isinstance(does, Other) else type(does).__name__


def _refused(does: object, ratios: list[float]) -> str:
    """Why this instruction cannot be run; empty if it can."""
    if isinstance(does, Weights) and not does.sigma_w2:
        return "its weights are zero"
    if isinstance(does, Dual):
        op = does.activation
        known = isinstance(op, Sign | Step | Erf | Smooth) or (isinstance(op, LeakyReLU) and (op.slope or op.bend))
        return "" if known else "the compiled loops have no form of its dual"
    if isinstance(does, Plus) and all(ratios) and any(map(math.isnan, ratios)):
        return "it adds two values with means, one of them a sum"
    return "only the torch engine has this op" if isinstance(does, Window | Other) else ""


def _ratio(does: object, below: list[float]) -> float:
    if isinstance(does, Dual):
        return ratio(does.activation)
    if isinstance(does, Plus):
        return math.nan if any(below) else 0.0
    return 0.0 if isinstance(does, Data | Weights) else below[0]


def kernels(arch: Architecture, p: Program, x: Tensor, y: Tensor | None, *, ntk: bool) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)`, see `gramian.limit.kernels`."""
    rows, cols, c = sides(arch, p, x, y)
    shape = len(rows.values), len(cols.values)
    of_numpy = np.float32 if x.dtype == torch.float32 else np.float64
    nngp, theta = (torch.from_numpy(np.empty(s, of_numpy)) for s in (shape, shape if ntk else (0, 0)))  # in huge pages
    work = partial(_tile, rows=rows, cols=cols, c=c, symmetric=y is None, nngp=nngp, ntk=theta)
    places = [
        (i, j) for i in range(0, shape[0], ROWS) for j in range(i if y is None else 0, shape[1], COLS)
    ]  # fmt: skip
    _in_threads(work, places)
    finish(arch, x, y, rows, cols, nngp, theta)
    return nngp, theta if ntk else x.new_empty(0)


def sides(arch: Architecture, p: Program, x: Tensor, y: Tensor | None) -> tuple[Inputs, Inputs, Code]:
    """What the loops need of the rows and of the columns, and the program as they read it."""
    try:
        rows = Inputs(arch, p, x)
        cols = rows if y is None else Inputs(arch, p, y)
        c = code(p, _longest(terms(rows.sides, x.dtype), terms(cols.sides, x.dtype)))
    except TooLong as error:
        raise Unable(str(error)) from None
    for inputs in (rows, cols):
        inputs.factors = table(p, c, inputs.sides, PAD).to(x.dtype)
    return rows, cols, c


def finish(
    arch: Architecture, x: Tensor, y: Tensor | None, rows: Inputs, cols: Inputs, nngp: Tensor, ntk: Tensor
) -> None:
    """The diagonal, and what the loops cannot compute; `ntk` is empty where it was not asked for."""
    if y is None:
        nngp.diagonal().copy_(rows.sides[-1].q)
        if len(ntk):
            ntk.diagonal().copy_(rows.sides[-1].theta)
    _patch_zeros(arch, x, y, rows, cols, nngp, ntk)


class Inputs:
    """The rows (or columns): their numbers, unit vectors, and what the loops need of each alone."""

    def __init__(self, arch: Architecture, p: Program, x: Tensor) -> None:
        first = p.lines[0].does
        assert isinstance(first, Data)
        self.values = torch_engine.values_of_data(arch, (x,), x.dtype)[first.step].contiguous()
        norm = torch.linalg.vector_norm(self.values, dim=1, dtype=torch.float64)
        self.inverse = torch.where(norm > 0, 1 / norm, 0.0)
        self.unit = self.values * self.inverse[:, None].to(x.dtype)
        self.sides = side(p, norm * norm / self.values.shape[1])
        self.zeros = torch.nonzero(torch.stack([s.q for s in self.sides]).eq(0).any(0)).flatten()
        self.factors = x


def _longest(a: dict[int, int], b: dict[int, int]) -> dict[int, int]:
    return {line: max(a[line], b[line]) for line in a}


def _tile(
    place: tuple[int, int], *, rows: Inputs, cols: Inputs, c: Code, symmetric: bool, nngp: Tensor, ntk: Tensor
) -> None:
    i, j = place
    here, there = slice(i, i + ROWS), slice(j, j + COLS)
    module = library().module
    assert module is not None

    def run(cosine: Tensor, near: float, most: int, gaps: bool) -> bool:
        return module.vector_tile(
            c.ops.numpy(), c.settings.numpy(), c.out, cosine.numpy(), i, j, rows.factors.numpy(), cols.factors.numpy(),
            rows.values.numpy(), cols.values.numpy(), rows.inverse.numpy(), cols.inverse.numpy(), near, most, gaps,
            symmetric, nngp.numpy(), ntk.numpy(),
        )  # fmt: skip

    cosine = products(rows.unit[here], cols.unit[there])
    single = nngp.dtype == torch.float32
    if not run(cosine, NEAR[nngp.dtype], cosine.numel() // MANY if single else cosine.numel(), False):
        x, y = (side.values[at] * side.inverse[at, None] for side, at in ((rows, here), (cols, there)))
        run((1 - x @ y.mT).float(), NEAR_IN_DOUBLE, 0, True)


def products(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of rows. torch's BLAS uses AVX-512 on some processors only; its oneDNN, on all that have it."""
    if x.dtype == torch.float32 and library().isa == "AVX-512" and torch.backends.mkldnn.is_available():
        linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # no public name: nn.Linear takes the BLAS
        if linear is not None:
            return linear(x, y, None, "none", [], "")
    return x @ y.mT


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
    arch: Architecture, x: Tensor, y: Tensor | None, rows: Inputs, cols: Inputs, nngp: Tensor, ntk: Tensor
) -> None:
    """Inputs with a value of variance zero, which has no angle to others: their rows and columns by the oracle."""
    other, with_ntk = x if y is None else y, len(ntk) > 0
    for at in rows.zeros.tolist():
        k, theta = torch_engine.kernels(arch, x[at : at + 1], other, ntk=with_ntk)
        for result, row in ((nngp, k), (ntk, theta)) if with_ntk else ((nngp, k),):
            result[at] = row[0]
    for at in cols.zeros.tolist():
        k, theta = torch_engine.kernels(arch, x, other[at : at + 1], ntk=with_ntk)
        for result, column in ((nngp, k), (ntk, theta)) if with_ntk else ((nngp, k),):
            result[:, at] = column[:, 0]
