"""Where the tiles of a kernel matrix begin."""

from __future__ import annotations

from collections.abc import Iterator


def tile_starts(shape: tuple[int, int], tile: tuple[int, int], *, symmetric: bool) -> Iterator[tuple[int, int]]:
    """First row and column of each tile; of a symmetric matrix only from the diagonal on."""
    for i in range(0, shape[0], tile[0]):
        first = 0
        if symmetric:
            first = i
        for j in range(first, shape[1], tile[1]):
            yield i, j
