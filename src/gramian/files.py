"""Whole files or none: written to a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gramian.errors import BadArgument


def check_writable(path: str | Path) -> None:
    """Whether a file can be made beside `path`, asked by making one.

    Raises:
        BadArgument: the folder does not exist or cannot be written.
    """
    with _named(path):
        handle, temporary = tempfile.mkstemp(dir=Path(path).parent, prefix=".gramian-")
        os.close(handle)
        os.unlink(temporary)
        if Path(path).is_dir():
            raise IsADirectoryError(21, "is a folder, a file is wanted")


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)`, then the temporary file takes the name `path`.

    Raises:
        BadArgument: the folder cannot be written, or the disk is full.
    """
    with _named(path):
        replace_together({Path(path): write})


def replace_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Several files, each written by its own function, which take their names after the last one was written.

    Raises:
        OSError: a folder cannot be written, or the disk is full; no file has then changed, and none is left over.
    """
    temporary: dict[Path, str] = {}
    try:
        for path, write in writers.items():
            handle, temporary[path] = tempfile.mkstemp(dir=path.parent, prefix=".gramian-")
            os.close(handle)
            write(Path(temporary[path]))
            os.chmod(temporary[path], 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        for path in writers:
            os.replace(temporary[path], path)
            del temporary[path]
    finally:
        for name in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _named(path: str | Path):
    try:
        yield
    except OSError as error:
        raise BadArgument(
            f"Cannot write {path}: {error.strerror or error}.",
            where=str(Path(path).parent),
            why="the folder does not exist, or it may not be written",
            fix="a path in a folder of yours that exists",
        ) from None
