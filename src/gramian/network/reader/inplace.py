"""Calls that write into memory which other values of the network look at: the exported graph does not show that."""

from __future__ import annotations

from collections.abc import Callable

from torch.fx import Graph, Node

from gramian.errors import NoLimit

# views in effect, or copies, as the layout in memory wants; their schemas do not tell
MAYBE_VIEWS = ("reshape", "flatten", "contiguous", "dropout", "feature_dropout", "to", "expand_as", "view_as",
               "unflatten")  # fmt: skip


def check_writes(graph: Graph, where: Callable[[Node], str]) -> None:
    """Refuses an in-place call whose effect a later call sees through another view of the same memory.

    torch.export lets every later use of a tensor that was written read the result of the write, but not the uses of
    the tensor's base, or of its other views.
    """
    memory: dict[Node, Node] = {}  # the tensor whose memory each node looks at
    nodes = list(graph.nodes)
    for number, node in enumerate(nodes):
        if node.op == "call_function" and node.args:
            source = node.args[0]
        else:
            source = None
        if not isinstance(source, Node):
            continue
        root = memory.get(source, source)
        writes = _writes(node)
        if writes or _is_view(node):
            memory[node] = root
        if not writes:
            continue
        # other views of the same memory, which the exported graph takes for unchanged
        stale = [n for n, of in memory.items() if of is root and n not in (node, source)]
        if root is not source:
            stale += [root]
        for later in nodes[number + 1 :]:
            if any(n in later.all_input_nodes for n in stale):
                name = str(node.target).removeprefix("aten.").split(".")[0]
                raise NoLimit(
                    f"`{name}` writes in place into a tensor that is read again through another view.",
                    where=where(node),
                    why="what is read later has changed, which the exported graph does not show",
                    fix="write the call without its underscore (inplace=False), and use its result",
                )


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.arguments:
        first = schema.arguments[0].alias_info
    else:
        first = None
    return first is not None and first.is_write


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # an element of a tuple of views, such as those of split
        return "getitem" in str(node.target)
    name = str(node.target).removeprefix("aten.").split(".")[0]
    return name in MAYBE_VIEWS or any(result.alias_info is not None for result in schema.returns)
