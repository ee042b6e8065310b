"""`gramian kernel`: the infinite-width kernel of a network on data, as a .npy file or a folder of tiles."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.files import check_file
from gramian.cli.networks import network
from gramian.errors import BadArgument, GramianError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

    from gramian.gram import Gram

SPECTRUM = 3000  # rows up to which all eigenvalues take seconds
TILE, LARGE_TILE = 256, 1024
MANY = 20_000  # rows from which on tiles are large: the list of them is written again after each


def kernel(
    data: opt.Data,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.npy|FOLDER",
            help="To write, shape (n, n). A folder gets it in tiles, and is completed after an interruption.",
            rich_help_panel=opt.OUTPUT,
        ),
    ],
    target: opt.Target = None,
    data_dir: opt.DataDir = None,
    n: opt.N = None,
    n_test: opt.NTest = None,
    normalize: opt.Normalize = "auto",
    flatten: opt.Flatten = False,
    seed: opt.Seed = 0,
    net: opt.Net = "mlp",
    depth: opt.Depth = None,
    activation: opt.Activation = None,
    bias: opt.Bias = False,
    law: opt.Law = None,
    which: Annotated[
        str,
        typer.Option(
            metavar="ntk|nngp",
            help="Tangent kernel (all layers trained), or covariance of the random network's outputs.",
            rich_help_panel=opt.NETWORK,
        ),
    ] = "ntk",
    dtype: opt.Dtype = "float64",
    device: opt.Device = "cpu",
    quiet: opt.Quiet = False,
) -> None:
    """The infinite-width kernel of a network on the training rows, as a .npy file of shape (n, n).

    --out FOLDER writes it in tiles instead, for kernels that take hours or more than the memory. The same command
    goes on where it was interrupted, or killed. gramian.Gram.open(folder) reads it: .dense(), .tiles(), products.

    Rows are scaled to norm sqrt(d), d numbers in a row (or as --normalize says), so that entries are of size 1.

    Equal --n, --n-test and --seed pick equal rows, in one order, in every command and in gramian.data.load. All rows:
    --n all --n-test 0.

    In Python: x = 8 * gramian.data.load("digits", n=500).x; np.save("k.npy", gramian.architecture(net, x[:2]).ntk(x))
    """
    from gramian.arch import architecture
    from gramian.gram import Gram
    from gramian.report.numbers import duration, number
    from gramian.train.files import replace_file

    opt.one_of("--which", which, ("ntk", "nngp"))
    normalize = opt.normalization(data, normalize)
    in_tiles = not out.suffix or out.is_dir()
    if not in_tiles:
        check_file(out, ".npy")
    precision, where = opt.dtype_of(dtype), opt.device_of(device)
    found = opt.dataset(
        data, target=target, data_dir=data_dir, n=n, n_test=n_test, seed=seed, normalize=normalize, flatten=flatten
    )
    made = network(net, found, depth=depth, activation=activation, bias=bias, seed=seed)
    x = opt.on_the_networks_scale(found.x, normalize).to(where, precision)
    if not in_tiles:
        fits(len(x), x.element_size())
    arch = architecture(made.module.eval(), x[:2].cpu(), law=opt.law_of(law, made.law) or "he")
    start = time.perf_counter()
    gram = Gram(getattr(arch, which), x, tile=TILE if len(x) < MANY else LARGE_TILE, keep=False)
    rows = []
    if in_tiles:
        made_gram: Gram | Tensor = _stored(gram, out, shown=not quiet)
        rows = [("tiles", f"of {gram.tile} x {gram.tile}; gramian.Gram.open({str(out)!r}) reads them")]
    else:
        made_gram = dense = _computed(gram, shown=not quiet)
        replace_file(out, lambda temporary: _save(temporary, dense.numpy()))
    seconds = time.perf_counter() - start
    diagonal = made_gram.diagonal()
    show.rows(
        [
            ("kernel", f"{which.upper()} of {made.title}"),
            ("data", f"{found.name}, {len(x)} rows"),
            ("shape", f"{len(x)} x {len(x)}, {dtype}"),
            ("diagonal", f"{number(float(diagonal.min()))} to {number(float(diagonal.max()))}"),
            *_spectrum(made_gram),
            ("time", duration(seconds)),
            ("written", str(out)),
            *rows,
        ],
        show.out(),
    )


def _bar(total: int, shown: bool) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("kernel"), BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn())
    progress = Progress(*columns, console=show.err(), disable=not shown or not show.err().is_terminal)
    return progress, progress.add_task("kernel", total=total)


def _computed(gram: Gram, shown: bool) -> Tensor:
    """The dense matrix on the CPU, tile by tile, with a bar."""
    import torch

    n = gram.shape[0]
    dense = torch.empty(n, n, dtype=gram.dtype)
    progress, task = _bar(n * n, shown)
    with progress:
        for rows, cols, tile in gram.tiles():
            dense[rows, cols] = tile.cpu()
            progress.advance(task, tile.numel())
    return dense


def _stored(gram: Gram, folder: Path, shown: bool) -> Gram:
    """The tiles in a folder, with a bar; Ctrl-C leaves those that are finished."""
    progress, task = _bar(1, shown)
    finished = of = 0

    def tell(now: int, tiles: int) -> None:
        nonlocal finished, of
        if not of and now:
            show.talk(f"{now} of {tiles} tiles were there.")
        finished, of = now, tiles
        progress.update(task, completed=now, total=tiles)

    try:
        with progress:
            return gram.save(folder, tell)
    except KeyboardInterrupt:
        show.talk(f"Interrupted: {finished} of {of} tiles are in {folder}; the same command goes on from there.")
        raise typer.Exit(show.INTERRUPTED) from None


def _spectrum(gram: Gram | Tensor) -> list[tuple[str, str]]:
    from gramian.gram import eigenvalues
    from gramian.report.numbers import number

    if gram.shape[0] > SPECTRUM:
        return [("condition", f"not computed above {SPECTRUM:,} rows")]
    try:
        lam = eigenvalues(gram)
    except GramianError as error:
        return [("condition", error.what)]
    low, high = float(lam[0]), float(lam[-1])
    condition = number(high / low) if low > 0 else "singular to working precision"
    return [("eigenvalues", f"{number(low)} to {number(high)}"), ("condition", condition)]


def _save(path: Path, array: object) -> None:
    import numpy as np

    with path.open("wb") as file:  # np.save would add .npy to a name
        np.save(file, array)  # type: ignore[arg-type]


def fits(n: int, itemsize: int) -> None:
    """Raise BadArgument if n x n numbers are more than half of this machine's memory."""
    if not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = n * n * itemsize
    if needed > there / 2:
        most = int((there / 2 / itemsize) ** 0.5)
        raise BadArgument(
            f"a kernel of {n:,} rows takes {needed / 2**30:.0f} GiB; this machine has {there / 2**30:.0f}.",
            where=f"--n {n}",
            why="n rows give n x n numbers, and more than half of the memory is not taken.",
            fix=f"--n {most // 100 * 100}, or tiles on disk: --out FOLDER",
        )
