"""The options on data as values: where rows come from, and which of them are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramian.cli import options as opt

if TYPE_CHECKING:
    from gramian.data import Dataset
    from gramian.data.raw import Raw


@dataclass(frozen=True)
class DataSource:
    """Where rows come from, and how a table is read; as on the command line."""

    data: str
    target: str | None
    data_dir: Path | None
    task: str | None = None
    missing: str = "refuse"
    without: list[str] | None = None
    layout: str = "auto"

    def read(self) -> Raw:
        """Rows as they lie in the source, before any are drawn."""
        from gramian.data.labels import known_task
        from gramian.data.sources import Choices, read

        choices = Choices(self.target, known_task(self.task), self.missing, tuple(self.without or ()), self.layout)
        return read(self.data, self.data_dir, choices)

    def keywords(self) -> dict[str, Any]:
        """The same for `gramian.data.load`; None where nothing was said."""
        said: dict[str, Any] = {"target": self.target, "task": self.task, "without": self.without}
        if self.data_dir is not None:
            said["data_dir"] = str(self.data_dir)
        if self.missing != "refuse":
            said["missing"] = self.missing
        if self.layout != "auto":
            said["layout"] = self.layout
        return said


@dataclass(frozen=True)
class Draw:
    """Which rows are drawn, and how they are scaled; as on the command line."""

    n: str | None
    n_test: int | None
    seed: int
    normalize: str
    flatten: bool

    def __post_init__(self) -> None:
        opt.normalization(self.normalize)

    def rows(self, raw: Raw, n: int | None) -> Dataset:
        """`n` training rows, None for all, with their test rows."""
        from gramian.data.load import drawn

        return drawn(raw, n=n, n_test=self.n_test, seed=self.seed, normalize=self.normalize)


def dataset(source: DataSource, draw: Draw) -> Dataset:
    """`data.load` with certify's default number of rows, min(500, 80 %), which a note then says; float64.

    Raises:
        BadData, BadArgument: as `data.load`; --n is no number.
    """
    from gramian.data.load import available_rows

    count = opt.number_of_rows(draw.n)
    raw = source.read()
    there = available_rows(raw, draw.n_test)
    if draw.n is None:
        count = min(opt.ROWS, there)
    loaded = draw.rows(raw, count)
    if draw.n is None and count is not None and count < there:
        said = f"{count:,} of {there:,} training rows were drawn; --n all takes all, --n INT another number."
        loaded = replace(loaded, notes=(*loaded.notes, said))
    if draw.flatten:
        return flattened(loaded)
    return loaded


def flattened(data: Dataset) -> Dataset:
    """Images as vectors."""
    return replace(data, x=data.x.flatten(1), x_test=data.x_test.flatten(1))
