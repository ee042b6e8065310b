"""Reads a torch module into an Architecture: `torch.export`, then one op per aten call."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gramian.arch.architecture import Architecture, Step, at
from gramian.arch.inplace import check_writes
from gramian.arch.law import Law, Rates, multipliers, resolve
from gramian.arch.ops import READERS, Affine, Call, Normalization, Op, Parameter, Permute, Value, fuse, local
from gramian.arch.parametrization import check_depth, check_name
from gramian.arch.refusals import no_reader
from gramian.arch.unroll import Unroller
from gramian.errors import BadData, NoLimit


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
        parametrization: "ntk"; "standard", where the NTK is that of the module's own widths; "mup", the maximal-update
            parametrization, or "mean_field", the same for one hidden layer, where the kernel is that of the first step
            alone: see docs/parametrizations.md.
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
    check_name(parametrization)
    if not isinstance(like, Tensor) or like.ndim < 2 or len(like) == 0:
        shape = tuple(like.shape) if isinstance(like, Tensor) else type(like).__name__
        raise BadData(
            f"`like` is {shape}; it must be an example input of shape (n, features) or (n, channels, *positions).",
            where="argument `like` of architecture",
            why="the network's shapes are read from it, and its first axis counts the samples",
            fix="pass a few rows of the data: like=x[:2]",
        )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    steps, output = _used(*_Reading(_export(module, like), parameters, module.training).steps())
    arch = Architecture(tuple(like.shape[1:]), tuple(steps), output, parametrization)
    _refuse(arch)
    check_depth(arch)
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
    sigma_w, sigma_b = resolve(law, op.path, fan_in=op.fan_in, readout=not arch.hidden(number), torch_fan=op.torch_fan)
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
        if (type(first), first.turned) != (type(step.op), step.op.turned):
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
    shape = arch.steps[arch.output].shape
    if len(shape) > 1:
        raise NoLimit(
            f"The output has shape (n, {', '.join(map(str, shape))}): a value at each position.",
            where=arch.steps[arch.output].where,
            why="a kernel is one number for a pair of inputs",
            fix="end the module with a mean over the positions, or with nn.Flatten and nn.Linear",
        )


def _export(module: nn.Module, like: Tensor) -> torch.export.ExportedProgram:
    two = like[:2] if len(like) > 1 else torch.cat([like, like])
    first = next((p for p in module.parameters()), None)
    if first is not None:
        two = two.to(first.device, first.dtype if two.is_floating_point() else two.dtype)
    with _quiet():
        try:
            return torch.export.export(module, (two,), strict=False)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            try:
                with torch.no_grad():
                    module(two)
            except Exception as plain:
                first_line = (str(plain).strip().splitlines() or [""])[0]
                raise BadData(
                    f"The module does not run on an input of shape {tuple(two.shape)}: {first_line}",
                    where=_deepest(plain, module),
                    why="the input's shape or type is not the one that the module expects",
                    fix="run module(like) by itself; images are (n, channels, height, width)",
                ) from plain
            raise NoLimit(
                f"torch.export can't read the module: {lines[0]}",
                where=_deepest(error, module),
                why="its forward branches on the values of tensors, or calls code that torch can't trace",
                fix="write the forward without data-dependent branches; gramian.monte_carlo takes any module",
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own words about its export format, and its log of an op that fails: our error says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was


def _deepest(error: BaseException, module: nn.Module) -> str:
    """The last line of the user's own code in a traceback."""
    place, tb = type(module).__name__, error.__traceback__
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if "site-packages" not in name and "/gramian/" not in name and not name.startswith("<"):
            place = f"{name}:{tb.tb_lineno}"
        tb = tb.tb_next
    return place


class _Reading:
    """One pass over the exported graph."""

    def __init__(self, program: Any, parameters: dict[str, nn.Parameter], training: bool) -> None:
        self.program, self.parameters, self.training = program, parameters, training
        self.values: dict[str, Any] = {}
        self.made: list[Step] = []
        self.where = ""  # of the call that is being read
        self.recurrent = Unroller(self._add_here, lambda x: self._channels_last(x, self.where))

    def steps(self) -> tuple[list[Step], int]:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
        inputs = []
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
                    inputs.append(node.name)
                    self.values[node.name] = Value(-1, tuple(node.meta["val"].shape[1:]), data=True)
                else:
                    held = {**self.program.state_dict, **self.program.constants}
                    self.values[node.name] = held.get(spec.target)
            elif node.op == "call_function":
                result = self.values[node.name] = self._call(node)
                if _in_place(node) and isinstance(node.args[0], Node):
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
        where, target = _where(node), str(node.target)
        args, self.where = [self._argument(a) for a in _in_order(node)], where
        try:
            made = self.recurrent.read(target, args)
        except NoLimit as error:
            raise at(error, where) from None
        if made is not None:
            return made
        if not any(isinstance(a, Value) for a in _flat(args)):
            return self._constant(node, args)
        val = node.meta["val"]
        if val is None:  # a check of a tensor's dtype
            return None
        if not isinstance(val, Tensor):
            raise at(no_reader(target), where)
        call = Call(target, tuple(args), tuple(val.shape[1:]), self.training)
        try:
            layer = local(call, self.made)
            if layer is not None:
                return self._add_here(*layer)
            fused = fuse(call, self.made)
            if fused is not None:
                return self._add(*fused, fused[1][0].shape, fused[1][0].layout, where)
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
        layout = given[0] if given else inputs[0].layout if reader.any_layout else ()
        order = layout or tuple(range(val.ndim - 1))
        shape = tuple(val.shape[1 + order.index(axis)] for axis in range(val.ndim - 1))  # channels first
        return self._add(op, inputs, shape, layout, where)

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
        return Value(len(self.made) - 1, shape, data, () if layout == tuple(range(len(shape))) else layout)

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
        if any(isinstance(a, Parameter) for a in args):
            transposed = str(node.target) in ("aten.t.default", "aten.numpy_T.default", "aten.permute.default",
                                              "aten.transpose.int")  # fmt: skip
            weight = next(a for a in args if isinstance(a, Parameter))
            if transposed and len(weight.shape) == 2:
                return replace(weight, tensor=weight.tensor.T, turned=not weight.turned)
            return "computed from parameters"
        if _in_place(node):  # it would change the user's own buffer
            return args[0]
        call: Callable[..., Any] = node.target  # type: ignore[assignment]
        return call(*(self._argument(a) for a in node.args), **{k: self._argument(v) for k, v in node.kwargs.items()})


def _flat(args: list[Any]) -> Iterator[Any]:
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


def _in_place(node: Node) -> bool:
    return str(node.target).removeprefix("aten.").split(".")[0].endswith("_")


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
