"""Training with a learning rate and momentum taken from the spectrum of the network's own kernel at the start."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gramian.empirical import empirical_ntk
from gramian.gram import Eigensystem, eigensystem
from gramian.solve import Tuning, time_to, tuning
from gramian.train.trainer import train


@dataclass(frozen=True)
class TunedRun:
    r"""A run at settings that the spectrum gave, beside what the constant kernel predicts of it.

    Attributes:
        tuning: method, learning rate, momentum, and the rate that they have under the constant kernel.
        residuals: $\|f_k - y\| / \|f_0 - y\|$ at each step k.
        accuracy: the share of the initial residual at which the run stops.
        steps: the first step from which on the residual stays at or below `accuracy`; None if it was not reached.
        predicted_steps: the same under the constant kernel; math.inf if never.
    """

    tuning: Tuning
    residuals: tuple[float, ...]
    accuracy: float
    steps: int | None
    predicted_steps: float

    def steps_to(self, share: float) -> int | None:
        """The first step from which on the residual stays at or below this share; None if it does not."""
        above = [step for step, residual in enumerate(self.residuals) if residual > share]
        if not above:
            return 0
        if above[-1] + 1 == len(self.residuals):
            return None
        return above[-1] + 1

    def rate(self, start: float = 1e-1) -> float | None:
        """The mean factor per step between the residuals `start` and `accuracy`; None if they were not reached."""
        first = self.steps_to(start)
        if first is None or self.steps is None or self.steps <= first:
            return None
        return (self.residuals[self.steps] / self.residuals[first]) ** (1 / (self.steps - first))


def tuned_run(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    rule: str | Tuning,
    *,
    accuracy: float = 1e-3,
    most_steps: int = 20_000,
    spectrum: Eigensystem | None = None,
) -> TunedRun:
    r"""Train a copy of `module` on half the sum of squared errors at the settings of a rule of `gramian.solve.tuning`.

    Args:
        module: a network of one output; it stays as it is.
        x: inputs (n, ...).
        y: real targets (n, 1).
        rule: a name of `gramian.solve.RULES`, or settings of your own.
        accuracy: share of the initial residual at which to stop.
        most_steps: at most.
        spectrum: `eigensystem` of the NTK on x at the start, so that several rules share one.

    Returns:
        The run. Momentum makes the residual oscillate: the run goes on until it has been low for a while, and the last
        crossing counts.

    Raises:
        BadArgument: an unknown rule, or a kernel whose smallest eigenvalue is not positive.

    References:
        Liu, Pan, Tao 2022, arXiv:2107.01832, for Nesterov's method on wide networks.

    Example:
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> tuned_run(net, torch.eye(2), torch.ones(2, 1), "gd-best").steps
        1
    """
    if spectrum is None:
        spectrum = eigensystem(empirical_ntk(module, x))
    settings = rule
    if isinstance(settings, str):
        settings = tuning(float(spectrum.values[0]), float(spectrum.values[-1]), settings)
    with torch.no_grad():
        residual = module(x) - y
    start = float(residual.square().sum()) / 2
    trained = copy.deepcopy(module)
    method = settings.method
    trace = train(
        trained, x, y, optimizer=method, lr=settings.lr, momentum=settings.beta, steps=most_steps, probes=(),
        # the loss is half of the squared residual; a tenth of the accuracy leaves room for the last swing
        stop_loss=start * (accuracy / 10) ** 2,
    )  # fmt: skip
    ratios = tuple(math.sqrt(loss / start) for loss in trace.losses)
    predicted = time_to(spectrum, residual, accuracy**2, settings.lr, method, settings.beta)
    run = TunedRun(settings, ratios, accuracy, None, predicted)
    return replace(run, steps=run.steps_to(accuracy))
