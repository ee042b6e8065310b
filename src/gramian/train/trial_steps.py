"""Real steps on copies, with minibatches as in training: which learning rates bring the loss down, and keep it down.

The largest stable step at these weights may be too large some steps later, as networks that learn features sharpen
(Cohen et al. 2021, arXiv:2103.00065), and it knows nothing of the noise of minibatches, which momentum piles up. A
random half of n rows varies as much as n fresh rows do: its mean has the variance $\\sigma^2/(n/2) \\cdot (1 - 1/2)$.
So halves of one batch stand in for batches that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.module_copy import copied
from gramian.errors import BadArgument, GramianError
from gramian.module_state.random_numbers import random_numbers_apart
from gramian.train.curvature import LossOf
from gramian.train.forward import called_as_trained, movable
from gramian.train.preconditioner import ADAPTIVE
from gramian.train.step_rule import named_optimizer

MOST_TRIALS = 12  # rates at most
REHEARSED_SHARE = 0.5  # of the first loss: a rehearsal for a forecast that came down to this has shown what it can
LEAST_REHEARSAL_STEPS = 20  # steps
LOOKS_AT_ALL_ROWS = 10  # at the loss of all rows, in a rehearsal
TOLERATED_RISE = 1.5  # times the first loss of all rows, at any look: more is a step that was too large
MINIBATCH_BURST = 10.0  # times the first loss, on a minibatch: nothing is gained by going on
# times the best last loss, plus this part of the first: more, and a smaller rate does better
WORSE_THAN_BEST, SLACK_OF_FIRST = 1.25, 0.05


@dataclass(frozen=True)
class Trial:
    """Steps at one learning rate on copies of module and optimizer.

    Attributes:
        lr: the learning rate.
        first, last, highest: loss of all rows before, after, and at its highest.
        steps: that were made.
        held: whether the loss stayed finite and low, and no smaller rate that was tried came much lower.
    """

    lr: float
    first: float
    last: float
    highest: float
    steps: int
    held: bool


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What trials are made with: nothing of it is changed by them.

    Attributes:
        module, x, y, loss: the user's; the module in the mode in which it trains.
        optimizer: the user's, or its name.
        measured: the loss of all rows of a copy, with dropout off.
        batch: rows of a minibatch.
        times: what the loss of a minibatch is multiplied by: a sum over half of the rows is half of a batch's.
        steps: of a trial.
        climbs: whether the loss is maximized.
        halves: whether minibatches are halves of the rows, for want of others.
    """

    module: nn.Module
    x: Samples
    y: Tensor
    loss: LossOf
    optimizer: Optimizer | str
    measured: Callable[[nn.Module], float]
    batch: int
    times: float
    steps: int
    climbs: bool = False
    halves: bool = True

    def trial(self, lr: float, best: float) -> Trial:
        """Steps at one rate; `best` is the smallest last loss of smaller ones (of the loss that sinks)."""
        net = copied(self.module)
        draw = torch.Generator().manual_seed(0)
        # a loss that is climbed is looked at with the other sign, so that lower is better in either case
        if self.climbs:
            sign = -1.0
        else:
            sign = 1.0
        looks: list[float] = []
        optimizer, step = copy_of(self.optimizer, self.module, movable(net), lr), 0
        if self.x.device.type == "cuda":
            devices = [self.x.device]
        else:
            devices = []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)  # of dropout; the caller's numbers come back
            looks.append(sign * self.measured(net))
            for step in range(1, self.steps + 1):
                value = self._step(net, optimizer, torch.randperm(len(self.x), generator=draw)[: self.batch])
                burst = not self.climbs and value > MINIBATCH_BURST * max(looks[0], 0.0) and looks[0] > 0
                if step % max(self.steps // LOOKS_AT_ALL_ROWS, 1) == 0 or step == self.steps or burst:
                    looks.append(sign * self.measured(net))
                if burst or not math.isfinite(value) or not math.isfinite(looks[-1]):
                    break
        held = math.isfinite(value) and _low(looks, best)
        return Trial(lr, sign * looks[0], sign * looks[-1], sign * max(looks), step, held)

    def _step(self, net: nn.Module, optimizer: Optimizer, rows: Tensor) -> float:
        """One step on a minibatch; its loss."""
        whole = len(rows) == len(self.x)
        rows = rows.to(self.x.device)
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            if whole:
                x, y = (self.x, self.y)
            else:
                x, y = (self.x[rows], self.y[rows])
            value = self.times * self.loss(called_as_trained(net, x), y)
            value.backward()
        optimizer.step()
        return float(value.detach())


def _low(looks: list[float], best: float) -> bool:
    """Whether losses stayed where they began or below, and came about as low as those of smaller rates."""
    if not all(map(math.isfinite, looks)):
        return False
    first, size = looks[0], abs(looks[0])
    # both bounds for losses of either sign
    stayed = max(looks) <= first + (TOLERATED_RISE - 1) * size
    as_low = looks[-1] <= min(
        best + (WORSE_THAN_BEST - 1) * abs(best) + SLACK_OF_FIRST * size, first + (WORSE_THAN_BEST - 1) * size
    )
    return stayed and as_low


def rows_of_trials(module: nn.Module, x: Samples, y: Tensor, loss: LossOf, rows: int, *, must: bool) -> int:
    """`rows` if module and loss take so many, else all: triplets and the like may need the batch as it is.

    Raises:
        BadArgument: they do not, and the user asked for so many (`must`).
    """
    net = copied(module)
    with torch.no_grad(), random_numbers_apart(x.device):
        try:
            loss(called_as_trained(net, x[:rows]), y[:rows])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, GramianError | torch.OutOfMemoryError):
                raise
            if not must:
                return len(x)
            raise BadArgument(
                f"A minibatch of {rows} of these {len(x)} rows fails: {(str(error) or 'error').splitlines()[0]}",
                where="suggest(..., batch_size=)",
                why="the module (batch normalization of a single row) or the loss does not take so many",
                fix="batch_size as in training, or None",
            ) from None
    return rows


