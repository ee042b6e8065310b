"""What a batch holds, by row number: tensors alone, in tuples, lists and dicts, with None and constants among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gramian.errors import BadData


class BatchRows:
    """Inputs or targets of n samples; `at(numbers)` has the same structure with some of their rows.

    Attributes:
        given: the structure, its arrays and frames made tensors, on the device.
        n: how many samples: the length of its first tensor.

    Example:
        >>> batch = BatchRows({"ids": [[1, 2], [3, 4]], "mask": None, "scale": 2.0})
        >>> batch.n, batch.at(torch.tensor([1]))
        (2, {'ids': tensor([[3, 4]]), 'mask': None, 'scale': 2.0})
    """

    def __init__(
        self, given: Any, device: torch.device | str = "cpu", *, n: int | None = None, name: str = "x"
    ) -> None:
        self.given = _converted(given, torch.device(device))
        leaves = tensors(self.given)
        if n is None:
            if not leaves:
                raise BadData(
                    f"There is no tensor in {name}, which is a {type(given).__name__}.",
                    where="Monitor(module, optimizer, loss, x, y)",
                    why="the rows of a batch are counted by the first axis of its tensors",
                    fix="x of shape (n, ...), or several in a tuple or a dict",
                )
            n = len(leaves[0])
        self.n, self.name = n, name
        for leaf in leaves:
            if len(leaf) != n:
                what = f"x has {n} rows, {name} has {len(leaf)}."
                if name == "x":
                    what = _uneven(n, leaf)
                raise BadData(
                    what,
                    where="Monitor(module, optimizer, loss, x, y)",
                    why="the first axis of each tensor counts the samples, the same ones in all of them",
                    fix="as many rows in each tensor; what belongs to no sample goes into the module",
                )
        if n < 1:
            raise BadData(
                f"{name} has no rows.", where="Monitor(module, optimizer, loss, x, y)", fix="some rows to watch"
            )

    def at(self, numbers: Tensor) -> Any:
        """These rows, in the caller's structure."""
        return changed(self.given, lambda t: t[numbers])

    def cast(self, dtype: torch.dtype) -> BatchRows:
        """The floating ones in another precision."""
        rows = object.__new__(BatchRows)
        rows.given = changed(self.given, lambda t: t.to(dtype) if t.is_floating_point() else t)
        rows.n, rows.name = self.n, self.name
        return rows


def tensors(given: Any) -> list[Tensor]:
    """The tensors with rows in a structure, in order."""
    if isinstance(given, Tensor):
        if given.ndim:
            return [given]
        return []
    if isinstance(given, Mapping):
        return [t for value in given.values() for t in tensors(value)]
    if isinstance(given, tuple | list):
        return [t for value in given for t in tensors(value)]
    return []


def changed(given: Any, change: Callable[[Tensor], Any]) -> Any:
    """The structure with `change` of each tensor that has rows in its place."""
    if isinstance(given, Tensor):
        if given.ndim:
            return change(given)
        return given
    if isinstance(given, Mapping):
        return {name: changed(value, change) for name, value in given.items()}
    if isinstance(given, tuple | list):
        return tuple(changed(value, change) for value in given)
    return given


def filled(given: Any, leaves: Sequence[Tensor]) -> Any:
    """The structure with these tensors, in the order of `tensors`, in place of its own."""
    following = iter(leaves)
    return changed(given, lambda _: next(following))


def called(module: Callable[..., Any], given: Any, how: str) -> Any:
    """The module on a structure of inputs: by name, in order, or as one argument."""
    if how == "names":
        return module(**given)
    if how == "order":
        return module(*given)
    return module(given)


def ways(given: Any) -> tuple[str, ...]:
    """How a module may take this structure, the likely way first."""
    if isinstance(given, Mapping):
        if all(isinstance(name, str) for name in given):
            return ("names", "one")
        return ("one",)
    if isinstance(given, tuple):
        return ("order", "one")
    return ("one",)


def _converted(given: Any, device: torch.device) -> Any:
    """Arrays, frames and lists of numbers as tensors on the device; the rest as it is."""
    if isinstance(given, Tensor):
        return given.detach().to(device)
    if given is None or isinstance(given, str | bytes | bool | int | float | complex):
        return given
    if isinstance(given, Mapping):
        return {name: _converted(value, device) for name, value in given.items()}
    if isinstance(given, tuple | list):
        if given and not _numbers(given):
            return tuple(_converted(value, device) for value in given)
        return torch.as_tensor(given).to(device)
    if hasattr(given, "to_numpy"):  # a frame, a series
        return torch.as_tensor(given.to_numpy()).to(device)
    if hasattr(given, "__array__"):
        return torch.as_tensor(given).to(device)
    return given


def _numbers(given: Any) -> bool:
    """Whether a list holds numbers, or lists of them."""
    return all(isinstance(v, int | float) or (isinstance(v, tuple | list) and v and _numbers(v)) for v in given)


def _uneven(n: int, leaf: Tensor) -> str:
    return f"The first tensor of x has {n} rows, another has shape {tuple(leaf.shape)}."
