"""The ledger: each finished measurement is one line of JSON, so that a killed run goes on where it stopped.

A line has no time and no place in it: the same measurement gives the same bytes. What a killed process left half
written at the end is dropped, and measured again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramian.claims.claim import Measured
from gramian.errors import BadArgument

SHIPPED = Path(__file__).parent / "ledger.jsonl"  # what the gallery of this version was made from


@dataclass(frozen=True)
class LedgerKey:
    """What was measured: a claim at a scale, with a seed, by which version of its code, with its premises or not."""

    claim: str
    scale: str
    seed: int
    broken: bool
    version: str


class Ledger:
    """Finished measurements by key, kept in a file or, without a path, in memory.

    Args:
        path: the file; it need not exist yet. None: nothing is kept.

    Attributes:
        measured: by key.
        dropped: lines that could not be read, such as the last one of a killed run.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: Path | None = None
        self.measured: dict[LedgerKey, Measured] = {}
        self.dropped = 0
        if path is not None:
            self.path = Path(path)
            self._read(self.path)

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _no_access(path, error) from None
        for line in content.splitlines(keepends=True):
            known = _parsed(line)
            if known is None:
                self.dropped += 1
                continue
            # the first line of a key counts: a measurement that is there is never made anew
            self.measured.setdefault(*known)

    def add(self, key: LedgerKey, setting: dict[str, Any], measured: Measured) -> None:
        """Keeps a measurement, on the disk before this returns.

        Raises:
            BadArgument: the file cannot be written.
        """
        if self.path is not None:
            try:
                _append(self.path, _line(key, setting, measured))
            except OSError as error:
                raise _no_access(self.path, error) from None
        self.measured[key] = measured


def _line(key: LedgerKey, setting: dict[str, Any], measured: Measured) -> bytes:
    fields = {**vars(key), "setting": setting, "numbers": measured.numbers, "series": measured.series}
    text = json.dumps(fields, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _parsed(line: bytes) -> tuple[LedgerKey, Measured] | None:
    """The measurement of a line; None if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
        key = LedgerKey(*(fields[name] for name in LedgerKey.__dataclass_fields__))
        return key, Measured(fields["numbers"], fields["series"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _append(path: Path, line: bytes) -> None:
    """One line at the end, after what is whole of the file."""
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        # a line that was half written when its process was killed would swallow the next one
        whole = file.read().rfind(b"\n") + 1
        if whole < end:
            file.truncate(whole)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _no_access(path: Path, error: OSError) -> BadArgument:
    return BadArgument(
        f"the ledger {path} cannot be used: {error.strerror or error}.",
        where=str(path.absolute()),
        why="it is a folder, its folder does not exist, or it may not be written",
        fix="--ledger FILE, in a folder of yours that exists",
    )
