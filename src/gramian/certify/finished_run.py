"""A finished run with all that went into it, and the numbers of it that theorems ask for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gramian.certify.evidence import Evidence
from gramian.certify.goal import Goal, last_loss
from gramian.certify.inputs import Given
from gramian.certify.kernel_prediction import Prediction, above_rounding, predict, predict_coupled, predictor_gap
from gramian.certify.network_form import network_facts
from gramian.certify.setup import Setup
from gramian.certify.width import KernelError, Sweep
from gramian.gram import eigenvalues
from gramian.gram.spectrum import Eigensystem
from gramian.train import Trace

ROUNDINGS = 64  # units in the last place that a forward pass may be off by


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run with all that went into it; see `certify` and `Setup` for the fields."""

    made: Setup
    sweep: Sweep | None
    width: int
    network: nn.Module
    trace: Trace
    separation: float
    data: Given
    aim: Goal
    way: str
    in_place: bool
    mode: str
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
    optimizer: str
    loss: str
    seed: int
    gram: KernelError
    expected_steps: float | None
    train_outputs: Tensor
    test_outputs: Tensor | None
    coupled: Tensor | None = None
    costly: bool = False  # whether another limit kernel of all rows would take long

    @property
    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and full training losses at them."""
        series = self.trace.measured["loss"]
        return series.steps, [float(v) for v in series.values if isinstance(v, int | float)]

    @property
    def known_width(self) -> int | None:
        """The width; of a module that was not read, nobody knows which of its numbers are widths."""
        return self.width if self.made.arch is not None or self.made.paper else None

    @property
    def reached_at(self) -> int | None:
        """First measured step at which the loss was down to that of the goal."""
        steps, losses = self.losses
        return next((t for t, l in zip(steps, losses, strict=True) if l <= self.aim.target), None)

    @property
    def last_loss(self) -> float | None:
        """Training loss of the network as it was left; None where that is no number."""
        if not self.trace.diverged:
            return last_loss(self.trace)
        if self.loss == "squared":
            value = (self.train_outputs - self.targets).square().sum() / 2
        else:
            value = cross_entropy(self.train_outputs, self.data.y, reduction="sum")
        return float(value) if bool(value.isfinite()) else None

    @property
    def still(self) -> bool:
        """Whether steps were taken and none of them moved any weight."""
        moved = self.trace.measured.get("distance")
        last = moved.values[-1] if moved is not None and moved.values else None
        taken = moved is not None and moved.steps[-1:] != [0]
        return taken and isinstance(last, dict) and all(v == 0 for v in last.values())

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
            losses = predict_coupled(
                self.coupled, self.r0, self.losses[0], optimizer=self.optimizer, lr=self.lr, beta=self.beta,
                batch_size=self.batch_size, seed=self.seed,
            )  # fmt: skip
            if losses is not None:
                return losses
        mean = self.predicted(self.gram.own, test=False)
        return None if mean is None else mean.losses


def evidence_of(run: Run, limit: Prediction | None, initial: list[float] | None) -> Evidence:
    """The numbers that theorems ask for."""
    setup, arch = run.made, run.made.arch
    # norm sqrt(d) is the theory's norm one where the network divides its input by sqrt(d), and only there
    wanted = setup.x[0].numel() ** 0.5 if setup.initialization.startswith("NTK") else 1.0
    norms = setup.x.flatten(1).norm(dim=1)
    lam = None if run.system is None else run.system.values
    start = run.losses[1][0] if run.losses[1] else 0.0
    return Evidence(
        n=len(setup.x),
        in_features=setup.x[0].numel(),
        n_outputs=run.targets.shape[1],
        separation=run.separation,
        norm_error=float((norms / wanted - 1).abs().max()),
        label_norm=_label_norm(run),
        family=setup.family,
        depth=setup.depth,
        width=run.width,
        pixels=setup.pixels,
        window=setup.window,
        initialization=setup.initialization,
        paper_initialization=setup.paper,
        lambda_min=None if lam is None else float(lam[0]),
        lambda_max=None if lam is None else float(lam[-1]),
        lambda_last=_last_layer(run),
        gram_rows=int(run.trace.config.get("gram_rows", len(run.gram.own))),
        gram_error=run.gram.relative,
        unit=setup.unit(run.width, run.targets.shape[1]),
        stretch=setup.stretch(run.width),
        loss=run.loss,
        optimizer=run.optimizer,
        batch_size=run.batch_size,
        lr=run.lr,
        accuracy=min(max(run.aim.target / start, 1e-300), 1.0) if start > 0 else 1.0,
        accuracy_steps=run.reached_at,
        predicted_error=_predicted_error(run, None if limit is None else limit.losses),
        test_gap=_test_gap(run, limit),
        trace=run.trace,
        own_error=_predicted_error(run, initial),
        independent_batches=run.optimizer != "sgd",  # those of `train` are parts of a permutation
        predictor_gap=_predictor_gap(run),
        resolution=_resolution(run),
        **network_facts(arch, run.network, setup.x, setup.paper, setup.initialization),
    )


def _label_norm(run: Run) -> float:
    """A theorem is about the user's data: labels that were standardized first count as they were given, too."""
    trained = float(run.targets.norm(dim=1).max())
    given = run.data.y
    return max(trained, float(given.norm(dim=1).max())) if given.is_floating_point() else trained


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
    if (
        run.costly
        or arch is None
        or run.made.paper
        or run.made.family == "convolutional"
        or arch.parametrization != "ntk"
    ):
        return None
    hidden = [s.op for n, s in enumerate(arch.steps) if s.op in arch.affine and arch.hidden(n)]
    if not hidden:
        return None
    return float(above_rounding(eigenvalues(arch.training({hidden[-1].weight_name}).ntk(run.made.x)))[0])


def _predicted_error(run: Run, predicted: list[float] | None) -> float | None:
    """Largest relative error of the predicted loss until the measured one was down to the goal."""
    if predicted is None or run.trace.diverged:
        return None
    steps, losses = run.losses
    last = run.reached_at
    # step 0 is left out: the loss there is known before any prediction
    pairs = [(p, l) for t, p, l in zip(steps, predicted, losses, strict=True) if t and (last is None or t <= last)]
    return max((abs(p / l - 1) for p, l in pairs if l > 0), default=None)


def _test_gap(run: Run, limit: Prediction | None) -> float | None:
    if limit is None or limit.test_outputs is None or run.test_outputs is None:
        return None
    expected = limit.test_outputs[-1]
    size = float(expected.norm())
    return float((run.test_outputs - expected).norm()) / size if size > 0 else None
