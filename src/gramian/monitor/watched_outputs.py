"""Which tensors of what a module returns are looked at, as one row of numbers a sample."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]
MAIN = ("logits", "out", "output", "outputs", "prediction", "predictions", "pred", "scores", "last_hidden_state")


def tensors_of(out: Any, path: Path = ()) -> dict[Path, Tensor]:
    """Every tensor in an output, by its place: keys of dicts, numbers in tuples, names of an object's attributes."""
    if isinstance(out, Tensor):
        return {path: out}
    by_path: dict[Path, Tensor] = {}
    for key, value in _entries(out):
        by_path |= tensors_of(value, (*path, key))
    return by_path


def main_of(out: Any) -> Path | None:
    """The place of the tensor that a loss is most likely called with; None if there is none."""
    places = tensors_of(out)
    named = {path[0]: path for path in places if len(path) == 1}
    for name in MAIN:
        if name in named:
            return named[name]
    return next((path for path, t in places.items() if t.is_floating_point() and t.ndim), None)


def part(out: Any, path: Path) -> Any:
    """What lies at a place."""
    for key in path:
        if isinstance(out, Mapping | tuple | list):
            out = out[key]
        else:
            out = getattr(out, key)
    return out


def replaced(out: Any, values: Mapping[Path, Tensor]) -> Any:
    """A copy of the output with other tensors at some places."""
    if () in values:
        return values[()]
    inner: dict[Any, dict[Path, Tensor]] = {}
    for path, value in values.items():
        inner.setdefault(path[0], {})[path[1:]] = value
    new = {key: replaced(part(out, (key,)), below) for key, below in inner.items()}
    if isinstance(out, tuple | list):
        entries = [new.get(k, value) for k, value in enumerate(out)]
        if hasattr(out, "_fields"):
            return type(out)(*entries)
        return type(out)(entries)
    changed = copy.copy(out)
    for key, value in new.items():
        if isinstance(changed, Mapping):
            changed[key] = value  # type: ignore[index]
        else:
            object.__setattr__(changed, key, value)
    return changed


def _entries(out: Any) -> list[tuple[Any, Any]]:
    if isinstance(out, Mapping):
        return list(out.items())
    if isinstance(out, tuple | list):
        return list(enumerate(out))
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return [(f.name, getattr(out, f.name)) for f in dataclasses.fields(out)]
    if out is None or isinstance(out, str | bytes | bool | int | float | type) or not hasattr(out, "__dict__"):
        return []
    return [(name, value) for name, value in vars(out).items() if not name.startswith("_")]


@dataclass(frozen=True)
class Look:
    """Places in an output whose numbers are looked at, side by side.

    Attributes:
        paths: the places.
        shapes: of one sample at each.
        axis: which axis of these tensors counts the samples: 0, or 1 for (time, n, ...).
        whole: whether the loss is called with the whole output, not with the tensor at the one place.
    """

    paths: tuple[Path, ...]
    shapes: tuple[tuple[int, ...], ...]
    axis: int = 0
    whole: bool = False

    @classmethod
    def at(cls, out: Any, paths: tuple[Path, ...], axis: int = 0, *, whole: bool = False) -> Look:
        """The look at these places of an example."""
        parts = [part(out, path) for path in paths]
        return cls(paths, tuple(tuple(t.movedim(axis, 0).shape[1:]) for t in parts), axis, whole)

    @property
    def columns(self) -> int:
        """Numbers of one sample."""
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [int(torch.Size(shape).numel()) for shape in self.shapes]

    def flat(self, out: Any) -> Tensor:
        """A row a sample, half precision as float32; shape (n, columns)."""
        parts = [part(out, path).movedim(self.axis, 0) for path in self.paths]
        parts = [t.reshape(len(t), -1) for t in parts]
        parts = [t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in parts]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, 1)

    def tensors(self, f: Tensor) -> dict[Path, Tensor]:
        """The tensors at their places, from rows of `flat`."""
        parts = f.reshape(len(f), -1).split(self._sizes, 1)
        return {
            path: p.reshape(len(f), *shape).movedim(0, self.axis)
            for path, p, shape in zip(self.paths, parts, self.shapes, strict=True)
        }
