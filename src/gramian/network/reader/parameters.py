"""What becomes of a parameter before a layer takes it: constants, casts, vectors that are added, cut gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx import Node

from gramian.arch.ops import Op, Value
from gramian.arch.ops.base import Parameter
from gramian.arch.ops.computed import base_of
from gramian.arch.ops.learned import Entries, laid_out, mixed, vectors
from gramian.arch.ops.pointwise import ELEMENTWISE
from gramian.arch.structure import with_place
from gramian.errors import NoLimit
from gramian.network.reader.added_biases import is_bias, layer_under
from gramian.network.reader.export import flat, in_place
from gramian.network.reader.reading import GraphReading, without_gradient

# calls that leave a parameter's numbers as they are
SAME_NUMBERS = {"alias", "clone", "contiguous", "to", "_to_copy", "type_as", "lift_fresh_copy", "detach", "float",
                "double"}  # fmt: skip
NUMBER_CALLS = ELEMENTWISE | {"add", "sub", "mul", "div", "pow", "rsub", "neg", "reciprocal", "square"}


def scalars_as_numbers(target: str, args: list[Any]) -> list[Any]:
    """Frozen parameters of one number as that number: a constant like a buffer, not one random number for all channels.

    On values of one channel a vector of one number that is added is that channel's bias, and stays a parameter.
    """
    if base_of(target) not in NUMBER_CALLS:
        return args
    random = any(isinstance(a, Value) and not a.data for a in args)
    one_channel = any(isinstance(a, Value) and not a.data and a.shape[:1] == (1,) for a in args)
    adds = base_of(target) in ("add", "sub")

    def number(arg: Any) -> Any:
        if isinstance(arg, Tensor) and arg.numel() == 1 and adds and random:
            return float(arg)
        if isinstance(arg, Entries):
            parameter = arg.parameter
        else:
            parameter = arg
        if not isinstance(parameter, Parameter) or parameter.trains or parameter.tensor.numel() != 1:
            return arg
        if isinstance(arg, Entries) and arg.mix is not None:
            return arg
        if adds and one_channel and parameter.tensor.ndim > 0:
            return arg
        return float(parameter.tensor)

    return [number(a) for a in args]


def expanded_like(target: str, args: list[Any]) -> Entries | None:
    """A parameter that is expanded to the shape of a value: its numbers, which a sum or a product broadcasts."""
    if base_of(target) not in ("expand_as", "view_as", "type_as") or not isinstance(args[0], Parameter | Entries):
        return None
    if isinstance(args[1], Value):
        return Entries.of(args[0])
    return None


def check_gradient(reading: GraphReading, target: str, args: list[Any], where: str) -> None:
    """Refuses a call that cuts the gradient to layers that train: there is no rule for it."""
    cuts = reading.no_grad or base_of(target) == "detach"
    if not cuts:
        return
    trained = trained_below([a.index for a in flat(args) if isinstance(a, Value) and not a.data], reading.steps)
    if trained:
        if reading.no_grad:
            how = "Gradients are switched off"
        else:
            how = "The values are detached"
        raise NoLimit(
            f"{how} behind `{trained}`, which trains: no gradient reaches it from here.",
            where=where,
            why="there is no rule for a gradient that is cut behind a layer that trains",
            fix="freeze the layers below with requires_grad_(False), or take no_grad and detach away",
        )


def trained_below(steps: Sequence[int], read_steps: Sequence[Any]) -> str:
    """The name of a parameter that trains below some steps; "" if there is none."""
    stack, seen = [s for s in steps if s >= 0], set()
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen.add(number)
        op: Op = read_steps[number].op
        for part in ("weight", "bias", "scale", "shift"):
            if getattr(op, f"{part}_trains", False) and getattr(op, f"{part}_name", None):
                return str(getattr(op, f"{part}_name"))
        stack += [i for i in read_steps[number].inputs if i >= 0]
    return ""


def parameter_values(reading: GraphReading, args: list[Any], where: str) -> list[Any]:
    """Parameters that are added to a value, or come beside one, as values."""
    like = next((a for a in flat(args) if isinstance(a, Value)), None)
    if like is None or like.data:
        return args

    def as_value(arg: Any, *, widths: bool) -> Any:
        if isinstance(arg, list):
            return [as_value(a, widths=False) for a in arg]
        if not isinstance(arg, Parameter | Entries):
            return arg
        entries = Entries.of(arg)
        if widths and is_bias(entries, like):
            under = layer_under(like.index, reading.steps)
        else:
            under = None
        try:
            fixed, layer, shape = vectors(entries, like, widths=widths)
        except NoLimit as error:
            raise with_place(error, where) from None
        if under is not None:
            layer = replace(layer, bias_of=under.weight_name)
        start = Value(-1, (), data=True)
        places = reading.add(fixed, (start,), (len(fixed.numbers), *shape[1:]), (), where)
        return reading.add(layer, (places,), shape, like.layout, where)

    return [as_value(arg, widths=True) for arg in args]


def of_constants(reading: GraphReading, node: Node, args: list[Any], otherwise: str) -> Any:
    """The value of a call on constants and buffers; of a call on parameters, its numbers where they are only moved,
    else `otherwise`."""
    base = base_of(str(node.target))
    if base in ("item", "_local_scalar_dense") and isinstance(args[0], Parameter) and not args[0].trains:
        return float(args[0].tensor)
    if any(isinstance(a, Parameter | Entries) or a is otherwise for a in flat(args)):
        if base in SAME_NUMBERS and isinstance(args[0], Parameter | Entries):
            if base == "detach":
                return without_gradient(args[0])
            return args[0]
        transposed = str(node.target) in ("aten.t.default", "aten.numpy_T.default", "aten.permute.default",
                                          "aten.transpose.int")  # fmt: skip
        weight = args[0]
        if transposed and isinstance(weight, Parameter) and len(weight.shape) == 2:
            return replace(weight, tensor=weight.tensor.T, turned=not weight.turned)
        named = {k: reading.argument(v) for k, v in node.kwargs.items()}
        plain = [reading.argument(a) for a in node.args]
        return laid_out(base, node.target, plain, named) or mixed(str(node.target), args) or otherwise
    if in_place(node):  # in place: it would change the user's own buffer
        return args[0]
    call: Callable[..., Any] = node.target  # type: ignore[assignment]
    given = scalars_as_numbers(str(node.target), [reading.argument(a) for a in node.args])
    if all(not isinstance(a, Tensor) for a in flat(given)):  # torch takes a number where it wants a tensor as one alone
        given = [_tensor_like(a, b, reading) for a, b in zip(given, node.args, strict=True)]
    return call(*given, **{k: reading.argument(v) for k, v in node.kwargs.items()})


def _tensor_like(number: Any, arg: Any, reading: GraphReading) -> Any:
    """A frozen parameter's number as a tensor of no axes, for a call that takes tensors."""
    if isinstance(arg, Node):
        held = reading.values.get(arg.name)
    else:
        held = None
    parameter: Any
    if isinstance(held, Entries):
        parameter = held.parameter
    else:
        parameter = held
    if isinstance(parameter, Parameter):
        return parameter.tensor.reshape(())
    return number
