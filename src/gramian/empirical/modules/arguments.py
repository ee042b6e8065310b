"""What a module is called with: one tensor, or several in order or by name, whose first axes count the same samples.

Several tensors are a node of torch's pytrees, so that `vmap` maps over each of them in its own dtype: tokens stay whole
numbers, masks stay True and False.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node, tree_map_only

from gramian.arch.inputs import Form, Inputs, cast_floating, several


class Arguments(NamedTuple):
    """Positional and keyword arguments of one call, whatever they are."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def change(self, f: Any) -> Arguments:
        """The same with another value in each tensor's place."""
        if not self.kwargs and all(isinstance(v, Tensor) for v in self.args):
            return Arguments(tuple(map(f, self.args)), {})
        return Arguments(*tree_map_only(Tensor, f, (self.args, self.kwargs)))

    def tensors(self) -> list[Tensor]:
        """The tensors among them, in order."""
        tensors: list[Tensor] = []
        self.change(tensors.append)
        return tensors

    def first(self, count: int = 1) -> Arguments:
        """The first samples: rows of each tensor that has as many as the first one."""
        rows = next((len(v) for v in self.tensors() if v.ndim), 0)
        return self.change(lambda v: v[:count] if v.ndim and len(v) == rows else v)


@dataclass(frozen=True, eq=False)
class Several:
    """Samples that are several tensors each; `names`: of keyword arguments, empty for positional ones."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: Any) -> Several:
        return self.change(lambda t: t[rows])

    def change(self, f: Callable[[Tensor], Tensor]) -> Several:
        """The same with another tensor in each one's place."""
        return Several(tuple(map(f, self.tensors)), self.names)

    def clone(self) -> Several:
        """The same numbers in memory of their own."""
        return self.change(Tensor.clone)

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def arguments(self) -> Arguments:
        """The inputs as the module takes them."""
        if self.names:
            return Arguments((), dict(zip(self.names, self.tensors, strict=True)))
        return Arguments(self.tensors, {})

    def inputs(self) -> Inputs:
        """The inputs as the caller gave them."""
        if self.names:
            return self.arguments().kwargs
        return self.tensors


register_pytree_node(Several, lambda x: (list(x.tensors), x.names), lambda t, names: Several(tuple(t), names))

Samples = Tensor | Several


def samples(module: Any, x: Inputs | Several, x2: Inputs | Several | None) -> tuple[Samples, Samples | None]:
    """Several tensors checked, the floating ones in the precision of the module; one tensor, or `Several`, as it is.

    Second inputs that are the first ones are none.

    Raises:
        BadData: `x` or `x2` are not tensors of the same structure and shapes, with as many rows.
    """
    if x2 is x:
        x2 = None
    if isinstance(x, Several) or isinstance(x2, Several) or not several(x):
        return x, x2  # type: ignore[return-value]
    form = Form.of(x, "argument `x`")
    if form.kind == "dict":
        names = tuple(leaf.name for leaf in form.leaves)
    else:
        names = ()
    if isinstance(module, nn.Module):
        parameters = module.parameters()
    else:
        parameters = iter(())
    own = next((p.dtype for p in parameters if p.is_floating_point()), None)

    def checked(given: Inputs, name: str) -> Several:
        tensors = form.check(given, name)
        return Several(tuple(cast_floating(t, own) if own is not None else t for t in tensors), names)

    first = checked(x, "x")
    if x2 is None:
        return first, None
    return first, checked(x2, "x2")


def arguments_of(x: Samples | Arguments) -> Arguments:
    """The arguments of a call on these samples."""
    if isinstance(x, Arguments):
        return x
    if isinstance(x, Tensor):
        return Arguments((x,), {})
    return x.arguments()


def copied_arguments_of(x: Samples | Arguments) -> Arguments:
    """The arguments of a call on copies of these samples, into which a module may write."""
    return arguments_of(x).change(Tensor.clone)


def tensors_of(x: Samples) -> tuple[Tensor, ...]:
    """The tensors of the samples."""
    if isinstance(x, Tensor):
        return (x,)
    return x.tensors


def inputs_of(x: Samples) -> Inputs:
    """The samples as the caller gave them."""
    if isinstance(x, Tensor):
        return x
    return x.inputs()


def changed(x: Samples, f: Callable[[Tensor], Tensor]) -> Any:
    """The samples with another tensor in each one's place."""
    if isinstance(x, Tensor):
        return f(x)
    return x.change(f)


def in_parts(x: Samples, size: int) -> list[Any]:
    """The samples in parts of `size`, the last one smaller if that does not divide."""
    return [x[first : first + size] for first in range(0, len(x), size)]


def joined(parts: Sequence[Samples]) -> Any:
    """Samples one below the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    columns = zip(*(tensors_of(part) for part in parts), strict=True)
    return Several(tuple(map(torch.cat, columns)), first.names)


def description(x: Samples) -> str:
    """Shapes, dtypes and device in words."""
    if isinstance(x, Tensor):
        return f"shape {tuple(x.shape)}, {x.dtype}, {x.device}"
    shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in x.tensors)
    return f"shapes {shapes}, {x.device}"
