"""From a finished run to its certificates, its answer and its plain facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gramian.certify import facts
from gramian.certify.answer import answer, contradiction
from gramian.certify.certification import Certification, overall
from gramian.certify.clock import Clock
from gramian.certify.conditions import Certificate, Condition
from gramian.certify.evidence import Evidence
from gramian.certify.form import network_facts
from gramian.certify.predicted import Prediction, error_share, kernel_predictor, predict, predict_coupled, predictor_gap
from gramian.certify.setup import Setup
from gramian.certify.theorems import certificates
from gramian.certify.theorems.allenzhu2019convergence import budget
from gramian.certify.theorems.allenzhu2019setting import delta
from gramian.certify.theorems.du2019global import width as du_width
from gramian.certify.width import KernelError, Sweep
from gramian.data import Geometry, geometry
from gramian.gram import eigenvalues
from gramian.gram.spectrum import Eigensystem
from gramian.train import Trace

ROUNDINGS = 64  # units in the last place that a forward pass may be off by
REGIME = 1.5  # a single draw may be off by this much more than the expected error


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run with all that went into it; see `certify` and `Setup` for the fields."""

    made: Setup
    sweep: Sweep | None
    width: int
    network: nn.Module
    trace: Trace
    shape: Geometry
    y: Tensor
    y_test: Tensor
    targets: Tensor
    targets_test: Tensor
    theta: Tensor | None
    cross: Tensor | None
    system: Eigensystem | None
    r0: Tensor
    f0_test: Tensor | None
    lr: float
    lr_max: float | None
    batch_size: int
    beta: float
    accuracy: float
    optimizer: str
    loss: str
    seed: int
    gram: KernelError
    expected_steps: float | None
    test_outputs: Tensor | None
    coupled: Tensor | None = None

    @property
    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and full training losses at them."""
        series = self.trace.measured["loss"]
        return series.steps, [float(v) for v in series.values if isinstance(v, int | float)]

    @property
    def reached_at(self) -> int | None:
        """First measured step at which the loss was down to `accuracy` of the first one."""
        steps, losses = self.losses
        return next((t for t, l in zip(steps, losses, strict=True) if l <= self.accuracy * losses[0]), None)

    def predicted(self, theta: Tensor | None, *, test: bool) -> Prediction | None:
        """Prediction from a kernel on all training rows, at the steps where the loss was measured."""
        if theta is None or self.loss != "squared" or len(theta) != len(self.r0):
            return None
        return predict(
            theta, self.r0, self.losses[0], optimizer=self.optimizer, lr=self.lr, beta=self.beta,
            batch_size=self.batch_size, seed=self.seed, system=self.system if theta is self.theta else None,
            cross=self.cross if test else None, f0_test=self.f0_test, y_test=self.targets_test,
        )  # fmt: skip

    def predicted_by_own(self) -> list[float] | None:
        """Losses predicted from the network's own Gram matrix at initialization: over all outputs, or their mean."""
        if self.coupled is not None and self.loss == "squared":
            found = predict_coupled(
                self.coupled, self.r0, self.losses[0], optimizer=self.optimizer, lr=self.lr, beta=self.beta,
                batch_size=self.batch_size, seed=self.seed,
            )  # fmt: skip
            if found is not None:
                return found
        mean = self.predicted(self.gram.own, test=False)
        return None if mean is None else mean.losses


def conclude(
    run: Run,
    final: Tensor | None,
    data: dict[str, Any],
    name: str,
    clock: Clock,
    warnings: list[str],
    made_as: dict[str, Any],
) -> Certification:
    """Certificates, answer and facts of a run; `final` is the network's NTK after it, None if it
    diverged."""
    with clock("prediction"):
        limit, initial = run.predicted(run.theta, test=True), run.predicted_by_own()
        test = _test_facts(run, limit, warnings)
    evidence = replace(_evidence(run, limit), own_error=_predicted_error(run, initial))
    found = certificates(evidence)
    sentences = answer(evidence, run.sweep, run.lr_max, run.expected_steps)
    steps, losses = run.losses
    some = len(run.gram.own)
    if some < len(run.r0):
        warnings.append(f"The network's own Gram matrix was computed on {some} of {len(run.r0)} rows, to save time.")
    if run.loss != "squared":
        warnings.append("The predicted curves are for the squared loss; for this one there are none.")
    seconds = {**clock.seconds, "of these, probes": sum(v for k, v in run.trace.seconds.items() if k != "training")}
    arch = run.made.arch
    facts_of_run: dict[str, Any] = {
        "key": "".join(c if c.isalnum() else "-" for c in name.lower()),
        "title": f"{name}, width {run.width}",
        "network": str(arch) if arch is not None else str(run.network),
        "status": overall(found),
        "answer": list(sentences),
        "loss": {
            "steps": steps,
            "measured": losses,
            "predicted": limit and limit.losses,
            "predicted_initial": initial,
            "loss_name": run.loss,
            "lr": run.lr,
            "lr_max": run.lr_max,
            "optimizer": run.optimizer,
        },
        "accuracy": facts.accuracy_facts(run.trace),
        "spectrum": {
            "limit": None if run.theta is None else _descending(run.theta[:some, :some]),
            "initial": _descending(run.gram.own),
            "final": None if final is None else _descending(final),
        },
        "moved": facts.moved_facts(run.trace),
        "test": test,
        "probes": facts.probe_facts(run.trace),
        "width": _width_facts(run, evidence),
        "certificates": [c.to_dict() for c in found],
        "warnings": warnings,
        "made": facts.made_facts(
            **made_as,
            python=_python_line(run),
            seconds=seconds,
            parameters=sum(p.numel() for p in run.network.parameters() if p.requires_grad),
            interrupted=run.trace.interrupted,
        ),
    }
    return Certification(sentences, found, run.reached_at is not None, data, facts_of_run, run.trace)


