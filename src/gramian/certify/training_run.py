"""Fourth stage of `certify`: the network before its training, its training, and the network after it."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from gramian.certify.finished_run import FinishedRun, InitialNetwork, TrainingPlan
from gramian.certify.limit_side import LimitSide
from gramian.certify.measure import GRAM_OPERATIONS, coupled_gram, differs_by_mode, largest_lr, outputs, probes_for
from gramian.certify.network_ntk import kernel_cost, kernel_error
from gramian.certify.prepared_data import PreparedData
from gramian.certify.study_clock import Clock
from gramian.certify.torch_line import per_batch, rounded
from gramian.certify.width import WidthChoice
from gramian.empirical.modules.module_copy import copied
from gramian.solve import time_to
from gramian.train import Trace, train
from gramian.train.settings import ADAM_LR, Settings

MOST_STEPS = 20_000
PLAIN_SHARE, MOMENTUM_SHARE = 0.75, 0.5  # of the largest stable learning rate: room for it to fall during training
STEPS_OF_ANY_NETWORK = 2000  # at least, where no kernel says how long a network of any width and scale takes
WATCH_OPERATIONS = 1.5e10  # for each of about a dozen during the run


def training_run(data: PreparedData, limit: LimitSide, width: WidthChoice, clock: Clock) -> FinishedRun:
    """The finished run of the network at its width; `limit` is that of this width."""
    initial = _initial_network(data, limit, width, clock)
    with clock("learning rate"):
        plan = _plan(data, limit, initial)
    with clock("training", bar=False):  # it has its own
        trace = _trained(data, initial, plan)
    network = initial.network
    train_outputs = outputs(network, data.inputs)
    if data.has_test:
        test_outputs = outputs(network, data.test_inputs)
    else:
        test_outputs = None
    with clock("Gram matrix of the network"):
        broken = trace.diverged or not bool(train_outputs.isfinite().all())
        if broken:
            final_ntk = None
        else:
            final_ntk = kernel_error(network, data.inputs[: initial.n_ntk_rows], None).ntk
    return FinishedRun(data, limit, width, initial, plan, trace, train_outputs, test_outputs, final_ntk)


def _initial_network(data: PreparedData, limit: LimitSide, width: WidthChoice, clock: Clock) -> InitialNetwork:
    """The network as it is before its training, and what is measured on it then."""
    request = data.request
    # tried on a copy of the module as the user has it, in its own precision
    if request.network_kind == "own":
        mode = differs_by_mode(request.module, data.checked.x[:8])
    else:
        mode = ""
    network = data.setup.build(width.width, request.settings.seed)
    first_outputs = outputs(network, data.inputs)
    with clock("Gram matrix of the network"):
        cost = kernel_cost(network, data.inputs)
        some = cost.affordable_rows(GRAM_OPERATIONS)
        if limit.theta is None:
            of_limit = None
        else:
            of_limit = limit.theta[:some, :some]
        error = kernel_error(network, data.inputs[:some], of_limit)
        if request.loss == "squared":
            coupled = coupled_gram(network, data.inputs, data.n_outputs, cost)
        else:
            coupled = None
    test_outputs = None
    if data.has_test:
        test_outputs = outputs(network, data.test_inputs)
    return InitialNetwork(
        network=network,
        outputs=first_outputs,
        test_outputs=test_outputs,
        residual=first_outputs - data.targets,
        loss=_loss(first_outputs, data),
        ntk=error.ntk,
        ntk_error=error.relative,
        coupled_ntk=coupled,
        kernel_cost=cost,
        mode_differences=mode,
        start=_kept_start(data, network),
    )


def _kept_start(data: PreparedData, network: nn.Module) -> nn.Module | None:
    """What a theorem about the whole run begins with."""
    if data.request.prove is False or data.request.resume:
        return None
    return copied(network).cpu()


def _plan(data: PreparedData, limit: LimitSide, initial: InitialNetwork) -> TrainingPlan:
    """Learning rate and steps, where they were not said."""
    settings, n = data.request.settings, len(data.inputs)
    batch_size = settings.rows_per_step(n)
    lr_max = largest_lr(
        initial.network, data.inputs, initial.ntk, str(settings.optimizer), settings.effective_momentum, batch_size,
        data.request.loss, settings.seed,
    )  # fmt: skip
    if settings.lr is None:
        settings = replace(settings, lr=_learning_rate(data, settings, lr_max))
    expected = _expected_steps(data, limit, initial, settings)
    if settings.steps is None:
        settings = replace(settings, steps=_most_steps(expected, data.request.network_kind))
    if settings.optimizer == "sgd":
        settings = replace(settings, batch_size=batch_size)
    if initial.mode_differences:
        lr_max = None  # it is that of evaluation mode
    return TrainingPlan(settings, batch_size, lr_max, expected)


def _learning_rate(data: PreparedData, settings: Settings, lr_max: float | None) -> float:
    """A share of the largest stable one, with three digits in the unit of the loss as people write it."""
    if lr_max is None:
        return ADAM_LR
    if settings.effective_momentum:
        share = MOMENTUM_SHARE
    else:
        share = PLAIN_SHARE
    # three digits there, so that a line holds the number whole
    times = per_batch(data.request.loss, len(data.inputs), data.n_outputs)
    return rounded(lr_max * share * times) / times


def _expected_steps(data: PreparedData, limit: LimitSide, initial: InitialNetwork, settings: Settings) -> float | None:
    """Steps that the infinitely wide network would need to the goal's loss; None where no kernel says it."""
    if limit.system is None or settings.loss != "squared" or settings.optimizer == "adam" or not initial.loss > 0:
        return None
    if not data.goal.target > 0:
        return math.inf
    assert settings.lr is not None
    # the mean of minibatches is a step of gradient descent
    if settings.optimizer == "sgd":
        method = "gd"
    else:
        method = str(settings.optimizer)
    share = data.goal.target / initial.loss
    return float(time_to(limit.system, initial.residual, share, settings.lr, method, settings.effective_momentum))


def _most_steps(expected: float | None, network_kind: str) -> int:
    """Steps at most where none were said: ten times what the kernel predicts."""
    if expected is None:
        enough = 0.0
    else:
        enough = 10 * expected + 100
    if network_kind == "own" or expected is None:
        enough = max(enough, float(STEPS_OF_ANY_NETWORK))
    return int(min(enough, MOST_STEPS))


def _trained(data: PreparedData, initial: InitialNetwork, plan: TrainingPlan) -> Trace:
    """Trains the network in place, down to the goal."""
    request, x_test, y_test = data.request, None, None
    if data.has_test:
        x_test, y_test = data.test_inputs, data.training_targets(test=True)
    return train(
        initial.network,
        data.inputs,
        data.training_targets(),
        x_test=x_test,
        y_test=y_test,
        settings=replace(plan.settings, accuracy=None),
        stop_loss=data.goal.target,
        stop_accuracy=1.0 if data.goal.classes else None,
        checkpoint=request.checkpoint,
        resume=request.resume,
        progress=request.progress,
        gram_rows=initial.kernel_cost.affordable_rows(WATCH_OPERATIONS),
        probes=probes_for(len(data.inputs), data.n_outputs, plan.steps, initial.kernel_cost),
    )


def _loss(first_outputs: Tensor, data: PreparedData) -> float:
    """Training loss of these outputs, summed over the rows."""
    if data.request.loss == "cross-entropy" and data.has_classes:
        return float(functional.cross_entropy(first_outputs, data.checked.y, reduction="sum"))
    return float((first_outputs - data.targets).square().sum() / 2)
