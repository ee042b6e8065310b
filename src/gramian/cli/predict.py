"""`gramian predict`: a stored model's predictions on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.files import check_file
from gramian.cli.fit import _name
from gramian.errors import BadArgument, BadData

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from gramian.data.raw import Raw


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .joblib file of gramian fit.", show_default=False)],
    data: opt.Data,
    out: Annotated[
        Path, typer.Option(metavar="FILE.csv", help="To write, a line a row.", rich_help_panel=opt.OUTPUT)
    ] = Path("predictions.csv"),
    target: opt.Target = None,
    data_dir: opt.DataDir = None,
) -> None:
    """Predictions of a model that gramian fit stored, as a .csv file.

    Predicts the official test set where the data have one, else every row. A table (.csv, .parquet) may lack the
    labels. A model is a pickle: loading it runs what is in it, so give your own only.

    In Python: joblib.load("model.joblib").predict(X), X of shape (n, d)
    """
    import numpy as np

    from gramian.train.files import replace_file

    check_file(out, ".csv")
    loaded = _loaded(model)
    known = loaded.trained_on
    raw, labeled = _read(data, data_dir, target or known["target"], explicit=target is not None)
    held, y = raw.test or (raw.x, raw.y)
    x = np.asarray(held[np.arange(len(held))], np.float64) / raw.scale
    _same_shape(x, known["in_shape"], raw.source)
    predicted = loaded.predict(x.reshape(len(x), -1))
    numbers = np.arange(len(x)) if raw.rows is None else raw.rows
    again = raw.test is None and _name(data) == known["data"]
    trained = np.isin(numbers, known["rows"]) if again else np.zeros(len(x), bool)
    frame = _columns(numbers, predicted)
    lines: list[tuple[str, object]] = [("model", known["network"]), ("data", f"{raw.name}, {len(x):,} rows")]
    if labeled:
        truth = np.array(raw.classes)[y] if raw.classes else y[:, 0] if y.shape[1] == 1 else y
        if truth.ndim == 1:
            frame["label"] = truth
        lines.append(_score(truth[~trained], predicted[~trained], int(trained.sum())))
    if trained.any():
        frame["trained_on"] = trained
    replace_file(out, lambda temporary: frame.to_csv(temporary, index=False))
    show.rows([*lines, ("written", str(out))], show.out())


def _loaded(path: Path) -> Any:
    import joblib  # type: ignore[import-untyped]

    if not path.is_file():
        raise BadArgument(
            f"no file {path}.", where=str(path.absolute()), why="another folder or name.", fix="gramian fit --out FILE"
        )
    try:
        model = joblib.load(path)
        _ = [model.trained_on[key] for key in ("data", "rows", "in_shape", "target", "network")]
    except Exception as error:  # unpickling may raise anything
        said = str(error).partition("\n")[0]
        raise BadData(
            f"{path} is no model of gramian's: {type(error).__name__}: {said}",
            where=str(path),
            why="it is damaged, or something else wrote it, or other versions of gramian and scikit-learn.",
            fix="gramian fit --out FILE writes it anew.",
        ) from None
    return model


def _read(data: str, data_dir: Path | None, target: str | None, *, explicit: bool) -> tuple[Raw, bool]:
    """The rows, and whether their labels are known."""
    from gramian.data.sources import read
    from gramian.data.table import USUAL_TARGETS, from_frame

    path = Path(data).expanduser()
    is_table = path.suffix.lower() in (".csv", ".tsv", ".txt", ".parquet")
    if not (is_table and path.is_file()):
        return read(data, data_dir, target if explicit else None, None), True
    frame = _frame(path)
    columns = [str(column) for column in frame.columns]
    labeled = explicit or target in columns or any(column.lower() in USUAL_TARGETS for column in columns)
    if labeled:
        raw = read(data, None, target if explicit or target in columns else None, None)
    else:
        label = "(none)"
        raw = from_frame(frame.assign(**{label: 0}), path.stem, data, label, None, lambda i: f"row {i + 1}")
    if any("one-hot" in note for note in raw.notes):
        raise BadData(
            "a column of text, which is coded by the categories that this file happens to hold.",
            where=str(path),
            why=" ".join(note for note in raw.notes if "one-hot" in note),
            fix="code it as numbers in both tables, and fit again.",
        )
    return raw, labeled


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path).reset_index(drop=True)
    return pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig", skipinitialspace=True)


def _same_shape(x: np.ndarray, wanted: tuple[int, ...], source: str) -> None:
    import math

    if x[0].size != math.prod(wanted):
        shapes = ["x".join(map(str, shape)) for shape in (x.shape[1:], wanted)]
        raise BadData(
            f"rows of shape {shapes[0]}; the model takes {shapes[1]}.",
            where=source,
            why="other data than it was trained on, or the label column was taken for a feature.",
            fix="the columns of the training data, in their order; --target COLUMN names the labels.",
        )


def _columns(rows: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    if predicted.ndim == 1:
        return pd.DataFrame({"row": rows, "prediction": predicted})
    return pd.DataFrame({"row": rows} | {f"prediction_{c}": predicted[:, c] for c in range(predicted.shape[1])})


def _score(truth: np.ndarray, predicted: np.ndarray, left_out: int) -> tuple[str, str]:
    from sklearn.metrics import accuracy_score, r2_score

    from gramian.report.numbers import number, percent

    classes = truth.dtype.kind == "U"
    name = "accuracy" if classes else "R²"
    note = f"; {left_out:,} rows that it was trained on are left out" if left_out else ""
    if len(truth) < 2:
        return name, f"not measured on {len(truth)} rows{note}"
    value = percent(float(accuracy_score(truth, predicted))) if classes else number(float(r2_score(truth, predicted)))
    return name, f"{value} of {len(truth):,} rows{note}"
