"""What each call of an exported graph means in the checker's steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from gramian.errors import Unsupported
from gramian.prove import elementwise_handlers, layer_handlers  # they enter themselves in the table
from gramian.prove.handler_table import HANDLERS
from gramian.prove.reading import ProgramReading, StepValue, Weight

# the call copies, moves or leaves out numbers of its first argument
LAYOUT = {
    "view", "reshape", "flatten", "permute", "transpose", "t", "expand", "select", "slice", "squeeze", "unsqueeze",
    "unflatten", "_unsafe_view", "constant_pad_nd", "pad", "flip", "index_select", "narrow", "expand_as",
    "view_as", "movedim", "roll", "mT", "numpy_T", "swapaxes",
}  # fmt: skip
# the call gives its first argument's numbers as they are
SAME = {"clone", "contiguous", "alias", "lift_fresh_copy", "dropout", "feature_dropout", "_to_copy", "to",
        "dropout_", "native_dropout"}  # fmt: skip
# the call is linear in its one argument that is not constant
LINEAR = {
    "add", "sub", "rsub", "mul", "div", "neg", "mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "linear", "matmul", "mm", "bmm", "conv1d",
    "conv2d", "conv3d", "cumsum", "add_", "mul_", "sub_", "div_", "upsample_nearest2d", "upsample_bilinear2d",
}  # fmt: skip
# the call looks at its first argument's shape and type alone
OF_SHAPE = {"new_full", "new_zeros", "new_ones", "zeros_like", "ones_like", "full_like", "new_empty", "size", "dim"}
# the call is a function of the checker under the same name
FUNCTION = {"tanh", "erf", "sigmoid", "silu", "sin", "cos", "exp", "relu", "square", "rsqrt", "reciprocal"}

READ_BY = (elementwise_handlers, layer_handlers)


def read_call(reading: ProgramReading, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a call gives: a value, a weight, or a constant."""
    target: Any = node.target
    name = getattr(target, "__name__", str(target)).split(".")[0]
    changing = [a for a in _flat(args) + list(kwargs.values()) if isinstance(a, StepValue | Weight)]
    if not changing:
        return target(*args, **kwargs)
    try:
        _refuse_shared_change(node, name)
        if name in ("detach", "detach_"):
            raise Unsupported("`detach` has no rule: training then follows another gradient than the loss's")
        if name in SAME:
            if "dropout" in name and args[2]:
                raise Unsupported("dropout that is on in evaluation mode has no rule: the outputs are random")
            return args[0]
        if name in OF_SHAPE:
            return target(torch.zeros(_shape(args[0]), dtype=torch.float64), *args[1:], **kwargs)
        if name == "getitem":
            return args[0][args[1]]
        if (base := name.removesuffix("_")) in FUNCTION:
            return reading.function(base, reading.value(args[0]))
        if name in HANDLERS and (result := HANDLERS[name](reading, *args, **kwargs)) is not None:
            return result
        if len(changing) == 1:
            return _of_one(reading, target, name, args, kwargs)
        raise Unsupported(f"the call `{name}` of {len(changing)} values has no rule")
    except Unsupported as error:
        raise Unsupported(f"{error} (in {_where(node)})") from None


def _refuse_shared_change(node: Node, name: str) -> None:
    """A call that changes its argument in place changes all views of it; the graph shows this only to its own users."""
    if not name.endswith("_") or name.startswith("_"):
        return
    changed = node.args[0]
    while isinstance(changed, Node):
        if len(changed.users) > 1:
            raise Unsupported(f"the call `{name}` changes in place a tensor that others see: it has no rule")
        if getattr(changed.target, "__name__", "").split(".")[0] not in LAYOUT | SAME:
            return
        changed = changed.args[0]


def _of_one(reading: ProgramReading, target: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> StepValue:
    at = next((i for i, a in enumerate(args) if isinstance(a, StepValue | Weight)), None)
    if at is None or name not in LAYOUT | LINEAR:
        raise Unsupported(f"the call `{name}` has no rule: it is not linear, and no activation known here")
    if name in ("div", "div_", "rsub") and at == 1:
        raise Unsupported(f"the call `{name}` by a value has no rule")

    def run(t: Tensor) -> Tensor:
        # the trace is in the module's float64; the constants are too
        return target(*args[:at], t, *args[at + 1 :], **kwargs)

    value = reading.value(args[at])
    if name in LAYOUT:
        return reading.gathered(value, run)
    return reading.mapped(value, run)


def _flat(args: list[Any]) -> list[Any]:
    return [b for a in args for b in (a if isinstance(a, list | tuple) else [a])]


def _shape(of: StepValue | Weight) -> tuple[int, ...]:
    if isinstance(of, StepValue):
        return of.shape
    return tuple(of.tensor.shape)


def _where(node: Node) -> str:
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    if modules and modules[-1][0]:
        return f"module `{modules[-1][0]}`"
    return f"the call {node.name}"
