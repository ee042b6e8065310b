"""From an exported graph to the steps of an architecture: each call becomes an op, a value, or a refusal."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from gramian.arch.ops import Call, Parameter, Value
from gramian.arch.ops.attention_scores import Scores, is_scored
from gramian.arch.ops.computed import COMPUTED, ON_NUMBERS, TracedWidth, base_of, computed
from gramian.arch.ops.embedding import Unbatched
from gramian.arch.ops.groups import SPLITTING_CALLS, pieces
from gramian.arch.ops.learned import Entries
from gramian.arch.ops.locally_connected import local
from gramian.arch.ops.permute import Turned
from gramian.arch.ops.scalar_output import Dropped, Single
from gramian.arch.ops.sparse_matmul import MatrixView
from gramian.arch.structure import Step, with_place
from gramian.errors import NoLimit
from gramian.network.reader.added_biases import layer_with_bias, read_addmm, respelled
from gramian.network.reader.constants import batched, looked_up, of_numbers
from gramian.network.reader.export import flat, in_order, in_place, needed, where_of
from gramian.network.reader.exported_blocks import NO_GRAD, inlined
from gramian.network.reader.inplace import check_writes
from gramian.network.reader.input_functions import OfInputs, read_as_function_of_inputs
from gramian.network.reader.parameters import (
    check_gradient,
    expanded_like,
    of_constants,
    parameter_values,
    scalars_as_numbers,
)
from gramian.network.reader.reading import GraphReading
from gramian.network.reader.shared_heads import heads_copied

OF_PARAMETERS = "computed from parameters"  # stands for what is more than their numbers in places
# calls to which a parameter may come as a value of its own
LEARNED = {"aten.add.Tensor", "aten.add_.Tensor", "aten.sub.Tensor", "aten.cat.default", "aten.concat.default"}
NOT_MINE = object()  # what a handler answers to a call that another one reads


@dataclass
class NodeCall:
    """A call of the graph with its arguments as what they stand for.

    Args:
        node: of the graph.
        target: name of the aten operation, as readers know it.
        args: values, parameters, numbers.
        result: the tensor that the trace made, without numbers; several, or None.
        where: the user's place.
    """

    node: Node
    target: str
    args: list[Any]
    result: Any
    where: str


Handler = Callable[[GraphReading, NodeCall], Any]


class GraphReader(GraphReading):
    """One pass over the exported graph."""

    def read_graph(self) -> tuple[list[Step], int]:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        inputs = iter(self._leaf_numbers())
        graph = inlined(self.program.graph_module, self.program.graph)
        check_writes(graph, where_of)
        used = needed(graph)
        by_leaf: dict[int, Node] = {}
        for node in graph.nodes:
            if node.op == "placeholder":
                spec = names[str(node.target)]
                kind = spec.kind.name
                if kind == "PARAMETER":
                    p = self.parameters[spec.target]
                    first = next(name for name, q in self.parameters.items() if q is p)  # one name for tied weights
                    self.values[node.name] = Parameter(first, p.detach(), p.requires_grad)
                elif kind == "USER_INPUT":
                    k = next(inputs)
                    by_leaf[k] = node
                    self.inputs = [by_leaf[i] for i in sorted(by_leaf)]
                    if self.form.leaves[k].kind != "float":
                        self.computed.add(-1 - k)
                    boolean = node.meta["val"].dtype == torch.bool
                    self.values[node.name] = Value(-1 - k, self.form.leaves[k].shape, data=True, boolean=boolean)
                else:
                    held = {**self.program.state_dict, **self.program.constants}
                    self.values[node.name] = held.get(spec.target)
            elif node.op == "call_function" and node in used:
                result = self.values[node.name] = self._read_or_defer(node)
                if in_place(node) and isinstance(node.args[0], Node):
                    self.values[node.args[0].name] = result  # in place: whoever reads it later sees the change
            elif node.op == "output":
                return self._finish(node)
        raise AssertionError("an exported graph ends in an output node")

    def _leaf_numbers(self) -> list[int]:
        """Which leaf each of the graph's inputs is: torch may order keywords as it likes."""
        args, kwargs = self.program.call_spec.in_spec.unflatten(range(len(self.form.leaves)))
        number = {leaf.name: k for k, leaf in enumerate(self.form.leaves)}
        leaf_at = dict(enumerate(range(len(args)))) | {at: number[name] for name, at in kwargs.items()}
        return [leaf_at[k] for k in range(len(self.form.leaves))]

    def _finish(self, node: Node) -> tuple[list[Step], int]:
        results = [self.values[r.name] for r in node.args[0] if isinstance(r, Node)]  # type: ignore[union-attr]
        if len(results) == 1 and isinstance(results[0], Dropped):
            x = results[0].value
            return self.steps, self.add(Single(), (x,), x.shape, x.layout, self.where).index
        if len(results) != 1 or not isinstance(results[0], Value):
            raise NoLimit(
                f"The module returns {len(results)} tensors, or none that depends on its input.",
                why="a kernel is defined for one output tensor",
                fix="return one tensor of shape (n, outputs)",
            )
        if results[0].index < 0:
            raise NoLimit("The module returns its input.", why="no layer is in it", fix="a module with layers")
        return self.steps, results[0].index

    def _read_or_defer(self, node: Node) -> Any:
        """What a call makes; of the inputs alone the user's own calls as they stand, where no op reads them."""
        self.no_grad = bool(node.meta.get(NO_GRAD))
        try:
            for value in (self.values.get(a.name) for a in node.all_input_nodes):
                if isinstance(value, OfInputs):
                    raise value.refusal
            return self._call(node)
        except NoLimit as error:
            result = read_as_function_of_inputs(self, node, error)
            if result is None:
                raise
            return result

    def _call(self, node: Node) -> Any:
        self.where = where_of(node)
        args = [self.argument(a) for a in in_order(node)]
        target, args = respelled(str(node.target), scalars_as_numbers(str(node.target), args))
        check_gradient(self, target, args, self.where)
        request = NodeCall(node, target, args, node.meta["val"], self.where)
        for handler in HANDLERS:
            answer = handler(self, request)
            if answer is not NOT_MINE:
                return answer
        shape: tuple[int, ...] = ()
        if isinstance(request.result, Tensor):
            shape = tuple(request.result.shape[1:])
        try:
            return self._by_op(node, Call(target, tuple(request.args), shape, self.training), request.result)
        except NoLimit as error:
            raise with_place(error, self.where) from None

    def _by_op(self, node: Node, call: Call, result: Any) -> Any:
        """The step of a call on values of the network."""
        where = self.where
        if not is_scored(call.args):
            local_layer = local(call, self.steps)
            if local_layer is not None:
                return self.add_here(*local_layer)
        if biased := layer_with_bias(self, node, call):
            return biased
        if call.target in LEARNED:
            call = replace(call, args=tuple(parameter_values(self, list(call.args), where)))
        if call.target in SPLITTING_CALLS:
            return [self.read(c, v, where) for c, v in zip(pieces(call), result, strict=True)]
        if call.target == "aten.glu.default":
            return self._gated(call, result, where)
        of_data = None
        if isinstance(result, Tensor):
            of_data = self._of_data(node, call, where)
        if of_data is not None:
            return of_data
        try:
            return self.read(call, result, where)
        except NoLimit:
            with suppress(NoLimit):
                if isinstance(result, Tensor):
                    of_data = self._of_data(node, call, where, numbers=True)
            if of_data is None:
                raise
            return of_data

    def _gated(self, call: Call, val: Tensor, where: str) -> Any:
        """A gated linear unit: one half of the channels times the sigmoid of the other."""
        halves = pieces(replace(call, target="aten.chunk.default", args=(call.args[0], 2, call.args[1])))
        a, b = (self.read(half, val, where) for half in halves)
        gate = self.read(Call("aten.sigmoid.default", (b,), ()), val, where)
        return self.read(Call("aten.mul.Tensor", (a, gate), ()), val, where)

    def _of_data(self, node: Node, call: Call, where: str, *, numbers: bool = False) -> Value | None:
        """The result of a call on masks, tokens and lengths, and on what is computed of them; None for other calls.

        With `numbers` also of a call on the numbers of the inputs, for which no op was found.
        """
        values = [a for a in flat(call.args) if isinstance(a, Value)]
        base = base_of(call.target)
        if base in ("expand", "expand_as", "type_as") and values[0].data and len(values[0].shape) == len(call.shape):
            return values[0]  # it keeps the length one: what reads it broadcasts
        if not all(v.data for v in values) or is_scored(call.args):
            return None
        meta = {self.values[n.name].index: n.meta["val"] for n in node.all_input_nodes
                if isinstance(self.values[n.name], Value)}  # fmt: skip
        given = [(v, meta[v.index].shape, meta[v.index].dtype) for v in {v.index: v for v in values}.values()]
        dtype = node.meta["val"].dtype
        own = [v.index for v in values if v.index in self.computed or not meta[v.index].dtype.is_floating_point]
        if numbers and any(isinstance(a, Parameter | Entries) or a is OF_PARAMETERS for a in flat(call.args)):
            return None
        known = base in COMPUTED or (numbers and base in ON_NUMBERS)
        if known and (numbers or own or not dtype.is_floating_point) and all(v.plain for v in values):
            op, shape = computed(call, given, dtype)
            result = self.add(op, tuple(v for v, _, _ in given), shape, (), where)
            self.computed.add(result.index)
            return replace(result, boolean=dtype == torch.bool)
        expanded = [shape for v, shape, _ in given if (*shape[1:],) != v.user_shape]
        if expanded and not numbers:
            raise TracedWidth(
                f"`{base}` of a tensor that was expanded to {tuple(expanded[0])}.",
                why="an expanded axis may have the traced width, which the network of another width has not",
                fix="expand it last, or not at all, products broadcast; torch.cat for copies of the input",
            )
        return None


