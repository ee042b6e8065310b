"""The numbers of a finished run that theorems ask for."""

from __future__ import annotations

import torch

from gramian.certify.evidence import Evidence
from gramian.certify.finished_run import FinishedRun
from gramian.certify.kernel_prediction import Prediction, above_rounding, predictor_gap
from gramian.certify.network_form import network_facts
from gramian.certify.setup import Setup
from gramian.gram import eigenvalues

ROUNDINGS = 64  # units in the last place that a forward pass may be off by


def evidence_of(run: FinishedRun, limit: Prediction | None, own_losses: list[float] | None) -> Evidence:
    """The numbers that theorems ask for."""
    data, initial, plan, setup = run.data, run.initial, run.plan, run.data.setup
    lambda_min = lambda_max = None
    if run.limit.system is not None:
        values = run.limit.system.values
        lambda_min, lambda_max = float(values[0]), float(values[-1])
    scale = setup.unit(run.width.width, data.n_outputs)
    return Evidence(
        n=len(setup.x),
        in_features=setup.x[0].numel(),
        n_outputs=data.n_outputs,
        separation=data.separation,
        norm_error=_norm_error(setup),
        label_norm=_label_norm(run),
        family=setup.family,
        depth=setup.depth,
        width=run.width.width,
        pixels=setup.pixels,
        window=setup.window,
        initialization=setup.initialization,
        paper_initialization=setup.paper,
        lambda_min=lambda_min,
        lambda_max=lambda_max,
        lambda_last=_last_layer(run),
        gram_rows=int(run.trace.config.get("gram_rows", initial.n_ntk_rows)),
        gram_error=initial.ntk_error,
        unit=scale,
        stretch=setup.stretch(run.width.width),
        loss=run.loss_name,
        optimizer=plan.optimizer,
        batch_size=plan.batch_size,
        lr=plan.lr,
        accuracy=_accuracy(run),
        accuracy_steps=run.reached_at,
        predicted_error=_predicted_error(run, None if limit is None else limit.losses),
        test_gap=_test_gap(run, limit),
        trace=run.trace,
        own_error=_predicted_error(run, own_losses),
        independent_batches=plan.optimizer != "sgd",  # those of `train` are parts of a permutation
        predictor_gap=_predictor_gap(run),
        resolution=_resolution(run),
        **network_facts(setup.arch, initial.network, setup.x, setup.paper, setup.initialization),
    )


def _norm_error(setup: Setup) -> float:
    """Largest relative deviation of an input's norm from the theory's norm one.

    That is norm sqrt(d) where the network divides its input by sqrt(d), and only there.
    """
    wanted = 1.0
    if setup.initialization.startswith("NTK"):
        wanted = setup.x[0].numel() ** 0.5
    return float((setup.x.flatten(1).norm(dim=1) / wanted - 1).abs().max())


def _accuracy(run: FinishedRun) -> float:
    """The goal's loss over the first one, at most 1."""
    losses = run.losses[1]
    if not losses or not losses[0] > 0:
        return 1.0
    return min(max(run.goal.target / losses[0], 1e-300), 1.0)


def _label_norm(run: FinishedRun) -> float:
    """A theorem is about the user's data: labels that were standardized first count as they were given, too."""
    trained = float(run.data.targets.norm(dim=1).max())
    given = run.data.checked.y
    if given.is_floating_point():
        return max(trained, float(given.norm(dim=1).max()))
    return trained


def _predictor_gap(run: FinishedRun) -> float | None:
    limit = run.limit
    if limit.theta is None or limit.cross is None or run.test_outputs is None:
        return None
    return predictor_gap(limit.theta, run.data.targets, limit.cross, run.test_outputs)


def _resolution(run: FinishedRun) -> float:
    """What rounding may change in the norm of the residual: outputs and targets are of this size, and sums are long."""
    eps = torch.finfo(getattr(torch, str(run.trace.config.get("dtype", "float32")))).eps
    return ROUNDINGS * eps * float(run.data.targets.norm() + run.initial.residual.norm())


def _last_layer(run: FinishedRun) -> float | None:
    """Smallest eigenvalue of the limit Gram matrix of the last hidden layer alone, as Du et al. use."""
    setup, arch = run.data.setup, run.data.setup.arch
    if arch is None or arch.parametrization != "ntk" or setup.paper or setup.family == "convolutional":
        return None
    if run.data.kernel_is_costly:
        return None
    hidden = [s.op for n, s in enumerate(arch.steps) if s.op in arch.affine and arch.hidden(n)]
    if not hidden:
        return None
    return float(above_rounding(eigenvalues(arch.training({hidden[-1].weight_name}).ntk(setup.x)))[0])


def _predicted_error(run: FinishedRun, predicted: list[float] | None) -> float | None:
    """Largest relative error of the predicted loss until the measured one was down to the goal."""
    if predicted is None or run.trace.diverged:
        return None
    steps, losses = run.losses
    last = run.reached_at
    # step 0 is left out: the loss there is known before any prediction
    pairs = [(p, l) for t, p, l in zip(steps, predicted, losses, strict=True) if t and (last is None or t <= last)]
    return max((abs(p / l - 1) for p, l in pairs if l > 0), default=None)


def _test_gap(run: FinishedRun, limit: Prediction | None) -> float | None:
    if limit is None or limit.test_outputs is None or run.test_outputs is None:
        return None
    expected = limit.test_outputs[-1]
    size = float(expected.norm())
    if size > 0:
        return float((run.test_outputs - expected).norm()) / size
    return None
