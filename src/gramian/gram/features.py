"""Features of many samples on disk, in tiles of rows: kept when the worker is killed, checked when read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData, named_in_errors
from gramian.gram.store import Store, fingerprint


class FeatureStore(Store):
    """A folder of tiles of rows."""

    format, maker, kind = "gramian features 1", "store_features(features, x, path)", "store_features"


class Features:
    r"""A matrix $\Phi$ of features, one row for each sample, in tiles of rows on disk.

    Attributes:
        shape: (n, k).
        dtype: of the tiles.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self.shape: tuple[int, int] = tuple(store.manifest["shape"])
        self.dtype: torch.dtype = getattr(torch, store.manifest["dtype"])
        missing = sum(not store.listed(i, 0) for i in range(self._blocks))
        if missing:
            raise store.stale(f"{missing} of {self._blocks} tiles are missing", why="the worker was interrupted")

    @classmethod
    def open(cls, path: str | os.PathLike, *, x: Tensor | None = None) -> Features:
        """Stored features; each tile is memory mapped, and checked against its SHA-256 when first read.

        Raises:
            StaleTiles: the folder is no store of features, is unfinished or damaged, or was made from other data
                than `x`.
        """
        store = FeatureStore.open(path)
        assert isinstance(store, FeatureStore)
        if x is not None:
            store.compare(fingerprint(None, torch.as_tensor(x), None))
        return cls(store)

    def tiles(self) -> Iterator[tuple[slice, Tensor]]:
        """(rows, tile) from the first to the last."""
        size = self._store.manifest["tile"]
        return ((slice(i * size, (i + 1) * size), self._store.read(i, 0)) for i in range(self._blocks))

    def dense(self) -> Tensor:
        """The whole matrix; shape (n, k)."""
        return torch.cat([tile for _, tile in self.tiles()])

    def __matmul__(self, other: Tensor) -> Tensor:
        """Phi @ other, a tile at a time, in the wider of the two dtypes."""
        dtype = torch.promote_types(self.dtype, other.dtype)
        return torch.cat([tile.to(dtype) @ other.to(dtype) for _, tile in self.tiles()])

    def moments(self, y: Tensor | None = None) -> Tensor:
        """Phi^T Phi, (k, k), or Phi^T y, (k, C); sums in float64."""
        if y is None:
            right = self.shape[1]
        else:
            right = y.shape[1]
        total = torch.zeros(self.shape[1], right, dtype=torch.float64)
        for rows, tile in self.tiles():
            wide = tile.double()
            if y is None:
                total += wide.mT @ wide
            else:
                total += wide.mT @ y[rows].double()
        return total

    @property
    def _blocks(self) -> int:
        return -(-self.shape[0] // self._store.manifest["tile"])

    def __repr__(self) -> str:
        return f"Features({self.shape[0]} x {self.shape[1]}, {self._blocks} tiles in {self._store.folder})"


@named_in_errors
def store_features(
    features: Callable[[Tensor], Tensor], x: Tensor, path: str | os.PathLike, *, tile: int = 256
) -> Features:
    r"""Computes features a tile of rows at a time into a folder; a tile that is there already is kept.

    One safetensors file a tile, written to a temporary name and renamed, then listed in `manifest.json` with its
    SHA-256: a worker that is killed loses no more than the tile it works on, and the same call goes on from there.
    What was stored is recognized by the data's SHA-256 and by the inner products of a few rows' features.

    Args:
        features: (m, *in_shape) -> (m, k), each row for itself; `lambda x: projected_gradients(module, x, sketch)`.
        x: inputs; shape (n, *in_shape).
        path: the folder.
        tile: rows of a tile.

    Raises:
        StaleTiles: the folder holds features of other data, of another module or sketch, or of another tile size.
        BadArgument: the folder cannot be written, `tile` is below 1, or the features have another shape.
        BadData: no rows.

    Example:
        >>> import tempfile
        >>> from gramian.gram import store_features
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     phi = store_features(lambda x: x.square(), torch.ones(5, 3), folder, tile=2)
        ...     phi.shape, phi.moments()[0, 0].item()
        ((5, 3), 5.0)
    """
    if tile < 1:
        raise BadArgument(f"tile={tile}", why="a tile has at least one row", fix="tile=256")
    x = torch.as_tensor(x)
    if x.ndim == 0 or not len(x):
        raise BadData(f"features of x {tuple(x.shape)}", why="there are no rows", fix="pass at least one row")

    def inner_products(some: Tensor) -> Tensor:
        phi = _checked_features(features, some)
        return phi @ phi.mT

    first = _checked_features(features, x[:1])
    wanted = {
        "shape": [len(x), first.shape[1]],
        "tile": tile,
        "symmetric": False,
        "dtype": str(first.dtype).removeprefix("torch."),
        "fingerprint": fingerprint(inner_products, x, None),
    }
    store = FeatureStore.resume(path, wanted)
    for i, start in enumerate(range(0, len(x), tile)):
        if not store.intact(i, 0):
            store.write(i, 0, _checked_features(features, x[start : start + tile]))
    assert isinstance(store, FeatureStore)
    return Features(store)


def _checked_features(features: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    phi = features(x).detach()
    if phi.ndim != 2 or len(phi) != len(x):
        raise BadArgument(
            f"the features of {len(x)} rows have shape {tuple(phi.shape)}",
            where="store_features(features, x, path)",
            why="each sample has one row of features",
            fix='projected_gradients(module, x, sketch, outputs="mean"), or reshape "full" to (n, C k)',
        )
    return phi