def _detached(reading: GraphReading, call: NodeCall) -> Any:
    if call.target == "aten.detach.default" and isinstance(call.args[0], Value):
        return call.args[0]
    return NOT_MINE


def _recurrent(reading: GraphReading, call: NodeCall) -> Any:
    try:
        states = reading.recurrent.read(call.target, call.args)
    except NoLimit as error:
        raise with_place(error, call.where) from None
    return NOT_MINE if states is None else states


def _one_of_several(reading: GraphReading, call: NodeCall) -> Any:
    if call.node.target is operator.getitem:
        return call.args[0][call.args[1]]
    return NOT_MINE


def _after_the_output(reading: GraphReading, call: NodeCall) -> Any:
    end = next((a for a in flat(call.args) if isinstance(a, Dropped)), None)
    if end is not None:
        raise with_place(end.refusal, call.where)
    return NOT_MINE


def _with_turned_axes(reading: GraphReading, call: NodeCall) -> Any:
    moved = next((a for a in call.args if isinstance(a, Turned | MatrixView)), None)
    if moved is not None:
        return reading.turned(moved, Call(call.target, tuple(call.args), ()), call.result, call.where)
    return NOT_MINE


def _rows_of_a_table(reading: GraphReading, call: NodeCall) -> Any:
    table_first = call.target == "aten.embedding.default" and isinstance(call.args[0], Parameter)
    if table_first and isinstance(call.args[1], Tensor):
        return looked_up(reading, call.args, call.where)
    return NOT_MINE


