"""`gramian kernel`: the infinite-width kernel of a network on data, as a .npy file."""

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
    from torch import Tensor

    from gramian.gram import Gram

SPECTRUM = 3000  # rows up to which all eigenvalues take seconds
TILE = 256


def kernel(
    data: opt.Data,
    out: Annotated[Path, typer.Option(metavar="FILE.npy", help="To write, shape (n, n).", rich_help_panel=opt.OUTPUT)],
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

    Rows are scaled to norm sqrt(d), d numbers in a row (or as --normalize says), so that entries are of size 1.

    Equal --n, --n-test and --seed pick equal rows, in one order, in every command and in gramian.data.load. All rows:
    --n all --n-test 0.

    In Python: x = 8 * gramian.data.load("digits", n=500).x; np.save("k.npy", gramian.architecture(net, x[:2]).ntk(x))
    """
    import numpy as np

    from gramian.arch import architecture
    from gramian.gram import Gram
    from gramian.report.numbers import duration, number
    from gramian.train.files import replace_file

    opt.one_of("--which", which, ("ntk", "nngp"))
    normalize = opt.normalization(data, normalize)
    check_file(out, ".npy")
    precision, where = opt.dtype_of(dtype), opt.device_of(device)
    found = opt.dataset(
        data, target=target, data_dir=data_dir, n=n, n_test=n_test, seed=seed, normalize=normalize, flatten=flatten
    )
    made = network(net, found, depth=depth, activation=activation, bias=bias, seed=seed)
    x = opt.on_the_networks_scale(found.x, normalize).to(where, precision)
    fits(len(x), x.element_size())
    arch = architecture(made.module.eval(), x[:2].cpu(), law=opt.law_of(law, made.law) or "he")
    start = time.perf_counter()
    gram = _computed(Gram(getattr(arch, which), x, tile=TILE, keep=False), shown=not quiet)
    seconds = time.perf_counter() - start
    replace_file(out, lambda temporary: _save(temporary, gram.numpy()))
    diagonal = np.diagonal(gram.numpy())
    console = show.out()
    show.rows(
        [
            ("kernel", f"{which.upper()} of {made.title}"),
            ("data", f"{found.name}, {len(x)} rows"),
            ("shape", f"{len(x)} x {len(x)}, {dtype}"),
            ("diagonal", f"{number(float(diagonal.min()))} to {number(float(diagonal.max()))}"),
            *_spectrum(gram),
            ("time", duration(seconds)),
            ("written", str(out)),
        ],
        console,
    )


def _computed(gram: Gram, shown: bool) -> Tensor:
    """The dense matrix on the CPU, tile by tile, with a bar."""
    import torch
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    n = gram.shape[0]
    dense = torch.empty(n, n, dtype=gram.dtype)
    columns = (TextColumn("kernel"), BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=show.err(), disable=not shown or not show.err().is_terminal) as progress:
        task = progress.add_task("kernel", total=n * n)
        for rows, cols, tile in gram.tiles():
            dense[rows, cols] = tile.cpu()
            progress.advance(task, tile.numel())
    return dense


def _spectrum(gram: Tensor) -> list[tuple[str, str]]:
    from gramian.gram import eigenvalues
    from gramian.report.numbers import number

    if len(gram) > SPECTRUM:
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
            fix=f"--n {most // 100 * 100}, or in Python gramian.Gram(arch.ntk, x).save(folder): tiles on disk.",
        )
