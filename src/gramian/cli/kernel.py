"""`gramian kernel`: the infinite-width kernel of a network on data, as a .npy file or a folder of tiles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.data_options import DataSource, Draw
from gramian.cli.output_files import check_file
from gramian.cli.prepared import NetworkOptions, RowsAndNetwork, prepared
from gramian.cli.progress_bar import announce, bar
from gramian.errors import GramianError

if TYPE_CHECKING:
    from torch import Tensor

    from gramian.gram import Gram

MOST_SPECTRUM_ROWS = 3000  # rows up to which all eigenvalues take seconds
TILE, LARGE_TILE = 256, 1024
MANY_ROWS = 20_000  # rows from which on tiles are large: the list of them is written again after each


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
    task: opt.Task = None,
    missing: opt.Missing = "refuse",
    without: opt.Without = None,
    layout: opt.Layout = "auto",
    n: opt.ManyN = None,
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

    Rows are scaled as --normalize says, and the output names it. Equal --n, --n-test and --seed pick equal rows, in one
    order, in every command and in gramian.data.load. All rows: --n all --n-test 0.

    In Python: x = gramian.data.load("digits", n=500).x; np.save("k.npy", gramian.architecture(net, x[:2]).ntk(x))
    """
    opt.one_of("--which", which, ("ntk", "nngp"))
    source = DataSource(data, target, data_dir, task, missing, without, layout)
    draw = Draw(n, n_test, seed, normalize, flatten)
    options = NetworkOptions(net, depth, activation, bias, law, which)
    run_kernel(source, draw, options, out, dtype, device, quiet)


def run_kernel(
    source: DataSource, draw: Draw, options: NetworkOptions, out: Path, dtype: str, device: str, quiet: bool
) -> None:
    """Computes the kernel, writes it to `out`, a file or a folder of tiles, and prints what it is."""
    from gramian.data.wording import counted
    from gramian.files import replace_file
    from gramian.gram import Gram
    from gramian.predict.cost import Cost, kernel_cost, tile_for

    in_tiles = not out.suffix or out.is_dir()
    if not in_tiles:
        check_file(out, ".npy")
    replaced = out.is_file()
    precision, where = opt.dtype_of(dtype), opt.device_of(device)
    itemsize = 0 if in_tiles else precision.itemsize

    def cost_of(rows: int, _test: int, _d: int, per_entry: float) -> Cost:
        return kernel_cost(rows, per_entry, itemsize)

    preparation = prepared(source.read(), draw, options, cost_of, dtype=precision, device=where)
    opt.say(preparation.notes, quiet)
    x = preparation.x
    cost = cost_of(len(x), 0, 0, preparation.per_entry)
    announce(f"kernel of {counted(len(x), 'row')}", cost.seconds, cost.memory, not quiet)
    # one size for both outputs, so that their last digits agree; smaller for slow kernels, so that the bar moves
    tile = min(tile_for(preparation.per_entry), TILE if len(x) < MANY_ROWS else LARGE_TILE)
    if in_tiles:
        tile = _tile_of(out) or tile
    start = time.perf_counter()
    gram = Gram(preparation.kernel, x, tile=tile, keep=False)
    lines = [("written", f"{out}, which was there before" if replaced else str(out))]
    if in_tiles:
        matrix: Gram | Tensor = _stored(gram, out, shown=not quiet)
        lines.append(("tiles", f"of {gram.tile} x {gram.tile}; gramian.Gram.open({str(out)!r}) reads them"))
    else:
        matrix = dense = _computed(gram, shown=not quiet)
        replace_file(out, lambda temporary: _save(temporary, dense.numpy()))
    _print(preparation, f"{options.which.upper()} of", matrix, dtype, time.perf_counter() - start, lines)


def _print(
    preparation: RowsAndNetwork,
    which: str,
    matrix: Gram | Tensor,
    dtype: str,
    seconds: float,
    lines: list[tuple[str, str]],
) -> None:
    from gramian.data.wording import counted
    from gramian.report.numbers import duration, number

    n, diagonal = len(preparation.x), matrix.diagonal()
    show.rows(
        [
            ("kernel", f"{which} {preparation.network.title}"),
            ("biases", preparation.biases),
            ("data", f"{preparation.data.name}, {counted(n, 'row')}"),
            ("inputs", preparation.data.scaling.says.removeprefix("Inputs: ")),
            ("shape", f"{n} x {n}, {dtype}"),
            ("diagonal", f"{number(float(diagonal.min()))} to {number(float(diagonal.max()))}"),
            *_spectrum(matrix),
            ("time", duration(seconds)),
            *lines,
        ],
        show.out(),
    )


def _computed(gram: Gram, shown: bool) -> Tensor:
    """The dense matrix on the CPU, tile by tile, with a bar."""
    import torch

    n, finished = gram.shape[0], 0
    dense = torch.empty(n, n, dtype=gram.dtype)
    with bar(shown) as tell:
        for rows, cols, tile in gram.tiles():
            dense[rows, cols] = tile.cpu()
            finished += tile.numel()
            tell("kernel", finished / n**2)
    return dense


def _stored(gram: Gram, folder: Path, shown: bool) -> Gram:
    """The tiles in a folder, with a bar; Ctrl-C leaves those that are finished."""
    finished = of = 0
    with bar(shown) as move:

        def tell(now: int, tiles: int) -> None:
            nonlocal finished, of
            if not of and now:
                show.talk(f"{now} of {tiles} tiles were there.")
            finished, of = now, tiles
            move("kernel", now / tiles)

        try:
            return gram.save(folder, tell)
        except KeyboardInterrupt:
            show.talk(f"Interrupted: {finished} of {of} tiles are in {folder}; the same command goes on from there.")
            raise typer.Exit(show.INTERRUPTED) from None


def _tile_of(folder: Path) -> int | None:
    """Rows of a tile of the kernel that was begun in this folder; None if none was."""
    import json

    try:
        return int(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["tile"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _spectrum(gram: Gram | Tensor) -> list[tuple[str, str]]:
    from gramian.gram import eigenvalues
    from gramian.report.numbers import number

    if gram.shape[0] > MOST_SPECTRUM_ROWS:
        return [("condition", f"not computed above {MOST_SPECTRUM_ROWS:,} rows")]
    try:
        lam = eigenvalues(gram)
    except GramianError as error:
        return [("condition", error.what)]
    low, high = float(lam[0]), float(lam[-1])
    if low > 0:
        condition = number(high / low)
    else:
        condition = "singular to working precision"
    return [("eigenvalues", f"{number(low)} to {number(high)}"), ("condition", condition)]


def _save(path: Path, array: object) -> None:
    import numpy as np

    with path.open("wb") as file:  # np.save would add .npy to a name
        np.save(file, array)  # type: ignore[arg-type]
