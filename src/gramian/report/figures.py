"""The pictures of one run, from its facts: four for the first screen, the width sweep, and the small multiples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gramian.report import sentences
from gramian.report.numbers import missing, number, percent
from gramian.report.picture import (
    BOUND,
    FLIPS,
    INITIAL,
    LIMIT,
    MOST_POINTS,
    MOST_ROWS,
    NETWORK,
    Picture,
    PictureTable,
    curve,
    linear_axis,
    log_axis,
    mark_x,
    mark_y,
    percents,
    picture,
    points,
    ribbon,
    series_table,
    spread_log,
    thinned,
)
from gramian.report.ticks import apart

FAR_DRIFT = 1000.0  # percent; a kernel that grew further hides all else on a linear axis


def first_four(run: dict) -> list[Picture]:
    """Loss, spectrum, what moved, test error."""
    return [loss(run["loss"]), spectrum(run["spectrum"]), moved(run["moved"]), test_error(run["test"])]


def loss(block: dict) -> Picture:
    """Measured and predicted training loss over steps, on a log axis."""
    steps = block["steps"]
    traces = [
        *ribbon(steps, block["measured"], "measured", NETWORK),
        *curve(steps, block["predicted_initial"], "initial kernel predicts", INITIAL),
        *curve(steps, block["predicted"], "limit predicts", LIMIT),
    ]
    reached = sentences.hundredfold(block)
    near_end = reached is not None and reached > 0.6 * steps[-1]
    columns = {
        "measured": block["measured"],
        "predicted (limit)": block["predicted"],
        "predicted (initial kernel)": block["predicted_initial"],
    }
    return picture(
        "loss",
        "Training loss",
        f"{_loss_name(block['loss_name'])}, log scale",
        sentences.loss(block),
        traces=traces,
        x=linear_axis("step"),
        y=log_axis([v for trace in traces for v in trace["y"]]),
        tables=[series_table("step", steps, columns)],
        marks=[] if reached is None else mark_x(reached, "÷ 100", left=near_end),
    )


def _loss_name(name: str | None) -> str:
    if name and name.lower().endswith("loss"):
        return name
    return f"{name or ''} loss".strip()


def spectrum(block: dict) -> Picture:
    """Eigenvalues of the Gram matrices in descending order, both axes logarithmic."""
    kinds = {
        "final": ("after training", NETWORK, ribbon),
        "initial": ("at initialization", INITIAL, curve),
        "limit": ("infinite-width limit", LIMIT, curve),
    }
    have = {key: block[key] for key in kinds if block[key]}
    traces: list[dict] = []
    drawn: list[float] = []
    for key, values in have.items():
        name, style, draw = kinds[key]
        positive = [(i + 1, v) for i, v in enumerate(values) if v is not None and v > 0]
        kept = [positive[i] for i in spread_log(len(positive), MOST_POINTS)]
        traces += draw([i for i, _ in kept], [v for _, v in kept], name, style)
        drawn += [v for _, v in kept]
    longest = max((len(values) for values in have.values()), default=0)
    keep = spread_log(longest, MOST_ROWS)
    rows = [[number(i + 1), *(number(v[i]) if i < len(v) else "" for v in have.values())] for i in keep]
    return picture(
        "spectrum",
        "Spectrum of the kernel",
        "eigenvalue, log scale",
        sentences.spectrum(block),
        traces=traces,
        x=log_axis([1, longest or 1], "index, largest first, log scale"),
        y=log_axis(drawn),
        tables=[PictureTable(["index", *(kinds[key][0] for key in have)], rows, thinned(len(keep), longest))],
    )


def moved(block: dict) -> Picture:
    """Distance per layer, flips per activation layer, and the kernel's drift, all as shares of 1."""
    steps, layers, flip_layers = block["steps"], block["layers"] or [], block["flip_layers"] or []
    distance, flips = _by_layer(block["distance"], len(layers)), _by_layer(block["flips"], len(flip_layers))
    # many curves side by side are drawn thinner
    thin = 0.9
    if len(layers) <= 3:
        thin = 2.0
    elif len(layers) <= 8:
        thin = 1.3
    traces: list[dict] = []
    for kind, rows, style in (("distance", distance, NETWORK), ("signs flipped", flips, FLIPS)):
        if len(rows) > 1:
            name = f"{kind} per layer"
        else:
            name = kind
        for values in rows:
            at = [(step, v) for step, v in zip(steps or [], values, strict=False) if not missing(v)]
            traces += curve([step for step, _ in at], percents([v for _, v in at]), name, style, width=thin)
    traces += curve(block["drift_steps"], percents(block["drift"]), "kernel drift", INITIAL, width=3)
    drawn = [v for trace in traces for v in trace["y"] if v is not None]
    unit, y = "share of the initial value", linear_axis(suffix=" %") | {"rangemode": "tozero"}
    if max(drawn, default=0) > FAR_DRIFT:  # the start, at zero, is left out
        unit, y = unit + ", log scale", log_axis(drawn, suffix=" %")
        for trace in traces:
            trace["y"] = [v if v is not None and v > 0 else None for v in trace["y"]]
    for trace in traces:
        if sum(v is not None for v in trace["y"]) > 1:
            trace["mode"] = "lines"
        else:
            trace["mode"] = "markers"
    of_steps = {
        "largest distance": [_largest(row) for row in block["distance"] or []],
        "largest share flipped": [_largest(row) for row in block["flips"] or []],
    }
    rows = [[name, "distance", percent(v[-1])] for name, v in zip(layers, distance, strict=False) if v]
    rows += [[name, "signs flipped", percent(v[-1])] for name, v in zip(flip_layers, flips, strict=False) if v]
    return picture(
        "moved",
        "What moved",
        unit,
        sentences.moved(block),
        traces=traces,
        x=linear_axis("step"),
        y=y,
        tables=[
            PictureTable(["layer", "what", "at the end"], rows),
            series_table("step", steps, of_steps, percent),
            series_table("step", block["drift_steps"], {"kernel drift": block["drift"]}, percent),
        ],
    )


