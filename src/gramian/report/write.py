"""The report on disk: `report.html` and `report.json`, both or neither, and beside them the library for zooming."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from plotly.offline import get_plotlyjs

from gramian.errors import BadArgument
from gramian.files import replace_together
from gramian.report.blocks import without_nan
from gramian.report.page import LIBRARY, render


def write(facts: dict, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes the report of a run: one HTML file and one JSON file of the same facts.

    Both are written to temporary names in the same folder and renamed, so that a report that exists is whole. A number
    that JSON cannot write (nan, infinity) is null in the JSON file. The HTML file can be sent alone: pictures are in
    it as SVG. `plotly.min.js` beside it, written once a folder, lets one zoom into them.

    Args:
        facts: plain data as `certify` makes it: title, data, runs; anything missing reads "not measured".
        folder: where to write; made if it does not exist.

    Returns:
        The paths of `report.html` and `report.json`.

    Raises:
        BadArgument: the folder cannot be made or written to.
    """
    folder = Path(folder)
    texts = {
        "report.html": render(facts),
        "report.json": json.dumps(without_nan(facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    library = get_plotlyjs()
    if not _has_size(folder / LIBRARY, len(library.encode())):
        texts = {LIBRARY: library, **texts}
    write_texts(folder, texts, what="the report", fix="give a folder that you may write to, e.g. `--out report`")
    return folder / "report.html", folder / "report.json"


def write_texts(folder: Path, texts: Mapping[str, str], *, what: str, fix: str) -> None:
    """Text files of one folder, by name, all of them or none; the folder is made if it does not exist.

    Raises:
        BadArgument: the folder cannot be made or written to; `what` and `fix` are of its message.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_together({folder / name: partial(_write_text, text) for name, text in texts.items()})
    except OSError as error:
        raise BadArgument(
            f"{what} cannot be written: {error.strerror or error}",
            where=str(folder),
            why="the folder is read-only, is a file, or the disk is full",
            fix=fix,
        ) from None


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _has_size(path: Path, size: int) -> bool:
    """Whether this file is there already, whole."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False
