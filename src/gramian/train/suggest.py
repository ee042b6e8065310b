r"""Advice for a training run of the user's own: which learning rate, how many steps, what will not be learned.

The largest stable step follows from the largest eigenvalue of the loss's Gauss-Newton matrix, seen through the
optimizer's preconditioner. For gradient steps the Gram matrix of the batch also predicts the loss itself: the outputs
follow $f \leftarrow f - \eta\, \Theta\, \nabla_f L(f)$ as long as the network stays near its linearization.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.arch.inputs import Inputs, several
from gramian.arch.inputs import samples as samples_in
from gramian.data import check
from gramian.empirical.call import call
from gramian.errors import BadArgument, BadData
from gramian.train.curvature import LossOf, sharpness
from gramian.train.forward import batch_statistics, evaluating, mixes_samples
from gramian.train.lazy import Forecast, forecast
from gramian.train.objective import Loss, objective
from gramian.train.rehearsal import rehearsal, rehearsed_lr
from gramian.train.step_rule import StepRule, step_rule
from gramian.train.view import view

SHARPENS = 4  # times the rate to take: a largest stable one above that does not stay


@dataclass(frozen=True)
class Advice:
    """What `gramian.suggest` says.

    Attributes:
        optimizer: its name.
        sharpness: largest curvature of the loss that a step meets, through the optimizer's preconditioner.
        largest: largest stable learning rate at these weights.
        lr: a learning rate to take: the largest of 1/2, 1/4, 1/8, ... of the largest stable one with which a
            rehearsal on this batch went well.
        lr_now: the optimizer's own; None where only its name was given.
        loss: on the batch, at these weights.
        steps: predicted steps until the loss is `target`, at `lr_now` or else `lr`; None where they are not predicted,
            inf where the loss does not get there in `budget` steps.
        target: the loss asked for.
        budget: steps that the prediction covers.
        forecast: the predicted loss and what is left of it after `budget` steps; None where it is not made.
        why: why there is no forecast; "" if there is one.
        rehearsal: loss on the batch before and after each real step of a copy, at `lr_now` or else `lr`.
        passed: whether the rehearsal at `lr` went well.
        guessed: whether the preconditioner is that of one batch's gradient, before the optimizer's first step.
        adaptive: whether the preconditioner follows the gradients: then the largest stable rate is no cliff.
    """

    optimizer: str
    sharpness: float
    largest: float
    lr: float
    lr_now: float | None
    loss: float
    steps: float | None
    target: float
    budget: int
    forecast: Forecast | None
    why: str = ""
    rehearsal: tuple[float, ...] = ()
    passed: bool = True
    guessed: bool = False
    adaptive: bool = False

    @property
    def over_the_edge(self) -> bool:
        """Whether the optimizer's learning rate is above the largest stable one."""
        return self.lr_now is not None and self.lr_now > self.largest

    def _why_this(self) -> str:
        steps = f"{len(self.rehearsal) - 1} steps on this batch"
        if not self.rehearsal:
            return ", half of it"
        if not self.passed:
            return f", but at this one too the loss did not fall in {steps}"
        fell = 1 - self.rehearsal[-1] / self.loss if self.loss else 0.0
        if self.lr_now is None and fell < 0.1:
            return f", with care: the loss fell by only {fell:.1%} in {steps} (rehearse=400 says more)"
        if self.lr > 0.4 * self.largest:
            return f": the loss fell as it should in {steps}"
        return f": at twice that the loss rose within {steps}, as the network sharpened"

    def _against_real_steps(self) -> list[str]:
        """What the rehearsal says of the forecast."""
        steps = len(self.rehearsal) - 1
        if self.forecast is None or steps < 1 or steps >= len(self.forecast.losses):
            return []
        real, said = self.rehearsal[steps], self.forecast.losses[steps]
        if abs(real - said) <= 0.1 * abs(self.loss - real):
            return [f"After {steps} real steps on this batch the loss was {real:.3g}, as forecast: {said:.3g}."]
        faster = "faster" if real < said else "slower"
        return [
            f"After {steps} real steps on this batch the loss was {real:.3g}, the forecast {said:.3g}: the kernel "
            f"moves, and the network learns {faster} than forecast."
        ]

    def __str__(self) -> str:
        used = self.lr if self.lr_now is None else self.lr_now
        lines = [
            f"Take a learning rate of {self.lr:.3g}{self._why_this()}.",
            f"Largest stable learning rate of {self.optimizer} here: {self.largest:.3g} "
            f"(sharpness {self.sharpness:.3g}).",
        ]
        if self.lr < self.largest / SHARPENS:
            lines[1] += " At these weights only: the network sharpens as it learns."
        if self.guessed:
            lines[1] += " A guess from one batch: ask again after some steps."
        if self.adaptive:
            lines[1] += " Above it the loss swings rather than grows: the preconditioner follows the gradients."
        if self.lr_now is not None:
            share = self.lr_now / self.largest if self.largest else math.inf
            state = "above it: steps grow along the sharpest direction" if self.over_the_edge else "stable"
            lines.append(f"The optimizer's own, {self.lr_now:.3g}, is {share:.2g} times that: {state}.")
        if self.forecast is None:
            return "\n".join([*lines, f"No forecast of the loss: {self.why}."])
        steps = math.inf if self.steps is None else self.steps
        to = f"{self.target:.3g}"
        falls = f"falls to {to} in {steps:,.0f} steps" if steps < math.inf else f"stays above {to}"
        lines.append(f"At {used:.3g} the loss {self.loss:.3g} {falls} (of {self.budget:,} steps).")
        return "\n".join([*lines, *self._against_real_steps(), *self.forecast.sentences()])