def test_error(block: dict) -> Picture:
    """Test error of the network over training, and of the kernel predictor."""
    curves, kernel = block["kernel_curve_steps"], block["kernel_error"]
    steps = [*(block["steps"] or []), *(curves or [])] or [0, 1]
    own_unit = sentences.in_own_unit(block)
    drawn: Callable[..., list[Any]]
    if own_unit:
        drawn = list
    else:
        drawn = percents
    write: Callable[[float], str]
    if own_unit:
        write = number
    else:
        write = percent
    traces = ribbon(block["steps"], drawn(block["network_error"] or []), "trained network", NETWORK)
    traces += curve(curves, drawn(block["kernel_curve"] or []), "kernel predictor", LIMIT)
    traces += curve([min(steps), max(steps)], drawn([kernel] * 2), "kernel predictor, at the end", BOUND, width=1.6)
    tables = [
        series_table("step", block["steps"], {"trained network": block["network_error"]}, write),
        series_table("step", curves, {"kernel predictor": block["kernel_curve"]}, write),
    ]
    return picture(
        "test",
        "Test error",
        block["quantity"] or "share of test points",
        sentences.test_error(block),
        traces=traces,
        x=linear_axis("step"),
        y=linear_axis(suffix="" if own_unit else " %") | {"rangemode": "tozero"},
        tables=tables,
    )


test_error.__test__ = False  # type: ignore[attr-defined]  # pytest: a picture, not a test