def trials_upwards(rehearsal: Rehearsal, start: float, most: float) -> list[Trial]:
    """Trials at start, 2 start, 4 start, ... up to `most`, until one does not hold; downwards from a start that fails.

    Upwards, because large steps may do well once by luck: a rate counts if all smaller ones that were tried held too.

    Returns:
        The trials in the order of their rates. The last that held is the largest good rate; if none held, none is.
    """
    trials = [rehearsal.trial(start, math.inf)]
    if not trials[0].held:
        while len(trials) < MOST_TRIALS and not trials[0].held:
            trials.insert(0, rehearsal.trial(trials[0].lr / 2, math.inf))
        return trials
    while len(trials) < MOST_TRIALS and trials[-1].held and 2 * trials[-1].lr <= most * (1 + 1e-9):
        if rehearsal.climbs:
            sign = -1.0
        else:
            sign = 1.0
        trials.append(rehearsal.trial(2 * trials[-1].lr, min(sign * t.last for t in trials)))
    return trials


def copy_of(optimizer: Optimizer | str, module: nn.Module, here: dict[str, nn.Parameter], lr: float) -> Optimizer:
    """An optimizer of its kind for other tensors, with its options, its state, and rates in proportion to its own."""
    if isinstance(optimizer, str):
        return named_optimizer(optimizer, list(here.values()), lr)
    kind = next(c for c in type(optimizer).__mro__ if c in (SGD, *ADAPTIVE))
    name_of = {id(p): name for name, p in movable(module).items()}
    first = next((float(g["lr"]) for g in optimizer.param_groups if _moves(g, name_of)), 0.0)  # as `step_rule` has it
    plain = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}
    groups, pairs = [], []
    for group in optimizer.param_groups:
        mine = [p for p in group["params"] if id(p) in name_of]
        options = {key: plain.get(key, value) for key, value in group.items() if key != "params"}
        options["lr"] = lr
        if first:
            options["lr"] = lr * (float(group["lr"]) / first)
        if mine:
            groups.append(options | {"params": [here[name_of[id(p)]] for p in mine]})
            pairs += [(p, here[name_of[id(p)]]) for p in mine]
    twin: Optimizer = kind(groups, lr=lr)
    for p, copy in pairs:
        # a trial goes on from the optimizer as it stands: its momentum and its running means are copied too
        state = optimizer.state.get(p)
        if state:
            twin.state[copy] = {key: _copy_of(value) for key, value in state.items()}
    return twin


def _copy_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return value


def _moves(group: dict, names: dict[int, str]) -> bool:
    return bool(float(group["lr"])) and any(id(p) in names for p in group["params"])


def losses_of_whole_steps(rehearsal: Rehearsal, lr: float) -> list[float]:
    """Losses before and after each step on all rows at once; it ends at a loss that is half or not finite."""
    net = copied(rehearsal.module)
    optimizer = copy_of(rehearsal.optimizer, rehearsal.module, movable(net), lr)
    losses: list[float] = []
    with torch.enable_grad():
        for step in range(rehearsal.steps + 1):
            value = rehearsal.loss(called_as_trained(net, rehearsal.x), rehearsal.y)
            losses.append(float(value.detach()))
            enough = step >= LEAST_REHEARSAL_STEPS and losses[-1] < REHEARSED_SHARE * losses[0]
            if step == rehearsal.steps or not math.isfinite(losses[-1]) or enough:
                break
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
    return losses
