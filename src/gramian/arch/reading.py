"""One pass over an exported graph: each aten call becomes an op, a value, or a refusal."""

from __future__ import annotations

import operator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.added_biases import layer_with_bias, read_addmm, respelled
from gramian.arch.architecture import Step, at
from gramian.arch.constants import batched, looked_up, of_numbers
from gramian.arch.export import flat, in_order, in_place, needed, where_of
from gramian.arch.exported_blocks import NO_GRAD, inlined
from gramian.arch.inplace import check_writes
from gramian.arch.input_functions import OfInputs, read_as_function_of_inputs
from gramian.arch.inputs import Form
from gramian.arch.ops import GROUPED, READERS, Call, Op, Parameter, Permute, Value, fuse
from gramian.arch.ops.attention import Attended
from gramian.arch.ops.attention_scores import Scores, is_scored, on_scores, products
from gramian.arch.ops.base import Part, Pending, Result
from gramian.arch.ops.columns import Columns, merged, multiplied, stray_columns
from gramian.arch.ops.columns import Product as MatrixProduct
from gramian.arch.ops.computed import COMPUTED, ON_NUMBERS, TracedWidth, base_of, computed
from gramian.arch.ops.embedding import Unbatched
from gramian.arch.ops.graphs import einsum_graph
from gramian.arch.ops.groups import SPLITS, Parts, pieces
from gramian.arch.ops.layout import Turned
from gramian.arch.ops.learned import Entries
from gramian.arch.ops.locally_connected import local
from gramian.arch.ops.scalar_output import Dropped, Single, dropped
from gramian.arch.parameters import (
    check_gradient,
    expanded_like,
    of_constants,
    parameter_values,
    scalars_as_numbers,
    without_gradient,
)
from gramian.arch.refusals import no_reader
from gramian.arch.shared_heads import heads_copied
from gramian.arch.unrolled_rnn import Unroller
from gramian.errors import NoLimit

NUMBERS = {"zeros_like": 0.0, "ones_like": 1.0}
OF_PARAMETERS = "computed from parameters"  # stands for what is more than their numbers in places
# calls to which a parameter may come as a value of its own
LEARNED = {"aten.add.Tensor", "aten.add_.Tensor", "aten.sub.Tensor", "aten.cat.default", "aten.concat.default"}


