"""One pass over an exported graph: each aten call becomes an op, a value, or a refusal."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.architecture import Step, at
from gramian.arch.export import flat, in_order, in_place, needed, where_of
from gramian.arch.inplace import check_writes
from gramian.arch.inputs import Form
from gramian.arch.ops import GROUPED, READERS, Call, Op, Parameter, Permute, Value, fuse
from gramian.arch.ops.attention import Attended
from gramian.arch.ops.base import Part, Pending, Result
from gramian.arch.ops.computed import COMPUTED, base_of, computed
from gramian.arch.ops.embedding import Unbatched, positional
from gramian.arch.ops.groups import SPLITS, Parts, pieces
from gramian.arch.ops.layout import Turned
from gramian.arch.ops.learned import Entries, laid_out, vectors
from gramian.arch.ops.local import local
from gramian.arch.ops.scores import Scores, is_scored, on_scores, products
from gramian.arch.ops.single import Dropped, Single, dropped
from gramian.arch.refusals import no_reader
from gramian.arch.unroll import Unroller
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
        self.recurrent = Unroller(self._add_here, lambda x: self._channels_last(x, self.where))

    def steps(self) -> tuple[list[Step], int]:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        inputs = iter(self._leaf_numbers())
        check_writes(self.program.graph, where_of)
        used = needed(self.program.graph)
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                spec = names[node.name]
                kind = spec.kind.name
                if kind == "PARAMETER":
                    p = self.parameters[spec.target]
                    first = next(name for name, q in self.parameters.items() if q is p)  # one name for tied weights
                    self.values[node.name] = Parameter(first, p.detach(), p.requires_grad)
                elif kind == "USER_INPUT":
                    k = next(inputs)
                    if self.form.leaves[k].kind != "float":
                        self.computed.add(-1 - k)
                    boolean = node.meta["val"].dtype == torch.bool
                    self.values[node.name] = Value(-1 - k, self.form.leaves[k].shape, data=True, boolean=boolean)
                else:
                    held = {**self.program.state_dict, **self.program.constants}
                    self.values[node.name] = held.get(spec.target)
            elif node.op == "call_function" and node in used:
                result = self.values[node.name] = self._call(node)
                if in_place(node) and isinstance(node.args[0], Node):
                    self.values[node.args[0].name] = result  # in place: whoever reads it later sees the change
            elif node.op == "output":
                return self._finish(node)
        raise AssertionError("an exported graph ends in an output node")

    def _leaf_numbers(self) -> list[int]:
        """Which leaf each of the graph's inputs is: torch may order keywords as it likes."""
        args, kwargs = self.program.call_spec.in_spec.unflatten(range(len(self.form.leaves)))
        number = {leaf.name: k for k, leaf in enumerate(self.form.leaves)}
        found = dict(enumerate(range(len(args)))) | {at: number[name] for name, at in kwargs.items()}
        return [found[k] for k in range(len(self.form.leaves))]

    def _finish(self, node: Node) -> tuple[list[Step], int]:
        results = [self.values[r.name] for r in node.args[0] if isinstance(r, Node)]  # type: ignore[union-attr]
        if len(results) == 1 and isinstance(results[0], Dropped):
            x = results[0].value
            return self.made, self._add(Single(), (x,), x.shape, x.layout, self.where).index
        if len(results) != 1 or not isinstance(results[0], Value):
            raise NoLimit(
                f"The module returns {len(results)} tensors, or none that depends on its input.",
                why="a kernel is defined for one output tensor",
                fix="return one tensor of shape (n, outputs)",
            )
        if results[0].index < 0:
            raise NoLimit("The module returns its input.", why="no layer is in it", fix="a module with layers")
        return self.made, results[0].index

    def _call(self, node: Node) -> Any:
        where, target = where_of(node), str(node.target)
        self.where = where
        args, val = [self._argument(a) for a in in_order(node)], node.meta["val"]
        try:
            made = self.recurrent.read(target, args)
        except NoLimit as error:
            raise at(error, where) from None
        if made is not None:
            return made
        if node.target is operator.getitem:
            return args[0][args[1]]
        if ends := [a for a in flat(args) if isinstance(a, Dropped)]:
            raise at(ends[0].refusal, where)
        if isinstance(args[0] if args else None, Turned):
            return self._turned(args[0], Call(target, tuple(args), ()), val, where)
        if target == "aten.embedding.default" and isinstance(args[0], Parameter) and isinstance(args[1], Tensor):
            return self._positional(args, where)
        if any(isinstance(a, Unbatched) for a in args):
            args = self._batched(node, args, where)
            if isinstance(args, Value | Unbatched):
                return args
        if not any(isinstance(a, Value | Scores) for a in flat(args)):
            return self._constant(node, args)
        if val is None:  # a check of a tensor's dtype
            return None
        call = Call(target, tuple(args), () if not isinstance(val, Tensor) else tuple(val.shape[1:]), self.training)
        try:
            layer = None if is_scored(call.args) else local(call, self.made)
            if layer is not None:
                return self._add_here(*layer)
            if target in LEARNED:
                call = replace(call, args=tuple(self._learned(args, where)))
            if target in SPLITS:
                return [self._read(c, v, where) for c, v in zip(pieces(call), val, strict=True)]
            if target == "aten.glu.default":
                return self._gated(call, val, where)
            made = self._of_data(node, call, where) if isinstance(val, Tensor) else None
            return self._read(call, val, where) if made is None else made
        except NoLimit as error:
            raise at(error, where) from None

    def _read(self, call: Call, val: Any, where: str) -> Value | Scores | Turned | Dropped:
        """What an op makes of a call whose result is `val` in the user's graph."""
        if not isinstance(val, Tensor):
            raise no_reader(call.target)
        call, after = replace(call, shape=tuple(val.shape[1:])), None
        if end := dropped(call):
            return end
        if call.target == "aten.einsum.default" and not isinstance(call.args[1][0], Tensor):
            call, after = products(call)
        reader = READERS.get(call.target)
        split = [v for v in flat(list(call.args)) if isinstance(v, Value) and v.groups]
        scored = is_scored(call.args)
        fused = None if scored else fuse(call, self.made)
        read: Any
        if scored:
            read = on_scores(call)
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
            bring = self._channels_last if reader.channels_last else self._channels_first
            if reader.channels_last or not reader.any_layout:
                call = replace(call, args=tuple(bring(a, where) for a in call.args))
            read = reader.read(call)
        if isinstance(read, Attended):
            read = replace(read, after=after).result(self.made)
        if isinstance(read, Scores):
            return read
        if isinstance(read, Turned):
            return replace(read, where=where)
        made = read
        if isinstance(read, Part):
            shape = (len(read.rows), *read.of.shape[1:])
            made = Value(self.parts.step(read.of.index, read.rows), shape, False, read.layout, groups=read.groups)
        elif isinstance(read, tuple):
            op, inputs, *given = read
            read = _in_full((op, tuple(self._made(i, where) for i in inputs), *given), val, reader or Op)
        if isinstance(read, Result):
            made = self._add(read.op, read.inputs, read.shape, read.layout, where, read.groups)
        number = NUMBERS.get(base_of(call.target)) if fused is not None else made.number
        return replace(made, boolean=val.dtype == torch.bool, number=number)

    def _gated(self, call: Call, val: Tensor, where: str) -> Any:
        """A gated linear unit: one half of the channels times the sigmoid of the other."""
        halves = pieces(replace(call, target="aten.chunk.default", args=(call.args[0], 2, call.args[1])))
        a, b = (self._read(half, val, where) for half in halves)
        gate = self._read(Call("aten.sigmoid.default", (b,), ()), val, where)
        return self._read(Call("aten.mul.Tensor", (a, gate), ()), val, where)

    def _turned(self, turned: Turned, call: Call, val: Any, where: str) -> Any:
        """A call on a value whose samples are not first: another order of the axes, or entries of one of them."""
        if READERS.get(call.target) is Permute:
            return turned.permuted(call)
        if call.target == "aten.unbind.int":
            taken = [replace(call, target="aten.select.int", args=(*call.args, k)) for k in range(len(val))]
            return [self._turned(turned, each, v, where) for each, v in zip(taken, val, strict=True)]
        dim = turned.dims[call.args[1]] if call.target == "aten.select.int" else 0
        if dim == 0:
            raise at(turned.refusal, turned.where)
        shape = [2, *turned.value.user_shape]
        left = torch.empty(shape[:dim] + shape[dim + 1 :], device="meta", dtype=val.dtype)
        chosen = self._read(replace(call, args=(turned.value, dim, call.args[2])), left, where)
        dims = tuple(d - (d > dim) for d in turned.dims if d != dim)
        assert isinstance(chosen, Value)
        return Turned(chosen, dims, turned.where).settled()

    def _part(self, number: int, op: Op, inputs: tuple[int, ...], channels: int) -> int:
        """A step that makes some channels of another."""
        whole = self.made[number]
        self.made.append(replace(whole, op=op, inputs=inputs, shape=(channels, *whole.shape[1:])))
        return len(self.made) - 1

    def _learned(self, args: list[Any], where: str) -> list[Any]:
        """Parameters that are added to a value, or come beside one, as values."""
        like = next((a for a in flat(args) if isinstance(a, Value)), None)
        if like is None or like.data:
            return args

        def made(arg: Any, *, widths: bool) -> Any:
            if isinstance(arg, list):
                return [made(a, widths=False) for a in arg]
            if not isinstance(arg, Parameter | Entries):
                return arg
            try:
                fixed, layer, shape = vectors(Entries.of(arg), like, widths=widths)
            except NoLimit as error:
                raise at(error, where) from None
            start = Value(-1, (), data=True)
            places = self._add(fixed, (start,), (len(fixed.numbers), *shape[1:]), (), where)
            return self._add(layer, (places,), shape, like.layout, where)

        return [made(arg, widths=True) for arg in args]

    def _of_data(self, node: Node, call: Call, where: str) -> Value | None:
        """The result of a call on masks, tokens and lengths, and on what is computed of them; None for other calls."""
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
        if base in COMPUTED and (own or not dtype.is_floating_point) and all(v.plain for v in values):
            op, shape = computed(call, given, dtype)
            made = self._add(op, tuple(v for v, _, _ in given), shape, (), where)
            self.computed.add(made.index)
            return replace(made, boolean=dtype == torch.bool)
        expanded = [shape for v, shape, _ in given if (*shape[1:],) != v.user_shape]
        if expanded:
            raise NoLimit(
                f"`{base}` of a tensor that was expanded to {tuple(expanded[0])}.",
                why="an expanded axis may have the traced width, which the network of another width has not",
                fix="expand it last, or not at all, products broadcast; torch.cat for copies of the input",
            )
        return None

    def _positional(self, args: list[Any], where: str) -> Value | Unbatched:
        """A table at constant numbers: learned positions."""
        op, inputs, layout, batched = positional(args[0], args[1], args[2] if len(args) > 2 else -1)
        shape = (args[0].shape[1], *inputs[0].shape)
        made = self._add(op, tuple(self._made(i, where) for i in inputs), shape, layout, where)
        return made if batched else Unbatched(made)

    def _batched(self, node: Node, args: list[Any], where: str) -> Any:
        """The arguments with what has no axis of samples broadcast over them; or the result, if it changes nothing."""
        base, ndim = base_of(str(node.target)), node.meta["val"].ndim
        first = args[0]
        if isinstance(first, Unbatched) and ndim == len(first.value.shape) + 1:
            if (base == "unsqueeze" and args[1] in (0, -ndim)) or base in ("expand", "expand_as"):
                return first.value
            if base in ("add", "sub", "mul"):
                return [a.value if isinstance(a, Unbatched) else a for a in args]
        if base in ("add", "sub", "mul") and isinstance(first, Value) and ndim == len(first.shape) + 1:
            return [a.value if isinstance(a, Unbatched) else a for a in args]
        if base in ("dropout", "to", "clone", "contiguous", "alias"):
            return first
        raise at(
            NoLimit(
                f"`{base}` acts on an embedding of constant numbers, which has no axis of samples.",
                why="axis 0 counts the samples throughout",
                fix="numbers of shape (1, positions): pos(torch.arange(s)[None])",
            ),
            where,
        )

    def _made(self, value: Value | Pending, where: str) -> Value:
        """A value, after the op that makes it first."""
        if isinstance(value, Value):
            return value
        return self._add(value.op, tuple(self._made(i, where) for i in value.inputs), value.shape, value.layout, where)

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
        return self._add(Permute(arg.order), (arg,), arg.user_shape, (), where)

    def _channels_last(self, arg: Any, where: str) -> Any:
        """Of the input itself, the last axis becomes the channels."""
        if not isinstance(arg, Value) or not arg.data or not arg.plain or len(arg.shape) == 1:
            return arg
        last = len(arg.shape) - 1
        shape = (arg.shape[-1], *arg.shape[:-1])
        return self._add(Permute((last, *range(last))), (arg,), shape, (*range(1, last + 1), 0), where)

    def _add(
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
        return self._add(op, inputs, shape, layout, self.where)

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, Node):
            return self.values[arg.name]
        if isinstance(arg, list | tuple):
            return [self._argument(a) for a in arg]
        return arg

    def _constant(self, node: Node, args: list[Any]) -> Any:
        """The value of a call on constants and buffers; of a call on parameters, only that it is computed."""
        if any(isinstance(a, Parameter | Entries) or a is OF_PARAMETERS for a in flat(args)):
            transposed = str(node.target) in ("aten.t.default", "aten.numpy_T.default", "aten.permute.default",
                                              "aten.transpose.int")  # fmt: skip
            weight = args[0]
            if transposed and isinstance(weight, Parameter) and len(weight.shape) == 2:
                return replace(weight, tensor=weight.tensor.T, turned=not weight.turned)
            named = {k: self._argument(v) for k, v in node.kwargs.items()}
            base = str(node.target).removeprefix("aten.").split(".")[0]
            plain = [self._argument(a) for a in node.args]
            return laid_out(base, node.target, plain, named) or OF_PARAMETERS
        if in_place(node):  # in place: it would change the user's own buffer
            return args[0]
        call: Callable[..., Any] = node.target  # type: ignore[assignment]
        return call(*(self._argument(a) for a in node.args), **{k: self._argument(v) for k, v in node.kwargs.items()})


def _in_full(read: tuple[Any, ...], val: Tensor, reader: type[Op]) -> Result:
    """With what a reader leaves out: the result's layout and groups, and its shape, channels first."""
    op, inputs, *given = read
    layout = given[0] if given else inputs[0].layout if reader.any_layout else ()
    order = layout or tuple(range(val.ndim - 1))
    sizes = dict(zip(order, val.shape[1:], strict=True))
    groups = inputs[0].groups if any(axis >= GROUPED for axis in order) else ()
    if groups:
        sizes[0] = inputs[0].shape[0]
    return Result(op, inputs, tuple(sizes[axis] for axis in sorted(sizes) if axis < GROUPED), layout, groups)
