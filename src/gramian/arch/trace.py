"""Reads a torch module into an Architecture: `torch.export`, then one op per aten call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.architecture import Architecture, Step, at
from gramian.arch.export import export, flat, in_order, in_place, needed, where_of
from gramian.arch.inplace import check_writes
from gramian.arch.law import Law, Rates, multipliers, resolve, resolve_entries
from gramian.arch.ops import GROUPED, READERS, Affine, Call, Normalization, Op, Parameter, Permute, Value, fuse
from gramian.arch.ops.attention import Attended
from gramian.arch.ops.base import Part, Result
from gramian.arch.ops.groups import SPLITS, Parts, pieces
from gramian.arch.ops.layout import Turned
from gramian.arch.ops.learned import Entries, Learned, laid_out, vectors
from gramian.arch.ops.scores import Scores, is_scored, on_scores, products
from gramian.arch.refusals import no_reader
from gramian.errors import BadArgument, BadData, NoLimit


def architecture(
    module: nn.Module,
    like: Tensor,
    law: Law = "he",
    *,
    parametrization: str = "ntk",
    rates: Rates | None = None,
) -> Architecture:
    r"""The architecture of a torch module, with the law of its random weights.

    The module is read, not changed: its own weights do not matter (but for BatchNorm's initial state), only its
    graph, shapes and which parameters train.

    Args:
        module: any module whose ops have a limit; put it in eval mode first if it has dropout or BatchNorm.
        like: an example input; shape (n, *in_shape), n at least 1, channels first.
        law: standard deviations after the fan-in scaling: "he" (sigma_w = sqrt 2, sigma_b = 0), "lecun" (1, 0),
            "torch" (PyTorch's default initialization), a pair (sigma_w, sigma_b), or a mapping from module paths or
            patterns to these; "readout" names the last affine layer, (1, 0) under "he" and "lecun".
        parametrization: "ntk", or "standard", where the NTK is that of the module's own widths.
        rates: multipliers of the learning rate, by which each parameter's part of the NTK is multiplied: a mapping from
            names or patterns such as "layers.*.bias" to numbers, 1 for the others; or the user's optimizer, whose
            groups give their rate over the first group's, and what is in none of them does not train.

    Raises:
        NoLimit: a call has no infinite-width limit, or no rule here; names the user's line and a way out.
        BadArgument: `law` or `parametrization` makes no sense.
        BadData: the module does not run on `like`.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
        >>> architecture(net, torch.zeros(1, 3)).depth
        2
    """
    if parametrization not in ("ntk", "standard"):
        raise BadArgument(
            f"Unknown parametrization {parametrization!r}.",
            where="argument `parametrization` of architecture",
            why='there are two: "ntk" multiplies unit weights by sigma_w / sqrt(fan_in), "standard" draws them so',
            fix='parametrization="ntk" or parametrization="standard"',
        )
    if not isinstance(like, Tensor) or like.ndim < 2 or len(like) == 0:
        shape = tuple(like.shape) if isinstance(like, Tensor) else type(like).__name__
        raise BadData(
            f"`like` is {shape}; it must be an example input of shape (n, features) or (n, channels, *positions).",
            where="argument `like` of architecture",
            why="the network's shapes are read from it, and its first axis counts the samples",
            fix="pass a few rows of the data: like=x[:2]",
        )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    steps, output = _used(*_Reading(export(module, like), parameters, module.training).steps())
    arch = Architecture(tuple(like.shape[1:]), tuple(steps), output, parametrization)
    _refuse(arch)
    chosen = multipliers(rates, parameters)
    return replace(arch, steps=tuple(_with_law(arch, number, law, chosen) for number in range(len(steps))))


def _used(steps: list[Step], output: int) -> tuple[list[Step], int]:
    """The steps that the output needs: what was fused leaves its parts behind."""
    needed = {output}
    for number in range(output, -1, -1):
        if number in needed:
            needed.update(steps[number].inputs)
    place = {old: new for new, old in enumerate(sorted(n for n in needed if n >= 0))} | {-1: -1}
    return [replace(steps[n], inputs=tuple(place[i] for i in steps[n].inputs)) for n in place if n >= 0], place[output]


def _with_law(arch: Architecture, number: int, law: Law, rates: Mapping[str, float]) -> Step:
    step, op = arch.steps[number], arch.steps[number].op
    if isinstance(op, Normalization):
        scale, shift = rates.get(op.scale_name or "", 1.0), rates.get(op.shift_name or "", 1.0)
        return replace(step, op=replace(op, rate_scale=scale, rate_shift=shift))
    if not isinstance(op, Affine):
        return step
    if isinstance(op, Learned):
        sigma_w, sigma_b = resolve_entries(law, op.path), 0.0
    else:
        sigma_w, sigma_b = resolve(law, op.path, fan_in=op.fan_in, readout=not arch.hidden(number))
    law_and_rates = {
        "sigma_w": sigma_w,
        "sigma_b": sigma_b if op.bias_name else 0.0,
        "standard": arch.parametrization == "standard",
        "rate_w": rates.get(op.weight_name, 1.0),
        "rate_b": rates.get(op.bias_name or "", 1.0),
    }
    return replace(step, op=replace(op, **law_and_rates))  # type: ignore[arg-type]


def _refuse(arch: Architecture) -> None:
    seen: dict[str, Affine] = {}
    taken: dict[str, list[tuple[int, ...]]] = {}
    for step in arch.steps:
        if not isinstance(step.op, Affine):
            continue
        first = seen.setdefault(step.op.weight_name, step.op)
        if (type(first), first.turned) != (type(step.op), step.op.turned):
            raise NoLimit(
                f"The weight `{step.op.weight_name}` is used twice, once transposed or in a layer of another kind.",
                where=step.where,
                why="a weight and its transpose are not independent, and the rules here need that they are",
                fix="give each layer its own weight",
            )
        rows = taken.setdefault(step.op.weight_name, [])
        for other in rows:
            if other != step.op.rows and not (other and step.op.rows and set(other).isdisjoint(step.op.rows)):
                raise NoLimit(
                    f"Channels of the layer of `{step.op.weight_name}` are taken apart in parts that overlap.",
                    where=step.where,
                    why="there is a rule for parts that are equal, or have no channel in common",
                    fix="cut them once, such as by chunk, and use the parts",
                )
        rows.append(step.op.rows)
    if not seen:
        raise NoLimit(
            "The module has no layer with weights between its input and its output.",
            why="nothing in it is random, so there is no width to let grow",
            fix="a module with at least one nn.Linear or nn.Conv",
        )
    shape = arch.steps[arch.output].shape
    if len(shape) > 1:
        raise NoLimit(
            f"The output has shape (n, {', '.join(map(str, shape))}): a value at each position.",
            where=arch.steps[arch.output].where,
            why="a kernel is one number for a pair of inputs",
            fix="end the module with a mean over the positions, or with nn.Flatten and nn.Linear",
        )


COMPUTED = "computed from parameters"  # what stands for a value of theirs that is more than their numbers in places
# calls to which a parameter may come as a value of its own
LEARNED = {"aten.add.Tensor", "aten.add_.Tensor", "aten.sub.Tensor", "aten.cat.default", "aten.concat.default"}


class _Reading:
    """One pass over the exported graph."""

    def __init__(self, program: Any, parameters: dict[str, nn.Parameter], training: bool) -> None:
        self.program, self.parameters, self.training = program, parameters, training
        self.values: dict[str, Any] = {}
        self.made: list[Step] = []
        self.parts = Parts(self.made, self._part)

    def steps(self) -> tuple[list[Step], int]:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        inputs = []
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
                    inputs.append(node.name)
                    self.values[node.name] = Value(-1, tuple(node.meta["val"].shape[1:]), data=True)
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

    def _finish(self, node: Node) -> tuple[list[Step], int]:
        results = [self.values[r.name] for r in node.args[0] if isinstance(r, Node)]  # type: ignore[union-attr]
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
        args = [self._argument(a) for a in in_order(node)]
        if node.target is operator.getitem:
            return args[0][args[1]]
        if isinstance(args[0] if args else None, Turned):
            return self._turned(args[0], Call(target, tuple(args), ()), node.meta["val"], where)
        if not any(isinstance(a, Value | Scores) for a in flat(args)):
            return self._constant(node, args)
        val = node.meta["val"]
        if val is None:  # a check of a tensor's dtype
            return None
        if target in LEARNED:
            args = self._learned(args, where)
        call = Call(target, tuple(args), () if not isinstance(val, Tensor) else tuple(val.shape[1:]), self.training)
        try:
            if target in SPLITS:
                return [self._read(c, v, where) for c, v in zip(pieces(call), val, strict=True)]
            return self._read(call, val, where)
        except NoLimit as error:
            raise at(error, where) from None

    def _read(self, call: Call, val: Any, where: str) -> Value | Scores | Turned:
        """What an op makes of a call whose result is `val` in the user's graph."""
        if not isinstance(val, Tensor):
            raise no_reader(call.target)
        call, after = replace(call, shape=tuple(val.shape[1:])), None
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
            made = Value(self.parts.step(read.of.index, read.rows), shape, False, read.layout, read.groups)
        elif isinstance(read, tuple):
            read = _in_full(read, val, reader)  # type: ignore[arg-type]
        if isinstance(read, Result):
            made = self._add(read.op, read.inputs, read.shape, read.layout, where, read.groups)
        return replace(made, boolean=val.dtype == torch.bool)

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
        return Value(len(self.made) - 1, shape, data, () if layout == tuple(range(len(shape))) else layout, groups)

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, Node):
            return self.values[arg.name]
        if isinstance(arg, list | tuple):
            return [self._argument(a) for a in arg]
        return arg

    def _constant(self, node: Node, args: list[Any]) -> Any:
        """The value of a call on constants and buffers; of a call on parameters, only that it is computed."""
        if any(isinstance(a, Parameter | Entries) or a is COMPUTED for a in flat(args)):
            transposed = str(node.target) in ("aten.t.default", "aten.numpy_T.default", "aten.permute.default",
                                              "aten.transpose.int")  # fmt: skip
            weight = args[0]
            if transposed and isinstance(weight, Parameter) and len(weight.shape) == 2:
                return replace(weight, tensor=weight.tensor.T, turned=not weight.turned)
            named = {k: self._argument(v) for k, v in node.kwargs.items()}
            base = str(node.target).removeprefix("aten.").split(".")[0]
            plain = [self._argument(a) for a in node.args]
            return laid_out(base, node.target, plain, named) or COMPUTED
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
