"""From a finished run to its certificates, its answer and its plain facts."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from gramian.certify import run_facts
from gramian.certify.answer import because, how_fast, whether, why
from gramian.certify.certification import Certification
from gramian.certify.finished_run import FinishedRun
from gramian.certify.goal import did, last_accuracy, steps_taken
from gramian.certify.kernel_prediction import Prediction, kernel_predictor
from gramian.certify.proofs import Proofs
from gramian.certify.python_line import python_line
from gramian.certify.run_evidence import evidence_of
from gramian.certify.scores import error_of, scores
from gramian.certify.study_clock import Clock
from gramian.certify.theorems import certificates
from gramian.certify.torch_line import torch_facts
from gramian.conditions import CONTRADICTED, Certificate
from gramian.gram import eigenvalues
from gramian.report.facts import (
    GoalFacts,
    LossFacts,
    OriginFacts,
    RunFacts,
    ScoreFacts,
    SpectrumFacts,
    TestErrorFacts,
    TrainedFacts,
    WidthFacts,
)

WHAT = {
    "own": "a copy of your module, as it stands",
    "ntk": "the module's architecture, weights drawn anew in the NTK parametrization",
    "standard": "the module's architecture, weights drawn anew in the standard parametrization",
    "allen-zhu": "the network of Allen-Zhu, Li and Song of the same family, in the module's place",
}


def conclude(run: FinishedRun, proofs: Proofs, clock: Clock) -> Certification:
    """Last stage of `certify`: certificates, answer and facts of a run."""
    with clock("prediction"):
        limit, own_losses = run.predicted_by_limit(), run.predicted_by_own_ntk()
        kernel_outputs, ridge_warning = _kernel_outputs(run)
    evidence = evidence_of(run, limit, own_losses)
    all_certificates = (*proofs.tried, *certificates(evidence))
    outcome = did(run.trace, run.goal)
    word = why(outcome, all_certificates)
    scored = _scores(run, kernel_outputs)
    rate = _rate(run)
    rate_words = rate | {"batches": rate["line"].rpartition(", ")[2]}
    sentences = (
        whether(evidence, outcome, run.goal, scored.train, run.still),
        how_fast(evidence, rate_words, run.plan.expected_steps, run.reached_at, run.still),
        because(evidence, run.width.sweep, word, all_certificates, bool(run.limit.singular), outcome, proofs.says),
    )
    warnings = [*run.data.warnings, *run.width.warnings]
    if ridge_warning:
        warnings.append(ridge_warning)
    warnings += _said(run, all_certificates)
    name, network = run.data.request.description.name, str(run.initial.network)
    if run.data.setup.arch is not None:
        network = str(run.data.setup.arch)
    title = name
    if run.known_width:
        title += f", width {run.width.width}"
    facts_of_run = RunFacts(
        key=re.sub(r"[\W_]", "-", name.lower()),
        title=title,
        network=network,
        did=outcome,
        why=word,
        status=f"{outcome}, {word}",
        answer=list(sentences),
        trained=_trained(run),
        goal=_goal(run),
        scores=scored,
        loss=_loss(run, limit, own_losses, rate),
        accuracy=run_facts.accuracy_facts(run.trace, run.goal.classes),
        spectrum=_spectrum(run),
        moved=run_facts.moved_facts(run.trace),
        test=_test_error(run, limit, kernel_outputs),
        probes=run_facts.probe_facts(run.trace),
        width=_width(run, all_certificates),
        certificates=[c.facts() for c in all_certificates],
        bounds=list(proofs.bounds),
        warnings=warnings,
        origin=_origin(run, proofs, clock),
    )
    data = run_facts.data_facts(run.data).to_dict()
    return Certification(sentences, all_certificates, outcome, word, data, facts_of_run.to_dict(), run.trace)


def _trained(run: FinishedRun) -> TrainedFacts:
    request = run.data.request
    if request.in_place:
        what = "your module itself, in place"
    else:
        what = WHAT[request.network_kind]
    return TrainedFacts(what=what, parametrization=request.network_kind, mode=run.initial.mode_differences)


def _goal(run: FinishedRun) -> GoalFacts:
    if run.goal.classes:
        accuracy = last_accuracy(run.trace)
    else:
        accuracy = None
    return run_facts.goal_facts(run.goal, run.last_loss, accuracy, steps_taken(run.trace))


def _loss(
    run: FinishedRun, limit: Prediction | None, own_losses: list[float] | None, rate: dict[str, Any]
) -> LossFacts:
    steps, losses = run.losses
    if run.trace.diverged:
        rate = rate | {"line": None}
    return LossFacts(
        steps=steps,
        measured=losses,
        predicted=None if limit is None else limit.losses,
        predicted_initial=own_losses,
        loss_name=run.loss_name,
        lr=run.plan.lr,
        lr_max=run.plan.lr_max,
        optimizer=run.plan.optimizer,
        torch=rate,
    )


def _spectrum(run: FinishedRun) -> SpectrumFacts:
    some, theta, final = run.initial.n_ntk_rows, run.limit.theta, run.final_ntk
    return SpectrumFacts(
        limit=None if theta is None else _descending(theta[:some, :some]),
        initial=_descending(run.initial.ntk),
        final=None if final is None else _descending(final),
        singular=run.limit.singular,
    )


def _origin(run: FinishedRun, proofs: Proofs, clock: Clock) -> OriginFacts:
    request = run.data.request
    probes = sum(v for k, v in run.trace.seconds.items() if k != "training")
    return run_facts.origin_facts(
        seed=request.settings.seed,
        dtype=str(request.training_dtype).removeprefix("torch."),
        device=request.training_device,
        python=python_line(run),
        seconds={**clock.seconds, "of these, probes": probes},
        parameters=sum(p.numel() for p in run.initial.network.parameters() if p.requires_grad),
        interrupted=run.trace.interrupted or proofs.interrupted,
    )


def _rate(run: FinishedRun) -> dict[str, Any]:
    """The learning rate for a loop in plain torch."""
    data, plan, squared = run.data, run.plan, run.loss_name == "squared"
    targets = "y"
    if data.has_classes and squared:
        targets = f"one_hot(y, {data.n_outputs}) - 1 / {data.n_outputs}"
    elif data.checked.scale is not None:
        targets = "(y - y.mean(0)) / y.std(0, correction=0)"
    return torch_facts(
        loss=run.loss_name, n=len(data.inputs), n_outputs=data.n_outputs, lr=plan.lr, lr_max=plan.lr_max,
        optimizer=plan.optimizer, beta=plan.momentum, batch_size=plan.batch_size, targets=targets,
        network=data.setup.code.replace("WIDTH", str(run.width.width)).replace("SEED", str(plan.settings.seed)),
    )  # fmt: skip


def _said(run: FinishedRun, all_certificates: tuple[Certificate, ...]) -> list[str]:
    """What a reader should know of how things were measured."""
    said = []
    initial, goal = run.initial, run.goal
    if initial.mode_differences:
        said.append(
            f"The network was trained in training mode ({initial.mode_differences}), as you would; losses, accuracies "
            "and kernels are measured in evaluation mode, and predictions are of that mode. Its largest stable "
            "learning rate is not known."
        )
    some, n = initial.n_ntk_rows, len(initial.residual)
    if some < n:
        said.append(f"The network's own Gram matrix was computed on {some} of {n} rows, to save time.")
    if run.loss_name != "squared":
        said.append("The predicted curves are for the squared loss; for this one there are none.")
    if goal.floor > 0:
        least = goal.share_of(goal.floor)
        sentence = f"Equal inputs have different targets: no function's training loss is below {goal.floor:.3g}"
        if least is not None:
            sentence += f", {least:.2%} of the best constant predictor's"
        said.append(sentence + ".")
    said += [f"{c.theorem}: contradicted by this run." for c in all_certificates if c.status == CONTRADICTED]
    return said


def _kernel_outputs(run: FinishedRun) -> tuple[Tensor | None, str]:
    """What the limit kernel's predictor says of the test rows, shape (m, C); and a warning where it took a ridge."""
    limit = run.limit
    if limit.theta is None or limit.cross is None:
        return None, ""
    return kernel_predictor(limit.theta, run.data.targets, limit.cross)