def data_facts(
    name: str, source: str, x: Tensor, y: Tensor, x_test: Tensor, classes: Sequence[str], shape: Geometry
) -> dict[str, Any]:
    """Facts of the data."""
    return {
        "name": name,
        "source": source,
        "n_train": len(x),
        "n_test": len(x_test),
        "in_shape": list(x.shape[1:]),
        "n_outputs": len(classes) or (int(y.max()) + 1 if y.dtype == torch.int64 else y.shape[1]),
        "classes": list(classes),
        "geometry": {
            "norm_min": shape.norm_min,
            "norm_max": shape.norm_max,
            "separation": shape.separation,
            "closest": list(shape.closest or ()),
            "duplicates": [list(group) for group in shape.duplicates],
            "conflicts": [list(pair) for pair in shape.conflicts],
        },
    }


def contradicted(shape: Geometry, data: dict[str, Any], name: str, seed: int, warnings: list[str]) -> Certification:
    """The answer for equal inputs with different labels: no network can; nothing is trained."""
    premise = Condition("pairs of equal inputs with different labels", 0.0, float(len(shape.conflicts)), "<=")
    certificate = Certificate(
        "The data can be fitted", "a function has one value at one input", (premise,), (),
        summary=contradiction(shape.conflicts)[0],
    )  # fmt: skip
    sentences = contradiction(shape.conflicts)
    empty: dict[str, Any] = {"steps": [], "measured": [], "predicted": None, "predicted_initial": None}
    run: dict[str, Any] = {
        "key": "data", "title": name, "network": "nothing was trained", "status": certificate.status,
        "answer": list(sentences),
        "loss": {**empty, "loss_name": "squared", "lr": None, "lr_max": None, "optimizer": None},
        "accuracy": {"steps": [], "train": None, "test": None},
        "spectrum": {"limit": None, "initial": None, "final": None},
        "moved": {"steps": [], "layers": [], "distance": [], "flip_layers": [], "flips": [], "drift_steps": [],
                  "drift": [], "alignment": []},
        "test": {"steps": [], "network_error": [], "kernel_error": None, "kernel_curve_steps": [], "kernel_curve": []},
        "probes": [], "width": None, "certificates": [certificate.to_dict()], "warnings": warnings,
        "made": facts.made_facts(seed=seed, dtype=None, device=None, python=None, seconds={}, parameters=None,
                                 interrupted=False),
    }  # fmt: skip
    return Certification(sentences, (certificate,), False, data, run, None)


def _evidence(run: Run, limit: Prediction | None) -> Evidence:
    made, arch = run.made, run.made.arch
    wanted = 1.0 if made.paper else made.x[0].numel() ** 0.5
    norms = made.x.flatten(1).norm(dim=1)
    lam = run.system.values if run.system is not None else None
    return Evidence(
        n=len(made.x),
        in_features=made.x[0].numel(),
        n_outputs=run.targets.shape[1],
        separation=geometry(made.x).separation,
        norm_error=float((norms / wanted - 1).abs().max()),
        label_norm=float(run.targets.norm(dim=1).max()),
        family=made.family,
        depth=made.depth,
        width=run.width,
        pixels=made.pixels,
        window=made.window,
        initialization=made.initialization,
        paper_initialization=made.paper,
        lambda_min=None if lam is None else float(lam[0]),
        lambda_max=None if lam is None else float(lam[-1]),
        lambda_last=_last_layer(run),
        gram_rows=int(run.trace.config.get("gram_rows", len(run.gram.own))),
        gram_error=run.gram.relative,
        gram_gap=run.gram.spectral,
        unit=made.unit(run.width, run.targets.shape[1]),
        stretch=made.stretch(run.width),
        loss=run.loss,
        optimizer=run.optimizer,
        batch_size=run.batch_size,
        lr=run.lr,
        accuracy=run.accuracy,
        accuracy_steps=run.reached_at,
        predicted_error=_predicted_error(run, None if limit is None else limit.losses),
        test_gap=_test_gap(run, limit),
        trace=run.trace,
        independent_batches=run.optimizer != "sgd",  # those of `train` are parts of a permutation
        predictor_gap=_predictor_gap(run),
        resolution=_resolution(run),
        **network_facts(arch, run.network, made.x, made.paper, made.initialization),
    )


