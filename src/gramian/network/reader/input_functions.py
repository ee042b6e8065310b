"""Finds the functions of the input only in an exported graph, and tries that each sample is computed by itself."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from gramian.arch.ops import Value
from gramian.arch.ops.base import Parameter
from gramian.arch.ops.computed import TracedWidth
from gramian.arch.ops.input_function import TRACED, CallLine, CallResult, InputFunction
from gramian.arch.ops.learned import Entries
from gramian.arch.structure import with_place
from gramian.errors import NoLimit
from gramian.network.reader.export import in_place, where_of
from gramian.network.reader.reading import GraphReading

MIXING_TRIALS = 2


@dataclass(frozen=True, eq=False)
class OfInputs:
    """A result of calls on the inputs and constants alone, which has no op of its own yet.

    It becomes one where a tensor with a row for each sample comes out of it; till then, as with a transpose that is
    undone later, it only remembers why the call could not be read by itself.
    """

    node: Node
    refusal: NoLimit


def read_as_function_of_inputs(reading: GraphReading, node: Node, error: NoLimit) -> Value | OfInputs | None:
    """What a call that no op reads makes of the inputs alone: the user's own calls as they stand; None for others."""
    function = function_of_inputs(node, reading.values, reading.inputs)
    if function is None or isinstance(error, TracedWidth):
        return None
    val, where = node.meta["val"], where_of(node)
    alike = isinstance(val, Tensor) and val.ndim > 0 and len(val) == TRACED and not val.is_complex()
    if not alike or not computes_each_sample_alone(function, _examples(reading)):
        return OfInputs(node, with_place(error, where))
    leaves = tuple(Value(-1 - k, leaf.shape, data=True) for k, leaf in enumerate(reading.form.leaves))
    result = reading.add(function, leaves, tuple(val.shape[1:]), (), where)
    if not val.is_floating_point():
        reading.computed.add(result.index)
    return replace(result, boolean=val.dtype == torch.bool)


def _examples(reading: GraphReading) -> list[Tensor]:
    """The two samples with which the module was traced, in the order of the leaves."""
    args, kwargs = reading.program.example_inputs
    return [*args, *(kwargs[leaf.name] for leaf in reading.form.leaves[len(args) :])]


def function_of_inputs(node: Node, values: dict[str, Any], inputs: list[Node]) -> InputFunction | None:
    """All calls that lead from the module's inputs to a node, if parameters and random layers are not among them."""
    wanted = _ancestors(node, values, inputs)
    if wanted is None:
        return None
    number: dict[Node, int] = {n: k for k, n in enumerate(inputs)}
    lines: list[CallLine] = []

    def line_of(arg: Any) -> Any:
        if isinstance(arg, Node):
            if arg in number:
                return CallResult(number[arg])
            return values[arg.name]
        if isinstance(arg, list | tuple):
            return type(arg)(line_of(a) for a in arg)
        return arg

    for call in node.graph.nodes:
        if call in wanted and call not in number:
            if call.target is operator.getitem:
                target = "getitem"
            else:
                target = str(call.target)
            args, kwargs = tuple(line_of(a) for a in call.args), tuple((k, line_of(v)) for k, v in call.kwargs.items())
            number[call] = len(inputs) + len(lines)
            lines.append(CallLine(target, args, kwargs))
            if call is node:
                break
    return InputFunction(len(inputs), tuple(lines))


def _ancestors(node: Node, values: dict[str, Any], inputs: list[Node]) -> set[Node] | None:
    """The calls that a node needs, those that write in place into what it needs included; None if it is not of the
    inputs alone."""
    wanted: set[Node] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n in wanted or n in inputs:
            continue
        read = values.get(n.name)
        if isinstance(read, Parameter | Entries | str) or (isinstance(read, Value) and not read.data):
            return None
        if n.op != "call_function":
            if n.op == "placeholder" and isinstance(read, Tensor | int | float | bool | type(None)):
                continue  # a buffer or a constant, which `values` holds
            return None
        known = isinstance(read, Tensor | int | float)
        if known and n is not node:
            continue  # a call on constants that was made already
        if not (str(n.target).startswith("aten.") or n.target is operator.getitem):
            return None
        wanted.add(n)
        stack += n.all_input_nodes
        for source in n.all_input_nodes:  # what was written into an input of this call before it
            stack += [user for user in source.users if in_place(user) and user < n]
    return wanted


def computes_each_sample_alone(function: InputFunction, given: list[Tensor], seed: int = 0) -> bool:
    """Whether a sample's result is the same beside another sample, in either place, and twice in a row."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(MIXING_TRIALS):
        first, other, third = ([_like(t, draw) for t in given] for _ in range(3))
        try:
            results = [_on(function, a, b) for a, b in ((first, other), (first, third), (other, first), (first, other))]
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            return False
        if not all(isinstance(r, Tensor) and r.ndim and len(r) == TRACED for r in results):
            return False
        # first beside other, beside third, and second in the pair; then the first pair again
        pairs = ((results[0][0], results[1][0]), (results[0][0], results[2][1]), (results[0], results[3]))
        if not all(_same(a, b) for a, b in pairs):
            return False
    return True


def _on(function: InputFunction, first: list[Tensor], second: list[Tensor]) -> Tensor:
    pair = [torch.stack([a, b]) for a, b in zip(first, second, strict=True)]
    return function.run([p.clone() for p in pair], torch.float64)


def _like(t: Tensor, draw: torch.Generator) -> Tensor:
    """One sample like those of the example: its entries in another order, numbers moved a little as well."""
    row = t[int(torch.randint(len(t), (), generator=draw))]
    mixed = row.flatten()[torch.randperm(row.numel(), generator=draw)].reshape(row.shape)
    if not mixed.is_floating_point():
        return mixed
    noise = torch.randn(mixed.shape, generator=draw, dtype=torch.float64)
    return mixed.double() + 0.1 * (1 + mixed.double().abs()) * noise


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the rounding of float64: a library may sum in another order in another place."""
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=1e-11, atol=1e-13, equal_nan=True)