class Reading:
    """One pass over the exported graph."""

    def __init__(self, program: Any, form: Form, parameters: dict[str, nn.Parameter], training: bool) -> None:
        self.program, self.form, self.parameters, self.training = program, form, parameters, training
        self.values: dict[str, Any] = {}
        self.made: list[Step] = []
        self.computed: set[int] = set()  # values of the inputs that are, or come from, whole numbers or masks
        self.parts = Parts(self.made, self._part)
        self.where = ""  # of the call that is being read
        self.no_grad = False  # whether the call that is being read was made with gradients switched off
        self.inputs: list[Node] = []  # of the graph, in the order of the leaves
        self.recurrent = Unroller(self._add_here, lambda x: self._channels_last(x, self.where))

    def steps(self) -> tuple[list[Step], int]:
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
            return self.made, self.add(Single(), (x,), x.shape, x.layout, self.where).index
        if len(results) != 1 or not isinstance(results[0], Value):
            raise NoLimit(
                f"The module returns {len(results)} tensors, or none that depends on its input.",
                why="a kernel is defined for one output tensor",
                fix="return one tensor of shape (n, outputs)",
            )
        if results[0].index < 0:
            raise NoLimit("The module returns its input.", why="no layer is in it", fix="a module with layers")
        return self.made, results[0].index

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
        where, target = where_of(node), str(node.target)
        self.where = where
        args, val = [self.argument(a) for a in in_order(node)], node.meta["val"]
        target, args = respelled(target, scalars_as_numbers(target, args))
        check_gradient(self, target, args, where)
        if target == "aten.detach.default" and isinstance(args[0], Value):
            return args[0]
        try:
            states = self.recurrent.read(target, args)
        except NoLimit as error:
            raise at(error, where) from None
        if states is not None:
            return states
        if node.target is operator.getitem:
            return args[0][args[1]]
        end = next((a for a in flat(args) if isinstance(a, Dropped)), None)
        if end is not None:
            raise at(end.refusal, where)
        moved = next((a for a in args if isinstance(a, Turned | Columns)), None)
        if moved is not None:
            return self._turned(moved, Call(target, tuple(args), ()), val, where)
        if target == "aten.embedding.default" and isinstance(args[0], Parameter) and isinstance(args[1], Tensor):
            return looked_up(self, args, where)
        if (entries := expanded_like(target, args)) is not None:
            return entries
        if target == "aten.addmm.default" and (layer := read_addmm(self, args, val)):
            return layer
        if any(isinstance(a, Unbatched) for a in args):
            args = batched(self, node, args, where)
            if isinstance(args, Value | Unbatched):
                return args
        heads = heads_copied(self, target, args, val, where)
        if heads is not None:
            return heads
        if target == "aten.linear.default" and isinstance(args[0], Tensor) and isinstance(args[1], Parameter):
            return of_numbers(self, args, val, where)
        if not any(isinstance(a, Value | Scores) for a in flat(args)):
            return of_constants(self, node, args, OF_PARAMETERS)
        if val is None:  # a check of a tensor's dtype
            return None
        call = Call(target, tuple(args), () if not isinstance(val, Tensor) else tuple(val.shape[1:]), self.training)
        try:
            if is_scored(call.args):
                local_layer = None
            else:
                local_layer = local(call, self.made)
            if local_layer is not None:
                return self._add_here(*local_layer)
            if biased := layer_with_bias(self, node, call):
                return biased
            if target in LEARNED:
                call = replace(call, args=tuple(parameter_values(self, args, where)))
            if target in SPLITS:
                return [self.read(c, v, where) for c, v in zip(pieces(call), val, strict=True)]
            if target == "aten.glu.default":
                return self._gated(call, val, where)
            if isinstance(val, Tensor):
                of_data = self._of_data(node, call, where)
            else:
                of_data = None
            if of_data is not None:
                return of_data
            try:
                return self.read(call, val, where)
            except NoLimit:
                with suppress(NoLimit):
                    if isinstance(val, Tensor):
                        of_data = self._of_data(node, call, where, numbers=True)
                    else:
                        of_data = None
                if of_data is None:
                    raise
                return of_data
        except NoLimit as error:
            raise at(error, where) from None

    def read(self, call: Call, val: Any, where: str) -> Value | Scores | Turned | Dropped:
        """What an op makes of a call whose result is `val` in the user's graph."""
        if not isinstance(val, Tensor):
            raise no_reader(call.target)
        call, after = replace(call, shape=tuple(val.shape[1:])), None
        if end := dropped(call):
            return end
        if call.target == "aten.einsum.default":
            mapped = einsum_graph(call)
        else:
            mapped = None
        if call.target == "aten.einsum.default" and mapped is None:
            call, after = products(call)
        reader = READERS.get(call.target)
        split = [v for v in flat(list(call.args)) if isinstance(v, Value) and v.groups]
        scored = is_scored(call.args)
        if scored:
            fused = None
        else:
            fused = fuse(call, self.made)
        read: Any
        if scored:
            read = on_scores(call)
        elif mapped is not None:
            read = mapped
        elif fused is not None:
            read = Result(*fused, fused[1][0].shape, fused[1][0].layout, fused[1][0].groups)
        elif reader is None:
            raise no_reader(call.target)
        elif split and not reader.any_groups:
            raise NoLimit(
                f"This call acts on channels that are split into {' x '.join(map(str, split[0].groups))}.",
                why="channels in several axes are read for the heads of attention only",
                fix="merge them first, h.flatten(-2), or split them later",
            )
        else:
            if reader.channels_last:
                bring = self._channels_last
            else:
                bring = self._channels_first
            if reader.channels_last or not reader.any_layout:
                call = replace(call, args=tuple(bring(a, where) for a in call.args))
            read = reader.read(call)
        if isinstance(read, Attended):
            read = replace(read, after=after).result(self.made)
        if isinstance(read, Scores):
            return read
        if isinstance(read, Turned):
            return replace(read, where=where)
        result = read
        if isinstance(read, Part):
            shape = (len(read.rows), *read.of.shape[1:])
            result = Value(self.parts.step(read.of.index, read.rows), shape, False, read.layout, groups=read.groups)
        elif isinstance(read, tuple):
            op, inputs, *given = read
            read = _in_full((op, tuple(self.made_of(i, where) for i in inputs), *given), val, reader or type(op))
        if isinstance(read, Result):
            result = self.add(read.op, read.inputs, read.shape, read.layout, where, read.groups)
        if fused is not None:
            number = NUMBERS.get(base_of(call.target))
        else:
            number = result.number
        return replace(result, boolean=val.dtype == torch.bool, number=number)

    def _gated(self, call: Call, val: Tensor, where: str) -> Any:
        """A gated linear unit: one half of the channels times the sigmoid of the other."""
        halves = pieces(replace(call, target="aten.chunk.default", args=(call.args[0], 2, call.args[1])))
        a, b = (self.read(half, val, where) for half in halves)
        gate = self.read(Call("aten.sigmoid.default", (b,), ()), val, where)
        return self.read(Call("aten.mul.Tensor", (a, gate), ()), val, where)

    def _turned(self, turned: Turned | Columns, call: Call, val: Any, where: str) -> Any:
        """A call on a value whose samples are not first: another order of the axes, or entries of one of them."""
        if isinstance(val, Tensor):
            result = merged(turned, call, tuple(val.shape))
        else:
            result = None
        if isinstance(result, MatrixProduct):
            x = result.of.turned.value
            shape = tuple(len(result.op.matrix) if k == result.op.at + 1 else size for k, size in enumerate(x.shape))
            return multiplied(result, self.add(result.op, (x,), shape, x.layout, where))
        if result is not None:
            return result
        if isinstance(turned, Columns):
            raise at(stray_columns(), where)
        if READERS.get(call.target) is Permute:
            return turned.permuted(call)
        if call.target == "aten.unbind.int":
            taken = [replace(call, target="aten.select.int", args=(*call.args, k)) for k in range(len(val))]
            return [self._turned(turned, each, v, where) for each, v in zip(taken, val, strict=True)]
        if call.target == "aten.select.int":
            dim = turned.dims[call.args[1]]
        else:
            dim = 0
        if dim == 0:
            raise at(turned.refusal, turned.where)
        sizes = [2, *turned.value.user_shape]
        left = torch.empty(sizes[:dim] + sizes[dim + 1 :], device="meta", dtype=val.dtype)
        chosen = self.read(replace(call, args=(turned.value, dim, call.args[2])), left, where)
        dims = tuple(d - 1 if d > dim else d for d in turned.dims if d != dim)
        assert isinstance(chosen, Value)
        return Turned(chosen, dims, turned.where).settled()

    def _part(self, number: int, op: Op, inputs: tuple[int, ...], channels: int) -> int:
        """A step that makes some channels of another."""
        whole = self.made[number]
        self.made.append(replace(whole, op=op, inputs=inputs, shape=(channels, *whole.shape[1:])))
        return len(self.made) - 1

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

    def made_of(self, value: Value | Pending, where: str) -> Value:
        """A value, after the op that makes it first."""
        if isinstance(value, Value):
            return value
        return self.add(value.op, tuple(self.made_of(i, where) for i in value.inputs), value.shape, value.layout, where)

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
        self.made.append(Step(op, tuple(i.index for i in inputs), shape, data, where))
        if data and any(i.index in self.computed for i in inputs):
            self.computed.add(len(self.made) - 1)
        return Value(
            len(self.made) - 1, shape, data, () if layout == tuple(range(len(shape))) else layout, groups=groups
        )

    def _add_here(self, op: Op, inputs: tuple[Value, ...], shape: tuple[int, ...], layout: tuple[int, ...]) -> Value:
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
