"""What an op is, how one is read from a torch graph, and the registry of those that gramian knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments, input_moments
from gramian.errors import NoLimit

GROUPED = 1000  # added to the number of a group of channels, in the layout of a value whose channels are split


@dataclass(frozen=True)
class Value:
    """A tensor in the user's graph: the step that makes it, and its shape without the batch axis, channels first.

    The user may have the channels elsewhere: axis k of theirs (without the batch) is axis `layout[k]` of `shape`. They
    may also have split the channels into several axes, as attention does for its heads: then axis `GROUPED + k` in the
    layout is the k-th of `groups`, outermost first. The step's own result is not split.
    """

    index: int
    shape: tuple[int, ...]
    data: bool = False  # made from the input alone, by no parameter
    layout: tuple[int, ...] = ()  # () means as in `shape`
    number: float | None = None  # what all its entries are, if known: torch.zeros_like(h)
    groups: tuple[int, ...] = ()  # sizes into which the channels are split; () for one axis
    boolean: bool = False  # whether the user's tensor is of true and false; the numbers here are 1 and 0

    @property
    def order(self) -> tuple[int, ...]:
        """`layout`, written out."""
        return self.layout or tuple(range(len(self.shape)))

    @property
    def user_shape(self) -> tuple[int, ...]:
        """The shape as the user sees it, without the batch axis."""
        return tuple(self.size_of(a) for a in self.order)

    @property
    def of_channels(self) -> tuple[int, ...]:
        """The user's shape of a tensor that has one number for each channel; without the batch axis."""
        ones = [1] * len(self.order)
        if 0 in self.order:
            ones[self.order.index(0)] = self.shape[0]
        return tuple(ones)

    def size_of(self, axis: int) -> int:
        """Length of an axis of `order`: one of `shape`, or a group of channels."""
        if axis >= GROUPED:
            return self.groups[axis - GROUPED]
        return self.shape[axis]

    def axis(self, dim: int) -> int:
        """The axis of `shape` that the user's axis `dim` (with the batch, may be negative) is; -1 for the batch."""
        dim %= len(self.order) + 1
        if dim:
            return self.order[dim - 1]
        return -1

    @property
    def channels_at(self) -> int:
        """The user's axis, with the batch, that the channels are on, or the first of them."""
        return 1 + next(k for k, axis in enumerate(self.order) if axis == 0 or axis >= GROUPED)

    @property
    def plain(self) -> bool:
        """Whether the user has the axes in the order of `shape`."""
        return self.order == tuple(range(len(self.shape)))