def width(block: dict) -> Picture:
    """Error of the finite kernel against width, both axes logarithmic, with the fitted line and the useful width."""
    widths, useful, mine = block["widths"] or [], block["useful_width"], block["run_width"]
    traces = points(widths, percents(block["errors"]), "measured", NETWORK, "circle")
    marked = [*widths, *(w for w in (useful, mine) if w)] or [1]
    if block["constant"] is not None:
        ends = [min(marked), max(marked)]
        fitted = [100 * block["constant"] / w**0.5 for w in ends]
        traces += curve(ends, fitted, "fit: 1/√width", LIMIT)
    if mine and block["run_error"] is not None:
        traces += points([mine], [100 * block["run_error"]], "this run", INITIAL, "diamond")
    marks = []
    if useful:
        words = (block["useful_words"] or number(useful)).partition(" (")[0]
        marks += mark_x(useful, f"useful width {words}", log=True, left=True)
    if block["tolerance"]:
        marks += mark_y(100 * block["tolerance"], f"tolerance {percent(block['tolerance'])}", log=True)
    errors = [v for trace in traces for v in trace["y"]]
    labeled = apart(sorted(widths))
    ticks = {"tickvals": labeled, "ticktext": [number(w) for w in labeled], "tickmode": "array"}
    room = [math.log10(min(marked)) - 0.06, math.log10(max(marked)) + 0.06]
    return picture(
        "width",
        "Error of the finite kernel against width",
        "relative error, log scale",
        sentences.width(block),
        traces=traces,
        x=log_axis(widths, "width, log scale") | ticks | {"range": room},
        y=log_axis(errors, suffix=" %"),
        tables=[series_table("width", widths, {"error": block["errors"]}, percent)],
        marks=marks,
    )


def accuracy(block: dict) -> Picture:
    """Training and test accuracy over steps."""
    steps = block["steps"]
    traces = curve(steps, percents(block["train"]), "training points", NETWORK)
    traces += curve(steps, percents(block["test"]), "test points", FLIPS)
    return picture(
        "accuracy",
        "Accuracy",
        "share classified correctly",
        sentences.accuracy(block),
        traces=traces,
        x=linear_axis("step", nticks=3),
        y=linear_axis(suffix=" %"),
        tables=[series_table("step", steps, {"training": block["train"], "test": block["test"]}, percent)],
    )


def alignment(block: dict) -> Picture:
    """Alignment of the network's kernel with the labels over steps."""
    steps, values = block["drift_steps"], block["alignment"]
    return picture(
        "alignment",
        "Alignment of the kernel with the labels",
        "cosine; 1: aligned",
        sentences.probe({"values": values, "unit": "", "lower": None, "upper": None}),
        traces=curve(steps, values, "alignment", NETWORK, legend=False),
        x=linear_axis("step", nticks=3),
        y=linear_axis(),
        tables=[series_table("step", steps, {"alignment": values})],
    )


def probe(block: dict) -> Picture:
    """A further curve with its bounds; logarithmic where it spans more than a factor of fifty and is positive."""
    steps, values, unit = block["steps"], block["values"], block["unit"] or ""
    traces = curve(steps, values, "measured", NETWORK, legend=bool(block["lower"] or block["upper"]))
    traces += curve(steps, block["lower"], "lower bound", (BOUND[0], "dash"), width=1.6)
    traces += curve(steps, block["upper"], "upper bound", BOUND, width=1.6)
    share = unit == "share"
    if share:
        suffix = " %"
    else:
        suffix = ""
    if share:
        for trace in traces:
            trace["y"] = percents(trace["y"])
    drawn = [v for trace in traces for v in trace["y"] if v is not None]
    columns = {"measured": values, "lower bound": block["lower"], "upper bound": block["upper"]}
    write: Callable[[float], str] = number
    units, y = [unit], linear_axis(suffix=suffix)
    if share:
        units, write = [""], percent
    if drawn and min(drawn) > 0 and max(drawn) > 50 * min(drawn):
        units.append("log scale")
        y = log_axis(drawn, suffix=suffix)
    return picture(
        f"probe-{block['name']}",
        block["title"] or block["name"],
        ", ".join(part for part in units if part),
        sentences.probe(block),
        traces=traces,
        x=linear_axis("step", nticks=3),
        y=y,
        tables=[series_table("step", steps, columns, write)],
    )


def further(run: dict) -> list[Picture]:
    """The small multiples: accuracy, alignment, and every further probe that was measured."""
    pictures = [accuracy(run["accuracy"]), alignment(run["moved"]), *(probe(block) for block in run["probes"])]
    return [one for one in pictures if one.figure is not None]


def _by_layer(rows: list | None, layers: int) -> list[list]:
    """Rows by step turned into rows by layer; a step without numbers gives None."""
    return [[row[k] if row and k < len(row) else None for row in rows or []] for k in range(layers)]


def _largest(row: list | None) -> float | None:
    return max((v for v in row or [] if v is not None), default=None)
