"""Which parameters are used by the calls that have a structure and by nothing else.

Only for those the gradient is the calls' sum of outer products. The proof reads the autograd graph of one forward
pass. Every edge into a parameter's leaf must start inside such a call of this parameter, and the inside of that call
must be entered only through the call's output (a second derivative taken in the module's own forward enters it
elsewhere, because it uses the weight again). A parameter without this proof goes the general way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gramian.empirical.modules.calling import hooked_ones
from gramian.empirical.modules.structured_calls import How, NormScaleCall, Use

Node = Any  # torch.autograd.graph.Node; torch does not type its attributes


@dataclass(frozen=True)
class StructuredCall:
    """One call, and the names of its parameters that only such calls use; equal if what is planned for it is."""

    how: How
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    dtype: torch.dtype  # of the output
    weight: str | None
    bias: str | None

    @property
    def used(self) -> bool:
        """True if some parameter's gradient is read from this call."""
        return self.weight is not None or self.bias is not None

    def without_values(self) -> StructuredCall:
        """The same without the tensors that a norm may hold."""
        if isinstance(self.how, NormScaleCall):
            return replace(self, how=replace(self.how, plain=_no_values))
        return self

    def is_like(self, use: Use) -> bool:
        """Whether another pass makes the same call."""
        return type(use.how) is type(self.how) and tuple(use.x.shape) == self.in_shape


def _no_values(x: Tensor) -> Tensor:
    raise NotImplementedError("a call that stands for its shapes only")


@dataclass(frozen=True)
class Uses:
    """How a module uses its trainable parameters.

    `structured`: names of the parameters that only calls with a structure use; `calls`: all calls of those, in order;
    `general`: parameters that go the general way; `unused`: parameters that the output does not depend on.
    """

    structured: tuple[str, ...]
    calls: tuple[StructuredCall, ...]
    general: tuple[str, ...]
    unused: tuple[str, ...]


class CallRecorder:
    """The calls of one forward pass that use trainable parameters.

    Attributes:
        names: of the parameters, by their ids.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.names = {id(p): name for name, p in parameters.items()}
        self.seen: list[_Seen] = []

    def note(self, use: Use, run: Callable[[], Tensor]) -> Tensor:
        """Makes a call and records it."""
        out = run()
        self.seen.append(_Seen(use, run, out))
        return out

    def uses(self, nodes: Iterable[Node]) -> Uses:
        """Which parameters these calls alone use; `nodes`: the graph of the output."""
        names, seen = self.names, self.seen
        users = _users(nodes)
        proved = {edge for call in seen for edge in call.carriers(users)}
        leaves = {id(node.variable): node for node in users if _is_leaf(node)}
        structured = {i for i in names if i in leaves and all((leaves[i], user) in proved for user in users[leaves[i]])}
        weights, biases = (
            {id(c.parameters[role]) for c in seen if id(c.parameters[role]) in c.carried} for role in (0, 1)
        )
        structured -= weights & biases  # one vector in both roles
        # hooks take the whole gradient
        structured -= {id(p) for p in hooked_ones([leaves[i].variable for i in structured])}
        return Uses(
            tuple(names[i] for i in structured),
            tuple(call.told({i: names[i] for i in structured}) for call in seen if call.of(structured)),
            general=tuple(name for i, name in names.items() if i in leaves and i not in structured),
            unused=tuple(name for i, name in names.items() if i not in leaves),
        )


class _Seen:
    """A call as it was made: its parameters, and the graph between its output and its input."""

    def __init__(self, use: Use, run: Callable[[], Tensor], out: Tensor) -> None:
        self.how, x, *self.parameters = use
        self.x, self.version = x, x._version
        self.in_shape, self.out_shape, self.dtype = tuple(x.shape), tuple(out.shape), out.dtype
        self.root, self.inside = out.grad_fn, _between(out.grad_fn, x.grad_fn)
        self.carried: set[int] = set()
        self.as_written = _as_written(use, run, out)

    def of(self, parameters: set[int]) -> bool:
        """Whether it uses one of these."""
        return any(id(p) in parameters for p in self.parameters)

    def told(self, names: dict[int, str]) -> StructuredCall:
        """The call without its tensors, with its parameters by name."""
        weight, bias = (names.get(id(p)) if id(p) in self.carried else None for p in self.parameters)
        shape: tuple[int, ...] = ()
        if self.parameters[0] is not None:
            shape = tuple(self.parameters[0].shape)
        return StructuredCall(self.how, self.in_shape, self.out_shape, shape, self.dtype, weight, bias)

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


def _as_written(use: Use, run: Callable[[], Tensor], out: Tensor) -> bool:
    """Whether the output is that of torch's own formula; a mode of the user's that changes it would show here."""
    tolerance = torch.finfo(out.dtype).eps ** 0.5
    try:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            if isinstance(use.how, NormScaleCall):
                ours = use.how.affine(use.how.plain(use.x), *use[2:])
            else:
                ours = run()
            return torch.allclose(ours, out, tolerance, tolerance)
    except RuntimeError:  # inside a vmap of the module's own
        return False


def _is_leaf(node: Node) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def nodes_below(root: Node) -> set[Node]:
    """All nodes of the graph of an output; none if nothing is differentiated."""
    return _between(root, None)


def _users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For every node, the nodes that it passes its value to (one entry an edge)."""
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
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