def suggest(
    module: nn.Module,
    batch: tuple[Inputs, Tensor | None],
    loss: Loss | None,
    optimizer: Optimizer | str = "sgd",
    *,
    target: float | None = None,
    budget: int = 10_000,
    rehearse: int = 100,
) -> Advice:
    r"""The largest stable learning rate of a module on a batch, and what training at it will and will not learn.

    Args:
        module: any module, left as it is. Measured without dropout; batch normalization takes the statistics of the
            batch if the module is in training mode, as it will in training, and else its running ones.
        batch: inputs (n, *in_shape) and targets in the form that `loss` takes: a batch as training sees it. Inputs may
            be several, in a tuple or a dict; and the module may return an object with `logits`.
        loss: a torch loss such as `nn.CrossEntropyLoss()`, called with outputs and targets, or "squared",
            "cross-entropy" as in `gramian.train` (sums over the samples); None: the model's own, from `labels`.
        optimizer: a torch optimizer of this module (SGD, Adam, AdamW, RMSprop, Adagrad) or a name: "gd", "sgd",
            "momentum", "nesterov", "adam".
        target: loss to reach; None for a hundredth of the present one.
        budget: steps that a prediction covers.
        rehearse: steps at most that copies of module and optimizer make on the batch to try a learning rate; 0: none.

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
        (4.0, 0.5, 1)
    """
    module, x, y, function = _checked(module, batch, loss, budget)
    as_trained = batch_statistics(module) if module.training else nullcontext()
    with evaluating(module), as_trained:
        outputs, value, gradient = _first(module, x, y, function)
        rule = step_rule(optimizer, module, gradient)
        sharp = sharpness(module, x, y, function, rule.scale, decay=rule.decay)
        largest = rule.edge / sharp if sharp > 0 else math.inf
        lr = largest / 2 if math.isfinite(largest) else (rule.lr or 1.0)
        passed = True
        if rehearse and math.isfinite(largest):
            lr, passed = rehearsed_lr(module, x, y, function, optimizer, lr, rehearse)
        target = value / 100 if target is None else float(target)
        used = lr if rule.lr is None else rule.lr
        real = rehearsal(module, x, y, function, optimizer, used, rehearse) if rehearse else []
        made, why = _forecast(module, x, y, function, outputs, rule, used, largest, value, budget)
    return Advice(
        optimizer=rule.name,
        sharpness=sharp,
        largest=largest,
        lr=lr,
        lr_now=rule.lr,
        loss=value,
        steps=None if made is None else made.steps_to(target),
        target=target,
        budget=budget,
        forecast=made,
        why=why,
        rehearsal=tuple(real),
        passed=passed,
        guessed=rule.guessed,
        adaptive=rule.adaptive,
    )


