"""Which learning rate to take: from rates that were tried with minibatches, below the largest stable one.

For SGD the largest rate that held is halved, and with momentum it is divided by four: trials are short, networks
sharpen later, and momentum piles up the noise of minibatches, eta / (1 - beta) of it. Adaptive optimizers get the rate
that is customary, lowered where it does not hold: what is best on test rows is no matter of stability there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Adagrad, Adamax, NAdam, Optimizer, RMSprop

from gramian.train.edge import StableRate
from gramian.train.trial_steps import Rehearsal, Trial, trials_upwards

CUSTOMARY_SGD, CUSTOMARY_MOMENTUM = 0.1, 0.01
CUSTOMARY: list[tuple[type[Optimizer], float]] = [(NAdam, 2e-3), (Adamax, 2e-3), (Adagrad, 1e-2), (RMSprop, 1e-3)]
CUSTOMARY_ADAM = 1e-3
SHARE_OF_HELD, SHARE_WITH_MOMENTUM = 1 / 2, 1 / 4  # of the largest rate that held
FIRST_TRIAL_SHARE = 1 / 8  # of the largest stable rate, times (1 - beta)/(1 + beta): where trials begin


@dataclass(frozen=True)
class Choice:
    """A learning rate or None, why, what was tried, and whether the rate itself held."""

    lr: float | None
    reason: str
    trials: tuple[Trial, ...]
    passed: bool


def choose(edge: StableRate, optimizer: Optimizer | str, rehearsal: Rehearsal | None) -> Choice:
    """A rate for the loss as the user computes it."""
    if edge.rule.adaptive:
        return _customary(edge, _customary_adaptive(optimizer), rehearsal)
    if edge.largest is None:
        if edge.rule.momentum:
            usual = CUSTOMARY_MOMENTUM
        else:
            usual = CUSTOMARY_SGD
        if edge.summed:
            usual /= edge.rows
        return _customary(edge, usual, rehearsal)
    return _below_the_edge(edge, edge.largest, rehearsal)


def _customary_adaptive(optimizer: Optimizer | str) -> float:
    return next((rate for kind, rate in CUSTOMARY if isinstance(optimizer, kind)), CUSTOMARY_ADAM)


def _below_the_edge(edge: StableRate, largest: float, rehearsal: Rehearsal | None) -> Choice:
    beta = edge.rule.momentum
    # of the largest stable rate: what noise leaves where it alone limits the steps
    quiet = (1 - beta) / (1 + beta)
    if beta:
        share, part = (SHARE_WITH_MOMENTUM, "a quarter")
    else:
        share, part = (SHARE_OF_HELD, "half")
    if rehearsal is None:
        lr = share * quiet * largest
        if beta:
            noise = f", times (1 - {beta:g})/(1 + {beta:g}) for the noise of minibatches"
        else:
            noise = ""
        return Choice(lr, f"{part} of the largest stable one{noise}; it was not tried", (), True)
    trials = trials_upwards(rehearsal, FIRST_TRIAL_SHARE * quiet * largest, largest)
    held = [t for t in trials if t.held]
    if not held:
        return _none(trials)
    best = held[-1]
    # doubled trials with a share of a power of two: the rate to advise was mostly among them already
    again = next((t for t in trials if math.isclose(t.lr, share * best.lr)), None)
    if again is None:
        again = rehearsal.trial(share * best.lr, math.inf)
    after = f"in {best.steps} steps on {_batches(rehearsal)}"
    above = next((t for t in trials if t.lr > best.lr and not t.held), None)
    reason = f"{part} of {best.lr:.3g}, the largest tried that kept the loss down {after}"
    if above is not None:
        reason += f"; {above.lr:.3g} did not"
    tried = tuple(sorted({t.lr: t for t in [*trials, again]}.values(), key=lambda t: t.lr))
    return Choice(again.lr, reason, tried, again.held)


def _customary(edge: StableRate, usual: float, rehearsal: Rehearsal | None) -> Choice:
    cap = edge.largest is not None and not edge.rule.guessed and edge.largest < usual
    if cap and edge.largest is not None:
        lr = edge.largest
    else:
        lr = usual
    name, unit = edge.rule.name, ""
    if edge.summed and not edge.rule.adaptive:
        unit = ", over the rows of the sum"
    if cap:
        what = f"the largest stable one, as {name}'s usual {usual:.3g} is above it"
    else:
        what = f"{name}'s usual one{unit}"
    if rehearsal is None:
        if edge.largest is None:
            return Choice(None, f"{edge.why}, and none was tried", (), False)
        return Choice(lr, f"{what}; it was not tried", (), True)
    trials = trials_upwards(rehearsal, lr, lr)
    held = [t for t in trials if t.held]
    if not held:
        return _none(trials)
    best = held[-1]
    after = f"in {best.steps} steps on {_batches(rehearsal)}"
    if best.lr == lr:
        return Choice(lr, f"{what}; the loss stayed down {after}", tuple(trials), True)
    reason = f"less than {what}, {lr:.3g}: the largest of those tried that kept the loss down {after}"
    return Choice(best.lr, reason, tuple(trials), True)


def _none(trials: list[Trial]) -> Choice:
    low, high = trials[0].lr, trials[-1].lr
    reason = f"from {low:.3g} to {high:.3g}, none that was tried kept the loss down on this batch"
    return Choice(None, reason, tuple(trials), False)


def _batches(rehearsal: Rehearsal) -> str:
    n, b = len(rehearsal.x), rehearsal.batch
    if b == n:
        if n > 1:
            return f"these {n} rows"
        return "this row"
    if rehearsal.halves:
        return f"random halves of these {n} rows"
    return f"minibatches of {b} of these {n} rows"
