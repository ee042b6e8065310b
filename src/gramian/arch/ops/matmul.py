"""Matrix products: with a parameter they are layers, with a constant they are maps of the positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from gramian.arch.ops.affine import Linear
from gramian.arch.ops.axes import Aggregate
from gramian.arch.ops.base import GROUPED, Call, Op, Parameter, Read, Value, reads
from gramian.arch.ops.scores import Scores, product
from gramian.errors import NoLimit


@reads("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
@dataclass(frozen=True)
class MatMul(Op):
    """`x @ W` with a parameter W is a Linear layer; `A @ x` with a fixed matrix A maps the positions, as in a GCN.

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
        if isinstance(a, Value) and isinstance(b, Value) and not (a.data or b.data):
            scores = product(a, b)
            if scores is not None:
                return scores
        matrix, x, dim = (a, b, -2) if isinstance(b, Value) else (b, a, -1)
        if not isinstance(matrix, Tensor) or not isinstance(x, Value) or matrix.ndim != 2:
            raise NoLimit(
                "A product of two tensors of which neither is a parameter or a constant matrix.",
                why="a product of two random values has a limit only where they are independent, entry by entry",
                fix="attention is q @ k.mT / q.shape[-1] with the channels last; or gramian.monte_carlo(module, x)",
            )
        axis = x.axis(dim)
        if axis < 1 or axis >= GROUPED:
            raise NoLimit(
                f"A fixed matrix multiplies the {'samples' if axis < 0 else 'channels'}.",
                why="there is a rule for fixed matrices on positions only",
                fix="let the nodes of a graph be positions: x of shape (n, nodes, features)",
            )
        dense = (matrix.to_dense() if matrix.is_sparse else matrix).detach()
        return Aggregate(dense if dim == -2 else dense.T, axis - 1), (x,), x.layout
