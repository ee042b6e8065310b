"""The pictures that claims share: curves against steps, powers against sizes, values beside printed ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gramian.claims.claim import Measured
from gramian.claims.seed_statistics import SeedInterval
from gramian.report.picture import (
    BOUND,
    FLIPS,
    INITIAL,
    LIMIT,
    NETWORK,
    Picture,
    curve,
    linear_axis,
    log_axis,
    picture,
    points,
    series_table,
)

STYLES = (NETWORK, LIMIT, INITIAL, FLIPS, BOUND, ("var(--open)", "dash"), ("var(--contradicted)", "solid"))
LOWEST = 1e-12  # of what a logarithmic axis shows


def over_steps(name: str, title: str, axis: str, sentence: str, curves: Mapping[str, Sequence[float]]) -> Picture:
    """Curves over steps, on a logarithmic axis."""
    traces, drawn = [], []
    for (label, values), style in zip(curves.items(), STYLES, strict=False):
        shown = [v if v is not None and v > LOWEST else None for v in values]
        traces += curve(list(range(len(shown))), shown, label, style)
        drawn += [v for v in shown if v is not None]
    longest = max(curves.values(), key=len, default=[])
    tables = [series_table("step", list(range(len(longest))), {k: list(v) for k, v in curves.items()})]
    return picture(
        name, title, f"{axis}, log scale", sentence, traces=traces, x=linear_axis("step"), y=log_axis(drawn),
        tables=tables,
    )  # fmt: skip


def powers(
    name: str, title: str, axes: tuple[str, str], sentence: str, rows: Mapping[str, tuple[Sequence, Sequence]],
    expected: Mapping[str, float] | None = None,
) -> Picture:  # fmt: skip
    """Points of all seeds on two logarithmic axes, with a line of the expected exponent through their middle.

    Args:
        name, title, sentence: of the picture.
        axes: names of x and of y.
        rows: by label, x and y of all seeds: two equally shaped lists of lists.
        expected: by label, the exponent of the line.
    """
    traces: list[dict] = []
    all_x: list[float] = []
    all_y: list[float] = []
    tables = []
    for (label, (x, y)), style in zip(rows.items(), STYLES, strict=False):
        pairs = [(a, b) for xs, ys in zip(x, y, strict=True) for a, b in zip(xs, ys, strict=True) if a and b and b > 0]
        pairs.sort()
        sizes, values = [a for a, _ in pairs], [b for _, b in pairs]
        traces += points(sizes, values, label, style, "circle")
        if expected and label in expected and sizes:
            # through the points' center of gravity on the log scales
            ends = [min(sizes), max(sizes)]
            middle = np.exp(np.mean(np.log(values)) - expected[label] * np.mean(np.log(sizes)))
            line = [float(middle * end ** expected[label]) for end in ends]
            traces += curve(ends, line, f"{label}: exponent {expected[label]:g}", style, legend=False)
            all_y += line
        all_x, all_y = all_x + sizes, all_y + values
        tables.append(series_table(axes[0], sizes, {f"{axes[1]}, {label}": values}))
    return picture(
        name, title, f"{axes[1]}, log scale", sentence, traces=traces, x=log_axis(all_x, f"{axes[0]}, log scale"),
        y=log_axis(all_y), tables=tables,
    )  # fmt: skip


def beside_printed(
    name: str, title: str, axes: tuple[str, str], sentence: str, x: Sequence[float],
    ours: Mapping[str, Sequence[float]], printed: Mapping[str, Sequence[float]],
) -> Picture:  # fmt: skip
    """Ours as lines over the seeds' mean, the paper's as diamonds."""
    traces = []
    for (label, values), style in zip(ours.items(), STYLES, strict=False):
        traces += curve(list(x), list(values), label, style)
        if label in printed:
            traces += points(list(x), list(printed[label]), f"{label}, printed", style, "diamond")
    columns = {label: list(values) for label, values in ours.items()}
    columns |= {f"{label}, printed": list(values) for label, values in printed.items() if label in ours}
    return picture(
        name, title, axes[1], sentence, traces=traces,
        x=linear_axis(axes[0]), y=linear_axis() | {"rangemode": "tozero"},
        tables=[series_table(axes[0], list(x), columns)],
    )  # fmt: skip


def mean_series(measured: Sequence[Measured], name: str) -> list[float]:
    """A series, averaged over the seeds."""
    return [float(v) for v in np.mean([m.values(name) for m in measured], axis=0)]


def spread_text(interval: SeedInterval) -> str:
    """A mean with its interval, as words."""
    if math.isnan(interval.value):
        return "not measured"
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
