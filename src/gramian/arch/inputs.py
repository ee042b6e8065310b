"""How a network's inputs are given: one tensor, several in order, or several by name; the first axis counts samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
LEAF_KINDS = {"float": "floating-point numbers", "int": "whole numbers", "bool": "True and False"}


def leaves(x: Inputs) -> tuple[Tensor, ...]:
    """The tensors in `x`, in its order."""
    if isinstance(x, Tensor):
        return (x,)
    if isinstance(x, Mapping):
        return tuple(x.values())
    return tuple(x)


def several(x: object) -> bool:
    """Whether these are several tensors, in order or by name, and not the numbers of one."""
    return isinstance(x, Mapping) or (
        isinstance(x, list | tuple) and any(isinstance(v, Tensor) and v.ndim > 0 for v in x)
    )


def cast_floating(t: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating-point numbers in this precision; whole numbers and masks as they are."""
    if t.is_floating_point():
        return t.to(dtype)
    return t


def shape_or_type(value: object) -> str | tuple[int, ...]:
    """The shape of a tensor, or the type of another value, for messages about a wrong shape."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return type(value).__name__


def tensors(x: Inputs) -> Inputs:
    """The same structure with every leaf a tensor; a list that holds no tensor becomes one itself."""
    if isinstance(x, Mapping):
        return {k: torch.as_tensor(v) for k, v in x.items()}
    if several(x):
        return tuple(torch.as_tensor(v) for v in x)
    return torch.as_tensor(x)


def one_tensor(x: object, where: str) -> None:
    """Raises BadArgument for several tensors, where only one is taken."""
    if several(x) and isinstance(x, Mapping | list | tuple):
        if isinstance(x, Mapping):
            said = f"a dict of {', '.join(map(repr, x))}"
        else:
            said = f"a {type(x).__name__} of {len(x)}"
        raise BadArgument(
            f"`x` is {said} tensors; {where} takes one tensor of numbers.",
            where=f"argument `x` of {where}",
            why="rows are scaled, compared and put into batches as vectors here",
            fix="kernels take several: architecture(module, like).ntk(x), empirical_ntk, monte_carlo, Gram",
        )


def samples(x: Inputs) -> int:
    """How many samples there are."""
    return len(leaves(x)[0])


def rows(x: Inputs, index: slice | Tensor) -> Inputs:
    """Some of the samples, in the same structure."""
    if isinstance(x, Tensor):
        return x[index]
    if isinstance(x, Mapping):
        return {k: v[index] for k, v in x.items()}
    return tuple(v[index] for v in x)


def kind_of(x: Tensor) -> str:
    """ "float", "int" or "bool"."""
    if x.is_floating_point():
        return "float"
    if x.dtype == torch.bool:
        return "bool"
    return "int"


def precision(x: Sequence[Tensor]) -> torch.dtype:
    """The dtype of a kernel of these inputs: their own, or torch's default where all are whole numbers."""
    floating = [t.dtype for t in x if t.is_floating_point()]
    if floating:
        dtype = floating[0]
    else:
        dtype = torch.get_default_dtype()
    for other in floating[1:]:
        dtype = torch.promote_types(dtype, other)
    return dtype


@dataclass(frozen=True)
class Leaf:
    """One tensor of the input: its place in the caller's structure, the shape of one sample, and its kind."""

    name: str
    shape: tuple[int, ...]
    kind: str = "float"