@dataclass(frozen=True)
class Pending:
    """A value that one more op makes first, where a call is read as several."""

    op: Op
    inputs: tuple[Value | Pending, ...]
    shape: tuple[int, ...]
    layout: tuple[int, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """A parameter in the user's graph, maybe `turned`, transposed; `tensor` is read only to check an initial state."""

    name: str
    tensor: Tensor
    trains: bool
    turned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


@dataclass(frozen=True)
class Call:
    """One call in the user's graph: what an op's `read` sees.

    Args:
        target: the aten name, such as `aten.relu.default`.
        args: positional arguments and those given by keyword, in the order of the aten schema; each a `Value`, a
            `Parameter`, a `Tensor` (buffer or constant), a number, a list or None. Defaults are filled in.
        shape: shape of the result without the batch axis, as the user sees it.
        training: whether the module was in training mode.
    """

    target: str
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    training: bool = False

    def argument(self, place: int, default: Any = None) -> Any:
        """The argument at this place, if the call has so many."""
        if place < len(self.args):
            return self.args[place]
        return default


@dataclass(frozen=True)
class Op:
    """One op: read from a torch call, applied at finite width, and its rule at infinite width."""

    since: ClassVar[str] = "0.1"  # the first version that had it
    random: ClassVar[bool] = False  # whether it holds random weights
    any_layout: ClassVar[bool] = False  # whether `read` takes channels on any axis of the user's
    any_groups: ClassVar[bool] = False  # whether it also takes channels that are split into several axes
    channels_last: ClassVar[bool] = False  # whether the last axis of the input itself is its channels
    each_channel: ClassVar[bool] = False  # whether it does the same to each channel by itself

    @classmethod
    def read(cls, call: Call) -> Read:
        """The op, its inputs and, if it is not that of the first input, the result's layout; or only a value where the
        call changes nothing but the layout."""
        raise NotImplementedError

    def apply(self, *x: Tensor) -> Tensor:
        """The op on numbers: on the input data, and in a finite network. Shapes (n, c, *S)."""
        raise NotImplementedError

    def limit(self, *m: Moments) -> Moments:
        """The op on moments."""
        raise NotImplementedError

    def needs_pairs(self, out: bool) -> bool:
        """Whether its inputs must hold all pairs of positions, given whether its output must."""
        return out

    def channels(self, *c: int, width: Callable[[int], int], hidden: bool) -> int:
        """Channels of the result, from those of the inputs, in a network of the given width."""
        return c[0]

    def data_moments(
        self, x: Tensor, x2: Tensor | None, *, all_pairs: bool, ntk: bool, dtype: torch.dtype, gap: bool = False
    ) -> Moments:
        """Moments of its result where that is made of the input alone: at x and at x2, (n, c, *S)."""
        return input_moments(x, x2, all_pairs=all_pairs, ntk=ntk, gap=gap)

    def describe(self) -> str:
        """A few words for the printed architecture."""
        return ""

    @property
    def name(self) -> str:
        return type(self).__name__


Made = tuple[Value | Pending, ...]


class EarlierStep(Protocol):
    """A step that was read before, as the ops that look back at it see it."""

    @property
    def op(self) -> Op: ...
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def data(self) -> bool: ...


@dataclass(frozen=True)
class ChannelSlice:
    """Some channels of a value, as the user sees them: layers with these rows alone of their weights make it."""

    of: Value
    rows: tuple[int, ...]
    layout: tuple[int, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """An op, its inputs, and how the user sees its result, in full."""

    op: Op
    inputs: tuple[Value, ...]
    shape: tuple[int, ...]  # channels first
    layout: tuple[int, ...]
    groups: tuple[int, ...] = ()


Read = tuple[Op, Made] | tuple[Op, Made, tuple[int, ...]] | Value | ChannelSlice | Result
READERS: dict[str, type[Op]] = {}
A = TypeVar("A", bound=type[Op])


def reads(*targets: str) -> Callable[[A], A]:
    """Registers a class as the reader of these aten calls."""

    def register(cls: A) -> A:
        for target in targets:
            READERS[target] = cls
        return cls

    return register


def value(arg: Any, what: str) -> Value:
    """`arg` as a tensor that depends on the input, or a refusal."""
    if isinstance(arg, Value):
        return arg
    if isinstance(arg, str):  # the reader's word for it
        raise NoLimit(
            f"{what} is {arg}.",
            why="a parameter is read where it comes as it stands, moved, times a number, or behind a fixed matrix",
            fix="add each one by itself, h + self.rows + self.columns; or make it a layer",
        )
    if isinstance(arg, Parameter):
        kind = "a parameter"
    else:
        kind = "a constant"
    raise NoLimit(
        f"{what} is {kind}, not a layer's output.",
        why="gramian has a rule for this call only when it acts on the network's values",
        fix="write it as a layer (nn.Linear, nn.Conv2d, ...), or multiply by a plain Python number",
    )


def renumbered(layout: Sequence[int]) -> tuple[int, ...]:
    """A layout of which axes have gone, with the others counted without gaps."""
    left = sorted(axis for axis in layout if axis < GROUPED)
    start = int(any(axis >= GROUPED for axis in layout))  # the channels' own axis is there, if split
    new = {axis: start + place for place, axis in enumerate(left)}
    return tuple(new.get(axis, axis) for axis in layout)


def pair(number: int | list[int], axes: int) -> tuple[int, ...]:
    """An int or a list of ints as one int per axis, as torch reads them."""
    if isinstance(number, int):
        return (number,) * axes
    if len(number) == 1:
        return tuple(number) * axes
    return tuple(number)


def stored_layout(layout: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """A layout as `Value` keeps it: () where it is the order of `shape`, which has `ndim` axes."""
    if layout == tuple(range(ndim)):
        return ()
    return layout


def replaced(args: Iterable[Any], kind: type | tuple[type, ...], by: Callable[[Any], Any]) -> list[Any]:
    """The arguments, with `by(a)` in place of each one that is of this kind."""
    result = list(args)
    for place, arg in enumerate(result):
        if isinstance(arg, kind):
            result[place] = by(arg)
    return result
