"""What `gramian.suggest` says: facts, and sentences that say no more than what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from gramian.train.linearized_loss import Forecast
from gramian.train.trial_steps import Trial

SHARPENS = 4  # times the rate to take: a largest stable one above that does not stay


@dataclass(frozen=True)
class Advice:
    """What `gramian.suggest` says.

    Attributes:
        optimizer: its name.
        sharpness: largest curvature of the objective that a step meets, through the optimizer's preconditioner; 0 where
            no rate follows from it.
        largest: largest stable learning rate of steps on these rows, at these weights; None where none follows.
        lr: a learning rate to take, for the loss as the user computes it; None where none can be advised.
        lr_now: the optimizer's own; None where only its name was given.
        loss: on the batch, at these weights.
        steps: predicted steps until the loss is `target`, at `lr_now` or else `lr`; None where they are not predicted,
            inf where the loss does not get there in `budget` steps.
        target: the loss asked for.
        budget: steps that the prediction covers.
        forecast: the predicted loss and what is left of it after `budget` steps; None where it is not made.
        why: why there is no forecast; "" if there is one.
        rehearsal: loss on the batch before and after each real step of a copy on all of its rows, at `lr_now` or else
            `lr`; only where there is a forecast.
        trials: rates that copies tried with minibatches, ascending.
        passed: whether a trial at `lr` held.
        guessed: whether the preconditioner is that of one batch's gradient, before the optimizer's first step.
        adaptive: whether the preconditioner follows the gradients: then the largest stable rate is no cliff.
        reason: why this `lr`, or why none.
        why_no_largest: why no largest stable rate follows from the curvature; "" if one does.
        paste: the line that makes or sets the optimizer; "" without a rate.
        notes: sentences on how it was measured.
        steps_on: what `largest` is the rate of steps on, in words.
    """

    optimizer: str
    sharpness: float
    largest: float | None
    lr: float | None
    lr_now: float | None
    loss: float
    steps: float | None
    target: float
    budget: int
    forecast: Forecast | None
    why: str = ""
    rehearsal: tuple[float, ...] = ()
    trials: tuple[Trial, ...] = ()
    passed: bool = True
    guessed: bool = False
    adaptive: bool = False
    reason: str = ""
    why_no_largest: str = ""
    paste: str = ""
    notes: tuple[str, ...] = ()
    steps_on: str = "all these rows"

    @property
    def over_the_edge(self) -> bool:
        """Whether the optimizer's learning rate is above the largest stable one."""
        return self.lr_now is not None and self.largest is not None and self.lr_now > self.largest

    def _to_take(self) -> list[str]:
        if self.lr is None:
            return [f"No learning rate is advised: {self.reason}."]
        return [f"Take a learning rate of {self.lr:.3g}: {self.reason}.", f"    {self.paste}"]

    def _edge(self) -> str:
        if self.largest is None:
            return f"No largest stable learning rate follows here: {self.why_no_largest}."
        said = (
            f"Largest stable learning rate of {self.optimizer}, at these weights, in steps on {self.steps_on}: "
            f"{self.largest:.3g} (sharpness {self.sharpness:.3g})."
        )
        if self.lr is not None and self.lr < self.largest / SHARPENS:
            said += " At these weights only: it changes as the network learns."
        if self.guessed:
            said += " A guess from one batch: ask again after some steps."
        if self.adaptive:
            said += " Above it the loss swings rather than grows: the preconditioner follows the gradients."
        return said

    def _own(self) -> list[str]:
        if self.lr_now is None or self.largest is None:
            return []
        share = self.lr_now / self.largest
        if self.over_the_edge:
            state = "above it: steps along the sharpest direction grow"
        else:
            state = "below it: full steps at these weights do not grow"
        return [f"The optimizer's own, {self.lr_now:.3g}, is {share:.2g} times that, {state}."]

    def _against_real_steps(self) -> list[str]:
        """What the real steps say of the forecast."""
        steps = len(self.rehearsal) - 1
        if self.forecast is None or steps < 1 or steps >= len(self.forecast.losses):
            return []
        real, said = self.rehearsal[steps], self.forecast.losses[steps]
        after, off = f"After {steps} real steps on this batch the loss was {real:.3g}", abs(real - said)
        if off <= 0.1 * abs(real):
            return [f"{after}; forecast: {said:.3g}."]
        if real < said:
            way = "lower"
        else:
            way = "higher"
        other = f"{after}, {way} than the forecast {said:.3g}"
        # the way down was forecast, what is left was not
        if off <= 0.1 * abs(self.loss - real):
            return [f"{other}, of {self.loss:.3g} at the start."]
        return [f"{other}: the kernel moves, and the linearization is not this network."]

    def __str__(self) -> str:
        lines = [*self._to_take(), self._edge(), *self._own(), *self.notes]
        if self.forecast is None:
            return "\n".join([*lines, f"No forecast of the loss: {self.why}."])
        used = self.lr if self.lr_now is None else self.lr_now
        reached = self.steps is not None and self.steps <= self.budget
        to = f"{self.target:.3g}"
        if reached:
            falls = f"falls to {to} in {self.steps:,.0f} steps"
        else:
            falls = f"stays above {to}"
        lines.append(
            f"Linearized, on this batch alone and at {used:.3g}, the loss {self.loss:.3g} {falls} "
            f"(of {self.budget:,} steps)."
        )
        return "\n".join([*lines, *self._against_real_steps(), *self.forecast.sentences()])
