r"""Advice for a training run of the user's own: which learning rate, how many steps, what will not be learned.

The largest stable step follows from the largest eigenvalue of the loss's Gauss-Newton matrix, seen through the
optimizer's preconditioner. For gradient steps the Gram matrix of the batch also predicts the loss itself: the outputs
follow $f \leftarrow f - \eta\, \Theta\, \nabla_f L(f)$ as long as the network stays near its linearization.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gramian.arch.inputs import Inputs
from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.calling import call_at
from gramian.errors import GramianError
from gramian.module_state.random_numbers import kept_random_states, random_states
from gramian.train.advice import Advice
from gramian.train.choice import choose
from gramian.train.curvature import LossOf, loss_hessian_product
from gramian.train.edge import StableRate, stable_rate
from gramian.train.forward import batch_statistics, evaluating, mixes_samples, movable
from gramian.train.linearized_loss import Forecast, forecast
from gramian.train.objective import Loss
from gramian.train.step_rule import USUAL_MOMENTUM
from gramian.train.suggest_inputs import check_settings, checked, first_loss
from gramian.train.trial_steps import Rehearsal, losses_of_whole_steps, rows_of_trials


def suggest(
    module: nn.Module,
    batch: tuple[Inputs, Tensor | None],
    loss: Loss | None,
    optimizer: Optimizer | str = "sgd",
    *,
    target: float | None = None,
    budget: int = 10_000,
    rehearse: int = 100,
    batch_size: int | None = None,
) -> Advice:
    r"""The largest stable learning rate of a module on a batch, and what training at it will and will not learn.

    Args:
        module: any module, left as it is. Measured without dropout; batch normalization takes the statistics of the
            batch if the module is in training mode, as it will in training, and else its running ones.
        batch: inputs (n, *in_shape) and targets in the form that `loss` takes: a batch as training sees it. Inputs may
            be several, in a tuple or a dict; and the module may return an object with `logits`. Arrays, frames and
            lists of numbers are taken too, in the module's dtype.
        loss: a torch loss such as `nn.CrossEntropyLoss()`, called with outputs and targets, or "squared",
            "cross-entropy" as in `gramian.train` (sums over the samples); None: the model's own, from `labels`.
        optimizer: a torch optimizer of this module (SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad) or a
            name: "gd", "sgd", "momentum", "nesterov", "adam".
        target: loss to reach; None for a hundredth of the present one.
        budget: steps that a prediction covers.
        rehearse: steps that copies of module and optimizer make to try a learning rate; 0: none is tried.
        batch_size: rows of a training batch, where `batch` holds the rows of many: rates are tried with minibatches of
            so many, and those of a summed loss are for them. None: the rows are one batch, and rates are tried on
            random halves of it, which vary as much as other batches of its size would.

    Returns:
        An `Advice`; print it.

    Raises:
        BadArgument: an optimizer whose stable step is not known, a loss that is not one number.
        BadData: a batch that is empty, not finite, or that the module does not take.

    References:
        Cohen et al. 2021, arXiv:2103.00065; 2022, arXiv:2207.14484; Lee et al. 2019, arXiv:1902.06720.

    Example:
        Of half the squared error of a linear map at x = 2 the curvature is 4:

        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> advice = suggest(net, (torch.tensor([[2.0]]), torch.tensor([[1.0]])), "squared", "sgd")
        >>> round(advice.sharpness, 4), round(advice.largest, 4), advice.steps
        (4.0, 0.5, 4)
    """
    check_settings(target, budget, rehearse, batch_size)
    module, x, y, function = checked(module, batch, loss, optimizer)
    with _measured(module):
        outputs, value = first_loss(module, x, y, function)
        edge = stable_rate(module, x, y, function, optimizer, batch_size=batch_size)
    tried = _rehearsal(module, x, y, function, optimizer, edge, batch_size, rehearse)
    choice = choose(edge, optimizer, tried)
    used = choice.lr if edge.rule.lr is None else edge.rule.lr
    target = value / 100 if target is None else float(target)
    real: list[float] = []
    with _measured(module):
        prediction, why = _forecast(module, x, y, function, outputs, edge, optimizer, used, value, budget)
        if tried is not None and prediction is not None and used:
            real = losses_of_whole_steps(tried, used)
    return Advice(
        optimizer=edge.rule.name,
        sharpness=edge.sharpness,
        largest=edge.largest,
        lr=choice.lr,
        lr_now=edge.rule.lr,
        loss=value,
        steps=None if prediction is None else prediction.steps_to(target),
        target=target,
        budget=budget,
        forecast=prediction,
        why=why,
        rehearsal=tuple(real),
        trials=choice.trials,
        passed=choice.passed,
        guessed=edge.rule.guessed,
        adaptive=edge.rule.adaptive,
        reason=choice.reason,
        why_no_largest=edge.why,
        paste=_paste(optimizer, edge, choice.lr),
        notes=_notes(module, x, edge, tried),
        steps_on=_rows_in_words(edge, len(x)),
    )


def _rows_in_words(edge: StableRate, n: int) -> str:
    """The rows of a training batch."""
    if edge.summed and edge.rows != n:
        return f"{edge.rows} rows like these"
    return "all these rows"


@contextmanager
def _measured(module: nn.Module) -> Iterator[None]:
    """Without dropout; batch normalization as in training if the module trains."""
    if not module.training:
        with evaluating(module):
            yield
        return
    with evaluating(module), batch_statistics(module):
        yield


def _rehearsal(
    module: nn.Module,
    x: Samples,
    y: Tensor,
    loss: LossOf,
    optimizer: Optimizer | str,
    edge: StableRate,
    batch_size: int | None,
    steps: int,
) -> Rehearsal | None:
    if not steps:
        return None
    n = len(x)
    halves = batch_size is None or batch_size >= n
    # fewer than four rows stay together: batch normalization has no statistics of halves so small
    if n < 4:
        batch = n
    else:
        batch = (n + 1) // 2
    if not halves:
        assert batch_size is not None
        batch = batch_size
    if batch < n:
        batch = rows_of_trials(module, x, y, loss, batch, must=not halves)

    def measured(net: nn.Module) -> float:
        with torch.no_grad(), _measured(net):
            return float(loss(call_at(net, {}, x), y))

    if halves and edge.summed:
        times = n / batch
    else:
        times = 1.0
    return Rehearsal(
        module, x, y, loss, optimizer, measured, batch, times, steps, climbs=edge.rule.maximize, halves=halves
    )


def _paste(optimizer: Optimizer | str, edge: StableRate, lr: float | None) -> str:
    """The line that makes or sets the optimizer; nothing where no rate is good."""
    if lr is None:
        return ""
    if isinstance(optimizer, str):
        if optimizer == "adam":
            return f"torch.optim.Adam(module.parameters(), lr={lr:.3g})"
        if edge.rule.momentum:
            more = f", momentum={USUAL_MOMENTUM}"
        else:
            more = ""
        if edge.rule.nesterov:
            more += ", nesterov=True"
        return f"torch.optim.SGD(module.parameters(), lr={lr:.3g}{more})"
    if len({float(g["lr"]) for g in optimizer.param_groups}) == 1 or not edge.rule.lr:
        return f'for group in optimizer.param_groups: group["lr"] = {lr:.3g}'
    return f'for group in optimizer.param_groups: group["lr"] *= {lr / edge.rule.lr:.3g}  # the first is {lr:.3g} then'


def _draws(module: nn.Module, x: Samples) -> bool:
    """Whether the forward draws random numbers, or gives another output at a second call, with dropout off."""
    with torch.no_grad(), kept_random_states(x.device), _measured(module):
        first = call_at(module, {}, x)
        before = random_states(x.device)
        again = call_at(module, {}, x)
        drawn = before[0] != random_states(x.device)[0]
    if not isinstance(first, Tensor) or not isinstance(again, Tensor) or first.shape != again.shape:
        return drawn
    # half of the digits are left to rounding, which sums in another order differ by
    if first.is_floating_point():
        allowed = torch.finfo(first.dtype).eps ** 0.5
    else:
        allowed = 0.0
    return drawn or not torch.allclose(first, again, rtol=allowed, atol=allowed * float(first.abs().max()))


def _notes(module: nn.Module, x: Samples, edge: StableRate, tried: Rehearsal | None) -> tuple[str, ...]:
    said = []
    if edge.summed and not edge.rule.adaptive:
        said.append(
            f"The loss is a sum over rows: these rates are for batches of {edge.rows}; "
            f"for another number of rows times {edge.rows} over it."
        )
    drops = [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.training and m.p > 0]
    if drops:
        if tried is not None:
            with_it = ", the rates tried with it"
        else:
            with_it = ""
        said.append(f"The module trains with dropout: curvature and loss are measured without it{with_it}.")
    if _draws(module, x):
        said.append(
            "The forward draws random numbers, dropout aside: curvature and loss are those of some draws, and others "
            "have others."
        )
    if edge.rule.unseen and not edge.rule.guessed:
        said.append(
            f"{edge.rule.unseen:,} coordinates had no gradient to speak of yet and are not in the curvature: their "
            "first step has the size of the learning rate, whatever it is."
        )
    if edge.rule.maximize:
        said.append("The optimizer maximizes the loss.")
    return tuple(said)


def _forecast(
    module: nn.Module,
    x: Samples,
    y: Tensor,
    loss: LossOf,
    outputs: Tensor,
    edge: StableRate,
    optimizer: Optimizer | str,
    lr: float | None,
    value: float,
    budget: int,
) -> tuple[Forecast | None, str]:
    why = _why_no_forecast(module, y, loss, outputs, edge, lr)
    if not why and edge.summed and edge.rows != len(x):
        why = f"of a sum over {len(x)} rows steps are others than on batches of {edge.rows}"
    if why or lr is None:
        return None, why
    try:
        prediction = forecast(module, x, y, loss, edge.rule, lr, value, budget, _velocity(optimizer, module))
    except torch.OutOfMemoryError:
        raise
    except (GramianError, RuntimeError, ValueError, IndexError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        return None, f"the linearized network could not be followed ({said})"
    if not all(map(math.isfinite, prediction.losses)) or prediction.losses[-1] > 1.5 * abs(prediction.losses[0]):
        return None, f"the linearized network does not settle at the learning rate {lr:.3g}"
    return prediction, ""


def _why_no_forecast(
    module: nn.Module, y: Tensor, loss: LossOf, outputs: Tensor, edge: StableRate, lr: float | None
) -> str:
    rule = edge.rule
    if edge.largest is None or lr is None:
        return "it needs a learning rate below a largest stable one"
    reasons: list[tuple[Any, str]] = [
        (rule.adaptive, f"the steps of {rule.name} follow no constant kernel"),
        (rule.maximize, "the optimizer maximizes the loss"),
        (rule.decay, "weight decay pulls at the weights, and the kernel does not see it"),
        (any(not isinstance(s, float) or s != 0 for s in rule.scale.values()), "parameters have rates of their own"),
        (lr >= edge.largest, f"at the learning rate {lr:.3g} the largest stable one, {edge.largest:.3g}, is exceeded"),
        (mixes_samples(module), "batch normalization in training mode mixes the samples"),
        (outputs.ndim > 2, f"the outputs {tuple(outputs.shape)} have positions, and no small Gram matrix"),
    ]
    why = next((text for holds, text in reasons if holds), "")
    if why:
        return why
    try:
        # a random direction: the cross-entropy does not change where all logits shift together, so along 1, or along
        # 1 + outputs at a readout of zeros, it looks linear
        along = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        straight = not bool(loss_hessian_product(loss, outputs, y, along.to(outputs)).any())
    except (RuntimeError, NotImplementedError):
        return "the loss has no second derivative in torch"
    if straight:
        return "the loss is linear in the outputs, and falls without end along a linearized network"
    return ""


def _velocity(optimizer: Optimizer | str, module: nn.Module) -> dict[str, Tensor] | None:
    """SGD's momentum buffers by name; None if there are none."""
    if not isinstance(optimizer, SGD):
        return None
    states = {name: optimizer.state.get(p, {}).get("momentum_buffer") for name, p in movable(module).items()}
    if all(buffer is None for buffer in states.values()):
        return None
    return {name: _buffer_of(p, states[name]) for name, p in movable(module).items()}


def _buffer_of(p: Tensor, buffer: Tensor | None) -> Tensor:
    """Zero before the first step that moves a parameter."""
    if buffer is None:
        return torch.zeros_like(p)
    return buffer
