"""Matrix products: with a parameter they are layers, with a constant they are maps of the positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gramian.arch.ops.affine import Linear
from gramian.arch.ops.attention_scores import Scores, product
from gramian.arch.ops.axes import Aggregate
from gramian.arch.ops.base import GROUPED, Call, Op, Parameter, Read, Value, reads
from gramian.arch.ops.graphs import as_dense, graph, not_on_positions
from gramian.errors import NoLimit


@reads("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
@dataclass(frozen=True)
class MatMul(Op):
    """`x @ W` with a parameter W is a Linear layer; `A @ x` with a fixed matrix A maps the positions, as in a GCN.

    A matrix A(x) that is an input, or made of the inputs, does the same: a graph of each sample's own.
    `q @ k.mT` of two values of the network, over their channels, are the scores of attention.
    """

    any_layout: ClassVar[bool] = True
    any_groups: ClassVar[bool] = True
    channels_last: ClassVar[bool] = True

    @classmethod
    def read(cls, call: Call) -> Read | Scores:  # type: ignore[override]
        a, b = call.args[:2]
        if isinstance(b, Parameter) and isinstance(a, Value):
            weight = replace(b, tensor=b.tensor.T, turned=not b.turned)
            return Linear.read(replace(call, target="aten.linear.default", args=(a, weight, None)))
        if isinstance(a, Value) and isinstance(b, Value):
            if not (a.data or b.data):
                scores = product(a, b)
            else:
                scores = None
            if scores is not None:
                return scores
            if a.data != b.data:
                if a.data:
                    return graph(a, b, -2)
                return graph(b, a, -1)
        if isinstance(b, Value):
            matrix, x, dim = (a, b, -2)
        else:
            matrix, x, dim = (b, a, -1)
        if isinstance(matrix, Tensor) and matrix.layout == torch.strided:
            while matrix.ndim > 2 and matrix.shape[0] == 1:
                matrix = matrix[0]
        if not isinstance(matrix, Tensor) or not isinstance(x, Value) or matrix.ndim != 2:
            raise NoLimit(
                "A product of two tensors, of which neither is a parameter or a constant matrix, nor of the inputs.",
                why="a product of two random values has a limit only where they are independent, entry by entry",
                fix="attention is q @ k.mT / q.shape[-1] with the channels last; or gramian.monte_carlo(module, x)",
            )
        axis = x.axis(dim)
        if axis < 1 or axis >= GROUPED:
            raise not_on_positions("A fixed matrix", axis)
        dense = as_dense(matrix)
        if dim != -2:
            dense = dense.T
        return Aggregate(dense, axis - 1), (x,), x.layout
