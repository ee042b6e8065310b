"""`gramian predict`: a stored model's predictions on data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.data_options import DataSource
from gramian.cli.fit import identity
from gramian.cli.output_files import check_file, unused
from gramian.cli.progress_bar import announce, bar
from gramian.cli.score_lines import score_lines
from gramian.errors import BadArgument, BadData

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from gramian.data.columns import Table

DEFAULT = "predictions.csv"
KNOWN = ("data", "rows", "in_shape", "target", "classes", "network", "tile")

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .joblib file of gramian fit.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help=f"To write, a line a row (default: {DEFAULT}, or with a number if that is there).",
        rich_help_panel=opt.OUTPUT,
        show_default=False,
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        metavar="refuse|drop|mean",
        help="Empty cells: an error, their rows left out, or the mean of the training rows (default: as in fit).",
        rich_help_panel=opt.DATA,
        show_default=False,
    ),
]
Unseen = Annotated[
    str,
    typer.Option(
        metavar="refuse|zero",
        help="Categories that no training row had: an error, or taken for none of the known ones.",
        rich_help_panel=opt.DATA,
    ),
]


def predict(
    model: Model,
    data: opt.Data,
    out: Out = None,
    target: opt.Target = None,
    data_dir: opt.DataDir = None,
    missing: Missing = None,
    unseen: Unseen = "refuse",
    layout: opt.Layout = "auto",
    quiet: opt.Quiet = False,
) -> None:
    """Predictions of a model that gramian fit stored, as a .csv file.

    Predicts the official test set where the data have one, else every row. Columns of a table are found by name, in any
    order; a missing one is an error, further ones are named and left out. The labels may be missing. A model is a
    pickle: loading it runs what is in it, so give your own only.

    In Python: joblib.load("model.joblib").predict(frame), a DataFrame with the training columns, or an array of rows
    """
    import numpy as np

    from gramian.data.wording import counted
    from gramian.files import replace_file

    check_file(out or Path(DEFAULT), ".csv")
    opt.one_of("--unseen", unseen, ("refuse", "zero"))
    if missing is not None:
        opt.one_of("--missing", missing, ("refuse", "drop", "mean"))
    loaded = _loaded(model)
    known = loaded.trained_on
    given = _given(loaded, data, target=target, data_dir=data_dir, missing=missing, unseen=unseen, layout=layout)
    opt.say(given.notes, quiet)
    predicted = _predicted(loaded, given.x, quiet)
    frame = _columns(given.rows, predicted)
    again = given.whole and identity(data) == known["data"]
    if again:
        trained = np.isin(given.rows, known["rows"])
    else:
        trained = np.zeros(len(given.rows), bool)
    lines: list[tuple[str, object]] = [
        ("model", known["network"]),
        ("data", f"{given.name}, {counted(len(given.x), 'row')}"),
    ]
    if given.labels is not None:
        if given.labels.ndim == 1:
            frame["label"] = given.labels
        lines += _scores(given.labels, predicted, trained, bool(known["classes"]))
    if trained.any():
        frame["trained_on"] = trained
    path = unused(Path(DEFAULT)) if out is None else out
    replaced = path.exists()
    replace_file(path, lambda temporary: frame.to_csv(temporary, index=False))
    show.rows([*lines, ("written", f"{path}, which was there before" if replaced else str(path))], show.out())


def _loaded(path: Path) -> Pipeline:
    import joblib  # type: ignore[import-untyped]

    if not path.suffix and path.name and not path.exists():
        path = path.with_suffix(".joblib")  # as `fit --out` names it
    if not path.is_file():
        raise BadArgument(
            f"no file {path}.", where=str(path.absolute()), why="another folder or name.", fix="gramian fit --out FILE"
        )
    try:
        model = joblib.load(path)
        _ = [model.trained_on[key] for key in KNOWN], model.named_steps["rows"].scaling.kind
    except Exception as error:  # unpickling may raise anything
        said = str(error).partition("\n")[0]
        raise BadData(
            f"{path} is no model of this version of gramian: {type(error).__name__}: {said}",
            where=str(path),
            why="it is damaged, something else wrote it, or another version of gramian or scikit-learn did.",
            fix="gramian fit --out FILE writes it anew.",
        ) from None
    return model


@dataclass(frozen=True, eq=False)
class RowsToPredict:
    """Rows to predict.

    Args:
        name: of the data.
        x: rows on the scale of the training rows; shape (m, d).
        rows: their numbers in the source, from 0.
        labels: as the model gives them; None if they are not known. A missing one is NaN or "".
        whole: whether the rows are numbered as the training rows were, not a separate test set.
        notes: what is to be said.
    """

    name: str
    x: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None
    whole: bool
    notes: tuple[str, ...] = ()


def _given(
    model: Pipeline,
    data: str,
    *,
    target: str | None,
    data_dir: Path | None,
    missing: str | None,
    unseen: str,
    layout: str,
) -> RowsToPredict:
    from sklearn.base import clone

    from gramian.data.sources import table

    rows = clone(model.named_steps["rows"])  # the model itself stays as it is
    columns = rows.columns
    if missing is not None:
        rows.missing = missing
    elif columns is not None and columns.missing == "drop":
        rows.missing = "drop"
    rows.unseen = unseen
    label = target or model.trained_on["target"]
    if columns is None or not columns.target:
        parsed = table(data, label)
    else:
        parsed = table(data, None)
    if parsed is not None and columns is not None:
        return _from_table(model, rows, parsed[0], label, explicit=target is not None)
    return _from_source(model, rows, data, target, data_dir, layout)


def _from_table(model: Pipeline, rows: Any, table: Table, label: str, *, explicit: bool) -> RowsToPredict:
    """Rows of a table, by the names of its columns."""
    from dataclasses import replace

    import numpy as np

    from gramian.data.wording import share_of_rows

    there = [str(column) for column in table.frame.columns]
    if explicit and label not in there:
        raise BadData(
            f"no column {label!r}.",
            where=f"{table.where}, columns: {', '.join(there[:20])}",
            why="another name or spelling." + opt.nearest(label, there),
            fix="--target: one of these columns; or leave it out.",
        )
    notes: tuple[str, ...] = table.notes
    if not len(table.frame):
        raise BadData("no rows to predict.", where=table.where, why="only column names.", fix="give a row.")
    if rows.missing == "drop":
        used = [name for name in rows.columns.names if name in there]
        empty = table.frame[used].isna().any(axis=1)
        if empty.any():
            notes = (*notes, f"{share_of_rows(int(empty.sum()), len(empty), 'empty cells')}, and no prediction.")
            table = replace(table, frame=table.frame[~empty])
        if not len(table.frame):
            raise BadData(
                "every row has an empty cell.", where=table.where, why="--missing drop.", fix="--missing mean"
            )
        rows.missing = "refuse"
    if explicit:
        rows.columns = replace(rows.columns, target=label)
    x, said = rows.encoded(table)
    if label in there:
        labels = _labels(model, table, label)
    else:
        labels = None
    return RowsToPredict(table.name, x, table.frame.index.to_numpy(np.int64), labels, True, (*notes, *said))


def _labels(model: Pipeline, table: Table, label: str) -> np.ndarray | None:
    """The labels as the model gives them: names of classes, or numbers; "" or NaN where there is none."""
    import numpy as np

    from gramian.data.numerals import as_text, numbers_in

    column = table.frame[label]
    text = as_text(column)
    if column.isna().all():
        return None
    if model.trained_on["classes"]:
        return text.fillna("").to_numpy(str)
    read = numbers_in(text, f"{table.where}, column {label!r}", separator=table.separator)
    if read is None:
        return np.full(len(text), np.nan)
    return read[0]


def _from_source(
    model: Pipeline, rows: Any, data: str, target: str | None, data_dir: Path | None, layout: str
) -> RowsToPredict:
    """Rows of arrays and images, in the order of their numbers."""
    import numpy as np

    raw = DataSource(data, target or _array_target(model, data), data_dir, layout=layout).read()
    held, y = raw.test or (raw.x, raw.y)
    if raw.rows is None or raw.test is not None:
        numbers = np.arange(len(held))
    else:
        numbers = raw.rows
    x = rows.scaled(np.asarray(held[np.arange(len(held))], np.float64), raw.source)
    known = tuple(model.trained_on["classes"])
    labels = y
    if raw.classes:
        labels = np.array(raw.classes)[y]
    elif y.shape[1] == 1:
        labels = y[:, 0]
    # numbers, where the model was told that they are classes
    if known and not raw.classes:
        labels = np.array([_class_name(v) for v in y.ravel()])
    elif raw.classes and not known:  # classes, where the model was told that they are numbers
        labels = y.astype(float)
    return RowsToPredict(raw.name, x, numbers, labels, raw.test is None, raw.notes)


def _class_name(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return str(value)


def _array_target(model: Pipeline, data: str) -> str | None:
    if Path(data).suffix.lower() in (".npz", ".npy"):
        return model.trained_on["target"]
    return None


def _predicted(model: Pipeline, x: np.ndarray, quiet: bool) -> np.ndarray:
    from gramian.data.wording import counted
    from gramian.predict.cost import predict_cost, seconds_per_entry
    from gramian.predict.estimators import watched

    known = model[-1].X_fit_
    cost = predict_cost(len(x), len(known), model[-1].tile, seconds_per_entry(model[-1].kernel_, known))
    announce(f"predictions of {counted(len(x), 'row')} from {len(known):,}", cost.seconds, cost.memory, not quiet)
    with bar(not quiet) as tell, watched(model[-1], tell):
        return model[-1].predict(x)


def _columns(rows: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    if predicted.ndim == 1:
        return pd.DataFrame({"row": rows, "prediction": predicted})
    return pd.DataFrame({"row": rows} | {f"prediction_{c}": predicted[:, c] for c in range(predicted.shape[1])})


def _scores(labels: np.ndarray, predicted: np.ndarray, trained: np.ndarray, classes: bool) -> list[tuple[str, str]]:
    """On the rows with a label that the model was not trained on."""
    import numpy as np

    from gramian.data.wording import counted

    if classes:
        known = labels != ""
    else:
        known = ~np.isnan(labels.reshape(len(labels), -1)).any(1)
    scored = known & ~trained
    notes = []
    if trained.any():
        if trained.sum() == 1:
            verb = "is"
        else:
            verb = "are"
        notes.append(("not scored", f"{counted(int(trained.sum()), 'row')} that it was trained on {verb} left out"))
    if (~known).any():
        notes.append(("not scored", f"{counted(int((~known).sum()), 'row')} without a label"))
    if scored.sum() < (1 if classes else 2):
        return [("score", f"not measured on {counted(int(scored.sum()), 'row')}"), *notes]
    return [*score_lines("", labels[scored], predicted[scored], classes), *notes]
