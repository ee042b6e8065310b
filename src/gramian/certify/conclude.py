"""From a finished run to its certificates, its answer and its plain facts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gramian.certify import facts
from gramian.certify.answer import because, how_fast, whether, why
from gramian.certify.certification import Certification
from gramian.certify.conditions import CONTRADICTED, Certificate
from gramian.certify.evidence import Evidence
from gramian.certify.finished_run import Run, evidence_of
from gramian.certify.goal import did, last_accuracy, steps_taken
from gramian.certify.kernel_prediction import Prediction, kernel_predictor
from gramian.certify.scores import error_of, scores
from gramian.certify.study_clock import Clock
from gramian.certify.theorems import certificates
from gramian.certify.torch_line import torch_facts
from gramian.gram import eigenvalues

WHAT = {
    "own": "a copy of your module, as it stands",
    "ntk": "the module's architecture, weights drawn anew in the NTK parametrization",
    "standard": "the module's architecture, weights drawn anew in the standard parametrization",
    "allen-zhu": "the network of Allen-Zhu, Li and Song of the same family, in the module's place",
}


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
        kernel_outputs = _kernel_outputs(run, warnings)
    evidence = evidence_of(run, limit, initial)
    all_certificates = certificates(evidence)
    outcome = did(run.trace, run.aim)
    word = why(outcome, all_certificates)
    own = _scores(run, kernel_outputs)
    rate = _rate(run)
    rate_words = rate | {"batches": rate["line"].rpartition(", ")[2]}
    singular = run.system is not None and float(run.system.values[0]) <= 0
    sentences = (
        whether(evidence, outcome, run.aim, own["train"], run.still),
        how_fast(evidence, rate_words, run.expected_steps, run.reached_at, run.still),
        because(evidence, run.sweep, word, all_certificates, singular, outcome),
    )
    warnings += _said(run, all_certificates)
    seconds = {**clock.seconds, "of these, probes": sum(v for k, v in run.trace.seconds.items() if k != "training")}
    steps, losses = run.losses
    accuracy = last_accuracy(run.trace) if run.aim.classes else None
    some = len(run.gram.own)
    arch = run.made.arch
    facts_of_run: dict[str, Any] = {
        "key": "".join(c if c.isalnum() else "-" for c in name.lower()),
        "title": f"{name}, width {run.width}" if run.known_width else name,
        "network": str(arch) if arch is not None else str(run.network),
        "did": outcome,
        "why": word,
        "status": f"{outcome}, {word}",
        "answer": list(sentences),
        "trained": {
            "what": "your module itself, in place" if run.in_place else WHAT[run.way],
            "parametrization": run.way,
            "mode": run.mode,
        },
        "goal": facts.goal_facts(run.aim, run.last_loss, accuracy, steps_taken(run.trace)),
        "scores": own,
        "loss": {
            "steps": steps,
            "measured": losses,
            "predicted": None if limit is None else limit.losses,
            "predicted_initial": initial,
            "loss_name": run.loss,
            "lr": run.lr,
            "lr_max": run.lr_max,
            "optimizer": run.optimizer,
            "torch": rate | {"line": None} if run.trace.diverged else rate,
        },
        "accuracy": facts.accuracy_facts(run.trace, run.aim.classes),
        "spectrum": {
            "limit": None if run.theta is None else _descending(run.theta[:some, :some]),
            "initial": _descending(run.gram.own),
            "final": None if final is None else _descending(final),
            "singular": None if run.system is None else singular,
        },
        "moved": facts.moved_facts(run.trace),
        "test": _test_facts(run, limit, kernel_outputs),
        "probes": facts.probe_facts(run.trace),
        "width": _width_facts(run, evidence, all_certificates),
        "certificates": [c.to_dict() for c in all_certificates],
        "warnings": warnings,
        "made": facts.made_facts(
            **made_as,
            python=_python_line(run),
            seconds=seconds,
            parameters=sum(p.numel() for p in run.network.parameters() if p.requires_grad),
            interrupted=run.trace.interrupted,
        ),
    }
    return Certification(sentences, all_certificates, outcome, word, data, facts_of_run, run.trace)


def _rate(run: Run) -> dict[str, Any]:
    """The learning rate for a loop in plain torch."""
    classes, squared = run.data.y.dtype == torch.int64, run.loss == "squared"
    targets = "y"
    if classes and squared:
        targets = f"one_hot(y, {run.targets.shape[1]}) - 1 / {run.targets.shape[1]}"
    elif run.data.scale is not None:
        targets = "(y - y.mean(0)) / y.std(0, correction=0)"
    return torch_facts(
        loss=run.loss, n=len(run.r0), n_outputs=run.targets.shape[1], lr=run.lr, lr_max=run.lr_max,
        optimizer=run.optimizer, beta=run.beta, batch_size=run.batch_size, targets=targets,
        network=run.made.code.replace("WIDTH", str(run.width)).replace("SEED", str(run.seed)),
    )  # fmt: skip


def _said(run: Run, all_certificates: tuple[Certificate, ...]) -> list[str]:
    """What a reader should know of how things were measured."""
    said = []
    if run.mode:
        said.append(
            f"The network was trained in training mode ({run.mode}), as you would; losses, accuracies and kernels are "
            "measured in evaluation mode, and predictions are of that mode. Its largest stable learning rate is not "
            "known."
        )
    if len(run.gram.own) < len(run.r0):
        some, n = len(run.gram.own), len(run.r0)
        said.append(f"The network's own Gram matrix was computed on {some} of {n} rows, to save time.")
    if run.loss != "squared":
        said.append("The predicted curves are for the squared loss; for this one there are none.")
    if run.aim.floor > 0:
        least = run.aim.share_of(run.aim.floor)
        said.append(
            f"Equal inputs have different targets: no function's training loss is below {run.aim.floor:.3g}"
            + ("." if least is None else f", {least:.2%} of the best constant predictor's.")
        )
    said += [f"{c.theorem}: contradicted by this run." for c in all_certificates if c.status == CONTRADICTED]
    return said


def _kernel_outputs(run: Run, warnings: list[str]) -> Tensor | None:
    """What the limit kernel's predictor says of the test rows; shape (m, C)."""
    if run.theta is None or run.cross is None:
        return None
    predictions, warning = kernel_predictor(run.theta, run.targets, run.cross)
    warnings += [warning] if warning else []
    return predictions


