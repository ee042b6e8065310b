"""The idx files of MNIST and Fashion-MNIST, plain or gzipped.

An idx file is 0, 0, a byte for the type, a byte for the number of dimensions, each dimension as a big-endian 32-bit
number, then the numbers themselves, last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from gramian.errors import BadData

from .raw import Raw

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
COPY_AGAIN = "download or copy the file again."


def read_idx(path: Path) -> np.ndarray:
    """The array in one idx file, .gz or not.

    Raises:
        BadData: the file is truncated, too long, not gzip though named so, or has another magic number.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or content[3] == 0:
        raise BadData(
            f"not an idx file: it begins with {content[:4].hex(' ') or 'nothing'}, not with 00 00, a type and a rank.",
            where=str(path),
            why="another kind of file, an error page saved in its place, or an empty download.",
            fix=COPY_AGAIN,
        )
    start = 4 + 4 * content[3]
    if len(content) >= start:
        shape = tuple(int(d) for d in np.frombuffer(content[4:start], ">u4"))
    else:
        shape = ()
    dtype = np.dtype(IDX_TYPES[content[2]])
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed or len(shape) != content[3]:
        if len(content) < needed:
            why = "the file is truncated."
        else:
            why = "something was appended to the file."
        raise BadData(
            f"{len(content)} bytes where the header (shape {shape}) says {needed}.",
            where=str(path),
            why=why,
            fix=COPY_AGAIN,
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if isinstance(error, EOFError):
            why = "the file is truncated or damaged."
        else:
            why = "it is damaged, or not gzip."
        raise BadData(
            f"the gzip file cannot be read: {error}",
            where=f"{path} ({path.stat().st_size} bytes)",
            why=why,
            fix=COPY_AGAIN,
        ) from None


def find(folder: Path) -> dict[str, Path]:
    """Which of the four files are in a folder, gzipped or not, by their plain names."""
    paths = {}
    for name in IDX_FILES:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                paths[name] = path
    return paths


def read_folder(name: str, folder: Path, classes: tuple[str, ...] = ()) -> Raw:
    """Training and test images of a folder of idx files, as (n, 1, h, w)."""
    paths = find(folder)
    missing = [file for file in IDX_FILES if file not in paths]
    if missing:
        raise BadData(
            f"{len(missing)} of the {len(IDX_FILES)} idx files of {name} are missing: {', '.join(missing)}.",
            where=str(folder),
            why="the download was not complete, or the files have other names.",
            fix="put them there (.gz or unpacked) under these names.",
        )
    images, labels, images_test, labels_test = (read_idx(paths[file]) for file in IDX_FILES)
    for which, x, y in (("train", images, labels), ("t10k", images_test, labels_test)):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
            raise BadData(
                f"{which} images of shape {x.shape} do not go with labels of shape {y.shape}.",
                where=str(folder),
                why="files of different data sets, or one of them cut short and its header changed.",
                fix="take images and labels from one source.",
            )
    classes = classes or tuple(str(c) for c in range(int(labels.max(initial=0)) + 1))
    if images.dtype == np.uint8:
        scale = 255.0
    else:
        scale = 1.0
    return Raw(
        name,
        str(folder),
        images[:, None],
        labels.astype(np.int64),
        classes,
        (images_test[:, None], labels_test.astype(np.int64)),
        scale=scale,
    )
