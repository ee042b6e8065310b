"""`gramian fit`: the kernel predictor of a network, trained and stored."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.files import check_file
from gramian.cli.kernel import fits
from gramian.cli.networks import network
from gramian.cli.scaling import norm_sqrt_d
from gramian.errors import BadArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gramian.data import Dataset


def fit(
    data: opt.Data,
    out: Annotated[
        Path, typer.Option(metavar="FILE.joblib", help="To write the model into.", rich_help_panel=opt.OUTPUT)
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
        str, typer.Option(metavar="ntk|nngp", help="All layers trained, or the last.", rich_help_panel=opt.NETWORK)
    ] = "ntk",
    ridge: Annotated[
        float,
        typer.Option(metavar="FLOAT", help="In units of the kernel's mean diagonal.", rich_help_panel=opt.NETWORK),
    ] = 1e-3,
) -> None:
    """Trains the kernel predictor of a network: what gradient descent finds at infinite width.

    The model is a scikit-learn pipeline that takes raw rows, flattened, scales them to norm sqrt(d), d numbers in a row
    (or as --normalize says), and predicts names of classes or numbers. It is stored with joblib, which is Python's
    pickle: loading a model runs what is in it, so load your own only.

    In Python: joblib.dump(make_pipeline(FunctionTransformer(norm_sqrt_d), NTKClassifier()).fit(X, y), "model.joblib")
    """
    import joblib  # type: ignore[import-untyped]

    from gramian.arch import architecture
    from gramian.report.numbers import duration, number, percent
    from gramian.train.files import replace_file

    opt.one_of("--which", which, ("ntk", "nngp"))
    normalize = opt.normalization(data, normalize)
    if not 0 <= ridge < float("inf"):
        raise BadArgument(f"--ridge {ridge} makes no sense.", where="--ridge", fix="a number, 0 or more: 1e-3")
    check_file(out, ".joblib")
    found = opt.dataset(
        data, target=target, data_dir=data_dir, n=n, n_test=n_test, seed=seed, normalize="none", flatten=flatten
    )
    made = network(net, found, depth=depth, activation=activation, bias=bias, seed=seed)
    fits(len(found.x), 8)
    arch = architecture(made.module.eval(), found.x[:2], law=opt.law_of(law, made.law) or "he")
    model = _pipeline(getattr(arch, which), found, normalize, ridge)
    start = time.perf_counter()
    model.fit(found.x.flatten(1).numpy(), _labels(found, found.y))
    seconds = time.perf_counter() - start
    model.trained_on = {
        "data": _name(data),
        "rows": found.rows.numpy(),
        "in_shape": found.in_shape,
        "target": target,
        "network": made.title,
    }
    replace_file(out, lambda temporary: joblib.dump(model, temporary))
    word = "accuracy" if found.classes else "R²"
    scores = [("training", found.x, found.y)] + ([("test", found.x_test, found.y_test)] if len(found.x_test) else [])
    lines = []
    for what, x, y in scores:
        share = model.score(x.flatten(1).numpy(), _labels(found, y))
        lines.append((f"{what} {word}", f"{percent(share) if found.classes else number(share)} of {len(x):,} rows"))
    show.rows(
        [
            ("model", f"{which.upper()} of {made.title}, ridge {number(ridge)}"),
            ("data", f"{found.name}, {len(found.x)} rows"),
            *lines,
            ("time", duration(seconds)),
            ("written", str(out)),
        ],
        show.out(),
    )


def _pipeline(kernel: Callable[..., Tensor], data: Dataset, normalize: str, ridge: float) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    from gramian.predict import NTKClassifier, NTKRegressor

    scaling = {"unit": [FunctionTransformer(norm_sqrt_d)], "standardize": [StandardScaler()], "none": []}[normalize]
    kind = NTKClassifier if data.classes else NTKRegressor
    predictor = kind(kernel, ridge=ridge, input_shape=data.in_shape)
    if not data.classes:  # targets of any unit; the predictor has no intercept
        predictor = TransformedTargetRegressor(predictor, transformer=StandardScaler())
    return make_pipeline(*scaling, predictor)


def _labels(data: Dataset, y: Tensor) -> Any:
    """Names of classes, or numbers; (n,) where there is one target."""
    import numpy as np

    if data.classes:
        return np.array(data.classes)[y.numpy()]
    return y[:, 0].numpy() if y.shape[1] == 1 else y.numpy()


def _name(data: str) -> str:
    """What tells one data set from another: a path whole, or a name."""
    return str(Path(data).absolute()) if os.path.exists(data) else data.lower()
