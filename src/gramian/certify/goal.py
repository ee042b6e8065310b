"""When a run has reached the global minimum: its last loss beside that of the best constant predictor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.data.geometry import equal_rows
from gramian.train import Trace
from gramian.train.best_constant import best_constant_loss, scatter, summed_entropy

REACHED, NOT_REACHED, IMPOSSIBLE = "reached", "not reached", "impossible"


@dataclass(frozen=True)
class Goal:
    """What counts as the global minimum. Losses are sums over the training rows, as `train` has them.

    The scale is the best constant predictor: the targets' mean for the squared loss, the classes' frequencies for the
    cross-entropy. Initialization does not enter: a network that starts far off is not near the minimum because it came
    closer.

    Args:
        best_constant: loss of the best constant predictor.
        share: of `best_constant`, that a last loss may have at most.
        target: that loss; where `best_constant` is 0 (constant targets), the loss that is zero to working precision.
        floor: the least loss that any function has, because equal inputs have different targets; 0 where none have.
        classes: whether all training rows must be right as well.
    """

    best_constant: float
    share: float
    target: float
    floor: float
    classes: bool

    def share_of(self, loss: float) -> float | None:
        """A loss over the best constant's; None where that is 0."""
        if self.best_constant > 0:
            return loss / self.best_constant
        return None

    def met_by(self, loss: float, accuracy: float | None) -> bool:
        """Whether a network with this loss and training accuracy is at the global minimum."""
        right = not self.classes or accuracy == 1.0
        return math.isfinite(loss) and loss <= self.target and right

    @property
    def words(self) -> str:
        """What counts as the global minimum, in words."""
        if self.best_constant > 0:
            said = f"at most {100 * self.share:.3g}% of the best constant predictor's loss"
        else:
            said = "a loss of zero to working precision, because the targets are constant"
        if self.classes:
            said += ", and every training row right"
        return said


def goal(targets: Tensor, y: Tensor, loss: str, share: float, dtype: torch.dtype, same: list[tuple[int, ...]]) -> Goal:
    """The goal of a run.

    Args:
        targets: as the squared loss takes them; shape (n, C).
        y: class numbers, int64 (n,), or real targets (n, C).
        loss: "squared" or "cross-entropy".
        share: of the best constant predictor's loss.
        dtype: of the training.
        same: groups of rows that are equal to the network.

    Example:
        >>> y = torch.tensor([[1.0], [3.0]])
        >>> goal(y, y, "squared", 0.01, torch.float32, []).best_constant
        1.0
    """
    targets = targets.double()
    classes = y.dtype == torch.int64 or (are_signs(y) and are_signs(targets))
    best = best_constant_loss(loss, targets, y)
    if loss == "cross-entropy":
        # rows that are equal to the network get one output: the entropy of their labels is left for each
        floor = sum(summed_entropy(y[list(group)]) for group in same)
    else:
        floor = sum(scatter(targets[list(group)]) for group in same)
    target = share * best
    # a residual of sqrt(eps) times the targets, half of their digits: no loss is that small by chance
    if best == 0:
        target = float(targets.square().sum()) / 2 * torch.finfo(dtype).eps
    return Goal(best, share, target, floor, classes)


def are_signs(y: Tensor) -> bool:
    """Whether real targets are two classes, written 1 and -1. Any two values become that when they are standardized."""
    return y.ndim == 2 and y.shape[1] == 1 and bool((y.abs() == 1).all())


def conflicts(same: list[tuple[int, ...]], y: Tensor) -> list[tuple[int, int]]:
    """In each group of equal rows, its first row with the first of every other label; so k labels give k - 1 pairs."""
    pairs = []
    for group in same:
        seen: dict[tuple[float, ...], int] = {}
        for i in group:
            seen.setdefault(tuple(y[i].flatten().tolist()), i)
        first, *others = seen.values()
        pairs += [(first, j) for j in others]
    return pairs


def equal_to_the_network(x: Tensor, dtype: torch.dtype) -> list[tuple[int, ...]]:
    """Groups of rows whose numbers are all equal in the precision of the training; 0.0 and -0.0 are equal."""
    return equal_rows(x.to(dtype))


def steps_taken(trace: Trace) -> int:
    """Steps that moved the network: of the last measurement of its loss."""
    series = trace.measured.get("loss")
    return max([*(series.steps if series else []), *trace.steps], default=0)


def last_accuracy(trace: Trace) -> float | None:
    """Training accuracy at the last measured step; None for real targets."""
    series = trace.measured.get("train_accuracy")
    if series is not None and series.values:
        value = series.values[-1]
    else:
        value = None
    if isinstance(value, float):
        return value
    return None


def last_loss(trace: Trace) -> float | None:
    """Training loss of the network as it was left, in evaluation mode."""
    series = trace.measured.get("loss")
    if series is not None and series.values:
        value = series.values[-1]
    else:
        value = None
    if isinstance(value, float):
        return value
    return None


def did(trace: Trace | None, aim: Goal) -> str:
    """Reached or not: measured at the last step, of a run that took steps, was not interrupted and did not diverge."""
    if trace is None:
        return IMPOSSIBLE
    loss = last_loss(trace)
    if trace.diverged or trace.interrupted or loss is None or steps_taken(trace) == 0:
        return NOT_REACHED
    if trace.measured["loss"].steps[-1] != steps_taken(trace):  # of an earlier network
        return NOT_REACHED
    if aim.met_by(loss, last_accuracy(trace)):
        return REACHED
    return NOT_REACHED
