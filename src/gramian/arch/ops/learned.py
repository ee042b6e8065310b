"""Parameters that are values themselves: learned positions, class tokens, rows of an embedding at fixed places."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gramian.arch.law import plain
from gramian.arch.ops.affine import Linear
from gramian.arch.ops.base import GROUPED, Op, Parameter, Value
from gramian.arch.ops.graphs import as_dense
from gramian.errors import NoLimit

LAYOUT = {
    "slice", "select", "narrow", "view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten", "expand", "permute",
    "transpose", "t", "numpy_T", "movedim", "index_select", "flip", "roll", "repeat", "contiguous", "clone", "alias",
    "embedding", "tile", "broadcast_to",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Entries:
    """Numbers of a parameter, each by its place in the flattened parameter; `index` has the user's shape, batch too."""

    parameter: Parameter
    index: Tensor
    mix: Mix | None = None  # if there is one, `index` counts the numbers of its result

    @classmethod
    def of(cls, arg: Parameter | Entries) -> Entries:
        """All numbers of a parameter, as they stand."""
        if isinstance(arg, Entries):
            return arg
        return cls(arg, torch.arange(arg.tensor.numel()).reshape(arg.shape))


@dataclass(frozen=True, eq=False)
class Mix:
    """A fixed matrix times rows of a parameter's numbers: `L @ self.positions`, whose rows are correlated by L L'."""

    matrix: Tensor  # (new, old)
    rows: Tensor  # numbers of the parameter's entries; (old, c)


def mixed(target: str, args: list[Any]) -> Entries | None:
    """A call that multiplies a parameter's rows by a fixed matrix from the left, or by a number; None for others."""
    base = target.removeprefix("aten.").split(".")[0]
    a, b = (*args, None, None)[:2]
    if base in ("mul", "div", "neg"):
        if isinstance(b, Parameter | Entries) and base == "mul":
            x, number = (b, a)
        elif base == "neg":
            x, number = (a, -1.0)
        else:
            x, number = (a, b)
        single = isinstance(number, int | float) or (isinstance(number, Tensor) and number.numel() == 1)
        if not isinstance(x, Parameter | Entries) or not single:
            return None
        entries, factor = Entries.of(x), float(number)
        if base == "div":
            factor = 1 / factor
        if entries.index.ndim < 1:
            return None
        flat = entries.index.reshape(-1, entries.index.shape[-1])
        eye = torch.eye(len(flat), dtype=torch.float64)
        rows = _multiplied(entries, flat, factor * eye)
        return replace(rows, index=rows.index.reshape(entries.index.shape))
    if (
        base not in ("matmul", "mm", "_sparse_mm")
        or not isinstance(a, Tensor)
        or not isinstance(b, Parameter | Entries)
    ):
        return None
    entries = Entries.of(b)
    if a.ndim == 2 and entries.index.ndim == 2:
        return _multiplied(entries, entries.index, as_dense(a))
    return None


def _multiplied(entries: Entries, rows: Tensor, matrix: Tensor) -> Entries:
    matrix, c = matrix.to(torch.float64), rows.shape[1]
    if entries.mix is not None:  # a matrix of a matrix; whole rows of the one before
        number = rows[:, 0] // c
        whole = torch.equal(rows, number[:, None] * c + torch.arange(c)) and entries.mix.rows.shape[1] == c
        if not whole:
            raise NoLimit(
                f"Numbers of the parameter `{entries.parameter.name}` are mixed by a matrix, moved, and mixed again.",
                fix="one matrix, self.L @ self.positions",
            )
        matrix, rows = matrix @ entries.mix.matrix[number], entries.mix.rows
    index = torch.arange(len(matrix) * c).reshape(len(matrix), c)
    return replace(entries, index=index, mix=Mix(matrix, rows))


def laid_out(base: str, call: Any, args: list[Any], named: dict[str, Any]) -> Entries | None:
    """A call that moves a parameter's numbers around, or looks up some of them at constant places; None for others."""
    if base not in LAYOUT or sum(isinstance(a, Parameter | Entries) for a in args) != 1:
        return None
    if not isinstance(args[0], Parameter | Entries):
        return None
    entries = Entries.of(args[0])
    if base == "embedding":
        if isinstance(args[1], Tensor):
            return replace(entries, index=entries.index[args[1]])
        return None
    return replace(entries, index=call(entries.index, *args[1:], **named))


