"""A graph of each sample's own: a matrix computed from the inputs, times the values along one axis of the positions."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments, starting_ntk
from gramian.arch.ops.axes import Aggregate
from gramian.arch.ops.base import GROUPED, Call, Op, Pending, Read, Value
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.cross_covariances import Cross


@dataclass(frozen=True)
class Matrices(Op):
    """A matrix of each sample as a value of the inputs; shape (n, 1, new, old).

    Args:
        order: the user's axes, without the batch, among those of what it is made of; the last two are the matrix's.
        turned: whether it multiplies from the right.
    """

    order: tuple[int, ...]
    turned: bool = False

    def apply(self, *x: Tensor) -> Tensor:
        a = x[0].permute(0, *(1 + axis for axis in self.order))
        a = a.reshape(len(a), 1, *a.shape[-2:])
        if self.turned:
            return a.mT
        return a

    def data_moments(
        self, x: Tensor, x2: Tensor | None, *, all_pairs: bool, ntk: bool, dtype: torch.dtype, gap: bool = False
    ) -> Moments:
        """The matrices themselves are the means; nothing else of them is asked for."""
        x = x[:, 0].to(dtype)
        if x2 is None:
            other = x
        else:
            other = x2[:, 0].to(dtype)
        none = x.new_zeros(())
        return Moments(x, other, none, starting_ntk(none, ntk), x, other, position_axes=2)

    def describe(self) -> str:
        return "of each sample"


@dataclass(frozen=True)
class Graph(Op):
    r"""`A @ h` with a matrix A(x) of each sample: an adjacency that is given as an input, or computed of the inputs.

    $K(x, y) \mapsto A(x)\,K(x, y)\,A(y)^\top$ and $\Theta$ the same (Du et al. 2019, arXiv:1905.13192, where A(x) is
    the graph of a sample). Of each sample's graph nothing is random.
    """

    any_layout: ClassVar[bool] = True
    each_channel: ClassVar[bool] = False  # its second input has no channels to take

    at: int  # axis of S

    def apply(self, *x: Tensor) -> Tensor:
        return _along_each(x[0], self.at + 2, x[1][:, 0].to(x[0].dtype), 0)

    def limit(self, *m: Moments) -> Moments:
        h, at_x, at_y = m[0], m[1].mean_x, m[1].mean_y
        assert at_x is not None
        assert at_y is not None

        def transformed(field: Tensor, lead: int, first: Tensor, second: Tensor) -> Tensor:
            field = _along_each(field, lead + self.at, first, 0)
            return _along_each(field, lead + h.position_axes + self.at, second, lead - 1)

        xx = transformed(h.xx, 1, at_x, at_x)
        if h.yy is h.xx:
            yy = xx
        else:
            yy = transformed(h.yy, 1, at_y, at_y)
        moments = replace(
            h,
            xx=xx,
            yy=yy,
            xy=transformed(h.xy, 2, at_x, at_y),
            theta=None if h.theta is None else transformed(h.theta, 2, at_x, at_y),
        )
        if h.mean_x is None or h.mean_y is None:
            return moments
        mean_x, mean_y = (_along_each(mean, 1 + self.at, a, 0) for mean, a in ((h.mean_x, at_x), (h.mean_y, at_y)))
        return replace(moments, mean_x=mean_x, mean_y=mean_y)

    def first(self, c: Cross, at_x: Tensor, at_y: Tensor) -> Cross:
        """Covariances of the result with another value, from those of h with it."""
        return replace(
            c,
            xx=_along_each(c.xx, 1 + self.at, at_x, 0),
            yy=_along_each(c.yy, 1 + self.at, at_y, 0),
            xy=_along_each(c.xy, 2 + self.at, at_x, 0),
            yx=_along_each(c.yx, 2 + self.at, at_y, 1),
            theta_xy=None if c.theta_xy is None else _along_each(c.theta_xy, 2 + self.at, at_x, 0),
            theta_yx=None if c.theta_yx is None else _along_each(c.theta_yx, 2 + self.at, at_y, 1),
        )

    def needs_pairs(self, out: bool) -> bool:
        return True

    def describe(self) -> str:
        return f"along axis {self.at + 2}"


def _along_each(field: Tensor, axis: int, matrices: Tensor, samples: int) -> Tensor:
    """Matrices (n, new, old) on an axis of a field, each on its own sample along the axis `samples`."""
    # the axis of the samples is shared with the matrices, so that each sample is multiplied by its own
    letters = string.ascii_lowercase[: field.ndim]
    old, sample = letters[axis], letters[samples]
    return torch.einsum(f"{letters},{sample}Z{old}->{letters.replace(old, 'Z')}", field, matrices)


def graph(matrix: Value, x: Value, dim: int) -> Read:
    """The product of a matrix of the inputs with the user's axis `dim` of a value, -2 (from the left) or -1."""
    axis, shape = x.axis(dim), matrix.user_shape
    if axis < 1 or axis >= GROUPED:
        raise not_on_positions("A matrix of each sample", axis)
    if len(shape) != len(x.order) or any(size != 1 for size in shape[:-2]):
        raise NoLimit(
            f"A matrix of each sample, of shape (n, {', '.join(map(str, shape))}), multiplies values of shape "
            f"(n, {', '.join(map(str, x.user_shape))}).",
            why="there is a rule for one matrix a sample, on one axis of the positions",
            fix="A @ h with A of shape (n, nodes, nodes) and h of shape (n, nodes, channels); A[:, None] if h has an "
            "axis more before the nodes",
        )
    turned = dim == -1
    rows, columns = shape[-2:]
    if turned:
        rows, columns = columns, rows
    by = Pending(Matrices(matrix.order, turned=turned), (matrix,), (1, rows, columns))
    return Graph(axis - 1), (x, by), x.layout


