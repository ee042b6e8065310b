"""What is read of a graph so far: the steps, the values that its nodes stand for, and how a call becomes an op."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.inputs import Form
from gramian.arch.ops import GROUPED, READERS, Call, Op, Permute, Value, fuse
from gramian.arch.ops.attention import Attended
from gramian.arch.ops.attention_scores import Scores, is_scored, on_scores, products
from gramian.arch.ops.base import ChannelSlice, Parameter, Pending, Result, renumbered, stored_layout
from gramian.arch.ops.computed import base_of
from gramian.arch.ops.graphs import einsum_graph
from gramian.arch.ops.groups import ChannelSlices
from gramian.arch.ops.learned import Entries
from gramian.arch.ops.permute import Turned
from gramian.arch.ops.scalar_output import Dropped, dropped
from gramian.arch.ops.sparse_matmul import MatrixProduct, MatrixView, merged, multiplied, stray_columns
from gramian.arch.structure import Step, with_place
from gramian.errors import NoLimit
from gramian.network.reader.export import flat
from gramian.network.reader.refusals import no_reader
from gramian.network.reader.unrolled_rnn import Unroller

FILLED_WITH = {"zeros_like": 0.0, "ones_like": 1.0}


class GraphReading:
    """The steps and values that are read so far; `GraphReader` goes through the graph.

    Attributes:
        steps: the ops in the order of computation.
        values: by name of a node, what it stands for: a `Value`, a parameter, a tensor of numbers, ...
        computed: steps, and inputs below zero, that are or come from whole numbers or masks.
        parts: steps that make some channels of others.
        where: place in the user's code of the call that is being read.
        no_grad: whether that call was made with gradients switched off.
        inputs: nodes of the graph's inputs, in the order of the leaves.
        recurrent: unrolls RNN, LSTM and GRU.
    """

    def __init__(self, program: Any, form: Form, parameters: dict[str, nn.Parameter], training: bool) -> None:
        self.program, self.form, self.parameters, self.training = program, form, parameters, training
        self.steps: list[Step] = []
        self.values: dict[str, Any] = {}
        self.computed: set[int] = set()
        self.parts = ChannelSlices(self.steps, self._part)
        self.where = ""
        self.no_grad = False
        self.inputs: list[Node] = []
        self.recurrent = Unroller(self.add_here, lambda x: self._channels_last(x, self.where))

    def read(self, call: Call, val: Any, where: str) -> Value | Scores | Turned | Dropped:
        """What an op makes of a call whose result is `val` in the user's graph."""
        if not isinstance(val, Tensor):
            raise no_reader(call.target)
        call, after, mapped, fused = replace(call, shape=tuple(val.shape[1:])), None, None, None
        if end := dropped(call):
            return end
        if call.target == "aten.einsum.default":
            mapped = einsum_graph(call)
            if mapped is None:
                call, after = products(call)
        answer: Any
        if is_scored(call.args):
            answer = on_scores(call)
        elif mapped is not None:
            answer = mapped
        elif (fused := fuse(call, self.steps)) is not None:
            answer = Result(*fused, fused[1][0].shape, fused[1][0].layout, fused[1][0].groups)
        else:
            answer = self._by_its_reader(call, where)
        if isinstance(answer, Attended):
            answer = replace(answer, after=after).result(self.steps)
        if isinstance(answer, Scores):
            return answer
        if isinstance(answer, Turned):
            return replace(answer, where=where)
        result = self._recorded(answer, call, val, where)
        number = result.number
        if fused is not None:
            number = FILLED_WITH.get(base_of(call.target))
        return replace(result, boolean=val.dtype == torch.bool, number=number)

    def _by_its_reader(self, call: Call, where: str) -> Any:
        """What the op that is registered for a call makes of it."""
        reader = READERS.get(call.target)
        if reader is None:
            raise no_reader(call.target)
        split = [v for v in flat(list(call.args)) if isinstance(v, Value) and v.groups]
        if split and not reader.any_groups:
            raise NoLimit(
                f"This call acts on channels that are split into {' x '.join(map(str, split[0].groups))}.",
                why="channels in several axes are read for the heads of attention only",
                fix="merge them first, h.flatten(-2), or split them later",
            )
        bring = self._channels_first
        if reader.channels_last:
            bring = self._channels_last
        if reader.channels_last or not reader.any_layout:
            call = replace(call, args=tuple(bring(a, where) for a in call.args))
        return reader.read(call)

    def _recorded(self, answer: Any, call: Call, val: Tensor, where: str) -> Value:
        """The value that a reader's answer stands for, after the step that makes it."""
        if isinstance(answer, ChannelSlice):
            shape = (len(answer.rows), *answer.of.shape[1:])
            number = self.parts.step(answer.of.index, answer.rows)
            return Value(number, shape, False, answer.layout, groups=answer.groups)
        if isinstance(answer, tuple):
            op, inputs, *given = answer
            below = tuple(self.materialized(i, where) for i in inputs)
            answer = _in_full((op, below, *given), val, READERS.get(call.target) or type(op))
        if isinstance(answer, Result):
            return self.add(answer.op, answer.inputs, answer.shape, answer.layout, where, answer.groups)
        return answer

    def turned(self, turned: Turned | MatrixView, call: Call, val: Any, where: str) -> Any:
        """A call on a value whose samples are not first: another order of the axes, or entries of one of them."""
        if isinstance(val, Tensor):
            result = merged(turned, call, tuple(val.shape))
        else:
            result = None
        if isinstance(result, MatrixProduct):
            x = result.of.turned.value
            sizes = list(x.shape)
            sizes[result.op.at + 1] = len(result.op.matrix)
            return multiplied(result, self.add(result.op, (x,), tuple(sizes), x.layout, where))
        if result is not None:
            return result
        if isinstance(turned, MatrixView):
            raise with_place(stray_columns(), where)
        if READERS.get(call.target) is Permute:
            return turned.permuted(call)
        if call.target == "aten.unbind.int":
            taken = [replace(call, target="aten.select.int", args=(*call.args, k)) for k in range(len(val))]
            return [self.turned(turned, each, v, where) for each, v in zip(taken, val, strict=True)]
        if call.target == "aten.select.int":
            dim = turned.dims[call.args[1]]
        else:
            dim = 0
        if dim == 0:
            raise with_place(turned.refusal, turned.where)
        sizes = [2, *turned.value.user_shape]
        left = torch.empty(sizes[:dim] + sizes[dim + 1 :], device="meta", dtype=val.dtype)
        chosen = self.read(replace(call, args=(turned.value, dim, call.args[2])), left, where)
        dims = renumbered(tuple(d for d in turned.dims if d != dim))
        assert isinstance(chosen, Value)
        return Turned(chosen, dims, turned.where).settled()

    def _part(self, number: int, op: Op, inputs: tuple[int, ...], channels: int) -> int:
        """A step that makes some channels of another."""
        whole = self.steps[number]
        self.steps.append(replace(whole, op=op, inputs=inputs, shape=(channels, *whole.shape[1:])))
        return len(self.steps) - 1

    def materialized(self, value: Value | Pending, where: str) -> Value:
        """A value, after the op that makes it first."""
        if isinstance(value, Value):
            return value
        return self.add(
            value.op, tuple(self.materialized(i, where) for i in value.inputs), value.shape, value.layout, where
        )

    def _channels_first(self, arg: Any, where: str) -> Any:
        """A value with the axes in the user's order, channels first; positions are reordered if need be."""
        if isinstance(arg, list):
            return [self._channels_first(a, where) for a in arg]
        if not isinstance(arg, Value) or arg.plain:
            return arg
        if arg.order[0] != 0 and not arg.data:
            raise NoLimit(
                f"The channels are on axis {arg.order.index(0) + 1} here, and this call takes axis 1 for them.",
                why="the axis that grows with the width would be treated as positions",
                fix="transpose back to (n, channels, *positions) before",
            )
        return self.add(Permute(arg.order), (arg,), arg.user_shape, (), where)

    def _channels_last(self, arg: Any, where: str) -> Any:
        """Of the input itself, the last axis becomes the channels."""
        if not isinstance(arg, Value) or not arg.data or not arg.plain or len(arg.shape) == 1:
            return arg
        last = len(arg.shape) - 1
        shape = (arg.shape[-1], *arg.shape[:-1])
        return self.add(Permute((last, *range(last))), (arg,), shape, (*range(1, last + 1), 0), where)

    def add(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        shape: tuple[int, ...],
        layout: tuple[int, ...],
        where: str,
        groups: tuple[int, ...] = (),
    ) -> Value:
        data = not op.random and all(i.data for i in inputs)
        self.steps.append(Step(op, tuple(i.index for i in inputs), shape, data, where))
        if data and any(i.index in self.computed for i in inputs):
            self.computed.add(len(self.steps) - 1)
        return Value(len(self.steps) - 1, shape, data, stored_layout(layout, len(shape)), groups=groups)

    def add_here(self, op: Op, inputs: tuple[Value, ...], shape: tuple[int, ...], layout: tuple[int, ...]) -> Value:
        return self.add(op, inputs, shape, layout, self.where)

    def argument(self, arg: Any) -> Any:
        if isinstance(arg, Node):
            value = self.values[arg.name]
            if self.no_grad:
                return without_gradient(value)
            return value
        if isinstance(arg, list | tuple):
            return [self.argument(a) for a in arg]
        return arg


def _in_full(read: tuple[Any, ...], val: Tensor, reader: type[Op]) -> Result:
    """With what a reader leaves out: the result's layout and groups, and its shape, channels first."""
    op, inputs, *given = read
    if inputs and reader.any_layout:
        inherited = inputs[0].layout
    else:
        inherited = ()
    if given:
        layout = given[0]
    else:
        layout = inherited
    order = layout or tuple(range(val.ndim - 1))
    sizes = dict(zip(order, val.shape[1:], strict=True))
    if any(axis >= GROUPED for axis in order):
        groups = inputs[0].groups
    else:
        groups = ()
    if groups:
        sizes[0] = inputs[0].shape[0]
    return Result(op, inputs, tuple(sizes[axis] for axis in sorted(sizes) if axis < GROUPED), layout, groups)


def without_gradient(value: Any) -> Any:
    """A parameter, or numbers of one, as it counts where gradients are switched off: random, but not trained."""
    if isinstance(value, Parameter):
        return replace(value, trains=False)
    if isinstance(value, Entries):
        return replace(value, parameter=replace(value.parameter, trains=False))
    return value