@dataclass(frozen=True, eq=False)
class Fixed(Op):
    """The same numbers for every input."""

    numbers: Tensor  # (c, *S)

    def apply(self, *x: Tensor) -> Tensor:
        if x[0].is_floating_point():
            dtype = x[0].dtype
        else:
            dtype = torch.get_default_dtype()
        return self.numbers.to(x[0].device, dtype).expand(len(x[0]), *self.numbers.shape)

    def describe(self) -> str:
        return "numbers"


@dataclass(frozen=True)
class Learned(Linear):
    r"""A parameter of independent entries of standard deviation $\sigma_w$, a vector of channels at each position.

    $K_{ij} = \sigma_w^2$ where the positions i and j have the same vector, else 0, whatever the inputs; $\Theta$ the
    same if it trains (learned positions, as in Hron et al. 2020, arXiv:2006.10540). Of a fixed matrix times the
    vectors, $L P$, it is $K = \sigma_w^2 L L^\top$. It is a layer without bias on the number of the position as a unit
    vector, or on its row of L, which comes times the root of its length.
    """

    bias_of: str = ""  # the weight of the layer whose bias it is; then the law's sigma_b is its deviation

    def fan_in_of(self, weight: Tensor) -> int:
        return 1

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        return super().run(layer, x / math.sqrt(x.shape[1]))

    def describe(self) -> str:
        if self.weight_trains:
            frozen = ""
        else:
            frozen = ", frozen"
        return f"`{self.weight_name}` -> {self.out_channels}, standard deviation {plain(self.sigma_w):.4g}{frozen}"


def vectors(entries: Entries, like: Value, *, widths: bool) -> tuple[Fixed, Learned, tuple[int, ...]]:
    """The steps that make a value of a parameter's numbers, and the value's shape, channels first.

    Args:
        entries: the numbers as the user has them.
        like: a value with the axes in the same order, to which they are added or beside which they come.
        widths: whether they are added, and so spread over all positions of `like`.
    """
    name, index = entries.parameter.name, entries.index
    if 0 not in like.order or any(axis >= GROUPED for axis in like.order):
        raise NoLimit(f"The parameter `{name}` meets channels that are split.", fix="add it before they are split")
    if index.ndim > len(like.order):
        if index.ndim > len(like.order) + 1 or not bool((index == index[:1]).all()):
            raise NoLimit(f"The parameter `{name}` is not the same for all samples.", fix="one value for all samples")
        index = index[0]
    index = index.reshape(*(1,) * (len(like.order) - index.ndim), *index.shape)
    at = like.order.index(0)
    if index.shape[at] != like.shape[0]:
        raise NoLimit(
            f"The parameter `{name}` has {index.shape[at]} where the values have {like.shape[0]} channels.",
            why="numbers that all channels share stay random, however wide the network is",
            fix="a vector of as many numbers as channels at each position",
        )
    if widths:
        index = index.expand(like.user_shape)
    stored = index.permute([like.order.index(axis) for axis in range(len(like.order))])  # channels first
    if stored.ndim > 1:
        rows = stored.flatten(1).T
    else:
        rows = stored[None]
    mix = None
    if entries.mix is not None:  # the positions' rows of the matrix, and the vectors that it mixes
        width = entries.mix.rows.shape[1]
        taken = rows[:, 0] // width
        if not torch.equal(rows, taken[:, None] * width + torch.arange(width)):
            raise NoLimit(
                f"Parts of the rows that a matrix makes of the parameter `{name}` are added.",
                fix="whole rows, with as many numbers as there are channels, in their order",
            )
        rows, mix = entries.mix.rows, entries.mix.matrix[taken]
    # positions that have the same vector are fully correlated, others not at all: a one-hot vector for each distinct
    # one
    distinct, number = rows.unique(dim=0, return_inverse=True)
    if distinct.unique().numel() < distinct.numel():
        raise NoLimit(
            f"A number of the parameter `{name}` is in several channels, or in several vectors.",
            why="there is a rule for vectors of independent numbers, of which two are the same or share none",
            fix="a vector of its own for each position, as long as there are channels",
        )
    places = nn.functional.one_hot(number, len(distinct)).to(torch.float64)
    if mix is not None:
        places = mix @ places
    # Var(W_ij) = sigma_w^2 / fan-in, and the fan-in is the number of vectors: its root in the input leaves sigma_w^2
    places = places.T * math.sqrt(len(distinct))
    p = entries.parameter
    layer = Learned(like.shape[0], 1, p.name, None, p.trains, False)
    return Fixed(places.reshape(-1, *stored.shape[1:])), layer, tuple(stored.shape)
