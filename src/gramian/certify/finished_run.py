"""A finished run: the network before its training, how it was trained, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gramian.certify.goal import Goal, last_loss
from gramian.certify.kernel_prediction import Prediction, StepSchedule, predict, predict_coupled
from gramian.certify.limit_side import LimitSide
from gramian.certify.network_ntk import KernelCost
from gramian.certify.prepared_data import PreparedData
from gramian.certify.width import WidthChoice
from gramian.train import Trace
from gramian.train.settings import Settings


@dataclass(frozen=True, eq=False)
class InitialNetwork:
    """The network before its training; the same object is trained then.

    Args:
        network: the module.
        outputs, test_outputs: its first outputs, float64; shapes (n, C) and (m, C).
        residual: outputs minus targets; shape (n, C).
        loss: its first training loss, summed over the rows.
        ntk: its own NTK, averaged over the outputs, on the first rows; float64.
        ntk_error: relative Frobenius distance of that from the limit; None without a limit.
        coupled_ntk: its own NTK over all outputs and rows, (n, n, C, C); None where that takes too long.
        kernel_cost: what its own NTK costs, by which rows are chosen.
        mode_differences: layers that make training mode another function than evaluation mode; "" without any.
        start: a copy of it as it was, on the CPU, which nothing trains; None where no proof is asked for, or where the
            run went on from a checkpoint, whose own start nobody knows.
    """

    network: nn.Module
    outputs: Tensor
    test_outputs: Tensor | None
    residual: Tensor
    loss: float
    ntk: Tensor
    ntk_error: float | None
    coupled_ntk: Tensor | None
    kernel_cost: KernelCost
    mode_differences: str
    start: nn.Module | None = None

    @property
    def n_ntk_rows(self) -> int:
        """Training rows on which the network's own NTK is computed before and after the run."""
        return len(self.ntk)


@dataclass(frozen=True)
class TrainingPlan:
    """How the network is trained.

    Args:
        settings: complete: a learning rate and a number of steps are there.
        batch_size: rows in a step.
        lr_max: largest stable learning rate at initialization; None where it is not known.
        expected_steps: that the infinitely wide network would need to the goal's loss; None where no kernel says it.
    """

    settings: Settings
    batch_size: int
    lr_max: float | None
    expected_steps: float | None

    @property
    def optimizer(self) -> str:
        """Name of the optimizer."""
        return str(self.settings.optimizer)

    @property
    def lr(self) -> float:
        """Learning rate, of the loss summed over the rows."""
        assert self.settings.lr is not None
        return self.settings.lr

    @property
    def steps(self) -> int:
        """Steps at most."""
        assert self.settings.steps is not None
        return self.settings.steps

    @property
    def momentum(self) -> float:
        """The momentum that enters the steps, 0 for methods without one."""
        return self.settings.effective_momentum


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with the results of the stages before it.

    Args:
        data: the prepared data.
        limit: the limit kernel at the run's width.
        width: the width and the sweep.
        initial: the network before its training.
        plan: how it was trained.
        trace: what was measured meanwhile.
        train_outputs, test_outputs: of the trained network, float64.
        final_ntk: the trained network's own NTK on the rows of `initial.ntk`; None if the run diverged.
    """

    data: PreparedData
    limit: LimitSide
    width: WidthChoice
    initial: InitialNetwork
    plan: TrainingPlan
    trace: Trace
    train_outputs: Tensor
    test_outputs: Tensor | None
    final_ntk: Tensor | None

    @property
    def goal(self) -> Goal:
        """What counts as the global minimum."""
        return self.data.goal

    @property
    def loss_name(self) -> str:
        """Name of the loss."""
        return self.data.request.loss

    @property
    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and full training losses at them."""
        series = self.trace.measured["loss"]
        return series.steps, [float(v) for v in series.values if isinstance(v, int | float)]

    @property
    def known_width(self) -> int | None:
        """The width; of a module that was not read, nobody knows which of its numbers are widths."""
        if self.data.setup.arch is not None or self.data.setup.paper:
            return self.width.width
        return None

    @property
    def reached_at(self) -> int | None:
        """First measured step at which the loss was down to that of the goal."""
        steps, losses = self.losses
        return next((t for t, l in zip(steps, losses, strict=True) if l <= self.goal.target), None)

    @property
    def last_loss(self) -> float | None:
        """Training loss of the network as it was left; None where that is no number."""
        if not self.trace.diverged:
            return last_loss(self.trace)
        if self.loss_name == "squared":
            value = (self.train_outputs - self.data.targets).square().sum() / 2
        else:
            value = cross_entropy(self.train_outputs, self.data.checked.y, reduction="sum")
        if bool(value.isfinite()):
            return float(value)
        return None

    @property
    def descends(self) -> bool:
        """Whether each step was plain gradient descent on all samples: no minibatches, momentum or decay."""
        plan = self.plan
        return plan.optimizer == "gd" or (plan.optimizer == "sgd" and plan.batch_size >= len(self.data.inputs))

    @property
    def still(self) -> bool:
        """Whether steps were taken and none of them moved any weight."""
        moved = self.trace.measured.get("distance")
        if moved is not None and moved.values:
            last = moved.values[-1]
        else:
            last = None
        taken = moved is not None and moved.steps[-1:] != [0]
        return taken and isinstance(last, dict) and all(v == 0 for v in last.values())

    @property
    def schedule(self) -> StepSchedule:
        """The steps that were taken, for what predicts them."""
        plan = self.plan
        return StepSchedule(plan.optimizer, plan.lr, plan.momentum, plan.batch_size, plan.settings.seed, self.losses[0])

    def predicted_by_limit(self) -> Prediction | None:
        """Prediction from the limit kernel, at the steps where the loss was measured; with test rows."""
        limit, initial = self.limit, self.initial
        if limit.theta is None or self.loss_name != "squared":
            return None
        return predict(
            limit.theta, initial.residual, self.schedule, system=limit.system, cross=limit.cross,
            f0_test=initial.test_outputs, y_test=self.data.test_targets,
        )  # fmt: skip

    def predicted_by_own_ntk(self) -> list[float] | None:
        """Losses predicted from the network's own Gram matrix at initialization: over all outputs, or their mean."""
        initial = self.initial
        if self.loss_name != "squared":
            return None
        if initial.coupled_ntk is not None:
            losses = predict_coupled(initial.coupled_ntk, initial.residual, self.schedule)
            if losses is not None:
                return losses
        if initial.n_ntk_rows != len(initial.residual):
            return None
        mean = predict(initial.ntk, initial.residual, self.schedule)
        if mean is None:
            return None
        return mean.losses