def _predictor_gap(run: Run) -> float | None:
    if run.theta is None or run.cross is None or run.test_outputs is None:
        return None
    return predictor_gap(run.theta, run.targets, run.cross, run.test_outputs)


def _resolution(run: Run) -> float:
    """What rounding may change in the norm of the residual: outputs and targets are of this size, and sums are long."""
    eps = torch.finfo(getattr(torch, str(run.trace.config.get("dtype", "float32")))).eps
    return ROUNDINGS * eps * float(run.targets.norm() + run.r0.norm())


def _last_layer(run: Run) -> float | None:
    """Smallest eigenvalue of the limit Gram matrix of the last hidden layer alone, as Du et al. use."""
    arch = run.made.arch
    if arch is None or run.made.paper or run.made.family == "convolutional" or arch.parametrization != "ntk":
        return None
    hidden = [s.op for n, s in enumerate(arch.steps) if s.op in arch.affine and arch.hidden(n)]
    if not hidden:
        return None
    return float(eigenvalues(arch.training({hidden[-1].weight_name}).ntk(run.made.x))[0])


def _predicted_error(run: Run, predicted: list[float] | None) -> float | None:
    """Largest relative error of the predicted loss until the measured one was down to `accuracy`."""
    if predicted is None or run.trace.diverged:
        return None
    steps, losses = run.losses
    last = run.reached_at
    pairs = [(p, l) for t, p, l in zip(steps, predicted, losses, strict=True) if t and (last is None or t <= last)]
    return max((abs(p / l - 1) for p, l in pairs if l > 0), default=None)


def _test_gap(run: Run, limit: Prediction | None) -> float | None:
    if limit is None or limit.test_outputs is None or run.test_outputs is None:
        return None
    expected = limit.test_outputs[-1]
    return float((run.test_outputs - expected).norm() / expected.norm())


def _test_facts(run: Run, limit: Prediction | None, warnings: list[str]) -> dict[str, Any]:
    """Test error of the network, of the kernel predictor, and of the kernel's predicted run."""
    accuracy, loss = run.trace.measured.get("test_accuracy"), run.trace.measured.get("test_loss")
    steps: list[int] = []
    errors: list[float] = []
    if accuracy is not None:
        steps, errors = accuracy.steps, [1 - float(v) for v in accuracy.values if isinstance(v, int | float)]
    elif loss is not None and run.test_outputs is not None and run.loss == "squared":
        spread = float((run.targets_test - run.targets_test.mean(0)).square().sum())
        steps = loss.steps
        errors = [2 * float(v) / spread for v in loss.values if isinstance(v, int | float)] if spread > 0 else []
    kernel_error, curve = None, []
    if run.theta is not None and run.cross is not None:
        predictions, warning = kernel_predictor(run.theta, run.targets, run.cross)
        warnings += [warning] if warning else []
        kernel_error = error_share(predictions, run.y_test, run.targets_test)
    if limit is not None and limit.test_outputs is not None:
        curve = [error_share(f, run.y_test, run.targets_test) for f in limit.test_outputs]
    return {
        "steps": steps,
        "network_error": errors,
        "kernel_error": kernel_error,
        "kernel_curve_steps": run.losses[0] if curve else [],
        "kernel_curve": curve,
    }


def _width_facts(run: Run, e: Evidence) -> dict[str, Any]:
    if run.sweep is None:
        return {"run_width": run.width, "run_error": run.gram.relative}
    b = e.batch_size if e.optimizer == "sgd" else None
    asked = [
        (
            "Allen-Zhu, Li, Song 2019",
            budget(e.n, max(e.depth, 1), delta(e), e.n_outputs, e.accuracy, e.width, b, e.pixels).width,
        )
    ]
    if e.lambda_last is not None:
        asked.append(("Du et al. 2019", du_width(e.n, max(e.depth, 1), e.lambda_last, e.family, e.pixels)))
    error = run.gram.relative
    return {
        **run.sweep.to_dict(),
        "run_width": run.width,
        "run_error": error,
        "in_regime": error is not None and error <= REGIME * run.sweep.tolerance,
        "papers": [{"theorem": theorem, "width": width} for theorem, width in asked],
    }


def _descending(matrix: Tensor) -> list[float]:
    return [float(f"{v:.6g}") for v in eigenvalues(matrix).flip(0)]


def _python_line(run: Run) -> str:
    return (
        f"gramian.certify(module, x, y, width={run.width}, optimizer={run.optimizer!r}, lr={run.lr:.6g}, "
        f"seed={run.seed})"
    )
