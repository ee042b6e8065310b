"""Which weights are the readout's, that is have no other weight between them and the output: read from autograd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples, changed, tensors_of
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.observed_calls import differentiable_math


@dataclass(frozen=True)
class Readouts:
    """Names of the readouts' parameters; `last` is the path of the Linear whose output is the module's own output.

    `last` is None if there is no such layer, or if its weight is used elsewhere too.
    """

    names: frozenset[str]
    last: str | None


def find_readouts(module: nn.Module, x: Samples) -> Readouts:
    """Readouts of a module, from one forward pass on `x`, whose parameters may all require gradients afterwards.

    In the autograd graph a weight's use is the first node that joins it with something else; a weight is hidden if
    another weight's use lies above its own. An embedding is never a readout.
    """
    embeddings = {
        id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
    }  # looked up, not multiplied: no node joins them with anything
    weights = {name: p for name, p in module.named_parameters() if p.ndim >= 2 and p.is_floating_point()}
    bits = {id(p): 1 << (i + 1) for i, p in enumerate(weights.values())}
    linear = {path: m for path, m in module.named_modules() if type(m) is nn.Linear}
    seen: list[tuple[str, Any]] = []
    hooks = [
        m.register_forward_hook(lambda _m, _a, out, path=path: seen.append((path, out.grad_fn)))
        for path, m in linear.items()
    ]
    try:
        with differentiable_math():
            for p in module.parameters():
                p.requires_grad_(True)
            x = changed(x, lambda t: t.clone().requires_grad_() if t.is_floating_point() else t)
            out = call_at(module, {}, x)
            if isinstance(out, Tensor):
                root = out.grad_fn
            else:
                root = None
    finally:
        for hook in hooks:
            hook.remove()
    if root is None:
        return Readouts(frozenset(), None)
    uses, above = _uses_and_above(root, bits, {id(t) for t in tensors_of(x)})
    readouts = {
        name
        for name, p in weights.items()
        if id(p) not in embeddings and uses.get(bits[id(p)]) and not any(above[n] for n in uses[bits[id(p)]])
    }
    ends = [path for path, node in seen if node is root and f"{path}.weight".lstrip(".") in readouts]
    once = len(ends) == 1 and len(readouts) == 1 and len(uses[bits[id(linear[ends[0]].weight)]]) == 1
    biases = {name.removesuffix("weight") + "bias" for name in readouts if name.endswith("weight")}
    own = {name for name, _ in module.named_parameters()}
    return Readouts(frozenset(readouts | (biases & own)), ends[0] if once else None)


def _uses_and_above(root: Any, bits: dict[int, int], inputs: set[int]) -> tuple[dict[int, list[Any]], dict[Any, int]]:
    """Nodes where each weight is used, by its bit; and for each node the weights that are used strictly above it."""
    order: list[Any] = []  # below before above
    done: set[Any] = set()
    todo: list[tuple[Any, bool]] = [(root, False)]
    while todo:
        node, ready = todo.pop()
        if ready:
            order.append(node)
        elif node not in done:
            done.add(node)
            todo.append((node, True))
            todo.extend((child, False) for child, _ in node.next_functions if child is not None and child not in done)
    below: dict[Any, int] = {}
    used: dict[Any, int] = {}
    uses: dict[int, list[Any]] = {}
    for node in order:
        children = [child for child, _ in node.next_functions if child is not None]
        variable = getattr(node, "variable", None)
        if variable is None:
            own = 0
        elif id(variable) in inputs:
            own = 1
        else:
            own = bits.get(id(variable), 0)
        below[node] = own
        for child in children:
            below[node] |= below[child]
        used[node] = 0
        for child in children:
            bit = below[child]
            # one bit below the child: this weight and nothing else; more below the node: here it is joined with them
            if bit > 1 and bit & (bit - 1) == 0 and below[node] != bit:
                used[node] |= bit
        for bit in (1 << i for i in range(used[node].bit_length()) if used[node] >> i & 1):
            uses.setdefault(bit, []).append(node)
    # from the output down: what is used above a node, or at it, is above all of its children
    above = dict.fromkeys(order, 0)
    for node in reversed(order):
        for child, _ in node.next_functions:
            if child is not None:
                above[child] |= above[node] | used[node]
    return uses, above