def _scores(run: FinishedRun, kernel_outputs: Tensor | None) -> ScoreFacts:
    checked = run.data.checked
    return ScoreFacts(
        train=scores(run.train_outputs, checked.y, checked.scale),
        test=None if run.test_outputs is None else scores(run.test_outputs, checked.y_test, checked.scale),
        kernel=None if kernel_outputs is None else scores(kernel_outputs, checked.y_test, checked.scale),
    )


def _test_error(run: FinishedRun, limit: Prediction | None, kernel_outputs: Tensor | None) -> TestErrorFacts:
    """Errors on test rows over the steps: of the network, of the kernel predictor, and of the kernel's predicted run.

    Real targets: the root mean square error over all targets. Of one target it is in its own unit; several that were
    standardized have no common one, and are left in deviations.
    """
    data, c, classes = run.data, run.data.n_outputs, run.data.has_classes
    several = data.checked.scale is not None and c > 1
    if several:
        scale = None
        y_test = data.test_targets
    else:
        scale = data.checked.scale
        y_test = data.checked.y_test
    accuracy, loss = run.trace.measured.get("test_accuracy"), run.trace.measured.get("test_loss")
    steps: list[int] = []
    errors: list[float] = []
    if classes and accuracy is not None:
        steps, errors = accuracy.steps, [1 - float(v) for v in accuracy.values if isinstance(v, int | float)]
    elif loss is not None and run.loss_name == "squared" and not classes:
        if scale is None:
            unit = 1.0
        else:
            unit = float(scale[1][0])
        steps = loss.steps
        # the loss is half a sum of squares: twice the loss over the number of targets is the mean square
        errors = [unit * math.sqrt(2 * float(v) / (len(y_test) * c)) for v in loss.values if isinstance(v, int | float)]
    curve = []
    if limit is not None and limit.test_outputs is not None:
        curve = [error_of(scores(f, y_test, scale)) for f in limit.test_outputs]
    if several:
        words = "RMSE, in deviations of each target"
    else:
        words = "RMSE, in the target's unit"
    return TestErrorFacts(
        steps=steps,
        network_error=errors,
        kernel_error=None if kernel_outputs is None else error_of(scores(kernel_outputs, y_test, scale)),
        kernel_curve_steps=run.losses[0] if curve else [],
        kernel_curve=curve,
        unit="share" if classes else "RMSE",
        quantity="share of wrong test rows" if classes else words,
    )


def _width(run: FinishedRun, all_certificates: tuple[Certificate, ...]) -> WidthFacts:
    error, sweep = run.initial.ntk_error, run.width.sweep
    of_run = {"run_width": run.known_width, "run_error": error, "papers": _papers(all_certificates)}
    if sweep is None:
        return WidthFacts(**of_run)  # type: ignore[arg-type]
    if error is None:
        in_regime = None
    else:
        in_regime = error <= sweep.tolerance
    return replace(sweep.facts(), **of_run, in_regime=in_regime)  # type: ignore[arg-type]


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
