"""A run as plain data: the dict that the report, the JSON file and the command line read. Schema 2.

`facts = {"schema", "title", "data": {...}, "runs": [{...}, ...]}`. Numbers are floats or ints, None where nothing was
measured. "Own unit" is that of the targets as the user gave them. Losses are sums over the training rows, of half the
squared errors for the squared loss, in the targets that were trained on.

`data`:

| field | what it is |
|---|---|
| name, source, n_train, n_test, in_shape, n_outputs, classes | of the data set; classes is [] for real targets |
| task | "classes" or "regression" |
| base_rate | {"train", "test"}: share of the largest class, which a constant predictor gets right; None for |
| | regression |
| imbalanced | whether the largest class is so large that accuracy alone misleads |
| targets | regression: {"mean", "deviation"}, lists over the targets, in their own unit; None for classes |
| standardized | whether real targets were brought to mean 0 and deviation 1 before training |
| geometry | norm_min, norm_max, separation, closest, duplicates, conflicts: of the rows as given |

each of `runs`:

| field | what it is |
|---|---|
| key, title, network | of the network |
| did | "reached", "not reached" or "impossible"; of a watched loop absent |
| why | "implied", "implied up to constants" or "observed" |
| status | f"{did}, {why}": the headline; "watched" for the user's own loop |
| answer | three sentences: whether, how fast, why |
| trained | {"what": in words what was trained, "parametrization": "own" (in place or a copy), "ntk", ..., "mode": |
| | "" or the layers that made training mode differ from evaluation mode, in which everything here is measured} |
| goal | {"loss": last loss, "best_constant": loss of the best constant predictor, "share": the one over the other, |
| | "asked": the share that counts as the minimum, "target": that loss, "floor": the least loss of any function, |
| | "accuracy": last training accuracy, "steps": taken, "means": the definition in words} |
| scores | {"train", "test", "kernel"}: each None, or {"accuracy", "balanced_accuracy"} for classes, or {"rmse": a |
| | list over the targets in their own unit, "r2"} for regression; "kernel" is the limit's predictor on the test |
| | rows |
| loss | steps, measured, predicted (by the limit), predicted_initial (by the network's own Gram matrix), loss_name, |
| | optimizer; "lr", "lr_max": for the loss summed over rows, the unit of certify's `lr`; "torch": the same for |
| | a loop of the user's: {"loss": "nn.MSELoss()", "lr", "lr_max", "batch_size", "network": how to make `net`, |
| | "targets": what the loss is given, "line": the optimizer's line to paste, None after a divergence}; |
| | None if nothing was trained |
| accuracy | steps, train, test: accuracy at the measured steps, None for regression |
| spectrum | limit, initial, final: eigenvalues, largest first; "singular": whether the limit's smallest one is 0 to |
| | working precision |
| moved | steps, layers, distance, flip_layers, flips, drift_steps, drift, alignment |
| test | steps, network_error, kernel_error, kernel_curve_steps, kernel_curve: errors on test rows, all in one unit, |
| | which is "unit": "share" (of wrong classes) or "RMSE" (over all targets, in their own unit); "quantity": its |
| | words |
| probes | further curves: name, title, unit, steps, values, lower, upper |
| width | run_width (None for a module without a limit here, whose layers nobody read), run_error (this network's |
| | kernel against its limit, relative), in_regime (run_error <= tolerance); and after a sweep: widths, errors, |
| | slope, constant, tolerance, rows, draws (a width), |
| | useful_width, useful_low, useful_high (95 % interval), useful_words ("626 (530 to 740)"), papers |
| | [{"theorem", "width"}]: what theorems ask for |
| certificates | `Certificate.to_dict()` of each, status and about included |
| warnings | sentences |
| made | command, python, commit, versions, date, seed, dtype, device, seconds, parameters, interrupted |
"""

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
from gramian.certify.goal import Goal
from gramian.certify.prepared_data import PreparedData
from gramian.certify.scores import base_rate, imbalanced
from gramian.train import Trace
from gramian.train.trace import Series

