"""The facts of a run for its report, as `gramian.report.facts` has them."""

from __future__ import annotations

import math
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gramian.certify.goal import Goal
from gramian.certify.prepared_data import PreparedData
from gramian.certify.scores import base_rate, imbalanced
from gramian.report.facts import (
    AccuracyFacts,
    BaseRateFacts,
    CertificateFacts,
    DataFacts,
    GeometryFacts,
    GoalFacts,
    LossFacts,
    MovedFacts,
    OriginFacts,
    ProbeFacts,
    RunFacts,
    ScoreFacts,
    SpectrumFacts,
    TargetFacts,
    TestErrorFacts,
    TrainedFacts,
)
from gramian.train import Trace
from gramian.train.trace import Series
from gramian.version import __version__

SHOWN_PROBES = (
    "gram_min", "gram_max", "gradient_over_loss", "linearization_gap", "semi_smoothness",
    "spectral_distance",
)  # fmt: skip


def data_facts(prepared: PreparedData) -> DataFacts:
    """Facts of the data."""
    description, data, shape = prepared.request.description, prepared.checked, prepared.geometry
    y, classes = data.y, prepared.has_classes
    targets, task, n_outputs = None, "classes", len(data.classes)
    if classes and not n_outputs:
        n_outputs = int(y.max()) + 1
    if not classes:
        task, n_outputs = "regression", n_outputs or y.shape[1]
        targets = TargetFacts(mean=y.mean(0).tolist(), deviation=y.std(0, correction=0).tolist())
    return DataFacts(
        name=description.data_name,
        source=description.source,
        n_train=len(data.x),
        n_test=len(data.x_test),
        in_shape=list(data.x.shape[1:]),
        n_outputs=n_outputs,
        classes=list(data.classes),
        task=task,
        base_rate=BaseRateFacts(train=base_rate(y), test=base_rate(data.y_test)),
        imbalanced=imbalanced(y),
        targets=targets,
        standardized=data.scale is not None,
        geometry=GeometryFacts(
            norm_min=shape.norm_min,
            norm_max=shape.norm_max,
            separation=shape.separation,
            closest=list(shape.closest or ()),
            duplicates=[list(group) for group in shape.duplicates],
            conflicts=[list(pair) for pair in shape.conflicts],
        ),
    )


def goal_facts(aim: Goal, loss: float | None, accuracy: float | None, steps: int = 0) -> GoalFacts:
    """The goal and how near the last step came to it."""
    return GoalFacts(
        loss=loss,
        best_constant=aim.best_constant,
        share=None if loss is None else aim.share_of(loss),
        asked=aim.share,
        target=aim.target,
        floor=aim.floor,
        accuracy=accuracy,
        steps=steps,
        means=aim.words,
    )


def nothing_trained(
    *,
    title: str,
    did: str,
    why: str,
    answer: list[str],
    goal: GoalFacts,
    loss_name: str,
    certificates: list[CertificateFacts],
    warnings: list[str],
    seed: int,
) -> RunFacts:
    """A run that was not made, because the data contradict themselves."""
    return RunFacts(
        key="data",
        title=title,
        network="nothing was trained",
        did=did,
        why=why,
        status=f"{did}, {why}",
        answer=answer,
        trained=TrainedFacts(what="nothing", parametrization=None, mode=""),
        goal=goal,
        scores=ScoreFacts(train=None, test=None, kernel=None),
        loss=LossFacts(
            steps=[], measured=[], predicted=None, predicted_initial=None, loss_name=loss_name, lr=None, lr_max=None,
            optimizer=None, torch=None,
        ),
        accuracy=AccuracyFacts(steps=[], train=None, test=None),
        spectrum=SpectrumFacts(limit=None, initial=None, final=None, singular=None),
        moved=moved_facts(Trace({}, [], [])),
        test=TestErrorFacts(
            steps=[], network_error=[], kernel_error=None, kernel_curve_steps=[], kernel_curve=[], unit=None,
            quantity=None,
        ),
        probes=[],
        width=None,
        certificates=certificates,
        warnings=warnings,
        origin=origin_facts(
            seed=seed, dtype=None, device=None, python=None, seconds={}, parameters=None, interrupted=False
        ),
    )  # fmt: skip


def layer_name(name: str) -> str:
    """A parameter's name as the user's layers are called: `layers.0.layer.weight` of a drawn network is `0.weight`."""
    if name.startswith("layers."):
        name = name.removeprefix("layers.").replace(".layer.weight", ".weight").replace(".bias.weight", ".bias")
    return name


def moved_facts(trace: Trace) -> MovedFacts:
    """What moved: distances per layer, flips, drift and alignment of the kernel."""
    distance, flips = trace.measured.get("relative_distance"), trace.measured.get("sign_flips")
    drift, alignment = trace.measured.get("kernel_drift"), trace.measured.get("kernel_alignment")
    steps = _steps(distance)
    return MovedFacts(
        steps=steps,
        layers=_layers(distance),
        distance=_table(distance),
        flip_layers=_layers(flips),
        flips=_on_steps(flips, steps),
        drift_steps=_steps(drift),
        drift=_numbers(drift),
        alignment=_numbers(alignment),
    )


def _steps(series: Series | None) -> list[int]:
    """Steps at which it was measured; none of what was not."""
    if series is None:
        return []
    return series.steps


def _layers(series: Series | None) -> list[str]:
    """The layers that it has a number for, as the user calls them."""
    if series is None:
        return []
    return [layer_name(label) for label in series.labels]


def accuracy_facts(trace: Trace, classes: bool = True) -> AccuracyFacts:
    """Training and test accuracy at the measured steps."""
    if not classes:
        return AccuracyFacts(steps=[], train=None, test=None)
    train, test = trace.measured.get("train_accuracy"), trace.measured.get("test_accuracy")
    steps: list[int] = []
    if train:
        steps = train.steps
    elif test:
        steps = test.steps
    return AccuracyFacts(steps=steps, train=_numbers(train) or None, test=_numbers(test) or None)


def probe_facts(trace: Trace, more: tuple[str, ...] = ()) -> list[ProbeFacts]:
    """The further curves, those with layers as their largest value."""
    curves = []
    for name in (*SHOWN_PROBES, *more):
        series = trace.measured.get(name)
        if series is None or not series.values:
            continue
        title, values = series.title, series.values
        lower, upper = _bound(series.lower), _bound(series.upper)
        if isinstance(values[0], dict):
            title += ", largest layer"
            values = [max(v.values()) for v in values if isinstance(v, dict)]
            lower = upper = None
        curves.append(
            ProbeFacts(
                name=name,
                title=title,
                unit=series.unit,
                steps=series.steps,
                values=[_number(v) for v in values],
                lower=lower,
                upper=upper,
            )
        )
    return curves


def _bound(numbers: Sequence[Any] | None) -> list[float | None] | None:
    if numbers is None:
        return None
    return [_number(v) for v in numbers]


def origin_facts(**known: Any) -> OriginFacts:
    """How a run came about: versions, commit and date beside what is given."""
    import numpy
    import scipy
    import sklearn

    command = None
    if Path(sys.argv[0]).stem in ("gramian", "__main__"):
        command = " ".join(["gramian", *sys.argv[1:]])
    return OriginFacts(
        command=command,
        commit=_commit(),
        versions={
            "gramian": __version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        **known,
    )


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
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _numbers(series: Series | None) -> list[float | None]:
    if series is None:
        return []
    return [_number(v) for v in series.values]


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
