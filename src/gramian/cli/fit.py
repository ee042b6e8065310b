"""`gramian fit`: the kernel predictor of a network, trained and stored."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.files import check_file
from gramian.cli.prepared import Draw, NetworkOptions, Prepared, prepared
from gramian.cli.progress import announce, bar
from gramian.cli.scores import score_lines
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
    import joblib  # type: ignore[import-untyped]
    import torch

    from gramian import predict
    from gramian.data.wording import counted
    from gramian.files import replace_file
    from gramian.predict.cost import fit_cost, tile_for
    from gramian.report.numbers import duration, number

    opt.one_of("--which", which, ("ntk", "nngp"))
    normalize = opt.normalization(data, normalize)
    if not 0 <= ridge < float("inf"):
        raise BadArgument(f"--ridge {ridge} makes no sense.", where="--ridge", fix="a number, 0 or more: 1e-3")
    if not out.suffix and out.name:
        out = out.with_suffix(".joblib")
    check_file(out, ".joblib")
    replaced = out.exists()

    def cost_of(rows: int, test: int, d: int, per_entry: float) -> Cost:
        return fit_cost(rows, test, d, per_entry)

    raw = opt.raw_data(
        data, target=target, data_dir=data_dir, task=task, missing=missing, without=without, layout=layout
    )
    draw = Draw(n, n_test, seed, normalize, flatten)
    options = NetworkOptions(net, depth, activation, bias, law, which)
    preparation = prepared(raw, draw, options, cost_of, dtype=torch.float64)
    opt.say(preparation.notes, quiet)
    rows, test = len(preparation.x), len(preparation.data.x_test)
    cost = cost_of(rows, test, preparation.x[0].numel(), preparation.per_entry)
    announce(f"kernel and solution of {rows:,} rows", cost.seconds, cost.memory, not quiet)
    tile = tile_for(preparation.per_entry)
    start = time.perf_counter()
    with bar(not quiet) as tell:
        model = predict.fit(
            preparation.data, preparation.kernel, ridge=ridge, flatten=flatten, tile=tile, progress=tell
        )
        seconds = time.perf_counter() - start
        scores = _scores(preparation, model)
    model.trained_on = {
        "data": identity(data),
        "rows": preparation.data.rows.numpy(),
        "in_shape": preparation.data.in_shape,
        "target": target if preparation.data.columns is None else preparation.data.columns.target,
        "classes": preparation.data.classes,
        "network": preparation.made.title,
        "tile": tile,
    }
    replace_file(out, lambda temporary: joblib.dump(model, temporary))
    show.rows(
        [
            ("model", f"{which.upper()} of {preparation.made.title}, ridge {number(ridge)}"),
            ("biases", preparation.biases),
            ("data", f"{preparation.data.name}, {rows:,} training and {counted(test, 'test row')}"),
            ("inputs", preparation.data.scaling.says.removeprefix("Inputs: ")),
            *scores,
            ("time", duration(seconds)),
            ("written", f"{out}, which was there before" if replaced else str(out)),
        ],
        show.out(),
    )


def _scores(preparation: Prepared, model: Pipeline) -> list[tuple[str, str]]:
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