SHOWN_PROBES = (
    "gram_min", "gram_max", "gradient_over_loss", "linearization_gap", "semi_smoothness",
    "spectral_distance",
)  # fmt: skip


def data_facts(prepared: PreparedData) -> dict[str, Any]:
    """Facts of the data."""
    description, data, shape = prepared.request.description, prepared.checked, prepared.geometry
    y, classes = data.y, prepared.has_classes
    spread = None if classes else {"mean": y.mean(0).tolist(), "deviation": y.std(0, correction=0).tolist()}
    return {
        "name": description.data_name,
        "source": description.source,
        "n_train": len(data.x),
        "n_test": len(data.x_test),
        "in_shape": list(data.x.shape[1:]),
        "n_outputs": len(data.classes) or (int(y.max()) + 1 if classes else y.shape[1]),
        "classes": list(data.classes),
        "task": "classes" if classes else "regression",
        "base_rate": {"train": base_rate(y), "test": base_rate(data.y_test)},
        "imbalanced": imbalanced(y),
        "targets": spread,
        "standardized": data.scale is not None,
        "geometry": {
            "norm_min": shape.norm_min,
            "norm_max": shape.norm_max,
            "separation": shape.separation,
            "closest": list(shape.closest or ()),
            "duplicates": [list(group) for group in shape.duplicates],
            "conflicts": [list(pair) for pair in shape.conflicts],
        },
    }


def goal_facts(aim: Goal, loss: float | None, accuracy: float | None, steps: int = 0) -> dict[str, Any]:
    """The goal and how near the last step came to it."""
    return {
        "loss": loss,
        "best_constant": aim.best_constant,
        "share": None if loss is None else aim.share_of(loss),
        "asked": aim.share,
        "target": aim.target,
        "floor": aim.floor,
        "accuracy": accuracy,
        "steps": steps,
        "means": aim.words,
    }


def nothing_trained(
    *, title: str, did: str, why: str, answer: list[str], goal: dict[str, Any], loss_name: str,
    certificates: list[dict[str, Any]], warnings: list[str], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """A run that was not made, because the data contradict themselves."""
    empty: dict[str, Any] = {"steps": [], "measured": [], "predicted": None, "predicted_initial": None}
    return {
        "key": "data", "title": title, "network": "nothing was trained", "did": did, "why": why,
        "status": f"{did}, {why}", "answer": answer,
        "trained": {"what": "nothing", "parametrization": None, "mode": ""}, "goal": goal,
        "scores": {"train": None, "test": None, "kernel": None},
        "loss": {**empty, "loss_name": loss_name, "lr": None, "lr_max": None, "optimizer": None, "torch": None},
        "accuracy": {"steps": [], "train": None, "test": None},
        "spectrum": {"limit": None, "initial": None, "final": None, "singular": None},
        "moved": {"steps": [], "layers": [], "distance": [], "flip_layers": [], "flips": [], "drift_steps": [],
                  "drift": [], "alignment": []},
        "test": {"steps": [], "network_error": [], "kernel_error": None, "kernel_curve_steps": [],
                 "kernel_curve": [], "unit": None, "quantity": None},
        "probes": [], "width": None, "certificates": certificates, "warnings": warnings,
        "made": made_facts(seed=seed, dtype=None, device=None, python=None, seconds={}, parameters=None,
                           interrupted=False),
    }  # fmt: skip


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


def accuracy_facts(trace: Trace, classes: bool = True) -> dict[str, Any]:
    """Training and test accuracy at the measured steps."""
    if not classes:
        return {"steps": [], "train": None, "test": None}
    train, test = trace.measured.get("train_accuracy"), trace.measured.get("test_accuracy")
    steps: list[int] = []
    if train:
        steps = train.steps
    elif test:
        steps = test.steps
    return {"steps": steps, "train": _numbers(train) or None, "test": _numbers(test) or None}


def probe_facts(trace: Trace, more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The further curves, those with layers as their largest value."""
    curves = []
    for name in (*SHOWN_PROBES, *more):
        series = trace.measured.get(name)
        if series is None or not series.values:
            continue
        of_layers = isinstance(series.values[0], dict)
        curves.append(
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
    return curves


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