def _scores(run: Run, kernel_outputs: Tensor | None) -> dict[str, Any]:
    data = run.data
    test = None if run.test_outputs is None else scores(run.test_outputs, data.y_test, data.scale)
    kernel = None if kernel_outputs is None else scores(kernel_outputs, data.y_test, data.scale)
    return {"train": scores(run.train_outputs, data.y, data.scale), "test": test, "kernel": kernel}


def _test_facts(run: Run, limit: Prediction | None, kernel_outputs: Tensor | None) -> dict[str, Any]:
    """Errors on test rows over the steps: of the network, of the kernel predictor, and of the kernel's predicted run.

    Real targets: the root mean square error over all targets. Of one target it is in its own unit; several that were
    standardized have no common one, and are left in deviations.
    """
    data, c = run.data, run.targets.shape[1]
    classes = data.y.dtype == torch.int64
    several = data.scale is not None and c > 1
    scale = None if several else data.scale
    y_test = run.targets_test if several else data.y_test
    accuracy, loss = run.trace.measured.get("test_accuracy"), run.trace.measured.get("test_loss")
    steps: list[int] = []
    errors: list[float] = []
    if classes and accuracy is not None:
        steps, errors = accuracy.steps, [1 - float(v) for v in accuracy.values if isinstance(v, int | float)]
    elif loss is not None and run.loss == "squared" and not classes:
        unit = 1.0 if scale is None else float(scale[1][0])
        steps = loss.steps
        # the loss is half a sum of squares: twice the loss over the number of targets is the mean square
        errors = [unit * math.sqrt(2 * float(v) / (len(y_test) * c)) for v in loss.values if isinstance(v, int | float)]
    curve = []
    if limit is not None and limit.test_outputs is not None:
        curve = [error_of(scores(f, y_test, scale)) for f in limit.test_outputs]
    words = "RMSE, in deviations of each target" if several else "RMSE, in the target's unit"
    return {
        "steps": steps,
        "network_error": errors,
        "kernel_error": None if kernel_outputs is None else error_of(scores(kernel_outputs, y_test, scale)),
        "kernel_curve_steps": run.losses[0] if curve else [],
        "kernel_curve": curve,
        "unit": "share" if classes else "RMSE",
        "quantity": "share of wrong test rows" if classes else words,
    }


def _width_facts(run: Run, e: Evidence, all_certificates: tuple[Certificate, ...]) -> dict[str, Any]:
    error = run.gram.relative
    known = {"run_width": run.known_width, "run_error": error, "papers": _papers(all_certificates)}
    if run.sweep is None:
        return known
    return {**run.sweep.to_dict(), **known, "in_regime": None if error is None else error <= run.sweep.tolerance}


def _papers(all_certificates: tuple[Certificate, ...]) -> list[dict[str, Any]]:
    """The widths that theorems ask for, as their certificates have them."""
    asked = []
    for certificate in all_certificates:
        widths = [c.needs for c in certificate.premises if c.says.startswith("width") and c.sense == ">="]
        numbers = [w for w in widths if isinstance(w, int | float) and not isinstance(w, bool) and math.isfinite(w)]
        if numbers:
            asked.append({"theorem": certificate.theorem.partition(":")[0], "width": max(numbers)})
    return asked


def _descending(matrix: Tensor) -> list[float]:
    return [float(f"{v:.6g}") for v in eigenvalues(matrix).flip(0)]


def _python_line(run: Run) -> str:
    width = f", width={run.width}" if not run.made.fixed_width else ""
    way = "None" if run.way == "own" and not run.in_place else repr(run.way)
    return (
        f"gramian.certify(module, x, y, parametrization={way}{width}, optimizer={run.optimizer!r}, lr={run.lr:.9g}, "
        f"seed={run.seed})"
    )
