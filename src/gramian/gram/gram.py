"""A Gram matrix as tiles: made when asked for, kept in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gramian.arch.inputs import Inputs, leaves, rows, samples, tensors
from gramian.errors import BadArgument, BadData
from gramian.gram.store import Store, fingerprint

Kernel = Callable[..., Tensor]


class Gram:
    r"""The matrix $K_{ij} = k(x_i, y_j)$ of a kernel on data, in square tiles that are computed when first needed.

    With `x2` left out the matrix is symmetric: only the tiles on and above the diagonal are computed, those below are
    their transposes, and the diagonal tiles are `kernel(x[rows])`, so that a kernel which sets its diagonal exactly
    keeps it exact. A pickle carries the kernel and the data but not the tiles; `save` is for those.

    Args:
        kernel: `kernel(x, x2=None)`, (n, \*in), (m, \*in) -> (n, m).
        x: inputs; shape (n, \*in). Of several inputs a tuple, or a dict by name.
        x2: inputs of the columns; shape (m, \*in). None: the same as `x`.
        tile: rows and columns of a tile.
        dtype: of the tiles; None: what the kernel returns.
        keep: keep each tile in memory once it is made. False recomputes it on every use: for matrices larger than
            memory (or `save` them and use what it returns). A tile that requires a gradient passes it on, and is not
            kept.

    Raises:
        BadArgument: `tile` below 1, or a kernel that returns another shape than (rows, columns).
        BadData: no rows.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0]])
        >>> gram = Gram(lambda x, x2=None: x @ (x if x2 is None else x2).mT, x, tile=2)
        >>> gram
        Gram(3 x 3, symmetric, tiles of 2, kept 0 of 3)
        >>> (gram @ torch.ones(3)).tolist(), gram.diagonal().tolist()
        ([6.0, 12.0, 18.0], [1.0, 4.0, 9.0])
    """

    def __init__(
        self,
        kernel: Kernel,
        x: Inputs,
        x2: Inputs | None = None,
        *,
        tile: int = 1024,
        dtype: torch.dtype | None = None,
        keep: bool = True,
    ) -> None:
        if tile < 1:
            raise BadArgument(f"tile={tile}", why="a tile has at least one row", fix="tile=1024")
        self.kernel: Kernel | None = kernel
        self.x: Inputs | None = tensors(x)
        if x2 is None:
            self.x2 = None
        else:
            self.x2 = tensors(x2)
        columns = self.x if self.x2 is None else self.x2
        given = [*leaves(self.x), *leaves(columns)]
        if not given or any(t.ndim == 0 or not len(t) for t in given):
            shapes = [" and ".join(str(tuple(t.shape)) for t in leaves(v)) for v in (self.x, columns)]
            raise BadData(
                f"a Gram matrix of x {shapes[0]} and x2 {shapes[1]} has no entries",
                why="samples are counted along the first dimension, and there are none",
                fix="pass at least one row",
            )
        self.shape = (samples(self.x), samples(columns))
        self.symmetric = x2 is None
        self.tile = tile
        self.keep = keep
        self._dtype = dtype
        self._store: Store | None = None
        self._kept: dict[tuple[int, int], Tensor] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the tiles; the kernel is asked for one entry if nothing is known yet."""
        if self._dtype is None:
            kernel, x, x2 = self._source()
            self._dtype = kernel(rows(x, slice(1)), rows(x2, slice(1))).dtype
        return self._dtype

    def tiles(self, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[slice, slice, Tensor]]:
        """(row slice, column slice, tile) that cover every entry once; mirrored tiles follow their originals.

        Args:
            share: (k, of): this process computes every `of`-th tile from number k on; the shares 0..of-1 together are
                all tiles. For machines with several GPUs: one process each, `Gram(arch.ntk, x.to(f"cuda:{k}"))`.

        Raises:
            BadArgument: k is not among 0..of-1.
        """
        first, of = share
        if not 0 <= first < of:
            raise BadArgument(f"share={share}", why="shares are counted (0, of) to (of - 1, of)", fix="share=(0, 2)")
        for i, j in self._index()[first::of]:
            tile = self._tile(i, j)
            yield self._slice(i), self._slice(j), tile
            if self.symmetric and i != j:
                # k(x_j, x_i) = k(x_i, x_j)
                yield self._slice(j), self._slice(i), tile.mT

    def dense(self) -> Tensor:
        """The whole matrix; shape (n, m)."""
        out: Tensor | None = None
        for at, columns, tile in self.tiles():
            if out is None:
                out = torch.empty(self.shape, dtype=tile.dtype, device=tile.device)
            out[at, columns] = tile
        assert out is not None
        return out

    def diagonal(self) -> Tensor:
        """k(x_i, x_i) of a symmetric Gram matrix, from its diagonal tiles; shape (n,)."""
        if not self.symmetric:
            raise BadArgument(
                f"the diagonal of a Gram matrix between two sets ({self.shape[0]} x {self.shape[1]})",
                why="its rows and columns are different samples",
                fix="Gram(kernel, x).diagonal()",
            )
        return torch.cat([self._tile(i, i).diagonal() for i in range(self._blocks(0))])

    def __matmul__(self, other: Tensor) -> Tensor:
        """K @ other, a tile at a time, in the wider of the two dtypes; (m,) -> (n,), (m, k) -> (n, k)."""
        other = torch.as_tensor(other)
        if other.ndim not in (1, 2) or len(other) != self.shape[1]:
            raise BadArgument(
                f"a Gram matrix {self.shape} times a tensor {tuple(other.shape)}",
                why=f"each of its {self.shape[1]} columns takes one entry of the tensor's first axis",
                fix=f"a tensor of shape ({self.shape[1]},) or ({self.shape[1]}, k)",
            )
        dtype = torch.promote_types(self.dtype, other.dtype)
        other = other.to(dtype)
        out = other.new_zeros((self.shape[0], *other.shape[1:]))
        for at, columns, tile in self.tiles():
            out[at] += tile.to(dtype) @ other[columns]
        return out

    def save(self, path: str | os.PathLike, progress: Callable[[int, int], object] | None = None) -> Gram:
        """Write the tiles into a folder, one safetensors file each, and return a Gram matrix that reads them there.

        A file is written to a temporary name and renamed, and `manifest.json` lists each finished tile with its
        SHA-256, so that an interrupted save goes on where it stopped: tiles whose checksum still holds are kept.

        Args:
            path: the folder; made if it is not there.
            progress: `progress(finished, tiles)`, called at the start with the tiles that are kept, and after each.

        Raises:
            StaleTiles: the folder holds tiles of other data, of another kernel, or of another layout.
            BadArgument: the folder cannot be written.
        """
        wanted = {
            "shape": list(self.shape),
            "tile": self.tile,
            "symmetric": self.symmetric,
            "dtype": str(self.dtype).removeprefix("torch."),
            "fingerprint": self._fingerprint(),
        }
        store = Store.resume(path, wanted)
        left = [at for at in self._index() if not store.intact(*at)]
        of = len(self._index())
        for finished, (i, j) in enumerate(left, of - len(left)):
            if progress:
                progress(finished, of)
            store.write(i, j, self._tile(i, j, keep=False).detach())
        if progress:
            progress(of, of)
        return Gram.open(path)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        *,
        x: Inputs | None = None,
        x2: Inputs | None = None,
        kernel: Kernel | None = None,
    ) -> Gram:
        """A saved Gram matrix; its tiles are memory mapped, and each is checked against its SHA-256 when first read.

        Args:
            path: the folder that `save` wrote.
            x, x2: the data that the tiles should have been made from; compared with the stored fingerprint if given.
            kernel: the kernel that they should have been made with; needs `x`. It is compared on a few rows.

        Raises:
            StaleTiles: the folder is no store, is unfinished, is damaged, or was made from something else.
        """
        store = Store.open(path)
        if x is not None:
            store.compare(fingerprint(kernel, tensors(x), None if x2 is None else tensors(x2)))
        gram = cls.__new__(cls)
        gram.kernel, gram.x, gram.x2 = None, None, None
        gram.shape = tuple(store.manifest["shape"])
        gram.symmetric, gram.tile, gram.keep = store.manifest["symmetric"], store.manifest["tile"], True
        gram._dtype, gram._store, gram._kept = getattr(torch, store.manifest["dtype"]), store, {}
        missing = sum(not store.listed(i, j) for i, j in gram._index())
        if missing:
            raise store.stale(f"{missing} of {len(gram._index())} tiles are missing", why="the save was interrupted")
        return gram

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}}

    def __repr__(self) -> str:
        if self.symmetric:
            kind = "symmetric, "
        else:
            kind = ""
        if self._store:
            where = f"in {self._store.folder}"
        else:
            where = f"kept {len(self._kept)} of {len(self._index())}"
        return f"Gram({self.shape[0]} x {self.shape[1]}, {kind}tiles of {self.tile}, {where})"

    def _blocks(self, dim: int) -> int:
        return -(-self.shape[dim] // self.tile)

    def _slice(self, i: int) -> slice:
        return slice(i * self.tile, (i + 1) * self.tile)

    def _index(self) -> list[tuple[int, int]]:
        """Tiles that are computed."""
        columns = range(self._blocks(1))
        return [(i, j) for i in range(self._blocks(0)) for j in columns if j >= i or not self.symmetric]

    def _fingerprint(self) -> dict:
        if self._store is not None:
            return self._store.manifest["fingerprint"]
        kernel, x, _ = self._source()
        return fingerprint(kernel, x, self.x2)

    def _source(self) -> tuple[Kernel, Inputs, Inputs]:
        if self.kernel is None or self.x is None:
            raise BadArgument(f"{self!r} was opened from disk and computes nothing", fix="Gram(kernel, x)")
        return self.kernel, self.x, self.x if self.x2 is None else self.x2

    def _tile(self, i: int, j: int, keep: bool = True) -> Tensor:
        if (i, j) in self._kept:
            return self._kept[i, j]
        if self._store is None:
            tile = self._compute(i, j)
        else:
            tile = self._store.read(i, j)
        if keep and self.keep and not tile.requires_grad:  # a kept graph could be gone backward through only once
            self._kept[i, j] = tile
        return tile

    def _compute(self, i: int, j: int) -> Tensor:
        kernel, x, x2 = self._source()
        x, x2 = rows(x, self._slice(i)), rows(x2, self._slice(j))
        if self.symmetric and i == j:
            tile = kernel(x)
        else:
            tile = kernel(x, x2)
        expected = (samples(x), samples(x2))
        if tuple(tile.shape) != expected:
            raise BadArgument(
                f"the kernel returned shape {tuple(tile.shape)} for {expected[0]} rows and {expected[1]} columns",
                why="a Gram matrix has one number for each pair of samples",
                fix='a kernel with kernel(x, x2=None) -> (n, m), for instance empirical_ntk(..., outputs="mean")',
            )
        return tile.to(self._dtype or tile.dtype)
