"""A run as plain data: the dict that the report, the JSON file and the command line read."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gramian import __version__
from gramian.train import Trace
from gramian.train.trace import Series

SHOWN_PROBES = (
    "gram_min", "gram_max", "gradient_over_loss", "linearization_gap", "semi_smoothness",
    "spectral_distance",
)  # fmt: skip


def layer_name(name: str) -> str:
    """A parameter's name as the user's layers are called: `layers.0.layer.weight` of a drawn network is `0.weight`."""
    if name.startswith("layers."):
        name = name.removeprefix("layers.").replace(".layer.weight", ".weight").replace(".bias.weight", ".bias")
    return name


def moved_facts(trace: Trace) -> dict[str, Any]:
    """What moved: distances per layer, flips, drift and alignment of the kernel."""
    distance, flips = trace.measured.get("relative_distance"), trace.measured.get("sign_flips")
    drift, alignment = trace.measured.get("kernel_drift"), trace.measured.get("kernel_alignment")
    return {
        "steps": distance.steps if distance else [],
        "layers": [layer_name(label) for label in distance.labels] if distance else [],
        "distance": _table(distance),
        "flip_layers": [layer_name(label) for label in flips.labels] if flips else [],
        "flips": _on_steps(flips, distance.steps if distance else []),
        "drift_steps": drift.steps if drift else [],
        "drift": _numbers(drift),
        "alignment": _numbers(alignment),
    }


def accuracy_facts(trace: Trace) -> dict[str, Any]:
    """Training and test accuracy at the measured steps."""
    train, test = trace.measured.get("train_accuracy"), trace.measured.get("test_accuracy")
    steps = train.steps if train else test.steps if test else []
    return {"steps": steps, "train": _numbers(train) or None, "test": _numbers(test) or None}


def probe_facts(trace: Trace, more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The further curves, those with layers as their largest value."""
    found = []
    for name in (*SHOWN_PROBES, *more):
        series = trace.measured.get(name)
        if series is None or not series.values:
            continue
        of_layers = isinstance(series.values[0], dict)
        found.append(
            {
                "name": name,
                "title": series.title + (", largest layer" if of_layers else ""),
                "unit": series.unit,
                "steps": series.steps,
                "values": [_number(max(v.values()) if isinstance(v, dict) else v) for v in series.values],
                "lower": None if of_layers or series.lower is None else [_number(v) for v in series.lower],
                "upper": None if of_layers or series.upper is None else [_number(v) for v in series.upper],
            }
        )
    return found


def made_facts(**known: Any) -> dict[str, Any]:
    """How a run was made: versions, commit and date beside what is given."""
    import numpy
    import scipy
    import sklearn

    return {
        "command": " ".join(["gramian", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("gramian", "__main__") else None,
        "commit": _commit(),
        "versions": {
            "gramian": __version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **known,
    }


def _commit() -> str | None:
    """The commit of a checkout that this code runs from; None in an installed package."""
    if "site-packages" in __file__:
        return None
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _numbers(series: Series | None) -> list[float | None]:
    return [] if series is None else [_number(v) for v in series.values]


def _table(series: Series | None) -> list[list[float | None]]:
    if series is None:
        return []
    return [[_number(v) for v in value.values()] for value in series.values if isinstance(value, dict)]


def _on_steps(series: Series | None, steps: list[int]) -> list[list[float | None]]:
    """A series' rows at these steps; rows of None where it was not measured."""
    if series is None:
        return []
    rows = dict(zip(series.steps, _table(series), strict=True))
    return [rows.get(step, [None] * len(series.labels)) for step in steps]
