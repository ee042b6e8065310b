"""A certificate as one file: safetensors arrays, and JSON in their header, sealed by a digest of every number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gramian.checker.program import NetworkProgram, ProgramStep
from gramian.errors import BadData
from gramian.files import replace_file

FORMAT = 1
HEADER = "gramian certificate"
FIX = "the file as `Certificate.save` of gramian wrote it; make it anew with gramian.prove"


@dataclass(frozen=True)
class Content:
    """What a certificate holds.

    Attributes:
        statement: "minimum", "descent", ...
        says: the statement in words.
        assumes: what is taken for granted.
        numbers: the bounds that are claimed.
        program: the network and its weights.
        x, y: the data, float64 (n, d), and targets.
        series: further arrays of a statement, such as the states of a run.
    """

    statement: str
    says: str
    assumes: tuple[str, ...]
    numbers: Mapping[str, float]
    program: NetworkProgram
    x: np.ndarray
    y: np.ndarray
    series: Mapping[str, np.ndarray] = field(default_factory=dict)


def write(path: str | Path, content: Content) -> None:
    """Write a certificate; an older file is replaced only once this one is whole."""
    arrays = {f"program.{name}": np.ascontiguousarray(array) for name, array in content.program.arrays.items()}
    arrays |= {f"series.{name}": np.ascontiguousarray(array) for name, array in content.series.items()}
    arrays |= {"x": np.ascontiguousarray(content.x), "y": np.ascontiguousarray(content.y)}
    text = json.dumps(
        {
            "format": FORMAT,
            "statement": content.statement,
            "says": content.says,
            "assumes": list(content.assumes),
            "numbers": dict(content.numbers),
            "steps": [vars(step) for step in content.program.steps],
            "trained": sorted(content.program.trained),
        }
    )
    data = save(arrays, {HEADER: text, "seal": seal(text, arrays)})
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def seal(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the JSON text and of all arrays with their names, types and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path: str | Path) -> Content:
    """A certificate from its file.

    Raises:
        BadData: the file is missing, truncated, of another kind, or changed since it was sealed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        text, claimed = header[HEADER], header["seal"]
        fields = json.loads(text)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None
    if seal(text, arrays) != claimed:
        raise _unreadable(path, "its seal does not match: a number was changed after it was written")
    try:
        return _content(fields, arrays)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None


def _content(fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Content:
    if fields["format"] != FORMAT:
        raise ValueError(f"it has format {fields['format']}, this gramian reads {FORMAT}")
    steps = [ProgramStep(**_tuples(step)) for step in fields["steps"]]
    program = NetworkProgram(steps, _part(arrays, "program."), frozenset(fields["trained"]))
    return Content(
        str(fields["statement"]),
        str(fields["says"]),
        tuple(map(str, fields["assumes"])),
        {str(name): float(number) for name, number in fields["numbers"].items()},
        program,
        arrays["x"],
        arrays["y"],
        _part(arrays, "series."),
    )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where a step has tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _unreadable(path: Path, why: str) -> BadData:
    return BadData("This is no certificate that can be checked.", where=str(path), why=why, fix=FIX)
