"""Where results go: asked before the long work whether it can be written, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from gramian.errors import BadArgument


def check_folder(folder: Path) -> None:
    """Whether files can be made in `folder`, or in the folder above that it would be made in; makes nothing.

    Raises:
        BadArgument: it is a file, or may not be written.
    """
    from gramian.files import check_writable

    above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not above.is_dir():
        raise BadArgument(
            f"the report cannot be written into {folder}: {above} is a file.",
            where=f"--out {folder}",
            why="a report is a folder with report.html and report.json.",
            fix="--out gramian-report",
        )
    check_writable(above / "report.html")


def check_file(path: Path, suffix: str) -> None:
    """Whether the file `path` can be written, and whether its name says what is in it.

    Raises:
        BadArgument: another ending, a folder that does not exist or may not be written.
    """
    from gramian.files import check_writable

    if path.suffix.lower() != suffix:
        right = Path(f"result{suffix}")
        if path.name:
            right = path.with_suffix(suffix)
        raise BadArgument(
            f"--out {path} does not end in {suffix}.",
            where=f"--out {path}",
            why=f"a {suffix} file is what this command writes.",
            fix=f"--out {right}",
        )
    check_writable(path)


def unused(path: Path) -> Path:
    """The path, or with a number before its ending if something is there: predictions-2.csv.

    For outputs that nobody named: they replace nothing.
    """
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
