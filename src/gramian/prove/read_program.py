"""A torch module as the checker's program: the same function, spelled in the few kinds of steps that it knows.

Each call of the exported graph is read by a handler (handlers.py). What is read is compared with the module on the
user's data before anything is proved about it: `checked_program` refuses where they differ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node as GraphNode

from gramian.checker.program import NetworkProgram, ProgramStep, evaluate
from gramian.errors import Unsupported
from gramian.prove.elementwise_handlers import SOFTPLUS_THRESHOLD
from gramian.prove.graph import exported
from gramian.prove.handlers import read_call
from gramian.prove.layer_form import in_layers
from gramian.prove.reading import ProgramReading, Weight

SAME_OUTPUTS = 1e-9  # rounding of a deep network's outputs, relative to the largest


def read_program(module: nn.Module, x: Tensor) -> NetworkProgram:
    """The program of a float64 module in evaluation mode, for samples x (n, ...).

    Raises:
        Unsupported: names the call that has no rule here, or what differs from the module.
        BadArgument: torch cannot trace the forward.
    """
    program = exported(module, x[:1])
    reading = ProgramReading(module)
    names = {spec.arg.name: spec for spec in program.graph_signature.input_specs if hasattr(spec.arg, "name")}
    held = {**program.state_dict, **program.constants}
    values: dict[str, Any] = {}
    output: Any = None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node.name] = _placeholder(reading, names[str(node.target)], held, node)
        elif node.op == "call_function":
            args, kwargs = (torch.fx.node.map_arg(a, lambda n: values[n.name]) for a in (node.args, node.kwargs))
            values[node.name] = read_call(reading, node, list(args), dict(kwargs))
        elif node.op == "output":
            output = values[node.args[0][0].name]
    result = reading.value(output)
    if result.step != len(reading.steps) - 1:
        reading.scaled(result, 1.0)  # the output is the last step
    steps = _needed(reading.steps)
    trained = frozenset(name for name, p in reading.parameters.items() if p.requires_grad)
    return NetworkProgram(steps, reading.arrays, trained & reading.arrays.keys())


def _needed(steps: list[ProgramStep]) -> tuple[ProgramStep, ...]:
    """The steps that the last one depends on, and the input, numbered anew."""
    needed = {len(steps) - 1}
    for number in range(len(steps) - 1, -1, -1):
        if number in needed or steps[number].kind == "input":
            needed |= {number, *steps[number].inputs}
    place = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(replace(steps[old], inputs=tuple(place[i] for i in steps[old].inputs)) for old in place)


def checked_program(module: nn.Module, x: Tensor) -> NetworkProgram:
    """`read_program`, after the comparison of all outputs with the module's.

    Raises:
        Unsupported: a layer has no rule, or the program gives other outputs than the module.
    """
    program = read_program(module, x)
    _require_same(program, module, x)
    return program


def checked_layers(module: nn.Module, x: Tensor) -> NetworkProgram:
    """The same as a chain of layers, multipliers and biases inside them; the program as it is where it is no chain.

    Raises:
        Unsupported: as `checked_program`.
    """
    program = in_layers(read_program(module, x))
    _require_same(program, module, x)
    return program


def _require_same(program: NetworkProgram, module: nn.Module, x: Tensor) -> None:
    values = evaluate(program, x.reshape(len(x), -1).numpy())
    outputs = values.output.middle
    with torch.no_grad():
        own = module(x).reshape(len(x), -1).numpy()
    scale = float(np.abs(own).max(initial=1.0))
    differs = float(np.abs(outputs - own).max(initial=0.0))
    if outputs.shape != own.shape or not differs <= SAME_OUTPUTS * scale:
        raise Unsupported(
            f"the module's outputs differ by {differs:.2g} from those of its formula as it was read here, which is "
            "more than rounding"
        )
    for step in program.steps:
        if step.function == "softplus":
            largest = float(values.values[step.inputs[0]].middle.max())
            if not largest < SOFTPLUS_THRESHOLD - 1:
                raise Unsupported(
                    f"softplus of {largest:.3g}: torch takes the identity above {SOFTPLUS_THRESHOLD:g}, which is no "
                    "part of the formula and up to 2e-9 off"
                )


def _placeholder(reading: ProgramReading, spec: Any, held: dict[str, Any], node: GraphNode) -> Any:
    if spec.kind.name == "PARAMETER":
        tensor = reading.parameters[spec.target]
        first = next(name for name, p in reading.parameters.items() if p is tensor)
        return Weight(first, tensor)
    if spec.kind.name == "USER_INPUT":
        return reading.add(ProgramStep("input"), node.meta["val"].shape)
    return held[spec.target]