def not_on_positions(what: str, axis: int) -> NoLimit:
    """The refusal of a fixed matrix that acts on samples or channels."""
    if axis < 0:
        multiplied = "samples"
    else:
        multiplied = "channels"
    return NoLimit(
        f"{what} multiplies the {multiplied}.",
        why="there is a rule for fixed matrices on positions only",
        fix="let the nodes of a graph be positions: x of shape (n, nodes, features), A @ h; where A is sparse, "
        "torch.sparse.mm(A, h.transpose(0, 1).flatten(1)).unflatten(1, (len(h), -1)).transpose(0, 1)",
    )


def einsum_graph(call: Call) -> Read | None:
    """An einsum that sums one axis of the positions against a matrix, constant or of each sample; None for others."""
    equation, operands = str(call.args[0]).replace(" ", ""), call.args[1]
    left, _, out = equation.partition("->")
    letters = left.split(",")
    if len(letters) != 2 or not out or "." in equation or any(len(set(part)) < len(part) for part in (*letters, out)):
        return None
    of: dict[bool, tuple[str, Any]] = {_is_matrix(operand): (word, operand)
                                       for word, operand in zip(letters, operands, strict=True)}  # fmt: skip
    if set(of) != {True, False} or not isinstance(of[False][1], Value):
        return None
    (of_matrix, matrix), (of_x, x) = of[True], of[False]
    summed, new = (set(of_matrix) & set(of_x)) - set(out), (set(of_matrix) & set(out)) - set(of_x)
    if isinstance(matrix, Value):
        each = of_x[0]
    else:
        each = ""
    if len(summed) != 1 or len(new) != 1 or set(of_matrix) != {*summed, *new, *each} or of_x[0] != out[0]:
        return None
    (old,), (fresh,) = summed, new
    if set(out) != set(of_x.replace(old, fresh)) or (each and of_matrix[0] != each):
        return None
    axis = x.axis(of_x.index(old))
    if axis < 1 or axis >= GROUPED:
        if each:
            raise not_on_positions("A matrix of each sample", axis)
        raise not_on_positions("A fixed matrix", axis)
    layout = tuple(x.order[of_x.index(c) - 1] for c in out.replace(fresh, old)[1:])
    left_to_right = of_matrix.index(fresh) < of_matrix.index(old)
    if not each:
        dense = as_dense(matrix)
        if not left_to_right:
            dense = dense.T
        return Aggregate(dense, axis - 1), (x,), layout
    if left_to_right:
        shape = matrix.user_shape
    else:
        shape = matrix.user_shape[::-1]
    by = Pending(Matrices(matrix.order, turned=not left_to_right), (matrix,), (1, *shape))
    return Graph(axis - 1), (x, by), layout


def _is_matrix(operand: object) -> bool:
    if isinstance(operand, Value):
        return operand.data and len(operand.shape) == 2
    return isinstance(operand, Tensor) and operand.ndim == 2


def as_dense(matrix: Tensor) -> Tensor:
    """A constant matrix, sparse in whichever way, as numbers in rows."""
    if matrix.layout != torch.strided:
        matrix = matrix.to_dense()
    return matrix.detach()
