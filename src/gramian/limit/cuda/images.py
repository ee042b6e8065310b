"""The CUDA engine for networks with positions: a warp takes planes of a pair of images through all layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.structure import Structure
from gramian.limit import torch_engine
from gramian.limit.cuda import self_kernels
from gramian.limit.cuda.device import WARPS, Argument, Device, device, source
from gramian.limit.cuda.plane_schedule import BENDS, ERFS, Plan, plan
from gramian.limit.kernel_program import Program
from gramian.limit.planes import ERF, RELU
from gramian.limit.planes import prepare as plane_program

SUM_BYTES = 2**26  # bytes of the sums of a tile
VARIANCE_BYTES = 2**28  # bytes of the variances of a tile's rows, in float64
PLANE_BYTES = 2**30  # bytes of all planes that are held outside of registers
SHARED_CODE = ("arccos.h", "angles.h", "planes.h")


@dataclass(frozen=True)
class Prepared:
    """The order in which a warp goes through the planes, and which data it starts from."""

    schedule: Plan
    data: int


def prepare(p: Program) -> Prepared:
    """The schedule of the network's planes.

    Raises:
        Unsupported: this part of the engine cannot run it.
    """
    planes = plane_program(p)
    return Prepared(plan(planes), planes.data)


def kernels(
    arch: Structure, prepared: Prepared, x: Tensor, x2: Tensor | None, *, ntk: bool, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)`, see `gramian.limit.kernels`; `rows` of a tile, if not as many as its sums allow."""

    def images(inputs: Tensor) -> Tensor:
        return torch_engine.values_of_data(arch, (inputs,), inputs.dtype)[prepared.data].flatten(2).contiguous()

    left = images(x)
    if x2 is None:
        right = left
    else:
        right = images(x2)
    run = _Run(prepared.schedule, device(left), ntk)
    out = [x.new_empty(len(left), len(right)) for _ in range(1 + ntk)]
    if rows is None:
        rows = run.rows
    for i in range(0, len(left), rows):
        a = run.side(left[i : i + rows], diagonal=x2 is None)
        first = 0
        if x2 is None:
            first = i
        for j in range(first, len(right), rows):
            if x2 is None and i == j:
                b = a
            else:
                b = run.side(right[j : j + rows], diagonal=False)
            tile = run.tile(a, b)
            for whole, part in zip(out, tile, strict=True):
                whole[i : i + rows, j : j + rows] = part
                if x2 is None and i != j:
                    whole[j : j + rows, i : i + rows] = part.mT
    if ntk:
        return out[0], out[1]
    return out[0], x.new_empty(0)


@dataclass(frozen=True)
class TileSide:
    """Rows (or columns) of a tile.

    Args:
        x: images; shape (n, channels, positions).
        spread: what the kernel reads of their variances; shape (n, variances), float64.
        single: the same in the dtype of the images.
        q: variances at activations without positions, each of shape (n,).
        own: the diagonal: K and Theta of each image with itself, where they were asked for.
    """

    x: Tensor
    spread: Tensor
    single: Tensor
    q: dict[int, Tensor]
    own: tuple[Tensor, Tensor] | None


