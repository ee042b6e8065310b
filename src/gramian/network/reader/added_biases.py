"""A trained vector that is added to a layer's values is the layer's bias, however the user spells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from gramian.arch.ops import Affine, Call, Permute, Value
from gramian.arch.ops.base import EarlierStep, Parameter
from gramian.arch.ops.combine import Sum
from gramian.arch.ops.learned import Entries
from gramian.network.reader.reading import GraphReading

TAKE_BIAS = {"linear", "conv1d", "conv2d", "conv3d"}
ADDING_CALLS = {"aten.add.Tensor", "aten.add_.Tensor", "aten.sub.Tensor", "aten.sub_.Tensor"}


def is_bias(entries: Entries, like: Value) -> bool:
    """Whether a parameter adds one number of its own to each channel, the same at all positions and for all samples."""
    index, channels = entries.index, like.shape[0]
    if entries.parameter.tensor.numel() != channels or index.numel() % channels or 0 not in like.order:
        return False
    if entries.mix is not None and entries.mix.matrix.numel() != 1:
        return False
    if index.ndim > len(like.order) + 1:
        return False
    at = like.order.index(0) - len(like.order)  # of the channels, from the end
    if index.ndim < -at or index.shape[at] != channels:
        return False
    vectors = index.movedim(at, -1).reshape(-1, channels)
    return bool((vectors == vectors[:1]).all()) and len(vectors[0].unique()) == channels


def layer_under(index: int, steps: Sequence[EarlierStep]) -> Affine | None:
    """The affine layer that a value comes from by moves and sums alone: the one whose bias a vector on top of it is."""
    while index >= 0:
        op = steps[index].op
        if isinstance(op, Affine) and not isinstance(op, Entries):
            return op
        if not isinstance(op, Permute | Sum):
            return None
        index = steps[index].inputs[0]
    return None


def layer_with_bias(reading: GraphReading, node: Node, call: Call) -> Value | None:
    """A layer with the parameter that is added to its values as its bias; None for other calls."""
    given = [n for n in node.all_input_nodes if isinstance(reading.values[n.name], Value)]
    if len(given) != 1:
        return None
    x = reading.values[given[0].name]
    names = {n for n in node.graph.nodes if _is_step(reading.values.get(n.name), x.index)}
    readers = {user for n in names for user in n.users} - names
    folded = with_bias(call.target, call.args, reading.steps, alone=readers == {node})
    if folded is None:
        return None
    return _replaced(reading, x, *folded)


def _is_step(step_or_other: object, index: int) -> bool:
    return isinstance(step_or_other, Value) and step_or_other.index == index


def _value_at(reading: GraphReading, number: int) -> Value:
    """The result of a step, or an input below zero."""
    if number >= 0:
        return Value(number, reading.steps[number].shape)
    return Value(number, ())


def _replaced(reading: GraphReading, x: Value, layer: Affine, number: int) -> Value:
    step = reading.steps[number]
    below = tuple(_value_at(reading, i) for i in step.inputs)
    return reading.add(layer, below, step.shape, x.order, reading.where, x.groups)


def read_addmm(reading: GraphReading, args: Sequence[Any], val: Tensor) -> Value | None:
    """`torch.addmm(b, x, W)`, which is `x @ W + b`, the layer of GPT-2; None where it is something else."""
    vector, x, weight, beta, alpha = args
    if not isinstance(x, Value) or not isinstance(weight, Parameter) or (beta, alpha) != (1, 1):
        return None
    product = reading.read(Call("aten.mm.default", (x, weight), ()), val, reading.where)
    assert isinstance(product, Value)
    folded = with_bias("aten.add.Tensor", (product, vector, 1), reading.steps, alone=True)
    if folded is None:
        return None
    return _replaced(reading, product, *folded)


def respelled(target: str, args: list[Any]) -> tuple[str, list[Any]]:
    """Other spellings of a layer: `tensordot(x, W, 1)` as `x @ W`; a reshaped vector as a layer's bias."""
    if target.count(".") > 1:
        base = target.split(".")[1]
    else:
        base = target
    if base == "tensordot" and isinstance(args[0], Value) and isinstance(args[1], Parameter):
        own, others = args[2], args[3]
        last = len(args[0].order)
        if len(args[1].shape) == 2 and len(own) == 1 and own[0] % (last + 1) == last and list(others) in ([0], [-2]):
            return "aten.matmul.default", args[:2]
    if base in TAKE_BIAS and len(args) > 2 and isinstance(args[2], Entries):
        entries = args[2]
        p = entries.parameter
        whole = entries.mix is None and entries.index.numel() == p.tensor.numel()
        if whole and torch.equal(entries.index.flatten(), torch.arange(p.tensor.numel())):
            return target, [*args[:2], replace(p, tensor=p.tensor.reshape(-1)), *args[3:]]
    return target, args


def with_bias(target: str, args: Sequence[Any], steps: Sequence[EarlierStep], alone: bool) -> tuple[Affine, int] | None:
    """The layer with the vector that is added to it as its bias, and the step that it replaces; None for other sums.

    Args:
        target: of the call.
        args: its arguments.
        steps: read so far.
        alone: whether nothing else reads the layer's values. Elsewhere they would be without the bias, and the two
            share their weights but not the bias: then the vector stays a value of its own.
    """
    if target not in ADDING_CALLS or len(args) < 2 or not alone or (len(args) > 2 and args[2] != 1):
        return None
    x, vector = args[0], args[1]
    if isinstance(x, Parameter | Entries) and "sub" not in target:
        x, vector = vector, x
    if not isinstance(x, Value) or x.data or x.index < 0 or x.groups or not isinstance(vector, Parameter | Entries):
        return None
    step, entries = steps[x.index], Entries.of(vector)
    if not isinstance(step.op, Affine) or type(step.op).__name__ not in FOLDED_LAYERS or step.op.bias_name is not None:
        return None
    if entries.mix is not None or step.op.rows or not is_bias(entries, x):
        return None
    if not torch.equal(_one_vector(entries, x), torch.arange(x.shape[0])):
        return None  # in another order: the finite layer's bias would be in the wrong one
    p = entries.parameter
    return replace(step.op, bias_name=p.name, bias_trains=p.trains), x.index


FOLDED_LAYERS = ("Linear", "Conv")


def _one_vector(entries: Entries, like: Value) -> Tensor:
    at = like.order.index(0) - len(like.order)
    return entries.index.movedim(at, -1).reshape(-1, like.shape[0])[0]
