"""Embeddings: rows of a random table by number, an affine layer on one-hot vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from gramian.arch.moments import Moments, starting_ntk
from gramian.arch.ops.affine import Affine, common
from gramian.arch.ops.base import Call, Op, Parameter, Pending, Read, Value, reads, value
from gramian.errors import BadData, NoLimit


@reads("aten.embedding.default")
@dataclass(frozen=True)
class Embedding(Affine):
    r"""`nn.Embedding`, `F.embedding`: token i is row i of a table with i.i.d. entries, $N(0, \sigma_w^2)$.

    $K_{ij} = \sigma_w^2\, 1[\text{token}_i = \text{token}_j]$, and the same in the NTK if the table trains. This is a
    Linear without bias on one-hot vectors whose fan-in is counted as 1, the one entry that is not zero: under "he" the
    entries are N(0, 2), under "lecun" and "torch" N(0, 1), which is PyTorch's own default. An embedding is never the
    "readout". Row `padding_idx` is zero and does not train.
    """

    any_layout: ClassVar[bool] = True

    entries: int = 0  # of the table: how many tokens there are
    zero_row: int | None = None

    @classmethod
    def read(cls, call: Call) -> Read:
        table, tokens = call.args[:2]
        if len(call.args) > 2:
            padding = call.args[2]
        else:
            padding = -1
        return cls.of(table, value(tokens, "the numbers of the rows"), padding)

    @classmethod
    def of(cls, table: object, tokens: Value, padding: int) -> tuple[Op, tuple[Pending], tuple[int, ...]]:
        """The op, its one-hot input, and the layout, channels last, of its result."""
        if not isinstance(table, Parameter) or table.turned or not tokens.data:
            raise NoLimit(
                "An embedding of a table that is not a parameter, or at rows that the network computes.",
                why="the rule is for random rows, chosen by the input",
                fix="nn.Embedding on tokens of the input",
            )
        rows, width = table.shape
        if padding >= 0:
            zero_row = padding
        else:
            zero_row = None
        op = cls(**{**common(table, None, width), "fan_in": 1}, entries=rows, zero_row=zero_row)
        one_hot = Pending(Tokens(rows, zero_row), (tokens,), tokens.user_shape)
        return op, (one_hot,), (*range(1, len(tokens.shape) + 1), 0)

    def average(self, m: Moments) -> Moments:
        return m

    def layer(self, in_channels: int, out_channels: int, *, bias: bool) -> nn.Module:
        return nn.Embedding(self.entries, out_channels, padding_idx=self.zero_row)

    def fan_in_of(self, weight: Tensor) -> int:
        return 1

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x).movedim(-1, 1)

    def describe(self) -> str:
        return f"of {self.entries} {super().describe()}"


@dataclass(frozen=True)
class Tokens(Op):
    """Numbers of rows, standing for the one-hot vectors that choose them; shape (n, *S), without channels."""

    rows: int
    zero_row: int | None = None

    def apply(self, *x: Tensor) -> Tensor:
        return x[0]

    def data_moments(
        self, x: Tensor, x2: Tensor | None, *, all_pairs: bool, ntk: bool, dtype: torch.dtype, gap: bool = False
    ) -> Moments:
        """Covariances of one-hot vectors: 1 where the tokens are equal, 0 elsewhere and for the zero row."""
        position_axes = x.ndim - 1
        all_pairs = all_pairs and position_axes > 0
        other = x if x2 is None else x2
        for at, name in ((x, "x"), (other, "x2")):
            self._check(at, name)

        def equal(a: Tensor, b: Tensor) -> Tensor:
            if all_pairs:
                ones = (1,) * position_axes
            else:
                ones = ()
            a = a.reshape(*a.shape, *ones)
            b = b.reshape(*b.shape[: b.ndim - position_axes], *ones, *b.shape[b.ndim - position_axes :])
            return self.product(a, b, dtype)

        # the inner product of two one-hot vectors is 1 for equal tokens, else 0
        xx = equal(x, x)
        if x2 is None:
            yy = xx
        else:
            yy = equal(other, other)
        xy = equal(x[:, None], other[None])
        return Moments(xx, yy, xy, starting_ntk(xy, ntk), position_axes=position_axes, all_pairs=all_pairs)

    def product(self, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
        """Inner products of one-hot vectors."""
        same = a == b
        if self.zero_row is not None:
            # the padding row is zero, also with itself
            same = same & (a != self.zero_row)
        return same.to(dtype)

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        return self.rows

    def describe(self) -> str:
        if self.zero_row is None:
            return f"below {self.rows}"
        return f"below {self.rows}, {self.zero_row} is zero"

    def _check(self, x: Tensor, name: str) -> None:
        low, high = (int(v) for v in x.aminmax())
        if low < 0 or high >= self.rows:
            raise BadData(
                f"Tokens of `{name}` are between {low} and {high}; the embedding has {self.rows} rows.",
                where=f"argument `{name}` of a kernel",
                why="a token is the number of a row, from 0",
                fix="the vocabulary that the embedding was made for, or nn.Embedding with more rows",
            )


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """The same numbers for every sample, such as the positions of a sequence; of the input it takes only the count."""

    numbers: Tensor

    def apply(self, *x: Tensor) -> Tensor:
        return self.numbers.to(x[0].device).expand(len(x[0]), *self.numbers.shape)


@dataclass(frozen=True)
class Unbatched:
    """A value of the network that is the same for all samples, and that the user has without an axis of samples."""

    value: Value


def positional(table: Parameter, numbers: Tensor, padding: int) -> tuple[Op, tuple[Pending], tuple[int, ...], bool]:
    """A table looked up at constant numbers, shape (*S), (1, *S) or (n, *S) with equal rows: the op, its input and
    layout, and whether the user has the axis of samples."""
    batched = numbers.ndim > 1 and bool((numbers == numbers[:1]).all())
    if numbers.ndim > 1 and not batched:
        raise NoLimit(
            f"An embedding is looked up at constant numbers of shape {tuple(numbers.shape)}.",
            why="they must be the same for every sample",
            fix="numbers of shape (positions,) or (1, positions)",
        )
    if batched:
        numbers = numbers[0]
    else:
        numbers = numbers
    constant = Pending(Constant(numbers.clone()), (Value(-1, (), data=True),), tuple(numbers.shape))
    like = Value(-1, tuple(numbers.shape), data=True)
    op, (one_hot,), layout = Embedding.of(table, like, padding)
    return op, (replace(one_hot, inputs=(constant,)),), layout, batched
