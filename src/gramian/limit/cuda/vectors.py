"""The CUDA engine for networks on vectors: products by cuBLAS, then all layers of an entry in registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gramian.arch.structure import Structure
from gramian.limit import vectors
from gramian.limit.cuda.device import Argument, device, source
from gramian.limit.kernel_program import Program
from gramian.limit.tile_starts import tile_starts
from gramian.limit.vector_inputs import AFFINE, BIASED, ERF, JUMP, SERIES, SLOPES, SUM, TABLE, Code

TILE = 8192  # rows and columns: large products, and a quarter of a gigabyte in float32

prepare = vectors.prepare


def kernels(
    arch: Structure, p: Program, x: Tensor, x2: Tensor | None, *, ntk: bool, tile: int = TILE
) -> tuple[Tensor, Tensor]:
    """`(nngp, ntk)`, see `gramian.limit.kernels`; `tile` has so many rows and columns."""
    rows, cols, c = vectors.sides(arch, p, x, x2)
    on, code = device(x), source(x.dtype, ntk, "arccos.h", "angles.h", "vectors.h", network(c), "vectors_tile.h")
    n, m, features = len(rows.values), len(cols.values), rows.values.shape[1]
    out = [x.new_empty(n, m) for _ in range(1 + ntk)]
    for i, j in tile_starts((n, m), (tile, tile), symmetric=x2 is None):
        here, there = slice(i, i + tile), slice(j, j + tile)
        products, gaps, near = _products(rows, cols, here, there)
        size = tuple(products.shape)
        places = [k[here, there] for k in out]
        arguments: tuple[Argument, ...] = (
            products, int(gaps), *size, rows.factors[:, i:], rows.factors.stride(0), cols.factors[:, j:],
            cols.factors.stride(0), len(rows.factors) - 1, places[0], places[-1], m, int(x2 is None and i == j),
            rows.values[here], cols.values[there], features, rows.inverse[here], cols.inverse[there], near,
        )  # fmt: skip
        on.run(code, "vectors", size[0] * (-(-size[1] // 32)), arguments)
        if x2 is None:
            for k, part in zip(out, places, strict=True):
                if i == j:  # rounding may differ between (i, j) and (j, i)
                    part.copy_(part.triu() + part.triu(1).mT)
                else:
                    k[there, here] = part.mT
    if ntk:
        theta = out[1]
    else:
        theta = x.new_empty(0)
    vectors.finish(arch, x, x2, rows, cols, out[0], theta)
    return out[0], theta


def _products(rows: vectors.Inputs, cols: vectors.Inputs, here: slice, there: slice) -> tuple[Tensor, bool, float]:
    """Cosines; or these folded, where many pairs are near and all are computed in double. And what counts as near."""
    dtype = rows.unit.dtype
    with exact_products():
        products = rows.unit[here] @ cols.unit[there].mT
    near = vectors.NEAR[dtype]
    if dtype == torch.float64 or int((products.abs() > 1 - near).sum()) * vectors.NEAR_ONE_IN <= products.numel():
        return products, False, near
    x, y = (side.values[at] * side.inverse[at, None] for side, at in ((rows, here), (cols, there)))
    return vectors.folded(x @ y.mT).float(), True, vectors.NEAR_IN_DOUBLE


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 in float32: TF32, which a program may have chosen for its training, has 11 bits."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def network(c: Code) -> str:
    """The layers as device code: one call each, registers as variables."""
    lines = []
    for (kind, to, a, b, factor), pair in zip(c.ops.tolist(), c.settings.tolist(), strict=True):
        lines.append(f"    v{to} = {_call(kind, f'v{a}', f'v{b}', factor, *pair)};")
    registers = sorted({0, *(int(r) for r in c.ops[:, 1])})
    others = "".join(f"    Value v{r} = in;\n" for r in registers)
    body = "\n".join(lines)
    return f"DEVICE Value network(const Factors &f, Value in) {{\n{others}{body}\n    return v{c.out};\n}}\n"


def _call(kind: int, a: str, b: str, factor: int, setting: float, other: float) -> str:
    return {
        # a table's second number is 3 P + form, and 64 more for an odd function
        AFFINE: f"affine({a}, REAL({setting!r}))",
        BIASED: f"biased(f, {factor}, {a}, REAL({setting!r}))",
        SLOPES: f"slopes({a}, REAL({setting!r}))",
        SUM: f"sum(f, {factor}, {a}, {b})",
        JUMP: f"jump({a}, REAL({setting!r}))",
        ERF: f"erf_layer(f, {factor}, {a})",
        SERIES: f"series(f, {factor}, {a}, {int(setting)}, {int(other)})",
        TABLE: f"table(f, {factor}, {a}, {int(setting)}, {int(other) % 64 // 3}, {int(other) % 64 % 3}, "
        f"{'true' if other >= 64 else 'false'})",
    }[kind]
