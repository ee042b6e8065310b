"""Which parameters are used by their own layers' calls and by nothing else.

Only for those the gradient is the layer's sum of outer products. The proof reads the autograd graph of one forward
pass. Every edge into a parameter's leaf must start inside a call of a layer that owns it, and the inside of that call
must be entered only through the call's output (a second derivative taken in the module's own forward enters it
elsewhere, because it uses the weight again). A parameter without this proof goes the general way.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical import layers
from gramian.empirical.watch import watched

Node = Any  # torch.autograd.graph.Node; torch does not type its attributes


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a plain layer, and the names of its parameters that only such calls use."""

    layer: nn.Module
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    dtype: torch.dtype  # of the output
    weight: str | None
    bias: str | None

    @property
    def used(self) -> bool:
        """True if some parameter's gradient is read from this call."""
        return self.weight is not None or self.bias is not None


@dataclass(frozen=True, eq=False)
class Uses:
    """How a module uses its trainable parameters.

    `calls`: all calls of plain layers, in order; `general`: parameters that go the general way; `unused`: parameters
    that the output does not depend on.
    """

    calls: tuple[Call, ...]
    general: tuple[str, ...]
    unused: tuple[str, ...]


def uses(module: nn.Module, x: Tensor) -> Uses:
    """Uses of the trainable parameters, from one forward pass on the single sample `x`, shape (1, ...)."""
    seen: list[_Seen] = []
    with watched(module, lambda layer, a, out: seen.append(_Seen(layer, a, out))):
        out = module(x)
    users = _users(out.grad_fn)
    proved = {edge for call in seen for edge in call.carriers(users)}
    leaves = {id(node.variable): node for node in users if _is_leaf(node)}
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    own = {i for i in names if i in leaves and all((leaves[i], user) in proved for user in users[leaves[i]])}
    calls = []
    for call in seen:
        weight, bias = (names[id(p)] if id(p) in own and id(p) in call.carried else None for p in call.parameters)
        calls.append(Call(call.layer, call.in_shape, call.out_shape, call.dtype, weight, bias))
    return Uses(
        tuple(calls),
        general=tuple(name for i, name in names.items() if i in leaves and i not in own),
        unused=tuple(name for i, name in names.items() if i not in leaves),
    )


class _Seen:
    """A call as its hook saw it: its parameters, and the graph between its output and its input."""

    def __init__(self, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        self.layer, self.in_shape, self.out_shape = layer, tuple(x.shape), tuple(out.shape)
        self.dtype = out.dtype
        self.parameters = layer._parameters["weight"], layer._parameters["bias"]  # as they are during this call
        self.x, self.version = x, x._version
        self.root, self.inside = out.grad_fn, _between(out.grad_fn, x.grad_fn)
        self.carried: set[int] = set()
        self.as_written = _as_written(layer, x, out)

    def carriers(self, users: dict[Node, list[Node]]) -> list[tuple[Node, Node]]:
        """The edges (leaf, node) by which this call's parameters enter it; none if its inside serves others too."""
        if not self.as_written or self.x._version != self.version:
            return []
        inner = [node for node in self.inside if node is not self.root and not _is_leaf(node)]
        if any(user not in self.inside for node in inner for user in users.get(node, ())):
            return []
        edges = []
        for leaf in filter(_is_leaf, self.inside):
            entries = [user for user in users.get(leaf, ()) if user in self.inside]
            if len(entries) == 1 and any(leaf.variable is p for p in self.parameters):
                edges.append((leaf, entries[0]))
                self.carried.add(id(leaf.variable))
        return edges


def _as_written(layer: nn.Module, x: Tensor, out: Tensor) -> bool:
    """Whether the output is that of the layer's own formula; a global hook or a patched forward would show here."""
    tolerance = torch.finfo(out.dtype).eps ** 0.5
    try:
        with torch.no_grad():
            return torch.allclose(layers.apply(layer, x), out, tolerance, tolerance)
    except RuntimeError:  # inside a vmap of the module's own
        return False


def _is_leaf(node: Node) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def _users(root: Node) -> dict[Node, list[Node]]:
    """For every node below `root`, the nodes that it passes its value to (one entry an edge)."""
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in _between(root, None):
        for below, _ in node.next_functions:
            if below is not None:
                users[below].append(node)
    return users


def _between(root: Node, end: Node) -> set[Node]:
    """Nodes reached from `root` without going through `end`, the input's own node."""
    todo, done = [root], set()
    while todo:
        node = todo.pop()
        if node is not None and node is not end and node not in done:
            done.add(node)
            todo.extend(below for below, _ in node.next_functions)
    return done
