"""Reads a torch module into an Architecture: `torch.export`, then one op per aten call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.architecture import Architecture, Step, at
from gramian.arch.export import export
from gramian.arch.inplace import check_writes
from gramian.arch.inputs import Form, Inputs
from gramian.arch.law import Law, Rates, multipliers, resolve
from gramian.arch.ops import READERS, Affine, Call, Embedding, Normalization, Op, Parameter, Permute, Value, fuse
from gramian.arch.ops.base import Pending
from gramian.arch.ops.computed import COMPUTED, base_of, computed
from gramian.arch.ops.embedding import Unbatched, positional
from gramian.arch.refusals import no_reader
from gramian.errors import BadArgument, NoLimit

NUMBERS = {"zeros_like": 0.0, "ones_like": 1.0}


def architecture(
    module: nn.Module,
    like: Inputs,
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
        like: an example input; shape (n, *in_shape), n at least 1, channels first. A tuple of tensors for a module that
            takes several, or a dict for one that takes them by keyword; kernels then take the same structure. Tensors
            of whole numbers or booleans are tokens, lengths and masks: the network may look up rows of an embedding
            and compute factors from them.
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
    form = Form.of(like, "argument `like` of architecture")
    parameters = dict(module.named_parameters(remove_duplicate=False))
    steps, output = _used(*_Reading(export(module, form, like), form, parameters, module.training).steps())
    arch = Architecture(form, tuple(steps), output, parametrization)
    _refuse(arch)
    chosen = multipliers(rates, parameters)
    return replace(arch, steps=tuple(_with_law(arch, number, law, chosen) for number in range(len(steps))))


def _used(steps: list[Step], output: int) -> tuple[list[Step], int]:
    """The steps that the output needs: what was fused leaves its parts behind."""
    needed = {output}
    for number in range(output, -1, -1):
        if number in needed:
            needed.update(steps[number].inputs)
    place = {old: new for new, old in enumerate(sorted(n for n in needed if n >= 0))}
    moved = [replace(steps[n], inputs=tuple(place.get(i, i) for i in steps[n].inputs)) for n in place]
    return moved, place[output]


def _with_law(arch: Architecture, number: int, law: Law, rates: Mapping[str, float]) -> Step:
    step, op = arch.steps[number], arch.steps[number].op
    if isinstance(op, Normalization):
        scale, shift = rates.get(op.scale_name or "", 1.0), rates.get(op.shift_name or "", 1.0)
        return replace(step, op=replace(op, rate_scale=scale, rate_shift=shift))
    if not isinstance(op, Affine):
        return step
    embedding = isinstance(op, Embedding)
    readout = not arch.hidden(number) and not embedding
    sigma_w, sigma_b = resolve(law, op.path, fan_in=op.fan_in, readout=readout, embedding=embedding)
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
    for step in arch.steps:
        if not isinstance(step.op, Affine):
            continue
        first = seen.setdefault(step.op.weight_name, step.op)
        zero_rows = {op.zero_row for op in (first, step.op) if isinstance(op, Embedding)}
        if (type(first), first.turned) != (type(step.op), step.op.turned) or len(zero_rows) > 1:
            raise NoLimit(
                f"The weight `{step.op.weight_name}` is used twice, once transposed or in a layer of another kind.",
                where=step.where,
                why="a weight and its transpose are not independent, and the rules here need that they are",
                fix="give each layer its own weight",
            )
    if not seen:
        raise NoLimit(
            "The module has no layer with weights between its input and its output.",
            why="nothing in it is random, so there is no width to let grow",
            fix="a module with at least one nn.Linear or nn.Conv",
        )


class _Reading:
    """One pass over the exported graph."""

    def __init__(self, program: Any, form: Form, parameters: dict[str, nn.Parameter], training: bool) -> None:
        self.program, self.form, self.parameters, self.training = program, form, parameters, training
        self.values: dict[str, Any] = {}
        self.made: list[Step] = []

    def steps(self) -> tuple[list[Step], int]:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        inputs = iter(self._leaf_numbers())
        self.computed: set[int] = set()  # values of the inputs that are, or come from, whole numbers or masks
        check_writes(self.program.graph, _where)
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
                    self.values[node.name] = Value(-1 - k, self.form.leaves[k].shape, data=True)
                else:
                    held = {**self.program.state_dict, **self.program.constants}
                    self.values[node.name] = held.get(spec.target)
            elif node.op == "call_function":
                result = self.values[node.name] = self._call(node)
                if str(node.target).split(".")[1].endswith("_") and isinstance(node.args[0], Node):
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
        where, target = _where(node), str(node.target)
        args = [self._argument(a) for a in _in_order(node)]
        val = node.meta["val"]
        if target == "aten.embedding.default" and isinstance(args[0], Parameter) and isinstance(args[1], Tensor):
            return self._positional(args, where)
        if any(isinstance(a, Unbatched) for a in args):
            args = self._batched(node, args, where)
            if isinstance(args, Value | Unbatched):
                return args
        if not any(isinstance(a, Value) for a in _flat(args)):
            return self._constant(node, args)
        if val is None:  # a check of a tensor's dtype
            return None
        if not isinstance(val, Tensor):
            raise at(no_reader(target), where)
        call = Call(target, tuple(args), tuple(val.shape[1:]), self.training)
        try:
            made = self._of_data(node, call, where)
            if made is not None:
                return made
            fused = fuse(call, self.made)
            if fused is not None:
                number = NUMBERS.get(base_of(target))
                made = self._add(*fused, fused[1][0].shape, fused[1][0].layout, where)
                return made if number is None else replace(made, number=number)
            reader = READERS.get(target)
            if reader is None:
                raise no_reader(target)
            bring = self._channels_last if reader.channels_last else self._channels_first
            if reader.channels_last or not reader.any_layout:
                call = replace(call, args=tuple(bring(a, where) for a in args))
            read = reader.read(call)
        except NoLimit as error:
            raise at(error, where) from None
        if isinstance(read, Value):
            return read
        op, inputs, *given = read
        taken = tuple(self._made(i, where) for i in inputs)
        layout = given[0] if given else taken[0].layout if reader.any_layout else ()
        order = layout or tuple(range(val.ndim - 1))
        shape = tuple(val.shape[1 + order.index(axis)] for axis in range(val.ndim - 1))  # channels first
        return self._add(op, taken, shape, layout, where)

    def _of_data(self, node: Node, call: Call, where: str) -> Value | None:
        """The result of a call on masks, tokens and lengths, and on what is computed of them; None for other calls."""
        values = [a for a in _flat(call.args) if isinstance(a, Value)]
        base = base_of(call.target)
        if base in ("expand", "expand_as", "type_as") and values[0].data and len(values[0].shape) == len(call.shape):
            return values[0]  # it keeps the length one: what reads it broadcasts
        if not all(v.data for v in values):
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
            return made
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
        self, op: Op, inputs: tuple[Value, ...], shape: tuple[int, ...], layout: tuple[int, ...], where: str
    ) -> Value:
        data = not op.random and all(i.data for i in inputs)
        self.made.append(Step(op, tuple(i.index for i in inputs), shape, data, where))
        if data and any(i.index in self.computed for i in inputs):
            self.computed.add(len(self.made) - 1)
        return Value(len(self.made) - 1, shape, data, () if layout == tuple(range(len(shape))) else layout)

    def _argument(self, arg: Any) -> Any:
        if isinstance(arg, Node):
            return self.values[arg.name]
        if isinstance(arg, list | tuple):
            return [self._argument(a) for a in arg]
        return arg

    def _constant(self, node: Node, args: list[Any]) -> Any:
        """The value of a call on constants and buffers; of a call on parameters, only that it is computed."""
        if any(isinstance(a, Parameter) for a in args):
            transposed = str(node.target) in ("aten.t.default", "aten.numpy_T.default", "aten.permute.default",
                                              "aten.transpose.int")  # fmt: skip
            weight = next(a for a in args if isinstance(a, Parameter))
            if transposed and len(weight.shape) == 2:
                return replace(weight, tensor=weight.tensor.T, turned=not weight.turned)
            return "computed from parameters"
        if str(node.target).split(".")[1].endswith("_"):  # in place: it would change the user's own buffer
            return args[0]
        call: Callable[..., Any] = node.target  # type: ignore[assignment]
        return call(*(self._argument(a) for a in node.args), **{k: self._argument(v) for k, v in node.kwargs.items()})


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, list):
            yield from _flat(arg)
        else:
            yield arg


def _in_order(node: Node) -> list[Any]:
    """Arguments in the order of the aten schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return list(node.args)
    args = list(node.args)
    for argument in schema.arguments[len(args) :]:
        args.append(node.kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None))
    return args


def _where(node: Node) -> str:
    """The module's path, its class, and the last line of code outside of torch."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind.rsplit(".", 1)[-1] if isinstance(kind, str) else getattr(kind, "__name__", "")
    path = re.sub(r"@\d+$", "", path)
    place = f"{path} ({kind})" if path else kind or str(node.target)
    found = re.findall(r'File "([^"]+)", line (\d+), in (\w+)\n\s*(.+)', node.meta.get("stack_trace") or "")
    own = [f for f in found if "/torch/" not in f[0]]
    if own:
        file, line, _, code = own[-1]
        place += f", {file}:{line}: {code.strip()}"
    return place