@dataclass(frozen=True)
class Form:
    """The structure of a network's inputs.

    Args:
        kind: "tensor", "tuple" (positional arguments of the module's forward) or "dict" (by keyword).
        leaves: the tensors in order; leaf k is number -1 - k among the steps of an architecture.
    """

    kind: str
    leaves: tuple[Leaf, ...]

    @classmethod
    def of(cls, like: Inputs, where: str) -> Form:
        """The form of an example.

        Raises:
            BadData: not tensors, none, or without an axis of samples that they share.
        """
        if isinstance(like, Tensor | Mapping | list | tuple):
            given = leaves(like)
        else:
            given = ()
        kind, names = "tuple", [str(k) for k in range(len(given))]
        if isinstance(like, Tensor):
            kind, names = "tensor", [""]
        elif isinstance(like, Mapping):
            kind, names = "dict", list(like)
        wrong = [type(t).__name__ for t in given if not isinstance(t, Tensor)]
        shapes = [tuple(t.shape) for t in given if isinstance(t, Tensor)]
        thin = [s for t, s in zip(given, shapes, strict=False) if len(s) < 1 + (kind_of(t) == "float")]
        if wrong or thin or not given or any(not s[0] or s[0] != shapes[0][0] for s in shapes):
            said: str | tuple[int, ...]
            if kind == "tensor" and shapes:
                said = shapes[0]
            else:
                said = f"{type(like).__name__} of {wrong or shapes}"
            raise BadData(
                f"`like` is {said}; it must be an example input of shape (n, features) or (n, channels, *positions).",
                where=where,
                why="the network's shapes are read from it, and its first axis counts the samples",
                fix='pass a few rows of the data: like=x[:2]; several as like=(x1[:2], x2[:2]) or {"name": x[:2]}',
            )
        return cls(
            kind,
            tuple(Leaf(str(n), tuple(t.shape[1:]), kind_of(t)) for n, t in zip(names, given, strict=True)),
        )

    def label(self, number: int, name: str) -> str:
        """A leaf in the caller's words: `x`, `x[0]` or `x['mask']`."""
        leaf = self.leaves[number].name
        return {"tensor": name, "tuple": f"{name}[{leaf}]", "dict": f"{name}[{leaf!r}]"}[self.kind]

    def check(self, x: Inputs, name: str) -> tuple[Tensor, ...]:
        """The tensors of `x` in the order of `leaves`, the floating ones in one precision.

        Raises:
            BadData: another structure, a leaf of another shape or kind, no rows, or numbers that are not finite.
        """
        given = self._ordered(x, name)
        n_rows = 0
        if isinstance(given[0], Tensor):
            n_rows = len(given[0])
        for number, (leaf, t) in enumerate(zip(self.leaves, given, strict=True)):
            _check_leaf(leaf, t, self.label(number, name), n_rows)
        dtype = precision(given)
        return tuple(cast_floating(t, dtype) for t in given)

    def bind(self, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The leaves in a call that is made as the user's module is called."""
        if self.kind == "dict" and args and not kwargs and len(args) == 1 and isinstance(args[0], Mapping):
            kwargs, args = args[0], ()
        names = [leaf.name for leaf in self.leaves]
        if self.kind == "dict":
            right = not args and set(kwargs) == set(names)
        else:
            right = not kwargs and len(args) == len(names)
        if not right:
            said = ", ".join([type(a).__name__ for a in args] + [f"{k}=" for k in kwargs])
            if self.kind == "dict":
                call = ", ".join(f"{n}={n}" for n in names)
            else:
                call = ", ".join(f"x{n}" for n in names)
            raise BadData(
                f"The network was called with ({said}); it takes {self._said()}.",
                where="a finite network of an architecture",
                why="it is called as the module that was read, with the structure of `like`",
                fix=f"network({call})",
            )
        if self.kind == "dict":
            return tuple(kwargs[n] for n in names)
        return args

    def structure(self, given: Sequence[Tensor]) -> Inputs:
        """Tensors in the order of `leaves`, as the caller has them."""
        if self.kind == "tensor":
            return given[0]
        if self.kind == "dict":
            return dict(zip((leaf.name for leaf in self.leaves), given, strict=True))
        return tuple(given)

    def call(self, given: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """The arguments, positional and by keyword, with which the module takes these leaves."""
        x = self.structure(given)
        if isinstance(x, dict):
            return ((), x)
        return (tuple(given), {})

    def _ordered(self, x: Inputs, name: str) -> tuple[Tensor, ...]:
        if self.kind == "dict" and isinstance(x, Mapping) and set(x) == {leaf.name for leaf in self.leaves}:
            return tuple(x[leaf.name] for leaf in self.leaves)
        if self.kind == "tuple" and isinstance(x, list | tuple) and len(x) == len(self.leaves):
            return tuple(x)
        if self.kind == "tensor" and not isinstance(x, Mapping | list | tuple):
            return (x,)  # type: ignore[return-value]  # what is no tensor is said to be none by the check of this leaf
        said = f"a {type(x).__name__}"
        if isinstance(x, Mapping):
            said = f"a dict of {', '.join(map(repr, x))}"
        elif isinstance(x, list | tuple):
            said += f" of {len(x)}"
        elif isinstance(x, Tensor):
            said += f" of shape {tuple(x.shape)}"
        raise BadData(
            f"`{name}` is {said}; this network takes {self._said()}.",
            where=f"argument `{name}` of a kernel",
            why="it was read with a `like` of another structure",
            fix=f"{name}={self._example(name)}",
        )

    def _said(self) -> str:
        if self.kind == "tensor":
            return "one tensor"
        names = ", ".join(repr(leaf.name) for leaf in self.leaves)
        if self.kind == "dict":
            return f"a dict of {names}"
        return f"{len(self.leaves)} tensors, in a tuple"

    def _example(self, name: str) -> str:
        if self.kind == "tensor":
            return f"{name}[0]"
        names = [leaf.name for leaf in self.leaves]
        if self.kind == "dict":
            return "{" + ", ".join(f"{n!r}: ..." for n in names) + "}"
        return "(" + ", ".join(f"{name}{n}" for n in names) + ",)"


def _check_leaf(leaf: Leaf, x: Tensor, name: str, n: int) -> None:
    where = f"argument `{name}` of a kernel"
    _check_kind(leaf, x, name, where)
    sizes = "".join(f", {s}" for s in leaf.shape)
    if tuple(x.shape[1:]) != leaf.shape or x.ndim == 0 or len(x) == 0:
        if x.ndim and len(x):
            why = "it was read with an input of another shape"
        else:
            why = "there are no rows"
        if x.ndim and len(x):
            fix = f"{name}.reshape(len({name}){sizes})"
        else:
            fix = "pass data"
        raise BadData(
            f"`{name}` has shape {tuple(x.shape)}; this network takes (n{sizes}), n at least 1.",
            where=where,
            why=why,
            fix=fix,
        )
    if len(x) != n:
        raise BadData(
            f"`{name}` has {len(x)} rows, the first tensor {n}.",
            where=where,
            why="the first axis counts the samples, the same ones in all tensors",
            fix="pass the same rows of each",
        )
    if leaf.kind == "float":
        bad_rows = torch.nonzero(~torch.isfinite(x).flatten(1).all(1)).flatten().tolist()
        if bad_rows:
            raise BadData(
                f"`{name}` is not finite in {len(bad_rows)} of {len(x)} rows, first in row {bad_rows[0]}.",
                where=f"{where}, row {bad_rows[0]}",
                why="missing values, or a division by zero while scaling",
                fix=f"drop these rows: {name} = {name}[torch.isfinite({name}).flatten(1).all(1)]",
            )


def _check_kind(leaf: Leaf, x: Tensor, name: str, where: str) -> None:
    """Raises BadData for anything but a tensor of real, whole or truth numbers, whichever the network was read with."""
    if isinstance(x, Tensor) and x.is_complex():
        raise BadData(
            f"`{name}` is {x.dtype}: kernels are of real numbers.",
            where=where,
            why="a network of real weights takes real and imaginary part as two features",
            fix=f"torch.view_as_real({name}).flatten(1), for the module too",
        )
    if isinstance(x, Tensor) and kind_of(x) == leaf.kind:
        return
    cast = {"float": "torch.float64", "int": "torch.long", "bool": "torch.bool"}[leaf.kind]
    said: object = type(x).__name__
    if isinstance(x, Tensor):
        said = x.dtype
    why = "the network was read with such a tensor here: tokens, lengths or a mask"
    if leaf.kind == "float":
        why = "kernels are computed in the inputs' own precision"
    raise BadData(
        f"`{name}` is {said}, not a tensor of {LEAF_KINDS[leaf.kind]}.",
        where=where,
        why=why,
        fix=f"torch.as_tensor({name}, dtype={cast})",
    )
