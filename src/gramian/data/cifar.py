"""CIFAR-10 from .npz parts, of which only those that are asked for are decoded.

A part holds `train_x`, `train_y`, `test_x`, `test_y` or some of them, images as (n, 32, 32, 3) bytes. Parts are named
cifar10_train_FIRST-LAST.npz or cifar10_test_FIRST-LAST.npz by their rows in the official order; the first part of both
may be one file, cifar10_subset_*.npz, or all of it cifar10.npz.
"""

from __future__ import annotations

import math
import re
import zipfile
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from gramian.errors import BadData

from .npz import readable
from .raw import Raw

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OFFICIAL_COUNTS = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True)
class CifarFile:
    """One .npz with rows first .. first + count - 1 of the official order."""

    path: Path
    member: str
    first: int
    count: int

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Rows, counted in this part and sorted; decodes no further than the last of them; (k, 3, 32, 32) bytes."""
        with readable(self.path, self.member), zipfile.ZipFile(self.path).open(f"{self.member}.npy") as file:
            shape = _header(file)
            size = math.prod(shape[1:])
            out = np.empty((len(rows), *shape[1:]), np.uint8)
            position = 0
            for i, row in enumerate(rows):
                # a compressed member is only read forwards: what lies between two rows is decoded and dropped
                _read(file, (int(row) - position) * size)
                out[i] = np.frombuffer(_read(file, size), np.uint8).reshape(shape[1:])
                position = int(row) + 1
        return out.transpose(0, 3, 1, 2)

    def labels(self) -> np.ndarray:
        """All labels of this part; int64 (count,)."""
        with readable(self.path, self.member), self.path.open("rb") as opened, np.load(opened) as file:
            return file[self.member.replace("_x", "_y")].astype(np.int64)


def _header(file) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    else:
        read = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or fortran:
        raise ValueError(f"{dtype} of shape {shape} where bytes of shape (n, h, w, 3) are expected")
    return shape


def _read(file, size: int) -> bytes:
    """`size` bytes, or EOFError."""
    chunks = []
    while size:
        chunk = file.read(min(size, 1 << 22))
        if not chunk:
            raise EOFError(f"the member ends {size} bytes too early")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


@dataclass(frozen=True)
class Images:
    """Images of several parts, one after the other; decoded when rows are picked."""

    parts: tuple[CifarFile, ...]

    def __len__(self) -> int:
        return sum(part.count for part in self.parts)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        picked, start = [], 0
        for part in self.parts:
            here = rows[(rows >= start) & (rows < start + part.count)] - start
            if len(here):
                picked.append(part.images(here))
            start += part.count
        if picked:
            return np.concatenate(picked)
        return np.empty((0, 3, 32, 32), np.uint8)


def find(folder: Path) -> dict[str, tuple[CifarFile, ...]]:
    """The parts of "train" and "test" in a folder, by their first row."""
    splits: dict[str, tuple[CifarFile, ...]] = {}
    for split in OFFICIAL_COUNTS:
        parts = [part for path in sorted(folder.glob("cifar10*.npz")) if (part := _part(path, split))]
        splits[split] = tuple(sorted(parts, key=lambda part: part.first))
    return splits


def _part(path: Path, split: str) -> CifarFile | None:
    with readable(path), zipfile.ZipFile(path) as file:
        names = file.namelist()
        if f"{split}_x.npy" not in names or f"{split}_y.npy" not in names:
            return None
        with file.open(f"{split}_x.npy") as member:
            count = _header(member)[0]
    named, first = re.search(rf"_{split}_(\d+)-(\d+)", path.stem), 0
    if named:
        first = int(named[1])
    return CifarFile(path, f"{split}_x", first, count)


def gaps(splits: dict[str, tuple[CifarFile, ...]]) -> tuple[str, ...]:
    """The images that are missing from the official 50,000 and 10,000, in words."""
    missing = []
    said = {"train": "training"}
    for split, official in OFFICIAL_COUNTS.items():
        have = sum(part.count for part in splits[split])
        if have < official:
            missing.append(f"{official - have:,} of {official:,} {said.get(split, split)} images")
    return tuple(missing)


def read_cifar10(folder: Path) -> Raw:
    """CIFAR-10 as (n, 3, 32, 32); a subset is drawn from as few of the leading parts as hold enough rows."""
    splits = find(folder)
    if not splits["train"]:
        raise BadData(
            "no CIFAR-10 parts.",
            where=str(folder / "cifar10*.npz"),
            why="files with other names, or the Python batches of the original download.",
            fix="np.savez_compressed('cifar10.npz', train_x=..., train_y=..., test_x=..., test_y=...), images as "
            "bytes of shape (n, 32, 32, 3).",
        )
    y = {split: [part.labels() for part in parts] for split, parts in splits.items()}
    for split, parts in splits.items():
        for part, labels in zip(parts, y[split], strict=True):
            if len(labels) != part.count or labels.max(initial=0) >= len(CIFAR_CLASSES):
                raise BadData(
                    f"{part.count} images, but {len(labels)} labels up to {labels.max(initial=0)}.",
                    where=str(part.path),
                    why="images and labels of different files.",
                    fix="download or save the part again.",
                )
    rows = np.concatenate([part.first + np.arange(part.count) for part in splits["train"]])
    missing = gaps(splits)
    notes: tuple[str, ...] = ()
    if missing:
        notes = (f"Not all of CIFAR-10 was there: {' and '.join(missing)} are missing.",)
    test = None
    if splits["test"]:
        test = (Images(splits["test"]), np.concatenate(y["test"]))
    return Raw(
        "cifar10",
        str(folder),
        Images(splits["train"]),
        np.concatenate(y["train"]),
        CIFAR_CLASSES,
        test,
        scale=255.0,
        rows=rows,
        pools=tuple(accumulate(part.count for part in splits["train"])),
        pools_test=tuple(accumulate(part.count for part in splits["test"])),
        notes=notes,
    )
