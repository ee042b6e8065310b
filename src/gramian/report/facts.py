"""The facts of a report, typed and frozen: what `certify` and the monitor write, and report.json and the page read.

A report is `ReportFacts`: its data and its runs. `to_dict` gives the plain data of report.json, in which a field that
was not written has no key; `completed` gives plain data in which every field is there, None or empty where nothing was
measured, so that the page has one shape.

Losses are sums over the training rows, of half the squared errors for the squared loss, in the targets that were
trained on. "Own unit" is that of the targets as the user gave them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gramian.report.plain_facts import NOT_WRITTEN, Facts

SCHEMA = 3
Numbers = list[float] | list[float | None] | None
Steps = list[int] | None


@dataclass(frozen=True, kw_only=True)
class GeometryFacts(Facts):
    """Geometry of the rows as given: norms, smallest distance of two rows at norm one, their numbers, equal rows."""

    norm_min: float | None = NOT_WRITTEN
    norm_max: float | None = NOT_WRITTEN
    separation: float | None = NOT_WRITTEN
    closest: list[int] = NOT_WRITTEN
    duplicates: list[list[int]] = NOT_WRITTEN
    conflicts: list[list[int]] = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class BaseRateFacts(Facts):
    """Share of the largest class, which a constant predictor gets right; None for regression."""

    train: float | None = NOT_WRITTEN
    test: float | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class TargetFacts(Facts):
    """Mean and deviation of real targets, lists over the targets, in their own unit."""

    mean: list[float] | None = NOT_WRITTEN
    deviation: list[float] | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class DataFacts(Facts):
    """A data set. classes: names, [] for real targets. task: "classes" or "regression". imbalanced: whether the largest
    class is so large that accuracy alone misleads. targets: None for classes. standardized: whether real targets were
    brought to mean 0 and deviation 1 before training."""

    MISSING: ClassVar[dict[str, Any]] = {"name": "data", "in_shape": [], "classes": []}

    name: str = NOT_WRITTEN
    source: str = NOT_WRITTEN
    n_train: int = NOT_WRITTEN
    n_test: int = NOT_WRITTEN
    in_shape: list[int] = NOT_WRITTEN
    n_outputs: int = NOT_WRITTEN
    classes: list[str] = NOT_WRITTEN
    task: str = NOT_WRITTEN
    base_rate: BaseRateFacts = NOT_WRITTEN
    imbalanced: bool = NOT_WRITTEN
    targets: TargetFacts | None = NOT_WRITTEN
    standardized: bool = NOT_WRITTEN
    geometry: GeometryFacts = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class TrainedFacts(Facts):
    """What was trained: in words; "own" (in place or a copy), "ntk", ...; "" or the layers that make training mode
    differ from evaluation mode, in which everything is measured."""

    what: str = NOT_WRITTEN
    parametrization: str | None = NOT_WRITTEN
    mode: str = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class GoalFacts(Facts):
    """loss: the last one. best_constant: of the best constant predictor. share: the one over the other. asked: the
    share that counts as the minimum. target: that loss. floor: the least loss of any function. accuracy: the last one
    on the training rows. steps: taken. means: the definition in words."""

    loss: float | None = NOT_WRITTEN
    best_constant: float = NOT_WRITTEN
    share: float | None = NOT_WRITTEN
    asked: float = NOT_WRITTEN
    target: float = NOT_WRITTEN
    floor: float = NOT_WRITTEN
    accuracy: float | None = NOT_WRITTEN
    steps: int = NOT_WRITTEN
    means: str = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class ScoreFacts(Facts):
    """On training rows, on test rows, and of the limit's predictor on test rows: each None, or a dict {"accuracy",
    "balanced_accuracy"} for classes, {"rmse": a list over the targets in their own unit, "r2"} for regression."""

    train: dict[str, Any] | None = NOT_WRITTEN
    test: dict[str, Any] | None = NOT_WRITTEN
    kernel: dict[str, Any] | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class LossFacts(Facts):
    """predicted: by the limit. predicted_initial: by the network's own Gram matrix. lr, lr_max: of the loss summed over
    rows. torch: the same for a loop of the user's, {"loss": "nn.MSELoss()", "lr", "lr_max", "batch_size", "network":
    how to make `net`, "targets": what the loss is given, "line": the optimizer's line to paste, None after a
    divergence}; None if nothing was trained."""

    steps: Steps = NOT_WRITTEN
    measured: Numbers = NOT_WRITTEN
    predicted: Numbers = NOT_WRITTEN
    predicted_initial: Numbers = NOT_WRITTEN
    loss_name: str = NOT_WRITTEN
    lr: float | None = NOT_WRITTEN
    lr_max: float | None = NOT_WRITTEN
    optimizer: str | None = NOT_WRITTEN
    torch: dict[str, Any] | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class AccuracyFacts(Facts):
    """Accuracy at the measured steps, None for regression."""

    steps: Steps = NOT_WRITTEN
    train: Numbers = NOT_WRITTEN
    test: Numbers = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class SpectrumFacts(Facts):
    """Eigenvalues, largest first; singular: whether the limit's smallest one is 0 to working precision."""

    limit: Numbers = NOT_WRITTEN
    initial: Numbers = NOT_WRITTEN
    final: Numbers = NOT_WRITTEN
    singular: bool | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class MovedFacts(Facts):
    """Relative distances of the layers from their start, shares of activation signs that flipped (a row a step each),
    drift and alignment of the kernel."""

    steps: Steps = NOT_WRITTEN
    layers: list[str] = NOT_WRITTEN
    distance: list[list[float | None]] = NOT_WRITTEN
    flip_layers: list[str] = NOT_WRITTEN
    flips: list[list[float | None]] = NOT_WRITTEN
    drift_steps: Steps = NOT_WRITTEN
    drift: Numbers = NOT_WRITTEN
    alignment: Numbers = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class TestErrorFacts(Facts):
    """Errors on test rows, all in one unit: "share" (of wrong classes) or "RMSE" (over all targets, in their own unit);
    quantity: its words."""

    steps: Steps = NOT_WRITTEN
    network_error: Numbers = NOT_WRITTEN
    kernel_error: float | None = NOT_WRITTEN
    kernel_curve_steps: Steps = NOT_WRITTEN
    kernel_curve: Numbers = NOT_WRITTEN
    unit: str | None = NOT_WRITTEN
    quantity: str | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class ProbeFacts(Facts):
    """A further curve, with the bounds that a theorem gives it."""

    name: str = NOT_WRITTEN
    title: str = NOT_WRITTEN
    unit: str = NOT_WRITTEN
    steps: Steps = NOT_WRITTEN
    values: Numbers = NOT_WRITTEN
    lower: Numbers = NOT_WRITTEN
    upper: Numbers = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class WidthFacts(Facts):
    """The width sweep: errors of the kernel at some widths, the slope and constant fitted, the useful width with its
    95 % interval; and this run: its width (None for a module whose layers nobody read), the relative error of its
    kernel, whether that is within the tolerance. papers: [{"theorem", "width"}], what theorems ask for."""

    MISSING: ClassVar[dict[str, Any]] = {"papers": []}

    widths: list[int] = NOT_WRITTEN
    errors: Numbers = NOT_WRITTEN
    slope: float = NOT_WRITTEN
    constant: float = NOT_WRITTEN
    tolerance: float = NOT_WRITTEN
    rows: int = NOT_WRITTEN
    draws: list[int] = NOT_WRITTEN
    useful_width: int = NOT_WRITTEN
    useful_low: int | None = NOT_WRITTEN
    useful_high: int | None = NOT_WRITTEN
    useful_words: str = NOT_WRITTEN
    run_width: int | None = NOT_WRITTEN
    run_error: float | None = NOT_WRITTEN
    papers: list[dict[str, Any]] = NOT_WRITTEN
    in_regime: bool | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class ConditionFacts(Facts):
    """A number that a theorem asks for and the number that there is, as text."""

    says: str = NOT_WRITTEN
    needs: str = NOT_WRITTEN
    has: str | None = NOT_WRITTEN
    holds: bool | None = NOT_WRITTEN
    note: str = NOT_WRITTEN
    vacuous: bool = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class MarginFacts(Facts):
    """An inequality of a proof: `left` `sense` `right`, as numbers; holds: what was proved. name: its short name."""

    name: str = NOT_WRITTEN
    says: str = NOT_WRITTEN
    left: float | None = NOT_WRITTEN
    sense: str = NOT_WRITTEN
    right: float | None = NOT_WRITTEN
    holds: bool = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class CertificateFacts(Facts):
    """A theorem, checked. about: "training" or "other". statement, margins: of a proof, its name and its inequalities;
    None and empty for the theorems of papers."""

    theorem: str = NOT_WRITTEN
    reference: str = NOT_WRITTEN
    status: str = NOT_WRITTEN
    about: str = NOT_WRITTEN
    summary: str = NOT_WRITTEN
    premises: list[ConditionFacts] = NOT_WRITTEN
    conclusion: list[ConditionFacts] = NOT_WRITTEN
    constants: str = NOT_WRITTEN
    statement: str | None = NOT_WRITTEN
    margins: list[MarginFacts] = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class BoundFacts(Facts):
    """A bound of the error on new samples: its name, whose error (of), its value, whether blind guessing is promised to
    be as good (vacuous), with which probability, from how many rows; test_error: the same classifier's measured error
    on the test rows, None without any; what is assumed."""

    name: str = NOT_WRITTEN
    of: str = NOT_WRITTEN
    value: float = NOT_WRITTEN
    vacuous: bool = NOT_WRITTEN
    probability: float = NOT_WRITTEN
    samples: int = NOT_WRITTEN
    test_error: float | None = NOT_WRITTEN
    assumes: list[str] = NOT_WRITTEN
    reference: str = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class SampleFacts(Facts):
    """A slow sample of a watched loop: its row, its label, what the network says; numbers: whether these are real
    targets; image: a PNG as a data URI."""

    row: int = NOT_WRITTEN
    label: str | None = NOT_WRITTEN
    said: str | None = NOT_WRITTEN
    numbers: bool = NOT_WRITTEN
    image: str | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class LayerFacts(Facts):
    """A layer of a watched loop: how far it is from its start, the share of that way made lately, what still pulls."""

    name: str = NOT_WRITTEN
    moved: float | None = NOT_WRITTEN
    lately: float | None = NOT_WRITTEN
    pull: float | None = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class OriginFacts(Facts):
    """How a run came about. python: the line that runs it again. left_out, overhead: of a watched loop."""

    MISSING: ClassVar[dict[str, Any]] = {"versions": {}, "seconds": {}, "interrupted": False, "left_out": []}

    command: str | None = NOT_WRITTEN
    commit: str | None = NOT_WRITTEN
    versions: dict[str, str] = NOT_WRITTEN
    date: str = NOT_WRITTEN
    seed: int | None = NOT_WRITTEN
    dtype: str | None = NOT_WRITTEN
    device: str | None = NOT_WRITTEN
    python: str | None = NOT_WRITTEN
    seconds: dict[str, float] = NOT_WRITTEN
    parameters: int | None = NOT_WRITTEN
    interrupted: bool = NOT_WRITTEN
    overhead: str | None = NOT_WRITTEN
    left_out: list[str] = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class RunFacts(Facts):
    """A network and its run.

    did: "reached", "not reached" or "impossible"; why: "proved" (an exact minimum near the trained weights, or
    the exact run from the initial ones), "implied", "implied up to constants" or "observed"; status: f"{did}, {why}",
    the headline, "watched" for the user's own loop, which has no `did`. answer: sentences, with the questions that they
    answer in a watched loop. certificates: `Certificate.to_dict()` of each. bounds: of the error on new samples.
    origin: how the run came about.
    """

    MISSING: ClassVar[dict[str, Any]] = {
        "key": "run", "title": "network", "status": "not shown", "answer": [], "questions": [], "warnings": [],
    }  # fmt: skip

    key: str = NOT_WRITTEN
    title: str = NOT_WRITTEN
    network: str = NOT_WRITTEN
    did: str = NOT_WRITTEN
    why: str = NOT_WRITTEN
    status: str = NOT_WRITTEN
    answer: list[str] = NOT_WRITTEN
    questions: list[str] = NOT_WRITTEN
    trained: TrainedFacts = NOT_WRITTEN
    goal: GoalFacts = NOT_WRITTEN
    scores: ScoreFacts = NOT_WRITTEN
    loss: LossFacts = NOT_WRITTEN
    accuracy: AccuracyFacts = NOT_WRITTEN
    spectrum: SpectrumFacts = NOT_WRITTEN
    moved: MovedFacts = NOT_WRITTEN
    test: TestErrorFacts = NOT_WRITTEN
    samples: list[SampleFacts] = NOT_WRITTEN
    layers: list[LayerFacts] = NOT_WRITTEN
    probes: list[ProbeFacts] = NOT_WRITTEN
    width: WidthFacts | None = NOT_WRITTEN
    certificates: list[CertificateFacts] = NOT_WRITTEN
    bounds: list[BoundFacts] = NOT_WRITTEN
    warnings: list[str] = NOT_WRITTEN
    origin: OriginFacts = NOT_WRITTEN


@dataclass(frozen=True, kw_only=True)
class ReportFacts(Facts):
    """A report: one data set, and one run or several on it."""

    schema: int = SCHEMA
    title: str = NOT_WRITTEN
    data: DataFacts = NOT_WRITTEN
    runs: list[RunFacts] = NOT_WRITTEN
