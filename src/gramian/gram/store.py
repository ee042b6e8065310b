"""Tiles on disk: one safetensors file a tile and a manifest of checksums; nothing is ever half-written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gramian.arch.inputs import Inputs, leaves, rows, samples
from gramian.errors import BadArgument, StaleTiles
from gramian.files import replace_together

STORE_FORMAT = "gramian tiles 1"
PROBED_ROWS = 4  # rows on which two kernels are compared


def fingerprint(kernel: Any, x: Inputs, x2: Inputs | None) -> dict:
    """What tiles were made from: SHA-256 of the data, and the kernel's own values on a few rows."""
    marks: dict[str, Any] = {"x": _digest(x), "y": None if x2 is None else _digest(x2)}
    if kernel is not None:
        if x2 is None:
            values = kernel(_spread(x))
        else:
            values = kernel(_spread(x), _spread(x2))
        marks["kernel"] = values.detach().double().tolist()
    return marks


def _spread(x: Inputs) -> Inputs:
    n = samples(x)
    return rows(x, torch.linspace(0, n - 1, min(PROBED_ROWS, n), device=leaves(x)[0].device).round().long())


def _digest(x: Inputs) -> str:
    if not isinstance(x, Tensor):
        names: Iterable[Any]
        if isinstance(x, Mapping):
            names = list(x)
        else:
            names = range(len(x))
        return "; ".join(f"{name}: {_digest(t)}" for name, t in zip(names, leaves(x), strict=True))
    flat = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)} sha256:{hashlib.sha256(flat.data).hexdigest()}"


class Store:
    """A folder of tiles."""

    format, maker, kind = STORE_FORMAT, "Gram(kernel, x).save(path)", "Gram.save"

    def __init__(self, folder: Path, manifest: dict) -> None:
        self.folder, self.manifest = folder, manifest
        self._verified: set[str] = set()

    @classmethod
    def open(cls, path: str | os.PathLike) -> Store:
        folder = Path(path)
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["format"] != cls.format:
                raise ValueError(f"its format is {manifest['format']!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StaleTiles(
                f"no tiles could be opened: {type(error).__name__}: {error}",
                where=str(folder / "manifest.json"),
                why=f"the folder was not written by {cls.kind}, or its manifest is damaged",
                fix=f"{cls.maker} into an empty folder",
            ) from None
        return cls(folder, manifest)

    @classmethod
    def resume(cls, path: str | os.PathLike, wanted: dict) -> Store:
        """The store at `path` to write into: a new one, or the unfinished one if it is of the same matrix."""
        folder = Path(path)
        if (folder / "manifest.json").exists():
            store = cls.open(folder)
            for key in ("shape", "tile", "symmetric", "dtype"):
                if store.manifest[key] != wanted[key]:
                    raise store.stale(f"stored with {key}={store.manifest[key]}, asked for {key}={wanted[key]}")
            store.compare(wanted["fingerprint"])
            return store
        store = cls(folder, {"format": cls.format, **wanted, "tiles": {}})
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        store._write_manifest()
        return store

    def compare(self, marks: dict) -> None:
        """Raise StaleTiles where the fingerprint `marks` differs from the stored one."""
        stored = self.manifest["fingerprint"]
        for key, name in (("x", "x"), ("y", "x2")):  # a store of version 0.1.0 calls the second inputs "y"
            if stored[key] != marks[key]:
                raise self.stale(f"made from {name} = {stored[key]}, asked for {name} = {marks[key]}")
        if "kernel" in marks and "kernel" in stored:
            ours, theirs = torch.tensor(marks["kernel"]), torch.tensor(stored["kernel"])
            # equal kernels differ by rounding between machines, other kernels by far more
            rtol = torch.finfo(getattr(torch, self.manifest["dtype"])).eps ** 0.5
            if ours.shape != theirs.shape or not torch.allclose(
                ours, theirs, rtol=rtol, atol=rtol * float(theirs.abs().max())
            ):
                raise self.stale(
                    f"made with another kernel: k(x_0, x_0) = {float(theirs[0, 0]):.6g}, now {float(ours[0, 0]):.6g}, "
                    f"and at most {float((ours - theirs).abs().max()):.1e} apart on {len(ours)} rows"
                )

    def listed(self, i: int, j: int) -> bool:
        return _name(i, j) in self.manifest["tiles"]

    def intact(self, i: int, j: int) -> bool:
        """The tile was finished and its file still has the checksum of then."""
        name = _name(i, j)
        if name not in self._verified and self.listed(i, j):
            try:
                with open(self.folder / name, "rb") as file:
                    checksum = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return False
            if checksum == self.manifest["tiles"][name]:
                self._verified.add(name)
        return name in self._verified

    def read(self, i: int, j: int) -> Tensor:
        """The tile, memory mapped."""
        if not self.intact(i, j):
            raise self.stale(f"{_name(i, j)} is missing or is not what was written", why="the file was changed or cut")
        return safetensors.torch.load_file(self.folder / _name(i, j))["tile"]

    def write(self, i: int, j: int, tile: Tensor) -> None:
        content = safetensors.torch.save({"tile": tile.cpu().contiguous()})
        _replace(self.folder / _name(i, j), content)
        self.manifest["tiles"][_name(i, j)] = hashlib.sha256(content).hexdigest()
        self._write_manifest()

    def stale(self, what: str, why: str = "the folder belongs to another run") -> StaleTiles:
        return StaleTiles(
            f"the stored tiles cannot be used: {what}",
            where=str(self.folder),
            why=why,
            fix=f"{self.maker} again: here to complete or repair it, into another folder for other data",
        )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_verified": set()}

    def _write_manifest(self) -> None:
        _replace(self.folder / "manifest.json", json.dumps(self.manifest, indent=1).encode())


def _name(i: int, j: int) -> str:
    return f"tile-{i:05d}-{j:05d}.safetensors"


def _replace(path: Path, content: bytes) -> None:
    try:
        replace_together({path: lambda temporary: temporary.write_bytes(content)})
    except OSError as error:
        raise _unwritable(path.parent, error) from None


def _unwritable(folder: Path, error: OSError) -> BadArgument:
    return BadArgument(
        f"tiles cannot be written: {error.strerror or error}",
        where=str(folder),
        why="the folder is not writable, is no folder, or the disk is full",
        fix="a path that you may write to",
    )
