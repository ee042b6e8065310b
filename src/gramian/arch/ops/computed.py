"""What is computed from the inputs alone, sample by sample: masks, lengths, counts, one-hot vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramian.arch.ops.base import Call, Op, Value, replaced
from gramian.arch.ops.pointwise import ELEMENTWISE
from gramian.errors import NoLimit

LOGIC = {
    "bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_not", "logical_and", "logical_or",
    "logical_xor", "__and__", "__or__", "isnan", "isinf", "isfinite", "remainder", "floor_divide", "fmod", "floor",
    "ceil", "round", "trunc", "sgn", "eq", "masked_fill",
}  # fmt: skip
CASTS = {"to", "_to_copy", "type_as", "bool", "float", "long", "clone", "contiguous", "detach", "alias",
         "lift_fresh_copy"}  # fmt: skip
COUNTS = {"sum", "prod", "count_nonzero", "cumsum", "cumprod"}  # which see how often a value is repeated
REDUCTIONS = COUNTS | {"any", "all", "mean", "amax", "amin", "argmax", "argmin"}
COMPUTED = ELEMENTWISE | LOGIC | CASTS | REDUCTIONS | {"one_hot"}
BATCHED_PRODUCTS = {"matmul", "bmm"}
# calls on the numbers of the inputs, such as the degrees of a graph, beside those that ops read; {name: argument: axes}
ALONG = {"softmax": 1, "_softmax": 1, "linalg_vector_norm": 2}
ON_NUMBERS = BATCHED_PRODUCTS | {"diag_embed", "tril", "triu", *ALONG}


class TracedWidth(NoLimit):
    """A function of the inputs into which the width of the traced network has come: the limit has another."""


@dataclass(frozen=True)
class Slot:
    """Where an input goes among a call's arguments."""

    index: int


@dataclass(frozen=True, eq=False)
class Computed(Op):
    """A call on values that are made of the inputs alone, each sample on its own; the same at every width."""

    target: str
    args: tuple[Any, ...]
    dtype: torch.dtype  # of the result in the user's graph; what is floating gets the precision of the kernel

    def apply(self, *x: Tensor) -> Tensor:
        if self.dtype.is_floating_point:
            x = tuple(_as_floating(v) for v in x)
        base = base_of(self.target)
        if base in CASTS:
            if self.dtype.is_floating_point:
                return x[0]
            if self.dtype == torch.bool:
                return x[0] != 0
            return x[0].to(self.dtype)
        _, name, overload = self.target.split(".")
        if not name.endswith("__"):
            name = name.removesuffix("_")
        call = getattr(getattr(torch.ops.aten, name), overload)
        schema = call._schema.arguments
        args = replaced(self.args, Slot, lambda slot: x[slot.index])
        if base in ("where",):
            args = [args[0] != 0, *args[1:]]
        args = replaced(args, Tensor, lambda constant: _alongside(constant, x[0]))
        names = {s.name: a for a, s in zip(args, schema, strict=False) if s.kwarg_only and s.name != "dtype"}
        return call(*(a for a, s in zip(args, schema, strict=False) if not s.kwarg_only), **names)

    def describe(self) -> str:
        return base_of(self.target)


def _as_floating(x: Tensor) -> Tensor:
    if x.is_floating_point():
        return x
    return x.double()


def _alongside(constant: Tensor, x: Tensor) -> Tensor:
    """A constant on the device of x, and in its precision where both are floating."""
    if constant.is_floating_point() and x.is_floating_point():
        return constant.to(x)
    return constant.to(x.device)


def base_of(target: str) -> str:
    """`aten.clamp_.default` as `clamp`."""
    name = target.removeprefix("aten.").split(".")[0]
    if name.endswith("__"):
        return name
    return name.rstrip("_")


def _mixes(left: object, right: object) -> bool:
    """Whether a product of matrices, of which one or both are a value, sums over the samples, or pairs them."""
    if isinstance(right, Value):
        many = isinstance(left, Value) and len(left.shape) != len(right.shape)
        return len(right.shape) < 2 or many or (isinstance(left, Tensor) and left.ndim > 2 and len(left) > 1)
    return not isinstance(right, Tensor) or right.ndim > 2


def computed(
    call: Call, given: Sequence[tuple[Value, torch.Size, torch.dtype]], dtype: torch.dtype
) -> tuple[Computed, Any]:
    """The op and the shape, without the batch axis, of its result.

    Args:
        call: whose values are all made of the inputs alone.
        given: its values, with the shapes (with the batch) and dtypes that they have in the user's graph. A value
            that was expanded keeps the length one there.
        dtype: of the result in the user's graph.
    """
    base, where = base_of(call.target), {v.index: k for k, (v, _, _) in enumerate(given)}
    args = replaced(call.args, Value, lambda of: Slot(where[of.index]))
    dims = {v.user_shape for v, _, _ in given}
    constants = [a for a in call.args if isinstance(a, Tensor)]
    ndim = len(given[0][1])
    mixed = len({len(d) for d in dims}) > 1 or any(c.ndim > ndim or (c.ndim == ndim and len(c) > 1) for c in constants)
    if base in BATCHED_PRODUCTS:
        mixed = _mixes(*call.args[:2])
    if base in REDUCTIONS or base in ALONG:
        k = ALONG.get(base, 1)
        axes = call.argument(k)
        if isinstance(axes, int):
            axes = [axes]
        over = list(range(ndim))
        if axes:
            over = [a % ndim for a in axes]
        mixed = mixed or 0 in over
        value, shape, _ = given[0]
        if base in COUNTS and any(shape[a] != (2, *value.user_shape)[a] for a in over if a):
            raise TracedWidth(
                f"`{base}` runs over an axis along which a mask was expanded.",
                why="the axis has the length of the traced width, which the network of another width has not",
                fix="count before the mask is expanded",
            )
    if base == "one_hot" and (len(call.args) < 2 or call.args[1] < 1):
        raise NoLimit(
            "`one_hot` without the number of classes.",
            why="then it depends on the largest token in the batch",
            fix="F.one_hot(tokens, num_classes)",
        )
    if mixed:
        raise NoLimit(
            f"`{base}` of the inputs mixes the samples, or tensors of different numbers of axes.",
            why="axis 0 counts the samples throughout, and each must be computed on its own",
            fix="keep the samples first: mask[:, :, None], x.sum(1)",
        )
    op = Computed(call.target, tuple(args), dtype)
    like = [torch.ones(2, *v.user_shape, dtype=d) for v, _, d in given]
    return op, tuple(op.apply(*like).shape[1:])
