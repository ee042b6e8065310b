"""Blocks that torch.export makes submodules of: `no_grad`, `set_grad_enabled`, `inference_mode`, autocast."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from gramian.arch.ops.base import replaced
from gramian.errors import NoLimit

NO_GRAD = "gramian_no_grad"  # in a node's meta: whether the call was made with gradients switched off
GRAD_BLOCK, AUTOCAST_BLOCK = "wrap_with_set_grad_enabled", "wrap_with_autocast"


def inlined(owner: GraphModule, graph: Graph) -> Graph:
    """The graph with the calls of such blocks in place, each marked if no gradient flows through it.

    An autocast block computes the same numbers in another precision, so its calls are read as they stand.
    """
    if not any(node.op == "get_attr" for node in graph.nodes):
        return graph
    flat_graph = Graph()
    env: dict[Node, Any] = {}
    for node in graph.nodes:
        _copy(node, owner, flat_graph, env, no_grad=False)
    return flat_graph


def _copy(node: Node, owner: GraphModule, flat_graph: Graph, env: dict[Node, Any], no_grad: bool) -> None:
    if node.op == "get_attr" and isinstance(getattr(owner, str(node.target), None), GraphModule):
        return  # a block; its call inlines it
    if node.op == "call_function" and node.target is operator.getitem and isinstance(env.get(node.args[0]), tuple):  # type: ignore[arg-type]
        env[node] = env[node.args[0]][node.args[1]]  # type: ignore[index]
        return
    block = _block(node, owner)
    if block is None:
        copied = flat_graph.node_copy(node, env.__getitem__)
        copied.meta = {**node.meta, NO_GRAD: no_grad}
        env[node] = copied
        return
    body, args, switch = block
    inside: dict[Node, Any] = {}
    places = iter(args)
    for part in body.graph.nodes:
        if part.op == "placeholder":
            given = next(places)
            if isinstance(given, Node):
                inside[part] = env[given]
            else:
                inside[part] = given
        elif part.op == "output":
            results = part.args[0]
            assert isinstance(results, list | tuple)
            env[node] = tuple(replaced(results, Node, inside.__getitem__))
        else:
            _copy(part, body, flat_graph, inside, no_grad if switch is None else switch)


def _block(node: Node, owner: GraphModule) -> tuple[GraphModule, tuple[Any, ...], bool | None] | None:
    """The body of a block, what it is called with, and whether gradients are off in it (None: as outside)."""
    if node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
    else:
        name = ""
    if name == GRAD_BLOCK:
        enabled, body, *args = node.args
        return getattr(owner, str(body.target)), tuple(args), not enabled  # type: ignore[union-attr]
    if name == AUTOCAST_BLOCK:
        at = next(k for k, a in enumerate(node.args) if isinstance(a, Node))
        body = node.args[at]
        return getattr(owner, str(body.target)), node.args[at + 1 :], None  # type: ignore[union-attr]
    bodies = [a for a in node.all_input_nodes if a.op == "get_attr"]
    if any(isinstance(getattr(owner, str(b.target), None), GraphModule) for b in bodies):
        raise NoLimit(
            f"The module calls `{name}`, whose branches or loops are code of their own.",
            where=str(node.meta.get("stack_trace") or "").strip().rsplit("\n", 1)[-1].strip(),
            why="which of them runs depends on the values of tensors",
            fix="a forward without torch.cond and while_loop; gramian.monte_carlo(module, x) takes any module",
        )
    return None


@contextmanager
def inference_as_no_grad() -> Iterator[None]:
    """While it is entered, `torch.inference_mode` switches gradients off, which torch.export shows, and no more."""
    cls: Any = torch.inference_mode
    was = cls.__enter__, cls.__exit__
    before: list[bool] = []

    def enter(self: Any) -> None:
        before.append(torch.is_grad_enabled())
        torch._C._set_grad_enabled(before[-1] and not self.mode)

    def leave(self: Any, *_: Any) -> None:
        torch._C._set_grad_enabled(before.pop())

    cls.__enter__, cls.__exit__ = enter, leave
    try:
        yield
    finally:
        cls.__enter__, cls.__exit__ = was