class _Run:
    """One network on one device."""

    def __init__(self, schedule: Plan, on: Device, ntk: bool) -> None:
        self.plan, self.on, self.ntk = schedule, on, ntk

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        # of each pair and displacement 4 numbers of float64, 32 bytes
        by_sums = math.isqrt(SUM_BYTES // (32 * self.plan.axes[0].count))
        return max(1, min(1024, by_sums, VARIANCE_BYTES // (8 * max(1, self.plan.variances))))

    def side(self, x: Tensor, *, diagonal: bool) -> TileSide:
        """Each image with itself; in float64."""
        spread, sums = self_kernels.variances(self.plan, x)
        alone = TileSide(x, spread, spread.to(x.dtype), {}, None)
        if not diagonal and not self.plan.tail:
            return alone
        if sums is None and not diagonal and not self._needs_q:
            return alone
        if sums is None:
            pairs = torch.arange(len(x), device=x.device, dtype=torch.int32)[:, None].expand(-1, 2).contiguous()
            pair_sums = self._sums(alone, alone, pairs, torch.float64, same=True)
            sums = pair_sums[:, 0], pair_sums[:, 1]
        own, q = self_kernels.finish(self.plan, sums)
        return TileSide(x, spread, alone.single, q, own)

    @property
    def _needs_q(self) -> bool:
        return any(self.plan.nodes[v].kind in (RELU, ERF) for v in self.plan.tail)

    def tile(self, a: TileSide, b: TileSide) -> list[Tensor]:
        """Both kernels (or the NNGP alone) of a tile; with a is b the upper half is computed and mirrored."""
        own = a is b
        shape = len(a.x), len(b.x)
        grid = torch.ones(shape, dtype=torch.bool, device=a.x.device)
        if own:
            grid = grid.triu(1)
        at = torch.nonzero(grid).to(torch.int32)
        dtype = a.x.dtype
        sums = self._sums(a, b, at, dtype, same=False)
        if dtype == torch.float32:
            again = self._rounded(sums)
            if len(again):
                sums[again] = self._sums(a, b, at[again], torch.float64, same=False)
        i, j = at.long().unbind(1)
        sides = {v: q[i] for v, q in a.q.items()}, {v: q[j] for v, q in b.q.items()}
        kernels_of_pairs, _ = self_kernels.finish(self.plan, (sums[:, 0], sums[:, 1]), sides)
        out = []
        for number in range(1 + self.ntk):
            tile = a.x.new_zeros(shape)
            tile[i, j] = kernels_of_pairs[number].to(dtype)
            if own:
                tile = tile + tile.mT
                assert a.own is not None
                tile.diagonal().copy_(a.own[number])
            out.append(tile)
        return out

    def _rounded(self, sums: Tensor) -> Tensor:
        """Pairs that lost digits: nearly equal images, or such parts; as in native/src/planes_run.cpp."""
        seen, at_zero = self.plan.seen
        return torch.nonzero((sums[:, 2] > min(1e-3 * seen, 1e7)) | (sums[:, 3] > 0.25 * at_zero)).flatten()

    def _sums(self, a: TileSide, b: TileSide, pairs: Tensor, dtype: torch.dtype, *, same: bool) -> Tensor:
        """Sums of K and Theta over positions and displacements for each pair, and how often rounding decided."""
        shifts = self.plan.axes[0].count
        out = torch.empty(len(pairs), shifts, 4, dtype=torch.float64, device=pairs.device)
        if not len(pairs):
            return out.sum(1)
        rows = self._rows_in_registers(dtype)
        ints, reals, held = self._program(rows, same)
        of_memory = held[1] * dtype.itemsize
        warps = min(self.on.warps, len(pairs) * shifts, PLANE_BYTES // max(1, of_memory))
        warps = max(WARPS, warps // WARPS * WARPS)
        where = pairs.device
        memory = torch.empty(warps * held[1] + 1, dtype=dtype, device=where)
        if rows:
            kind = "planes_registers.h"
        else:
            kind = "planes_memory.h"
        code = source(dtype, self.ntk, *SHARED_CODE, kind, "planes_run.h", rows=rows)
        spreads = [a.spread, b.spread]
        if dtype == a.x.dtype:
            spreads = [a.single, b.single]
        arguments: tuple[Argument, ...] = (
            torch.tensor(ints, dtype=torch.int32, device=where), torch.tensor(reals, dtype=torch.float64, device=where),
            a.x.to(dtype), b.x.to(dtype), *(s.contiguous() for s in spreads), pairs.contiguous(), len(pairs),
            memory, out,
        )  # fmt: skip
        self.on.run(code, "planes", warps, arguments)
        return out.sum(1)

    def _rows_in_registers(self, dtype: torch.dtype) -> int:
        """0: values lie in memory. Two values of 32 rows in float64 are all the registers that a lane can have."""
        most = max(self.plan.nodes[v].size[0] for v in self.plan.body)
        rows = next((r for r in (8, 16, 32) if r >= most), 0)
        if self.plan.in_registers and (dtype == torch.float32 or rows < 32):
            return rows
        return 0

    def _program(self, rows: int, same: bool) -> tuple[list[int], list[float], tuple[int, int]]:
        """`Head` and `Op` of planes.h; and numbers of one value in memory, and of all that a warp keeps."""
        schedule = self.plan
        sizes = [schedule.nodes[v].size for v in schedule.body]
        if rows:
            width = max(size[1] for size in sizes)
        else:
            width = 32
        positions = math.prod(sizes[0])
        of_value, places = max(map(math.prod, sizes)), schedule.places + 2
        if rows:
            of_value, places = 32 * rows, schedule.places
        held = (1 + self.ntk) * of_value
        total = held * places
        down, along = schedule.axes
        if rows:
            together = min(32 // width, along.count)
        else:
            together = 1
        ints = [
            len(schedule.ops), schedule.channels, positions, schedule.variances, int(down.wraps), int(along.wraps),
            down.first, down.count, along.first, along.count, width, together,
            int(schedule.masked), int(same), held, total,
        ]  # fmt: skip
        reals: list[float] = []
        variances = schedule.places_of_variances
        for kind, place, v, p in schedule.ops:
            node = schedule.nodes[v]
            if kind in (BENDS, ERFS):
                place = variances[v]
            if node.inputs:
                below = schedule.nodes[node.inputs[0]].size
            else:
                below = node.size
            scale = schedule.scale[schedule.body.index(v)]
            ints += [
                kind, place, *below, *node.size,
                *node.window, *node.stride, *node.before, *node.step, *scale,
            ]  # fmt: skip
            reals += [*p, *(0.0,) * (6 - len(p))]
        return ints, reals, (held, total)