def _checked(
    module: nn.Module, batch: tuple[Inputs, Tensor | None], loss: Loss | None, budget: int
) -> tuple[nn.Module, Tensor, Tensor, LossOf]:
    pair = isinstance(batch, tuple | list) and len(batch) == 2
    if not pair or not (isinstance(batch[1], Tensor) or several(batch[0])):
        raise BadArgument(
            f"The batch is {type(batch).__name__}, not a pair of tensors.",
            where="suggest(module, batch, ...)",
            why="the loss is computed as loss(module(x), y)",
            fix="suggest(module, (x, y), loss, optimizer); x may be a dict with labels, and y None",
        )
    if not isinstance(budget, int) or budget < 1:
        raise BadArgument(f"budget={budget!r} makes no sense.", where="suggest(..., budget=)", fix="budget=10_000")
    x, y = batch
    if isinstance(x, Tensor) and x.is_floating_point():
        check(x, name="x")
    if isinstance(y, Tensor) and samples_in(x) != len(y):
        text = f"x has {samples_in(x)} rows, y has {len(y)}."
        raise BadArgument(text, where="suggest(module, (x, y), ...)", fix="one each")
    first = next(module.parameters(), None)
    if first is not None and isinstance(x, Tensor) and x.is_floating_point() and x.dtype != first.dtype:
        raise BadData(
            f"x is {x.dtype}, the module's parameters are {first.dtype}.",
            where="suggest(module, (x, y), ...)",
            fix=f"x.to({first.dtype}), or module.to({x.dtype})",
        )
    if loss is not None:
        objective(loss)
    seen = view(module, loss, x, y)
    return seen.module, seen.x, seen.y, objective(seen.loss).function


def _first(module: nn.Module, x: Tensor, y: Tensor, loss: LossOf) -> tuple[Tensor, float, dict[str, Tensor]]:
    """Outputs, loss and gradient at the weights as they stand."""
    weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        out = call(module, x)
        value = loss(out, y)
        if not isinstance(value, Tensor) or value.numel() != 1 or not bool(value.isfinite()):
            one = isinstance(value, Tensor) and value.numel() == 1
            raise BadArgument(
                f"The loss on the batch is {float(value.detach()) if one else 'not one number'}.",
                where="suggest(module, (x, y), loss)",
                why="outputs that are not finite" if one else 'a loss per sample (reduction="none")',
                fix="module(x).isfinite().all() shows whether" if one else 'reduction="mean" or "sum"',
            )
        found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    gradient = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(weights.items(), found, strict=True)}
    return out.detach(), float(value.detach()), gradient


def _forecast(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: LossOf,
    outputs: Tensor,
    rule: StepRule,
    lr: float,
    largest: float,
    value: float,
    budget: int,
) -> tuple[Forecast | None, str]:
    reasons: list[tuple[Any, str]] = [
        (rule.adaptive, f"the steps of {rule.name} follow no constant kernel"),
        (any(not isinstance(s, float) or s != 0 for s in rule.scale.values()), "parameters have rates of their own"),
        (lr >= largest, f"at the learning rate {lr:.3g} the largest stable one, {largest:.3g}, is exceeded"),
        (mixes_samples(module), "batch normalization in training mode mixes the samples"),
        (outputs.ndim > 2, f"the outputs {tuple(outputs.shape)} have positions, and no small Gram matrix"),
    ]
    why = next((text for holds, text in reasons if holds), "")
    return (None, why) if why else (forecast(module, x, y, loss, rule, lr, value, budget), "")
