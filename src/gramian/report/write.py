"""The report on disk: `report.html` and `report.json`, both or neither."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gramian.errors import BadArgument
from gramian.report.blocks import without_nan
from gramian.report.page import render


def write(facts: dict, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes the report of a run: one self-contained HTML file and one JSON file of the same facts.

    Both are written to temporary names in the same folder and renamed, so that a report that exists is whole. A number
    that JSON cannot write (nan, infinity) is null in the JSON file.

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
        folder / "report.html": render(facts),
        folder / "report.json": json.dumps(without_nan(facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    temporary = {path: folder / f".{path.name}.{os.getpid()}.tmp" for path in texts}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            temporary[path].write_text(text, encoding="utf-8")
        for path, name in temporary.items():
            os.replace(name, path)
    except OSError as error:
        raise BadArgument(
            f"the report cannot be written: {error.strerror or error}",
            where=str(folder),
            why="the folder is read-only, is a file, or the disk is full",
            fix="give a folder that you may write to, e.g. `--out report`",
        ) from None
    finally:
        for name in temporary.values():
            _remove(name)
    html, as_json = texts
    return html, as_json


def _remove(name: Path) -> None:
    """A temporary file that was not renamed is of no use; one that cannot be removed was not made."""
    try:
        name.unlink(missing_ok=True)
    except OSError:
        return
