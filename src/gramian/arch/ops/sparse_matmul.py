"""Values whose samples the user moved behind the nodes of a graph, and merged with the channels: what a sparse matrix
multiplies in torch, `torch.sparse.mm(A, h.transpose(0, 1).flatten(1))`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from gramian.arch.ops.axes import Aggregate
from gramian.arch.ops.base import GROUPED, Call, Value
from gramian.arch.ops.graphs import as_dense
from gramian.arch.ops.permute import Turned
from gramian.errors import NoLimit

MERGING_CALLS = {"view", "reshape", "_unsafe_view", "flatten", "unflatten"}
UNCHANGED_VIEWS = {"clone", "contiguous", "alias"}
MATRIX_PRODUCTS = {"aten.mm.default", "aten.matmul.default", "aten._sparse_mm.default", "aten.sparse_mm.default"}


@dataclass(frozen=True)
class MatrixView:
    """A turned value as a matrix: positions along one axis first, all other axes, the samples too, in one.

    Args:
        turned: the value before its other axes were merged.
        sizes: of these axes, as traced.
    """

    turned: Turned
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class MatrixProduct:
    """A matrix that multiplies such a value, on the axis `at` of its positions."""

    op: Aggregate
    of: MatrixView


def merged(x: Turned | MatrixView, call: Call, sizes: tuple[int, ...]) -> Turned | MatrixView | MatrixProduct | None:
    """The value after a transposition, a reshape or a matrix product; None for another call.

    Args:
        x: the value, among the call's arguments.
        call: the call.
        sizes: of its result, with the batch, as traced.
    """
    base = call.target.removeprefix("aten.").split(".")[0]
    if base in UNCHANGED_VIEWS:
        return x
    if base in MERGING_CALLS:
        return _reshaped(x, sizes)
    if (
        call.target in MATRIX_PRODUCTS
        and isinstance(x, MatrixView)
        and call.args[1] is x
        and isinstance(call.args[0], Tensor)
    ):
        axis = x.turned.value.axis(x.turned.dims[0])
        return MatrixProduct(Aggregate(as_dense(call.args[0]), axis - 1), x)
    return None


def _reshaped(x: Turned | MatrixView, sizes: tuple[int, ...]) -> Turned | MatrixView | None:
    if isinstance(x, MatrixView):
        first = x.turned.value.user_shape[x.turned.dims[0] - 1]
        if sizes == (first, *x.sizes):
            return x.turned
        if sizes == (first, math.prod(x.sizes)):
            return x
        return None
    shape = (2, *x.value.user_shape)  # traced on two samples
    own = tuple(shape[d] for d in x.dims)
    axis = x.value.axis(x.dims[0])
    if len(sizes) != 2 or sizes != (own[0], math.prod(own[1:])) or not 1 <= axis < GROUPED:
        return None
    return MatrixView(x, own[1:])


def multiplied(product: MatrixProduct, value: Value) -> MatrixView:
    """The columns of the product, whose value the op makes."""
    return replace(product.of, turned=replace(product.of.turned, value=value))


def stray_columns() -> NoLimit:
    """The refusal of a call other than a matrix product on merged columns."""
    return NoLimit(
        "Samples and channels are merged into one axis, and another call than a matrix product reads it.",
        why="axis 0 counts the samples throughout; merged ones are read for torch.sparse.mm(A, h) alone",
        fix="bring the samples back first: .unflatten(1, (n, -1)).transpose(0, 1)",
    )