def _expanded_parameter(reading: GraphReading, call: NodeCall) -> Any:
    entries = expanded_like(call.target, call.args)
    return NOT_MINE if entries is None else entries


def _layer_written_as_addmm(reading: GraphReading, call: NodeCall) -> Any:
    if call.target != "aten.addmm.default":
        return NOT_MINE
    return read_addmm(reading, call.args, call.result) or NOT_MINE


def _without_batch_axis(reading: GraphReading, call: NodeCall) -> Any:
    if any(isinstance(a, Unbatched) for a in call.args):
        given = batched(reading, call.node, call.args, call.where)
        if isinstance(given, Value | Unbatched):
            return given
        call.args = given
    return NOT_MINE


def _shared_heads(reading: GraphReading, call: NodeCall) -> Any:
    heads = heads_copied(reading, call.target, call.args, call.result, call.where)
    return NOT_MINE if heads is None else heads


def _layer_of_numbers(reading: GraphReading, call: NodeCall) -> Any:
    if call.target != "aten.linear.default":
        return NOT_MINE
    x, weight = call.args[:2]
    if isinstance(x, Tensor) and isinstance(weight, Parameter):
        return of_numbers(reading, call.args, call.result, call.where)
    return NOT_MINE


def _of_numbers_only(reading: GraphReading, call: NodeCall) -> Any:
    if not any(isinstance(a, Value | Scores) for a in flat(call.args)):
        return of_constants(reading, call.node, call.args, OF_PARAMETERS)
    return NOT_MINE


def _check_of_a_dtype(reading: GraphReading, call: NodeCall) -> Any:
    return None if call.result is None else NOT_MINE


# asked one after the other; the first that knows a call reads it, and what none knows is an op's
HANDLERS: tuple[Handler, ...] = (
    _detached,
    _recurrent,
    _one_of_several,
    _after_the_output,
    _with_turned_axes,
    _rows_of_a_table,
    _expanded_parameter,
    _layer_written_as_addmm,
    _without_batch_axis,
    _shared_heads,
    _layer_of_numbers,
    _of_numbers_only,
    _check_of_a_dtype,
)
