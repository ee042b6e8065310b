"""`gramian fit`: the kernel predictor of a network, trained and stored."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.data_options import DataSource, Draw
from gramian.cli.output_files import check_file
from gramian.cli.prepared import NetworkOptions, RowsAndNetwork, prepared
from gramian.cli.progress_bar import announce, bar
from gramian.cli.score_lines import score_lines
from gramian.errors import BadArgument

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from gramian.predict.cost import Cost


def fit(
    data: opt.Data,
    out: Annotated[
        Path, typer.Option(metavar="FILE.joblib", help="To write the model into.", rich_help_panel=opt.OUTPUT)
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
        str, typer.Option(metavar="ntk|nngp", help="All layers trained, or the last.", rich_help_panel=opt.NETWORK)
    ] = "ntk",
    ridge: Annotated[
        float,
        typer.Option(metavar="FLOAT", help="In units of the kernel's mean diagonal.", rich_help_panel=opt.NETWORK),
    ] = 1e-3,
    quiet: opt.Quiet = False,
) -> None:
    """Trains the kernel predictor of a network: what gradient descent finds at infinite width.

    The model knows the columns of its table, their categories, the scale of the inputs and the names of the classes; it
    takes rows as they lie in the source, and predicts names of classes or numbers. It is stored with joblib, which is
    Python's pickle: loading a model runs what is in it, so load your own only.

    In Python: joblib.dump(gramian.predict.fit(gramian.data.load("table.csv")), "model.joblib")
    """
    opt.one_of("--which", which, ("ntk", "nngp"))
    if not 0 <= ridge < float("inf"):
        raise BadArgument(f"--ridge {ridge} makes no sense.", where="--ridge", fix="a number, 0 or more: 1e-3")
    if not out.suffix and out.name:
        out = out.with_suffix(".joblib")
    source = DataSource(data, target, data_dir, task, missing, without, layout)
    draw = Draw(n, n_test, seed, normalize, flatten)
    check_file(out, ".joblib")
    run_fit(source, draw, NetworkOptions(net, depth, activation, bias, law, which), ridge, out, quiet)


def run_fit(source: DataSource, draw: Draw, options: NetworkOptions, ridge: float, out: Path, quiet: bool) -> None:
    """Trains the predictor, stores it in `out` and prints how good it is."""
    import joblib  # type: ignore[import-untyped]
    import torch

    from gramian import predict
    from gramian.files import replace_file
    from gramian.predict.cost import fit_cost, tile_for

    replaced = out.exists()

    def cost_of(rows: int, test: int, d: int, per_entry: float) -> Cost:
        return fit_cost(rows, test, d, per_entry)

    preparation = prepared(source.read(), draw, options, cost_of, dtype=torch.float64)
    opt.say(preparation.notes, quiet)
    rows, n_test = len(preparation.x), len(preparation.data.x_test)
    cost = cost_of(rows, n_test, preparation.x[0].numel(), preparation.per_entry)
    announce(f"kernel and solution of {rows:,} rows", cost.seconds, cost.memory, not quiet)
    tile = tile_for(preparation.per_entry)
    start = time.perf_counter()
    with bar(not quiet) as tell:
        model = predict.fit(
            preparation.data, preparation.kernel, ridge=ridge, flatten=draw.flatten, tile=tile, progress=tell
        )
        seconds = time.perf_counter() - start
        scores = _scores(preparation, model)
    model.trained_on = _trained_on(preparation, source, tile)
    replace_file(out, lambda temporary: joblib.dump(model, temporary))
    written = f"{out}, which was there before" if replaced else str(out)
    _print(preparation, options, ridge, scores, seconds, written)


def _trained_on(preparation: RowsAndNetwork, source: DataSource, tile: int) -> dict[str, Any]:
    """What `gramian predict` asks of a stored model."""
    data = preparation.data
    return {
        "data": identity(source.data),
        "rows": data.rows.numpy(),
        "in_shape": data.in_shape,
        "target": source.target if data.columns is None else data.columns.target,
        "classes": data.classes,
        "network": preparation.network.title,
        "tile": tile,
    }


def _print(
    preparation: RowsAndNetwork,
    options: NetworkOptions,
    ridge: float,
    scores: list[tuple[str, str]],
    seconds: float,
    written: str,
) -> None:
    from gramian.data.wording import counted
    from gramian.report.numbers import duration, number

    data = preparation.data
    drawn = f"{len(preparation.x):,} training and {counted(len(data.x_test), 'test row')}"
    show.rows(
        [
            ("model", f"{options.which.upper()} of {preparation.network.title}, ridge {number(ridge)}"),
            ("biases", preparation.biases),
            ("data", f"{data.name}, {drawn}"),
            ("inputs", data.scaling.says.removeprefix("Inputs: ")),
            *scores,
            ("time", duration(seconds)),
            ("written", written),
        ],
        show.out(),
    )


def _scores(preparation: RowsAndNetwork, model: Pipeline) -> list[tuple[str, str]]:
    """On the training rows, from the solution, and on the test rows."""
    from gramian.predict.model import names

    dataset, predictor = preparation.data, model[-1]
    classes = bool(dataset.classes)
    truth = names(dataset, dataset.y)
    lines = score_lines("training", truth, predictor._fitted(truth), classes)
    if len(dataset.x_test):
        predicted = predictor.predict(dataset.x_test.flatten(1).numpy())
        lines += score_lines("test", names(dataset, dataset.y_test), predicted, classes)
    return lines


def identity(data: str) -> str:
    """What tells one data set from another: a path whole, or a name."""
    if os.path.exists(data):
        return str(Path(data).absolute())
    return data.lower()
